"""Answer of a comparison of arms: what each method changed, in total and beyond each control, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from analysis.config.roles import METHOD, REFERENCE, ROLES

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Answer",
    "answer",
    "answer_table",
    "contrast_titles",
    "quantity_label",
    "unmatched_steps",
    "without_controls_alone",
]

_VERDICTS = ("different", "equivalent", "undecided")
_FAR_IN_ACCURACY = 0.02
_POOR = 0.05  # of test accuracy, below the method
_LABELS = {
    "class_structure": "class structure",
    "accuracy": "probe accuracy",
    "log_dimension": "logarithm of the effective dimension",
}
_MEANINGS = {
    "class_structure": "the mean correlation distance between classes minus that within classes",
    "accuracy": "the share of test patterns that a linear classifier of a layer gets right",
    "log_dimension": "the natural logarithm of the participation ratio",
}


class Answer(NamedTuple):
    """Sentences that answer the question of a comparison of arms, and those with the definitions and details."""

    first: list[str]
    details: list[str]


def answer(tables: Mapping[str, pd.DataFrame]) -> Answer:
    """Return what the tables ``attribution`` and ``arms`` say; nothing if there are no arms."""
    effects, arms = tables["attribution"], tables["arms"]
    if effects.empty:
        return Answer([], [])
    effects = without_controls_alone(effects)
    known, roles = effects[effects["status"] == "ok"], _roles(arms)
    methods = [rows for _, rows in known.groupby("method", sort=False)]
    leads = [_lead(rows, arms) for rows in methods if rows["control"].eq("").any()]
    sentences = [_sentence(rows, roles) for _, rows in known.groupby(["method", "control"], sort=False)]
    first, then = (leads, sentences) if leads else (sentences, [])
    return Answer([*first, *_poor_controls(arms)], [_bands(tables["attribution"]), *then, *_arms(arms)])


def without_controls_alone(effects: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that are about a method; an empty control is "" rather than missing."""
    return effects[effects["contrast"] != "alone"].assign(control=lambda rows: rows["control"].fillna(""))


def contrast_titles(tables: Mapping[str, pd.DataFrame], *, at: str | None = None) -> dict[tuple[str, str], str]:
    """Return a title for each method and control: "total" or "beyond schedule (slow)".

    Titles for one aligned step, ``at``, name the controls that are unmatched there.
    """
    effects = without_controls_alone(tables["attribution"])
    if at is not None:
        effects = effects[effects["at"] == at]
        return {
            (str(method), str(control)): _beyond_at(rows, tables["arms"]) if control else "total"
            for (method, control), rows in effects.groupby(["method", "control"], sort=False)
        }
    roles = _roles(tables["arms"])
    return {
        (method, control): f"beyond {_beyond(control, roles)}" if control else "total"
        for method, control in effects[["method", "control"]].drop_duplicates().itertuples(index=False)
    }


def quantity_label(quantity: str) -> str:
    """Return the name of a quantity in figures and sentences."""
    if quantity in _LABELS:
        return _LABELS[quantity]
    from repsim.similarity import MEASURES  # slow to import

    return MEASURES[quantity].label if quantity in MEASURES else quantity.replace("_", " ")


def unmatched_steps(arms: pd.DataFrame) -> set[tuple[str, str]]:
    """Return the arms that are to be matched in accuracy and are not, each with the name of the aligned step."""
    far = arms[arms["accuracy_gap"].astype(float).abs() > _FAR_IN_ACCURACY]
    return set(zip(far["arm"], far["at"], strict=True))


def _roles(arms: pd.DataFrame) -> dict[str, str]:
    return dict(zip(arms["arm"], arms["role"], strict=True))


def _beyond(control: str, roles: Mapping[str, str], note: str = "") -> str:
    """Return the name of a contrast with a control, such as "schedule (slow)", also of an arm at another's accuracy."""
    role = roles.get(control, next((role for name, role in roles.items() if name.startswith(f"{control} at ")), ""))
    beyond = ROLES[role].beyond if role in ROLES else ""
    return f"{beyond} ({control}{note})" if beyond else f"{control}{note}"


def _beyond_at(rows: pd.DataFrame, arms: pd.DataFrame) -> str:
    """Return the name of the contrast with a control at one step; it says if the control is unmatched there."""
    return f"beyond {_beyond(str(rows['control'].iloc[0]), _roles(arms), _note(rows, arms))}"


