from repsim.learning import ESTIMATORS, SyntheticInput, locks, parse_rules, site_of
from repsim.learning.networks import mlp
from repsim.learning.rule_catalogue import catalogue, input_entry, locks_of_boundary
from repsim.learning.streams import stream


def test_the_catalogue_holds_every_rule_in_order() -> None:
    entries = catalogue()
    assert [entry.name for entry in entries] == list(ESTIMATORS)
    for entry in entries:
        rule = ESTIMATORS[entry.name]
        assert (entry.formula, entry.learns, entry.places, entry.reference) == (
            rule.formula,
            rule.learns,
            rule.places,
            rule.reference,
        )


def test_needs_and_locks_are_those_of_the_estimator_that_the_name_builds() -> None:
    network = mlp(3, 3, depth=3, width=4, generator=stream(0, "weights"))
    for entry in catalogue():
        for k, rule in parse_rules(entry.name, "2", 3).items():
            estimator = rule.build(site_of(network, k, n_outputs=3))
            assert set(entry.needs) == estimator.needs
            assert set(entry.locks) == locks(estimator)


def test_a_synthetic_input_removes_the_forward_lock_and_no_other() -> None:
    for entry in catalogue():
        assert locks_of_boundary(entry) == tuple(sorted((*entry.locks, "forward")))
        assert locks_of_boundary(entry, synthetic_input=True) == entry.locks
    entry, module = input_entry(), SyntheticInput
    assert (entry.name, entry.formula, entry.learns) == (module.name, module.formula, module.learns)
    assert (entry.needs, entry.locks, entry.options["label_conditioned"]) == (("stimulus",), (), False)


def test_options_are_shown_with_the_defaults_that_a_rule_has_without_them() -> None:
    options = {entry.name: entry.options for entry in catalogue()}
    assert options["backprop"] == {}
    assert options["sign-symmetric"] == {"scale": 1.0, "magnitude": "uniform"}
    assert options["bp-lambda"]["lam"] == 0.5
    for name, defaults in options.items():
        text = ",".join(f"{option}={value}" for option, value in defaults.items())
        assert list(parse_rules(f"{name}:{text}" if text else name, None, 4)) == list(parse_rules(name, None, 4))
