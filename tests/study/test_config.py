import tomllib
from pathlib import Path
from typing import Any

import pytest

from dosimeter.errors import DosimeterError, did_you_mean
from dosimeter.study.config import StudyConfig, load_config
from dosimeter.study.settings import PHANTOM_LIMIT, REAL_COHORTS
from dosimeter.units import DEFAULT_EPSILONS, Epsilon, parse_epsilons


@pytest.mark.parametrize(
    ("text", "value"), [("4/255", 4 / 255), ("0.003", 0.003), (" 1e-3 ", 0.001), (0.5, 0.5), (1, 1.0), ("0", 0.0)]
)
def test_epsilon_reads_what_people_type(text: Any, value: float) -> None:
    assert Epsilon(text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (4, "got 4. Did you mean 4/255"),
        ("8", "got 8. Did you mean 8/255"),
        (-0.1, "in [0, 1]"),
        ("x", "0.003 or a fraction"),
        ("1/0", "fraction"),
        ("01", "Write 0.01"),  # of 0,01
        ("nan", "in [0, 1]"),
        (None, "must be a number"),
    ],
)
def test_epsilon_refuses_with_a_remedy(text: Any, message: str) -> None:
    with pytest.raises(DosimeterError) as caught:
        Epsilon(text)
    assert message in str(caught.value)


def test_epsilons_are_sorted_unique_and_include_zero() -> None:
    assert parse_epsilons("0.5, 51/255,0.2") == (0.0, 0.2, 0.5)
    assert parse_epsilons([0.001]) == (0.0, 0.001)
    with pytest.raises(DosimeterError, match="at least one"):
        parse_epsilons(" , ")


def test_default_epsilons_are_the_paper_s() -> None:
    tables = {0.0001, 0.0003, 0.0005, 0.0007, 0.0009, 0.001, 0.002, 0.004, 0.006, 0.008, 0.01, 0.07, 0.08, 0.09}
    assert tables | {0.0, 0.003, 0.005, 0.007, 0.009} == set(DEFAULT_EPSILONS)


def test_toml_and_options_are_one_model_and_options_win(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text('cohort = ["xray-268"]\nepsilons = ["4/255", 1e-3]\nseed = 3\n', encoding="utf-8")
    config = load_config(file, seed=4, model="vgg16", limit=None)
    assert (config.cohort, config.seed, config.model) == (("xray-268",), 4, ("vgg16",))
    assert config.epsilons == (0.0, 0.001, 4 / 255)


def test_the_resolved_settings_written_as_toml_give_the_same_study(tmp_path: Path) -> None:
    config = load_config(None, cohort="phantom-ct", epsilons="0.001", out=tmp_path, pool=4).resolved()
    file = tmp_path / "config.toml"
    file.write_text(config.to_toml(), encoding="utf-8")
    again = load_config(file).resolved()
    assert again == config
    assert again.digest() == config.digest()
    assert set(tomllib.loads(config.to_toml())) <= set(StudyConfig.model_fields)


def test_without_data_the_default_is_phantoms_and_small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert load_config().resolved().is_phantom
    assert load_config().resolved().limit == PHANTOM_LIMIT
    monkeypatch.setenv("DOSIMETER_DATA", str(tmp_path))
    real = load_config().resolved()
    assert real.cohort == REAL_COHORTS
    assert real.limit is None
    assert not real.is_phantom


def test_the_run_folder_s_name_follows_the_settings_but_not_where_data_lies(tmp_path: Path) -> None:
    one, two = (load_config(cohort="xray-268", seed=seed).resolved() for seed in (0, 1))
    assert one.out != two.out
    assert load_config(cohort="xray-268", data=tmp_path).resolved().out == one.out
    assert str(load_config(cohort="folder:/home/ana/scans").resolved().out).startswith("runs/folder-")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epoch": 3}, "Did you mean 'epochs'"),
        ({"model": "vg16"}, "Did you mean 'vgg16'"),
        ({"protocol": "patients"}, "Did you mean 'patient'"),
        ({"preset": "sonud"}, "Did you mean 'sound'"),
        ({"preset": ""}, "at least one"),
        ({"epsilons": "4"}, "4/255"),
        ({"epochs": 0}, "epochs"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**31 - 1, "repeats": 2}, "seed and repeats must end at"),
        ({"limit": 2}, "limit"),
        ({"epochs": 10**30}, "epochs"),
        ({"seed": 16**5000}, "got a number of 20001 bits"),
        ({"limit": 10**30}, "limit"),
        ({"workers": 10**30}, "workers"),
        ({"out": Path("runs/caf\udce9")}, r'out must be UTF-8, got "runs/caf\xe9"'),
        ({"cohort": "folder:caf\udce9"}, r"cohort must be UTF-8"),
        ({"weights": {"resnet": "x"}}, "no such model"),
        ({"device": "tpu"}, "device"),
        ({"learning_rate": "fast"}, "learning_rate"),
    ],
)
def test_bad_settings_are_one_sentence(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DosimeterError) as caught:
        load_config(None, **settings)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        *("cohort = [", b"\xff\xfe", None, "seed = " + "9" * 5000, "epsilons = " + "[" * 5000 + "]" * 5000),
    ],
    ids=["half", "binary", "missing", "long number", "deep"],
)
def test_unreadable_settings_files(tmp_path: Path, content: str | bytes | None) -> None:
    file = tmp_path / "study.toml"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DosimeterError, match=r"study\.toml"):
        load_config(file)


def test_did_you_mean_lists_all_if_nothing_is_near() -> None:
    assert did_you_mean("zzz", ["b", "a"]) == "Choose from: a, b."


@pytest.mark.parametrize("value", ["1979-05-27", "true", "[true]", "[[0.1]]"])
def test_epsilons_of_another_type_are_refused(tmp_path: Path, value: str) -> None:
    (tmp_path / "study.toml").write_text(f"epsilons = {value}\n")
    with pytest.raises(DosimeterError, match="epsilon must be"):
        load_config(tmp_path / "study.toml")


def test_a_settings_file_may_start_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text("seed = 3\n", encoding="utf-8-sig")
    assert load_config(tmp_path / "study.toml").seed == 3


def test_no_file_says_what_is_trusted(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text("trust = true\n")
    with pytest.raises(DosimeterError, match=r"trust cannot stand in a file, .* Say --trust"):
        load_config(file)
    assert load_config(file, trust=True).trust
    assert "trust" not in load_config(trust=True).to_toml()
    file.write_text("trust = false\n")  # as older runs have it
    assert not load_config(file).trust


def test_no_preset_at_all_needs_an_attack_and_goes_through_a_file(tmp_path: Path) -> None:
    config = load_config(preset="none", attack="square")
    assert config.preset == ()
    (tmp_path / "config.toml").write_text(config.to_toml())
    assert load_config(tmp_path / "config.toml") == config
    with pytest.raises(DosimeterError, match="preset none must come with another attack"):
        load_config(preset="none")
