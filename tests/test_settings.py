from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError, model_validator
from typing_extensions import Self

from finescale.errors import SettingsError
from finescale.settings import Settings, load_settings, parse_settings, read_overrides, settings_text, suggest


class Optimizer(Settings):
    rate: float = Field(default=1e-3, gt=0)
    betas: tuple[float, float] = (0.9, 0.99)


class Training(Settings):
    name: str = "plain"
    steps: int = Field(ge=1)
    folders: tuple[Path, ...] = ()
    start: Path | None = None
    optimizer: Optimizer = Optimizer()
    warm_up: Optimizer | None = None
    extras: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.steps == 13:
            raise ValueError("steps must not be 13")
        return self


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "training.yml"


def read(file: Path, text: str, *overrides: str) -> Training:
    file.write_text(text, encoding="utf-8")
    return load_settings(Training, file, overrides=overrides)


# ---- mistakes


def test_an_unknown_key_is_refused_and_the_right_one_offered() -> None:
    with pytest.raises(SettingsError, match=r"^here: unknown key 'nam' \(did you mean 'name'\?\)$"):
        parse_settings(Training, {"steps": 3, "nam": "x"}, source="here")


def test_a_missing_field_is_named() -> None:
    with pytest.raises(SettingsError, match=r"^here: 'steps' is missing$"):
        parse_settings(Training, {}, source="here")


def test_an_unknown_nested_key_is_named_with_its_path() -> None:
    with pytest.raises(SettingsError, match=r"unknown key 'optimizer.rates' \(did you mean 'optimizer.rate'\?\)"):
        parse_settings(Training, {"steps": 3, "optimizer": {"rates": 1}}, source="here")


def test_a_group_that_may_be_null_has_suggestions_and_overrides_as_others(file: Path) -> None:
    with pytest.raises(SettingsError, match=r"unknown key 'warm_up.rates' \(did you mean 'warm_up.rate'\?\)"):
        parse_settings(Training, {"steps": 3, "warm_up": {"rates": 1}}, source="here")
    file.write_text("steps: 3\nwarm_up: null", encoding="utf-8")
    assert load_settings(Training, file).warm_up is None
    assert load_settings(Training, file, overrides=["warm_up.rate=0.5"]).warm_up == Optimizer(rate=0.5)


def test_a_key_of_another_group_is_offered_with_its_whole_path() -> None:
    with pytest.raises(
        SettingsError, match=r"unknown key 'betas' \(did you mean 'optimizer.betas' or 'warm_up.betas'\?\)"
    ):
        parse_settings(Training, {"steps": 3, "betas": [0.9, 0.99]}, source="here")


def test_a_key_like_no_other_has_no_suggestion() -> None:
    with pytest.raises(SettingsError, match=r"unknown key 'xyz'$"):
        parse_settings(Training, {"steps": 3, "xyz": 1}, source="here")


def test_all_mistakes_are_told_at_once() -> None:
    values = {"steps": 0, "nam": "x", "optimizer": {"rate": -1.0, "betas": [0.9]}}
    with pytest.raises(SettingsError) as caught:
        parse_settings(Training, values, source="here")
    message = str(caught.value)
    assert "'steps': input should be greater than or equal to 1, got 0" in message
    assert "'optimizer.rate': input should be greater than 0, got -1.0" in message
    assert "'optimizer.betas.1' is missing" in message
    assert "unknown key 'nam' (did you mean 'name'?)" in message


@pytest.mark.parametrize("number", [".nan", "nan", ".inf", "-.inf", "inf"])
def test_a_number_that_is_none_is_refused(file: Path, number: str) -> None:
    with pytest.raises(SettingsError, match=r"'optimizer.rate'"):
        read(file, f"steps: 1\noptimizer: {{rate: {number}}}")


def test_a_mistake_that_spans_fields_is_told_without_all_the_others() -> None:
    with pytest.raises(SettingsError, match=r"^here: steps must not be 13$"):
        parse_settings(Training, {"steps": 13, "name": "unlucky"}, source="here")


def test_settings_cannot_be_changed() -> None:
    settings = Training(steps=1)
    with pytest.raises(ValidationError, match="frozen"):
        settings.steps = 2  # type: ignore[misc]


