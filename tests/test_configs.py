"""Settings merge in order; unknown keys name the nearest valid one."""

import math
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import pytest
from pydantic import Field

from alignlab import configs
from alignlab.errors import BadInput


@dataclass(frozen=True)
class Inner:
    lr: float = 1e-3
    """Learning rate."""
    names: tuple[str, ...] = ()
    """Some names."""


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    maybe: Inner | None = None
    """An optional part."""
    seed: int = 0
    """Decides every draw,
    over two lines."""
    free: dict[str, float] = field(default_factory=dict)


def test_later_layers_win_and_leave_the_rest():
    made = configs.build(Outer, {"inner": {"lr": 1, "names": ["a"]}}, {"inner": {"lr": 2}})
    assert made == Outer(Inner(2.0, ("a",)))


@dataclass(frozen=True)
class Special:
    inner: Inner = field(default_factory=lambda: Inner(lr=7.0))


def test_a_layer_changes_nested_defaults_in_part():
    assert configs.build(Special, {"inner": {"names": ["a"]}}).inner == Inner(7.0, ("a",))


def test_layers_are_not_changed_by_merging():
    preset = {"inner": {"lr": 1.0}}
    configs.build(Outer, preset, {"inner": {"lr": 2.0}})
    assert preset == {"inner": {"lr": 1.0}}


def test_overrides_nest_and_read_yaml_values():
    parsed = configs.parse_overrides(["inner.lr=5e-4", "inner.names=[a, b]", "free.beta=0.5"])
    made = configs.build(Outer, parsed)
    assert made.inner == Inner(5e-4, ("a", "b"))
    assert made.free == {"beta": 0.5}
    assert configs.build(Outer, configs.parse_overrides(["maybe.lr=3"])).maybe == Inner(3.0)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["inner.rl=1"], r"unknown setting 'inner.rl'; did you mean 'inner.lr'\?"),
        (["sede=1"], r"unknown setting 'sede'; did you mean 'seed'\?"),
        (["maybe.lrr=1"], r"did you mean 'maybe.lr'\?"),
        (["seed"], "expected key=value, found 'seed'"),
        (["seed=one"], "setting seed: expected a whole number, found 'one'"),
        (["seed=1", "seed.deep=2"], "setting seed: expected one value"),
        (["seed.deep=2", "seed=1"], "setting seed: expected one value"),
        (["inner=", "inner.lr=2"], "setting inner: expected one value"),
    ],
)
def test_bad_settings_are_one_clear_line(overrides, message):
    with pytest.raises(BadInput, match=message):
        configs.build(Outer, configs.parse_overrides(overrides))


@pytest.mark.parametrize(
    ("overrides", "found"),
    [
        (["seed=1", "seed=2"], "setting seed: given twice (1 and 2)"),
        (["inner.lr=1", "inner={lr: 2}"], "setting inner.lr: given twice (1 and 2)"),
        (["seed=1", "seed=1"], ""),
    ],
)
def test_a_setting_with_two_values_is_warned_of(overrides, found, caplog):
    configs.parse_overrides(overrides, warn=True)
    assert found in caplog.text
    assert bool(found) == bool(caplog.records)


def test_a_script_may_extend_a_list_of_settings():
    assert configs.parse_overrides(["seed=1", "inner.lr=1", "seed=2", "inner={lr: 3}"]) == {
        "seed": 2, "inner": {"lr": 3},
    }  # fmt: skip
    for one, other in (("seed=1", "seed.deep=2"), ("seed.deep=2", "seed=1")):
        with pytest.raises(BadInput, match="setting seed: expected one value"):
            configs.parse_overrides([one, other])


def test_parts_of_a_setting_are_joined():
    parsed = configs.parse_overrides(["inner={lr: 1}", "inner.names=[a]"])
    assert parsed == {"inner": {"lr": 1, "names": ["a"]}}


@pytest.mark.parametrize("name", ["lr", "learning_rate"])
def test_a_setting_is_suggested_by_its_last_part_and_by_trls_name(name: str):
    with pytest.raises(BadInput, match=f"unknown setting '{name}'; did you mean 'inner.lr'"):
        configs.refuse_unknown(configs.describe(Outer), {name: 1})


def test_describe_gives_every_setting_its_sentence():
    options = {option.key: option for option in configs.describe(Outer)}
    assert options["inner.lr"].doc == "Learning rate."
    assert options["seed"].doc == "Decides every draw, over two lines."
    assert options["maybe"].default is None


def test_yaml_files(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("seed: 3\n")
    assert configs.read_yaml(path) == {"seed": 3}
    path.write_text("")
    assert configs.read_yaml(path) == {}
    path.write_text("- 1\n")
    with pytest.raises(BadInput, match="expected settings"):
        configs.read_yaml(path)
    path.write_text("a: 1\nb: [\n")
    with pytest.raises(BadInput, match="line 3"):
        configs.read_yaml(path)
    with pytest.raises(BadInput, match="no such configuration file"):
        configs.read_yaml(tmp_path / "none.yaml")


@dataclass(frozen=True)
class Limits(configs.Bounded):
    rate: configs.Positive = 1.0
    share: Annotated[float, Field(ge=0, lt=0.5)] = 0.1
    count: configs.PositiveInt = 1
    rest: configs.NonNegative | None = None
    kind: Literal["a", "b", "c"] = "a"
    steps: tuple[configs.PositiveInt, ...] = ()
    source: configs.PositiveInt | str = 1
    on: bool = False


@dataclass(frozen=True)
class Nest:
    inner: Limits = field(default_factory=Limits)


def refused(name, value, expected):
    """Check that a value is refused where a config is made by hand, and where it is built."""
    line = f"{name}: expected {expected}, found {value!r}"
    with pytest.raises(BadInput) as direct:
        Limits(**{name: value})
    assert str(direct.value) == f"Limits: {line}"
    with pytest.raises(BadInput) as built:
        configs.build(Nest, {"inner": {name: value}})
    assert str(built.value) == f"setting inner.{line}"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("rate", 0.0, "above 0"),
        ("rate", math.nan, "a finite number"),
        ("rate", math.inf, "a finite number"),
        ("share", -0.1, "0 or more"),
        ("share", 0.5, "below 0.5"),
        ("count", 0, "1 or more"),
        ("rest", -1.0, "0 or more"),
        ("kind", "d", "a, b or c"),
    ],
)
def test_declared_bounds_hold_however_a_config_is_made(name, value, expected):
    refused(name, value, expected)
    with pytest.raises(BadInput):
        replace(Limits(), **{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("rate", True), ("count", True), ("rest", False), ("share", False), ("steps", (1, True))],
)
def test_true_and_false_are_no_numbers(name, value):
    refused(name, value, "a number")


