from analysis.config.existing import describe_differences


def test_the_first_settings_that_differ_are_named() -> None:
    asked = {"training": {"depth": 3, "width": 8, "rule": "x" * 99, "layers": ("a", "b")}, "extra": None}
    made = {"training": {"depth": 2, "width": 4, "rule": "backprop", "layers": ["a", "b"]}, "other": 1}
    assert describe_differences(asked, made) == (
        "training.depth 2 there, 3 here; training.width 4 there, 8 here; "
        f'training.rule "backprop" there, "{"x" * 56}... here'
    )
    stored = {"training": {**asked["training"], "layers": ["a", "b"]}, "extra": None, "other": 1}  # type: ignore[dict-item]
    assert describe_differences(asked, stored) == ""


def test_a_missing_entry_is_none_and_a_missing_setting_is_not_compared() -> None:
    assert describe_differences({"source": {"path": "a"}}, {}) == 'source null there, {"path": "a"} here'
    assert describe_differences({"training": {"new": 1}, "forked_from": None}, {"training": {}}) == ""
    many = {str(k): k for k in range(5)}
    assert describe_differences(many, {}).endswith("2 null there, 2 here; ...")