def _against(rows: pd.DataFrame, arms: pd.DataFrame) -> str:
    return f"against {rows['base'].iloc[0]}{_note(rows, arms)}"


def _note(rows: pd.DataFrame, arms: pd.DataFrame) -> str:
    base, at = (str(rows[name].iloc[0]) for name in ("base", "at"))
    return ", unmatched" if (base, at) in unmatched_steps(arms) else ""


def answer_table(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the verdicts at the last step in words: one row per method and contrast, one column per quantity.

    There are no rows without arms.
    """
    import pandas as pd  # slow to import

    effects = without_controls_alone(tables["attribution"])
    known, arms = effects[effects["status"] == "ok"], tables["arms"]
    last = known[known["at"] == known["at"].iloc[-1]] if len(known) else known
    rows = []
    for (method, control), contrast in last.groupby(["method", "control"], sort=False):
        base = _beyond_at(contrast, arms) if control else f"in total, {_against(contrast, arms)}"
        cells = {quantity_label(str(name)): _cell(each) for name, each in contrast.groupby("quantity", sort=False)}
        rows.append({"method": method, "difference": base, **cells})
    return pd.DataFrame(rows)


def _cell(rows: pd.DataFrame) -> str:
    """Return the layers by verdict, those that are different by the sign of the difference."""
    parts = []
    is_different = rows["verdict"] == "different"
    for word, chosen in (("above", rows["difference"] > 0), ("below", rows["difference"] < 0)):
        each = rows[is_different & chosen]
        if len(each):
            largest = each.iloc[int(each["difference"].abs().to_numpy().argmax())]
            what = "different" if rows["between"].notna().all() else word
            where = _layers(each["depth"], len(rows))
            parts.append(f"{what} at {where}, {'' if len(each) == 1 else 'largest '}{_size(largest)}")
    for verdict in _VERDICTS[1:]:
        each = rows[rows["verdict"] == verdict]
        if len(each):
            parts.append(f"{verdict} at {_layers(each['depth'], len(rows))}")
    return "; ".join(parts)


def _lead(effects: pd.DataFrame, arms: pd.DataFrame) -> str:
    """Return what a method changed at the last step: in total, beyond each control, and beyond all at once."""
    others = dict(zip(arms["arm"], arms["differs"].fillna(""), strict=True))
    in_total = effects[effects["control"] == ""]
    last = effects[effects["at"] == in_total["at"].iloc[-1]]
    total, beyond = last[last["control"] == ""], last[last["control"] != ""]
    method, base = str(total["method"].iloc[0]), str(total["base"].iloc[0])
    controls = [f"{_beyond_at(rows, arms)} {_different(rows)}" for _, rows in beyond.groupby("control", sort=False)]
    if len(controls) > 1:
        controls.append(f"beyond all of these {_different(beyond)}")
    besides = [each for each in others.get(method, "").split(", ") if each[:5] not in ("", "rule ")]
    confound = f" Besides its rule, {method} has {', '.join(besides)} ({base} in parentheses)." if besides else ""
    changed = _change(method, f"{base}{_note(total, arms)}", total)
    tail = f" Its difference from each control: {'; '.join(controls)}." if controls else ""
    return f"{_when(last['at'].iloc[0])}, {changed} ({_n_seeds(last)}).{confound}{tail}"


def _when(at: str) -> str:
    """Return the name of an aligned step at the start of a sentence."""
    return "By the end of training" if at == "100 %" else f"By {at} of training" if at.endswith("%") else f"At {at}"


def _change(method: str, base: str, total: pd.DataFrame) -> str:
    """Return, as part of a sentence, which quantities differ, which are equivalent, and which are neither."""
    differing: list[str] = []
    alike: dict[str, list[str]] = {}
    neither: dict[str, list[str]] = {}
    for quantity, rows in total.groupby("quantity", sort=False):
        label, found = quantity_label(str(quantity)), rows[rows["verdict"] == "different"]
        if len(found):
            differing.append(f"{label} at {_layers(found['depth'], len(rows))}, {_largest(found)}")
        elif rows["verdict"].eq("equivalent").all():
            alike.setdefault(f"at {_layers(rows['depth'], len(rows))}", []).append(label)
        else:
            counts = [f"{n} {name}" for name in _VERDICTS[1:] if (n := int((rows["verdict"] == name).sum()))]
            neither.setdefault(f"at any layer ({', '.join(counts)})", []).append(label)
    equivalent = [f"{_listed(labels, 'and')} {where}" for where, labels in alike.items()]
    open_ = [f"{_listed(labels, 'or')} {where}" for where, labels in neither.items()]
    said = [
        (differing, f"{method} differs from {base} in", "; and in "),
        (equivalent, f"{'it' if differing else method} is equivalent to {base} in", " and "),
        (open_, f"{'it' if differing or equivalent else method} is not shown to differ from {base} in", " or "),
    ]
    return "; ".join(f"{head} {between.join(parts)}" for parts, head, between in said if parts)


def _listed(labels: Sequence[str], word: str) -> str:
    """Return labels as a list in a sentence, such as "CKA, class structure or probe accuracy"."""
    *others, last = labels
    return f"{', '.join(others)} {word} {last}" if others else last


def _largest(different: pd.DataFrame) -> str:
    """Return the largest difference and its layer."""
    largest = different.iloc[int(different["difference"].abs().to_numpy().argmax())]
    return _size(largest) if len(different) == 1 else f"largest {_size(largest)} at layer {largest['depth']}"


def _different(rows: pd.DataFrame) -> str:
    """Return by quantity the layers that are different from every control that has them, with one sign."""
    found = []
    for quantity, each in rows.groupby("quantity", sort=False):
        signs = each["difference"].gt(0).where(each["verdict"] == "different").groupby(each["depth"])
        always = signs.first()[signs.apply(lambda sign: sign.notna().all() and sign.nunique() == 1)].astype(bool)
        by_sign = {"above ": always.index[always], "below ": always.index[~always]}
        for word, layers in ({"": always.index} if each["between"].notna().all() else by_sign).items():
            if len(layers):
                found.append(f"{quantity_label(str(quantity))} {word}at {_layers(layers)}")
    return ", ".join(found) if found else f"no layer ({_why_no_layer(rows)})"


def _why_no_layer(rows: pd.DataFrame) -> str:
    """Return the reason for which no layer is different from all controls."""
    found = set(rows["verdict"])
    if found == {"equivalent"}:
        return "all equivalent"
    if "undecided" in found:
        return "all undecided" if found == {"undecided"} else "some undecided"
    return "some equivalent" if "equivalent" in found else "with different signs"


def _layers(depths: Iterable[int], n_layers: int = 0) -> str:
    """Return layers as ranges, such as "layers 1-4, 7"; or "all 8 layers" if they are all of several."""
    numbers = [int(depth) for depth in depths]
    if len(numbers) == n_layers > 1:
        return f"all {n_layers} layers"
    return f"layer{'s' if len(numbers) > 1 else ''} {_ranges(numbers)}"


def _size(row: Any) -> str:
    return f"{row['difference']:+.3f} [{row['band_low']:+.3f}, {row['band_high']:+.3f}]"


def _n_seeds(effects: pd.DataFrame) -> str:
    sizes = sorted(set(effects["n_seeds"].astype(int)))
    return f"n = {sizes[0]} seeds" if len(sizes) == 1 else f"n = {sizes[0]} to {sizes[-1]} seeds"


def _sentence(effects: pd.DataFrame, roles: Mapping[str, str]) -> str:
    """Return what one contrast says about all quantities."""
    method, control, base = (str(effects[name].iloc[0]) for name in ("method", "control", "base"))
    head = f"{method} beyond {_beyond(control, roles)}" if control else f"{method} against {base}"
    parts = [_part(str(quantity), rows) for quantity, rows in effects.groupby("quantity", sort=False)]
    return f"{head} ({_n_seeds(effects)}): {'; '.join(parts)}."


def _part(quantity: str, rows: pd.DataFrame) -> str:
    """Return what one contrast says about one quantity."""
    several = rows["at"].nunique() > 1
    counts = {verdict: int((rows["verdict"] == verdict).sum()) for verdict in _VERDICTS}
    places = f"{len(rows)} layers and steps" if several else f"{len(rows)} layers"
    said = [f"{count} {verdict}" for verdict, count in counts.items() if count]
    counted = f"of {places} {', '.join(said)}"
    if len(said) == 1:
        verdict = said[0].split()[1]
        counted = verdict if len(rows) == 1 else f"{verdict} at all {places}"
    largest = rows.iloc[int(rows["difference"].abs().to_numpy().argmax())]
    at = f", {largest['at']}" if several else ""
    which = "" if len(rows) == 1 else "largest "
    size = f"{which}{_size(largest)} at {largest['layer']}{at}"
    return f"{quantity_label(quantity)} {counted}{_where(rows, several)}, {size}"


def _where(rows: pd.DataFrame, several: bool) -> str:
    """Return the layers that differ at the last step, if some do."""
    last = rows[rows["at"] == rows["at"].iloc[-1]]
    different = last[last["verdict"] == "different"]
    if different.empty or len(different) == len(last):
        return ""
    at = f"at {last['at'].iloc[0]!s}: " if several else ""
    verb = "differs" if len(different) == 1 else "differ"
    return f" ({at}{_layers(different['depth'])} {verb})"


def _ranges(depths: Sequence[int]) -> str:
    """Return numbers as ranges, such as "1-4, 7"."""
    ranges: list[list[int]] = []
    for depth in sorted(depths):
        if ranges and depth == ranges[-1][1] + 1:
            ranges[-1][1] = depth
        else:
            ranges.append([depth, depth])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)


def _bands(effects: pd.DataFrame) -> str:
    sizes, n = effects.drop_duplicates("quantity"), int((effects["status"] == "ok").sum())
    covered = f"all {n} differences" if n > 1 else "the difference"
    smallest = ", ".join(
        f"{quantity_label(name)} {size:g}" for name, size in zip(sizes["quantity"], sizes["smallest"], strict=True)
    )
    return (
        f"Brackets are bands that cover {covered} between arms at once with 95 % confidence; the "
        f"unit of replication is the seed. {''.join(_meanings(sizes['quantity']))}Smallest differences of interest: "
        f"{smallest}. Different: the band lies beyond the smallest difference; equivalent: within it; undecided: "
        "neither, which is no evidence of equality (the command repsim power says how many seeds a verdict needs)."
    )


def _meanings(quantities: Iterable[str]) -> Iterable[str]:
    """Yield what a difference in each quantity is, each sentence with a space behind it."""
    names = list(quantities)
    pairwise = [quantity_label(name) for name in names if name not in _MEANINGS]
    if pairwise:
        less = "how much less alike networks of different arms are than networks of the same arm"
        yield f"A difference in {' or '.join(pairwise)} is {less}. "
    for name in names:
        if name in _MEANINGS:
            label = quantity_label(name)
            yield f"{label[0].upper()}{label[1:]} is {_MEANINGS[name]}. "


def _poor_controls(arms: pd.DataFrame) -> Iterable[str]:
    """Name the controls whose test accuracy is far from that of their method, or of the reference without one."""
    accuracies = dict(zip(arms["arm"], arms["test_accuracy"].astype(float), strict=True))  # NaN if it is not known
    reference = arms.loc[arms["role"] == REFERENCE, "arm"].iloc[0]  # the same networks at any accuracy
    poor = []
    once = arms[~arms["role"].isin((REFERENCE, METHOD))].drop_duplicates("arm").fillna({"method": ""})
    for name, method in zip(once["arm"].astype(str), once["method"].astype(str), strict=True):
        peer = method or str(reference)
        if accuracies[name] < accuracies[peer] - _POOR:
            poor.append(f"{name} {accuracies[name]:.3f} ({peer} {accuracies[peer]:.3f})")
    if poor:
        yield (
            f"Controls with a much lower test accuracy: {', '.join(poor)}. Differences from them may be due to what "
            "they have not learned."
        )


def _arms(arms: pd.DataFrame) -> Iterable[str]:
    """Name the settings in which arms differ from the reference, and arms whose accuracy is not matched."""
    once = arms.drop_duplicates("arm").fillna({"differs": ""})
    named = zip(once["arm"], once["role"], once["differs"], strict=True)
    differing = [f"{arm} ({role}): {differs}" for arm, role, differs in named if differs]
    if differing:
        yield f"Settings that differ from the reference (whose values are in parentheses): {'; '.join(differing)}."
    far = unmatched_steps(arms)
    for row in (each for each in arms.itertuples() if (each.arm, each.at) in far):
        yield (
            f"{row.arm} is not matched at {row.at}: its nearest recorded step has a validation accuracy that is "
            f"{row.accuracy_gap:+.3f} from the method's. Record more steps of the reference."
        )