def test_true_is_refused_where_no_bound_is_declared():
    with pytest.raises(BadInput, match="setting seed: expected a number, found True"):
        configs.build(Outer, configs.parse_overrides(["seed=true"]))
    assert configs.build(Limits, {"on": 1}) == Limits(on=True)
    assert configs.build(Outer, {"free": {"beta": 1}}).free == {"beta": 1.0}


def test_numbers_as_text_are_converted_where_built_and_refused_in_python():
    assert configs.build(Limits, {"rate": "0.5", "count": "3"}) == Limits(0.5, count=3)
    with pytest.raises(BadInput, match=r"Limits: rate: expected a number, found '0.5'"):
        Limits(rate="0.5")
    assert Limits(source="3").source == "3"


def test_bounds_leave_what_is_within_them():
    made = configs.build(Limits, {"rate": 2, "share": 0, "count": 3, "rest": 0, "kind": "c"})
    assert made == Limits(2.0, 0.0, 3, 0.0, "c")
    assert {o.key: o.default for o in configs.describe(Limits)}["count"] == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5), ("1E-5", 1e-5), ("5e6", 5e6), ("-2e-3", -2e-3), (".5e-3", 5e-4),
        ("1.5e3", 1500.0), ("1_000", 1000), ("010", 10), ("0x10", 16), ("+3", 3), ("1.", 1.0),
        ("true", True), ("no", "no"), ("off", "off"), ("12:30", "12:30"), ("null", None),
        ("2026-11-26", "2026-11-26"), ("1e", "1e"), ("e5", "e5"), ("1.2.3", "1.2.3"),
        ("[1e-5, 2]", [1e-5, 2]),
    ],
)  # fmt: skip
def test_yaml_scalars_are_what_they_look_like(tmp_path, text, value):
    path = tmp_path / "c.yaml"
    path.write_text(f"a: {text}\n")
    for read in (configs.read_yaml(path), configs.parse_overrides([f"a={text}"])):
        assert read == {"a": value}
        assert type(read["a"]) is type(value)


def test_a_key_given_twice_in_yaml_is_refused_with_its_line(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("seed: 1\nlr: 1\nlr: 2\n")
    with pytest.raises(BadInput, match=r"c.yaml, line 1: .*the key 'lr' twice"):
        configs.read_yaml(path)


@pytest.mark.parametrize("value", ["nan", ".nan", "inf", "-.inf"])
def test_a_setting_is_a_finite_number(value):
    with pytest.raises(BadInput, match=r"setting inner.lr: expected a finite number"):
        configs.build(Outer, configs.parse_overrides([f"inner.lr={value}"]))


def test_settings_of_an_optional_part_are_described():
    options = {option.key: option for option in configs.describe(Outer)}
    assert options["maybe.lr"].doc == "Learning rate."
    assert options["maybe.lr"].default == 1e-3
    assert {o.key: o.default for o in configs.describe(Special)}["inner.lr"] == 7.0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sede": 1}, r"unknown setting 'sede'; did you mean 'seed'"),
        ({"inner": {"rl": 1}}, r"unknown setting 'inner.rl'; did you mean 'inner.lr'"),
        ({"maybe": {"lrr": 1}}, r"did you mean 'maybe.lr'"),
        ({"free": {"any": 1}, "inner": {"lr": 1}, "maybe": None, "seed": 2}, None),
    ],
)
def test_unknown_settings_are_refused_before_anything_is_imported(given, message):
    options = configs.describe(Outer)
    if message is None:
        configs.refuse_unknown(options, given)
        return
    with pytest.raises(BadInput, match=message):
        configs.refuse_unknown(options, given)


def test_specs_with_options_stand_in_lists(tmp_path):
    asked = "[a.jsonl?weight=0.7&split=x,b.jsonl?weight=0.3, 'c?', d: e?f]"
    expected = ["a.jsonl?weight=0.7&split=x", "b.jsonl?weight=0.3", "c?", {"d": "e?f"}]
    assert configs.parse_overrides([f"data={asked}"]) == {"data": expected}
    file = tmp_path / "settings.yaml"
    file.write_text(f"data: {asked}\nwhy: {{a?: b?c}}\n# what?\n", encoding="utf-8")
    assert configs.read_yaml(file) == {"data": expected, "why": {"a?": "b?c"}}


@pytest.mark.parametrize("text", ["[a, b", "[a]b", "[a: {b]"])
def test_what_begins_a_list_and_is_none_is_refused(text):
    with pytest.raises(BadInput, match=r"setting data: expected a list such as \[a, b\], found"):
        configs.parse_overrides([f"data={text}"])
