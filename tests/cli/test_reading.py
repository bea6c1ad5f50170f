"""Commands that read and that examine the machine: show, list, doctor, JSON, quiet, help, completion."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from pages import write_responses
from response_factory import make_responses

import dosimeter.study.doctor as doctor
from dosimeter.cli import lines, main
from dosimeter.cli.app import app
from dosimeter.cli.display import Display
from dosimeter.record.run import RUNNING, Run

Called = tuple[int, str, str]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Called]]:
    """Runs the command line in this process: (exit code, standard output, standard error)."""

    def run(*arguments: object) -> Called:
        monkeypatch.setattr(sys, "argv", ["dosimeter", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        captured = capsys.readouterr()
        return int(caught.value.code or 0), captured.out, captured.err

    yield run
    lines.be_quiet(False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    run = make_responses(
        cohorts={"xray-268": "xray"}, models=("vgg16",), epsilons=(0.0, 1e-3, 3e-3), refine=False, exemplars=False
    )
    write_responses(run, tmp_path)
    return tmp_path


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, each in getattr(group, "commands", {}).items():
        yield from commands(each, (*path, name))


def test_h_helps_everywhere(call: Callable[..., Called]) -> None:
    for path in commands(typer.main.get_command(app)):
        code, out, _ = call(*path, "-h")
        assert (code, "Usage" in out) == (0, True), path


@pytest.mark.parametrize(
    "arguments",
    [
        ("list", "attacks"),
        ("list", "checks"),
        ("data", "list"),
        ("show", "attack", "pgd"),
        ("show", "check", "convergence"),
        ("show", "cohort", "covid-ct"),
        ("show", "cohort", "phantom-xray"),
        ("show", "model", "vgg16"),
    ],
    ids=" ".join,
)
def test_what_is_read_is_there_as_json_too(call: Callable[..., Called], arguments: tuple[str, ...]) -> None:
    code, printed, _ = call(*arguments)
    assert code == 0
    found = json.loads(call(*arguments, "--json")[1])
    told = found if isinstance(found, dict) else {each["name"]: each["note"] for each in found}
    assert all(name in printed for name in told)
    assert all(str(value) in printed for value in told.values())


def test_a_run_is_shown(call: Callable[..., Called], folder: Path) -> None:
    facts = json.loads(call("show", "run", folder, "--json")[1])
    assert (facts["status"], facts["models"], facts["incomplete"]) == ("finished", ["vgg16"], [])
    (card,) = make_responses(cohorts={"xray-268": "xray"}, models=("vgg16",)).meta["cohorts"]
    assert facts["cohorts"] == [f"xray-268 (paper protocol, seed 0): {card['n_test']} of {card['n']} tested"]
    assert "status" in call("show", "run", folder)[1]
    (folder / "parts").mkdir()
    (folder / "parts" / "0123.parquet").write_bytes(b"x")
    Run(folder).save_manifest(status=RUNNING)
    facts = json.loads(call("show", "run", folder, "--json")[1])
    assert (facts["status"], facts["units of work done"]) == ("running", 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "atack", "pgd"), "Did you mean 'attack'"),
        (("show", "attack", "pdg"), "Did you mean 'pgd'"),
        (("show", "check", "convergense"), "Did you mean 'convergence'"),
        (("show", "cohort", "covid-tc"), "Did you mean 'covid-ct'"),
        (("show", "model", "vgg61"), "vgg16"),
        (("show", "run", "/nowhere"), "is none"),
        (("tables", "/nowhere"), "must be a finished run"),
        (("figures", "/nowhere", "--format", "pfd"), "Did you mean 'pdf'"),
        (("figures", "/nowhere", "--width", "0mm"), "width must be from"),
        (("figures", "/nowhere", "--font", "No Such Font"), "font must be installed"),
        (("tables", "/nowhere", "--width", "0"), "width must be a number with mm"),
        (("tables", "/nowhere", "--format", "tex"), "latex"),
        (("methods", "/nowhere"), "must be a finished run"),
        (("compare", "/nowhere", "/nowhere"), "must be a finished run"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistake_is_one_sentence(call: Callable[..., Called], arguments: tuple[str, ...], said: str) -> None:
    code, _, err = call(*arguments)
    assert code == 2
    assert said in err
    assert err.count("\n") == 1


def test_tables_and_methods_of_a_run(call: Callable[..., Called], folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, printed, err = call("tables", folder, "--table", "clean_metrics", "--format", "md", "--out", out)
    assert (code, printed) == (0, f"{out / 'clean_metrics.md'}\n")
    assert "cite: Made with dosimeter" in err
    assert call("tables", folder, "--table", "clean_metrics", "--format", "md", "--out", out, "--quiet")[2] == ""
    (found,) = json.loads(call("tables", folder, "--table", "clean_metrics", "--json")[1])
    assert found["rows"][0][0]["value"] in (out / "clean_metrics.md").read_text()
    assert call("methods", folder)[1].splitlines()[-1].startswith("Cite: The dosimeter authors.")
    assert "arxiv1412.6572" in call("methods", folder, "--bibtex")[1]
    assert not (folder / "paper").exists()


@pytest.mark.slow  # all figures of a run
@pytest.mark.usefixtures("drawn")
def test_figures_of_a_run(call: Callable[..., Called], folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, printed, _ = call("figures", folder, "--format", "svg", "--width", "180mm", "--out", out)
    assert code == 0
    files = printed.splitlines()
    assert files[-1] == str(out / "captions.md")
    assert all(Path(file).is_file() for file in files)
    assert "<text" in (out / "xray-268-paper-fig04-roc.svg").read_text()
    assert "## xray-268-paper-fig04-roc.svg" in (out / "captions.md").read_text()


# --- doctor ---------------------------------------------------------------------------------------------------


def test_the_doctor_finds_this_machine_fit(call: Callable[..., Called], tmp_path: Path) -> None:
    code, printed, _ = call("doctor", "--out", tmp_path / "runs")
    assert code == 0, printed
    found = json.loads(call("doctor", "--out", tmp_path / "runs", "--json")[1])
    parts = {each["part"]: each["level"] for each in found}
    assert {"torch", "engine torch", "weights vgg16", "GPU", "cache", "runs", "images"} <= set(parts)
    assert "fault" not in parts.values()
    assert not (tmp_path / "runs").exists()  # nothing stays written


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda patch, tmp: patch.setenv("DOSIMETER_DATA", str(tmp / "no")), "images"),
        (lambda patch, tmp: patch.setattr(doctor, "NEEDED", ("torch", "no-such-package")), "no-such-package"),
        (lambda patch, tmp: patch.setenv("DOSIMETER_CACHE", str(tmp / "file" / "cache")), "cache"),
    ],
)
def test_what_a_study_needs_and_has_not_is_a_fault(call, monkeypatch, tmp_path: Path, change, part) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "file").write_text("")
    change(monkeypatch, tmp_path)
    code, printed, _ = call("doctor", "--out", tmp_path)
    assert code == 1
    assert [line.split()[1] for line in printed.splitlines() if line.startswith("FAULT")] == [part]


# --- quiet and completion -------------------------------------------------------------------------------------


def test_quiet_leaves_out_notes_and_progress_and_keeps_errors(capsys: pytest.CaptureFixture[str]) -> None:
    lines.be_quiet(True)
    try:
        with Display() as display:
            display.begin("a stage", 3)
            display.note("a note")
        lines.say("a result")
        lines.say("a note", error=True)
        lines.say("an error", error=True, urgent=True)
    finally:
        lines.be_quiet(False)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("a result\n", "an error\n")


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("dosimeter study --attack pg", {"pgd"}),
        ("dosimeter study --attack fgsm,stored", {"fgsm,stored_pgd"}),
        ("dosimeter list exam", {"examinations"}),
        ("dosimeter show model vg", {"vgg16"}),
        ("dosimeter data info phantom-x", {"phantom-xray"}),
    ],
)
def test_values_are_completed(words: str, completed: set[str]) -> None:
    variables = {"_DOSIMETER_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    script = "import sys; sys.argv[0] = 'dosimeter'; from dosimeter.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | variables, capture_output=True, text=True, check=False
    )
    assert set(done.stdout.split()) == completed, done.stderr
