"""Every command of the list: `--json` is JSON alone on standard output, `--quiet` leaves no note."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
import typer.main

import dosimeter.cohorts.fetch
import dosimeter.models.weights
from dosimeter.cli import lines, main
from dosimeter.cli.app import app

ENDLESS = {"serve", "readers serve"}
"""Commands that serve pages until they are stopped: they have no result."""

COMMANDS: dict[str, Sequence[str]] = {
    "fit": ("timm:test_resnet", "phantom-xray", "--random-weights", "--size-px", "32", "--limit", "40", "--epochs", "1",
            "--out", "net.toml"),
    "init": ("timm:test_resnet", "phantom-xray", "--random-weights", "--size-px", "32", "--images", "4"),
    "audit": ("--model", "net.toml", "--data", "phantom-xray", "--images", "8", "--out", "audit", "--dry-run"),
    "defend": ("--model", "net.toml", "--data", "phantom-xray", "--limit", "40", "--defence", "median", "--out", "d",
               "--dry-run"),
    "study": ("--cohort", "{cohort}", "--model", "vgg16", "--epochs", "3", "--preset", "sound",
              "--epsilons", "0.001,0.003,0.009,0.08", "--out", "{run}"),
    "learning-curve": ("--cohort", "{cohort}", "--model", "vgg16", "--sizes", "6,12", "--repeats", "1",
                       "--epochs", "1", "--epsilons", "0.009", "--out", "curve"),
    "shift": ("--cohort", "{sourced}", "--model", "vgg16", "--epochs", "1", "--attack", "random_sign", "--epsilons",
              "0.009", "--out", "shift"),
    "report": ("{run}",),
    "compare": ("{run}", "{run}"),
    "gate": ("{run}", "--rule", "clean_accuracy >= 0"),
    "tables": ("{run}",),
    "figures": ("{run}", "--format", "png"),
    "methods": ("{run}",),
    "export": ("{run}", "files", "--epsilon", "0.009", "--storage", "png8", "--limit", "2"),
    "doctor": (),
    "list": ("attacks",),
    "show": ("run", "{run}"),
    "data list": (),
    "data info": ("phantom-ct", "--limit", "20"),
    "data check": ("phantom-ct", "--limit", "20"),
    "data audit": ("phantom-ct", "--limit", "20"),
    "data fetch": ("covid-ct", "films"),
    "readers new": ("{run}", "--out", "people", "--epsilons", "0.009,0.08", "--images", "3"),
    "readers simulate": ("people", "--threshold", "0.01"),
    "readers fit": ("people",),
    "readers export": ("people", "answers.csv"),
    "readers join": ("people", "{run}"),
    "weights fetch": ("vgg16",),
    "weights show": ("vgg16",),
}  # fmt: skip
"""What each is called with, in an order in which one finds what another left."""


def leaves(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield every command, with its words."""
    if not getattr(group, "commands", None):
        yield " ".join(path), group
    for name, each in getattr(group, "commands", {}).items():
        yield from leaves(each, (*path, name))


LEAVES = dict(leaves(typer.main.get_command(app)))


def test_every_command_of_the_list_is_tried_here() -> None:
    assert set(COMMANDS) | ENDLESS == set(LEAVES)


@pytest.mark.parametrize("command", LEAVES)
def test_every_command_can_be_quiet_and_tell_its_result_as_json(command: str) -> None:
    options = {option for parameter in LEAVES[command].params for option in parameter.opts}
    assert "--quiet" in options
    assert ("--json" in options) == (command not in ENDLESS)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where commands write, one after another."""
    return tmp_path_factory.mktemp("commands")


@pytest.fixture
def call(
    place: Path, image_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Runs the command line in this process, in `place`, with tiny networks and no network to fetch from."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("DOSIMETER_CACHE", str(place / "cache"))
    tiny.install(monkeypatch.setitem)
    fetched = dosimeter.cohorts.fetch.FetchReport("covid-ct", Path("films"), 1, 0, ())
    monkeypatch.setattr(dosimeter.cohorts.fetch, "fetch", lambda *_, **__: fetched)
    monkeypatch.setattr(dosimeter.models.weights, "fetch_weights", lambda name: place / f"{name}.safetensors")
    monkeypatch.setattr("dosimeter.replay.reader_study.N_PRACTICE", 1)  # tiny networks are right of few images
    words = {"cohort": f"csv:{image_folder / 'cases.csv'}", "run": str(place / "run"), "sourced": sourced(image_folder)}

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dosimeter", *(each.format(**words) for each in arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        captured = capsys.readouterr()
        return int(caught.value.code or 0), captured.out, captured.err

    yield run
    lines.be_quiet(False)
    lines.as_json(False)


def sourced(images: Path) -> str:
    """Return the cohort with two sources, of which each has both classes."""
    cases = pd.read_csv(images / "cases.csv")
    cases["source"] = np.where(cases.groupby("label").cumcount() % 2, "east", "west")
    cases.to_csv(images / "sourced.csv", index=False)
    return f"csv:{images / 'sourced.csv'}"


@pytest.mark.parametrize("command", COMMANDS)
def test_standard_output_is_json_alone(call: Callable[..., tuple[int, str, str]], command: str) -> None:
    if command in ("fit", "init", "audit", "defend"):
        pytest.importorskip("timm")
    code, out, err = call(*command.split(), *COMMANDS[command], "--json", "--quiet")
    assert code == 0, err
    json.loads(out, parse_constant=refused)
    assert "note:" not in err


def refused(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def test_a_plan_is_json_too(call: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = call("study", *COMMANDS["study"], "--out", "planned", "--dry-run", "--json")
    assert code == 0, err
    plan = json.loads(out, parse_constant=refused)
    assert [model["model"] for model in plan["models"]] == ["vgg16"]
    assert plan["duration_s"] > 0
    assert not Path("planned").exists()


def test_lines_meant_for_people_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    lines.as_json(True)
    try:
        lines.say("a result in words")
        lines.tell({"a": 1}, "a result in words")
    finally:
        lines.as_json(False)
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"a": 1}
    assert captured.err == "a result in words\n"
