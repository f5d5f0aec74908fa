import pandas as pd
import pytest

from analysis.reproduction.kit.deep_findings import (
    contrasts_at_end,
    describe_layers,
    describe_verdicts,
    first_layer_contrasts,
    first_layers,
    is_different,
)


def effects(**verdicts: list[str]) -> pd.DataFrame:
    """Return a table of effects of one method: verdicts at the end by control, and others before."""
    rows = []
    for control, each in verdicts.items():
        for at, shown in (("25 %", ["equivalent"] * len(each)), ("100 %", each)):
            for depth, verdict in enumerate(shown, start=1):
                number = 0.1 * depth
                rows.append(
                    {
                        "method": "sg-every-boundary",
                        "contrast": "total" if control == "total" else "beyond",
                        "control": None if control == "total" else control.replace("_", "-"),
                        "quantity": "cka",
                        "at": at,
                        "layer": f"hidden.{depth}",
                        "difference": number,
                        "band_low": number - 0.05,
                        "band_high": number + 0.05,
                        "verdict": verdict,
                        "status": "ok",
                    }
                )
    return pd.DataFrame(rows)


def test_layers_are_counted_at_the_end_by_contrast() -> None:
    table = contrasts_at_end(
        effects(total=["different", "different", "equivalent"], backprop_slow=["equivalent", "undecided", "undecided"]),
        "cka",
    )
    assert table["beyond"].tolist() == ["(total)", "schedule (backprop-slow)"]
    assert table[["different", "equivalent", "undecided", "layers"]].to_numpy().tolist() == [[2, 1, 0, 3], [0, 1, 2, 3]]
    assert table["largest"][0] == "+0.300 [+0.250, +0.350]"
    assert table["at"][0] == "hidden.3"
    (sentence,) = describe_layers(table, "CKA")
    assert "in total 2 different, 1 equivalent, 0 undecided of 3 layers" in sentence


@pytest.mark.parametrize(
    ("total", "slow", "expected"),
    [
        (["different"] * 3, ["different", "undecided", "undecided"], True),
        (["different"] * 3, ["equivalent"] * 3, False),
        (["equivalent"] * 3, ["different"] * 3, False),
        (["equivalent"] * 3, ["undecided"] * 3, False),
        (["different"] * 3, ["undecided", "equivalent", "equivalent"], None),
        (["undecided"] * 3, ["different"] * 3, None),
    ],
)
def test_a_method_is_different_in_total_and_beyond_each_control(
    total: list[str], slow: list[str], expected: bool | None
) -> None:
    """What differs from one control only, which may be a bad one, supports nothing; undecided is no evidence."""
    table = contrasts_at_end(effects(total=total, backprop_slow=slow), "cka")
    assert is_different(table) == [expected]
    word = {True: "yes", False: "no", None: "undecided"}[expected]
    assert describe_verdicts({"CKA": table}).endswith(f"beyond each control: sg-every-boundary by CKA {word}.")


def test_first_layers_are_compared_in_pairs_of_equal_seeds() -> None:
    values = {"backprop": [[0.1, 0.5, 1.0], [0.1, 0.95, 1.0]], "sg": [[0.9, 1.0, 1.0], [0.1, 0.2, 0.8]]}
    layers = pd.DataFrame(
        [
            {"arm": arm, "seed": seed, "split": 0, "at": at, "depth": depth, "x": 0.0 if at == "first" else value}
            for arm, networks in values.items()
            for seed, network in enumerate(networks)
            for depth, value in enumerate(network, start=1)
            for at in ("first", "last")
        ]
    )
    table = first_layers(layers, "x")
    assert table["depth"].tolist() == [3, 2, 1, 3]
    effects = pd.DataFrame({"arm": ["sg", "other"], "base": ["backprop"] * 2, "contrast": ["total", "alone"]})
    (row,) = first_layer_contrasts(table, effects).itertuples()
    assert (row.method, row.base, row.n_seeds) == ("sg", "backprop", 2)
    assert (row.mean, row.least, row.most) == (-0.5, -2, 1)