def test_a_near_miss_is_suggested_and_nothing_else() -> None:
    assert suggest("sclae", ["scale", "steps"]) == " (did you mean 'scale'?)"
    assert suggest("xyz", ["scale", "steps"]) == ""
    assert suggest("scale", []) == ""


# ---- files


def test_numbers_and_words_are_read_as_people_write_them(file: Path) -> None:
    optimizer = "optimizer:\n  rate: 2e-4\n  betas: [.9, 1E-2]"
    settings = read(file, f"steps: 3\nname: off\n{optimizer}\nextras: {{a: on, b: true, c: -1.5e+3, d: no}}")
    assert settings.name == "off"
    assert settings.optimizer == Optimizer(rate=2e-4, betas=(0.9, 0.01))
    assert settings.extras == {"a": "on", "b": True, "c": -1500.0, "d": "no"}


def test_an_empty_file_has_no_values(file: Path) -> None:
    with pytest.raises(SettingsError, match="'steps' is missing"):
        read(file, "# nothing yet\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- steps", "expected fields as 'name: value', found a list"),
        (b"steps", "expected fields as 'name: value', found a str"),
        (b"steps: [1", "not valid YAML"),
        (b"steps: !!python/object/apply:os.getcwd []", "not valid YAML"),
        (b"steps: \x00", "not valid YAML"),
        (b"\xff\xfe", "not a text file"),
    ],
)
def test_a_file_that_is_no_settings_file_is_refused_by_its_name(file: Path, content: bytes, message: str) -> None:
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=message) as caught:
        load_settings(Training, file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_told_by_its_name(file: Path) -> None:
    with pytest.raises(SettingsError, match=r"training.yml: cannot be read .*No such file"):
        load_settings(Training, file)


# ---- overrides


def test_an_override_sets_one_field_and_leaves_the_rest(file: Path) -> None:
    settings = read(file, "steps: 3\noptimizer: {rate: 1}", "steps=5", "optimizer.betas=[0.5, 0.6]", "name=off")
    assert settings == Training(steps=5, name="off", optimizer=Optimizer(rate=1, betas=(0.5, 0.6)))


def test_an_override_reaches_into_a_group_that_the_file_lacks(file: Path) -> None:
    assert read(file, "steps: 3", "optimizer.rate=2e-4", "extras.a.b=1").extras == {"a": {"b": 1}}


def test_the_last_of_two_overrides_counts(file: Path) -> None:
    assert read(file, "steps: 3", "steps=4", "steps=5").steps == 5


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("steps", "must have the form name=value"),
        ("=3", "must have the form name=value"),
        ("steps.many=3", "'steps' is a single value and has no fields"),
        ("stepps=3", r"unknown key 'stepps' \(did you mean 'steps'\?\)"),
        ("steps=many", "'steps': input should be a valid integer.*got 'many'"),
        ("steps=[1", r"override 'steps=\[1': not a valid value"),
    ],
)
def test_a_wrong_override_is_refused(file: Path, override: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read(file, "steps: 3", override)


# ---- there and back


def test_saved_settings_are_read_back_equal(file: Path) -> None:
    settings = Training(
        name="off", steps=10**9, folders=(Path("a b"), Path("ü")), start=Path("x.pth"),
        optimizer=Optimizer(rate=1e-17, betas=(0.0, 1.5e30)), extras={"a": [1, None, "no"], "b": {"c": 1e-7}},
    )  # fmt: skip
    file.write_text(settings_text(settings), encoding="utf-8")
    assert load_settings(Training, file) == settings


@given(rate=st.floats(min_value=1e-300, allow_infinity=False, allow_nan=False))
def test_every_number_is_read_back_equal(tmp_path_factory: pytest.TempPathFactory, rate: float) -> None:
    file = tmp_path_factory.mktemp("settings") / "training.yml"
    settings = Training(steps=1, optimizer=Optimizer(rate=rate))
    file.write_text(settings_text(settings), encoding="utf-8")
    assert load_settings(Training, file) == settings


@pytest.mark.parametrize(
    "name", ["off", "yes", "null", "~", "007", "1_000", "1:30", "0x1f", "2020-01-01", "a: b", "é", ""]
)
def test_a_word_that_looks_like_something_else_is_read_back_as_a_word(file: Path, name: str) -> None:
    file.write_text(settings_text(Training(steps=1, name=name)), encoding="utf-8")
    assert load_settings(Training, file).name == name


@pytest.mark.parametrize("name", ["2e-4", "12e03", "010"])
def test_a_word_that_looks_like_a_number_is_read_back_as_a_word(file: Path, name: str) -> None:
    file.write_text(settings_text(Training(steps=1, name=name)), encoding="utf-8")
    assert load_settings(Training, file).name == name


def test_overrides_alone_are_values_by_their_fields() -> None:
    assert read_overrides(["mean=[0.5, 0.5, 0.5]", "a.b=2e-4", "a.c=off"]) == {
        "mean": [0.5, 0.5, 0.5],
        "a": {"b": 2e-4, "c": "off"},
    }
    assert read_overrides([]) == {}


# ---- texts that grow, nest or lie


def bomb(levels: int) -> str:
    lines = ["z0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"z{n}: &a{n} [{', '.join(10 * [f'*a{n - 1}'])}]" for n in range(1, levels)]
    return "\n".join(lines)


LIES = [
    (900 * "[" + 900 * "]", "nested in more than 50 levels"),
    ("&a [*a]", "an alias refers to what contains it"),
    ("!!bool abc", "not a value of type 'bool': 'abc'"),
    ("!!int abc", "not a value of type 'int': 'abc'"),
    ("!!float 1.2.3", "not a value of type 'float': '1.2.3'"),
    ("!!timestamp 2026-99-01", "not a value of type 'timestamp': '2026-99-01'"),
    (5000 * "1", "not a value of type 'int'"),
    ("!!python/object:os.system x", "could not determine a constructor"),
]


@pytest.mark.parametrize(
    ("text", "reason"),
    [(bomb(40), "its aliases stand for more than 100000 values"), *((f"steps: {text}", why) for text, why in LIES)],
    ids=lambda value: value[:24],
)
def test_a_file_that_grows_nests_or_lies_is_refused_in_a_short_sentence(text: str, reason: str, file: Path) -> None:
    with pytest.raises(SettingsError) as refusal:
        read(file, text)
    sentence = str(refusal.value).removeprefix(f"{file}: ")
    assert reason in sentence
    assert len(sentence) < 400
    assert "\n" not in sentence


@pytest.mark.parametrize(("text", "reason"), LIES, ids=lambda value: value[:24])
def test_an_override_that_nests_or_lies_is_refused_in_a_short_sentence(text: str, reason: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        read_overrides([f"steps={text}"])
    assert reason in str(refusal.value)
    assert len(str(refusal.value)) < 800
    assert "\n" not in str(refusal.value)


def test_dates_are_words() -> None:
    assert read_overrides(["name=2026-13-45", "day=2026-11-27"]) == {"name": "2026-13-45", "day": "2026-11-27"}


def test_an_alias_that_is_used_twice_is_fine() -> None:
    assert read_overrides(["a={b: &x [1, 2], c: *x}"]) == {"a": {"b": [1, 2], "c": [1, 2]}}


def test_a_long_value_is_quoted_by_its_ends(file: Path) -> None:
    with pytest.raises(SettingsError, match=r"got \[0, 1, 2, .* \.\.\. .*4999\]") as refusal:
        read(file, f"steps: [{', '.join(map(str, range(5000)))}]")
    assert len(str(refusal.value)) < 400 + len(str(file))


def test_a_file_too_large_for_settings_is_not_read(file: Path) -> None:
    with pytest.raises(SettingsError, match="not a settings file; it has more than 1 MiB"):
        read(file, "#" * (2**20 + 1))


@pytest.mark.parametrize(
    ("name", "reason"), [("laughs.yml", "its aliases stand for more than"), ("deep.yml", "nested in more than")]
)
def test_files_of_public_reports_are_refused_in_a_short_sentence(name: str, reason: str, data_root: Path) -> None:
    with pytest.raises(SettingsError) as refusal:
        load_settings(Training, data_root / "reports" / "faults" / name)
    assert reason in str(refusal.value)
    assert len(str(refusal.value)) < 600
