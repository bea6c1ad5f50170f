import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dosimeter import __version__
from dosimeter.cli import main
from dosimeter.cli.app import app
from dosimeter.cli.display import Display
from dosimeter.cli.options import joined, shown_command
from dosimeter.study.config import load_config


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """Run the command line in this process: (exit code, standard output, standard error)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dosimeter", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        captured = capsys.readouterr()
        return int(caught.value.code or 0), captured.out, captured.err

    return call


def test_version_help_and_lists(run) -> None:  # type: ignore[no-untyped-def]
    assert run("--version")[:2] == (0, f"dosimeter {__version__}\n")
    assert "study" in run("--help")[1]
    assert "vgg16" in run("list", "models")[1]
    assert "covid-ct" in run("list", "cohorts")[1]
    assert "covid-ct" in run("data", "list")[1]
    assert "keras_bce" in run("list", "attacks")[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["study", "--epsilons", "4"], "Did you mean 4/255?"),
        (["study", "--model", "vgg61"], "Did you mean 'vgg16'?"),
        (["study", "--cohort", "phantom-xry"], "phantom-xray"),
        (["study", "--cohort", "xray-268"], "DOSIMETER_DATA"),
        (["study", "--cohort", "folder:/nowhere"], "/nowhere"),
        (["study", "missing.toml"], "missing.toml"),
        (["study", "--weights", "vgg16"], "NAME=FILE"),
        (["study", "--weights", "vgg16=/nowhere.pth", "--cohort", "phantom-ct", "--limit", "20"], "/nowhere.pth"),
        (["study", "--limit", "1"], "limit"),
        (["study", "--pool", "all"], "pool must be 'whole', 'none' or a number of cells"),
        (["study", "--learning-rate", "inf"], "learning_rate"),
        (["study", "--epsilons", f"1{'0' * 400}/1"], "epsilon must be"),
        (["study", "--device", "cuda:9"], "device"),
        (["report", "/nowhere"], "/nowhere"),
        (["list", "modls"], "Did you mean 'models'?"),
        (["data", "info", "covid"], "covid-ct"),
        (["data", "fetch", "phantom-ct"], "Choose from"),
        (["weights", "fetch", "resnet"], "resnet"),
        (["studdy"], "studdy"),
        (["study", "--weights", "\x1b[31mvgg16"], r"\x1b[31mvgg16"),
        (["study", "--cohort", "csv:\x1b[31m/a.csv", "--dry-run"], r"\x1b[31m/a.csv"),
        (["report", "\x1b[31m\nerror: forged"], r"\x1b[31m\nerror: forged"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_sentence_and_exit_code_2(run, tmp_path, monkeypatch, arguments, message) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    code, _, err = run(*arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert "\x1b" not in err
    assert "\nerror: forged" not in err


@pytest.mark.usefixtures("tiny_networks")
def test_study_report_and_dry_run(run, image_folder: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    common = ("study", "--cohort", f"csv:{image_folder / 'cases.csv'}", "--epsilons", "0.001,4/255", "--epochs", 1)
    out = tmp_path / "run"
    code, plan, _ = run(*common, "--out", out, "--dry-run")
    assert code == 0
    assert "8 to attack" in plan
    assert not out.exists()
    code, printed, err = run(*common, "--out", out, "--model", "vgg16")
    assert code == 0, err
    answer, where = printed.splitlines()
    assert answer.split(": ")[1] == "VGG16 on csv:cases.csv (paper protocol, 8 images)"
    assert answer.split(": ")[0] in ("PASS", "CAUTION", "UNRELIABLE")
    assert where == f"report: {out / 'report.html'}"
    report = (out / "report.html").read_text()
    assert "csv:.../cases.csv" in report
    assert str(image_folder) not in report
    assert "already finished" in run(*common, "--out", out, "--model", "vgg16")[2]
    code, again, err = run("report", out)
    assert (code, again) == (0, printed)
    assert "figures" in err


@pytest.mark.usefixtures("tiny_networks")
def test_ctrl_c_is_130_and_the_study_continues(run, image_folder: Path, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    import dosimeter.executors.local

    arguments = ("study", "--cohort", f"csv:{image_folder / 'cases.csv'}", "--epochs", 1, "--out", tmp_path / "run")
    arguments += ("--model", "vgg16", "--epsilons", "0.001,4/255")
    with monkeypatch.context() as patched:
        patched.setattr(dosimeter.executors.local, "execute_cell", interrupt)
        code, _, err = run(*arguments)
    assert code == 130
    assert "the same command continues" in err
    assert run(*arguments)[0] == 0


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.usefixtures("tiny_networks")
def test_phantoms_are_announced_loudly(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    err = run("study", "--dry-run", "--limit", 10, "--out", tmp_path / "run")[2]
    assert "PHANTOM DATA" in err
    assert "not patients" in err


def test_data_info_and_check(run, image_folder: Path) -> None:  # type: ignore[no-untyped-def]
    name = f"csv:{image_folder / 'cases.csv'}"
    facts = json.loads(run("data", "info", name, "--json", "--cases")[1])
    assert facts["images"] == 40
    assert all(file.startswith("SMITH") for file in facts["cases"].values())
    assert "SMITH" not in run("data", "info", name)[1]
    assert "SMITH" in run("data", "info", name, "--cases")[1]
    code, printed, _ = run("data", "check", name)
    assert code == 0
    assert "PASS" in printed
    assert "WARN" in printed
    assert {finding["level"] for finding in json.loads(run("data", "check", name, "--json")[1])} >= {"pass"}


def test_the_cli_starts_without_torch_and_pandas() -> None:
    script = (
        "import sys, dosimeter.cli.app\n"
        "heavy = {'torch', 'pandas', 'matplotlib', 'sklearn', 'pyarrow', 'scipy', 'numpy'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_progress_is_lines_off_a_terminal_and_bars_on_one(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("dosimeter.cli.display.LINE_EVERY_S", 0.0)
    for terminal in (False, True):
        with Display(terminal=terminal) as display:
            display.begin("sweep", 4)
            display.advance(2)
            display.note("one [image] was left out")
            display.begin("drawing", 0)
        err = capsys.readouterr().err
        assert "one [image] was left out" in err
        assert "sweep" in err
        if not terminal:
            assert "sweep: 2 of 4, about 0 s left" in err
            assert err.index("sweep: 2 of 4 in 0 s") < err.index("drawing")
            assert "\x1b" not in err


def test_a_stage_that_is_over_stops_its_clock() -> None:
    with Display(terminal=True) as display:
        for stage, total in (("reading", 0), ("sweep", 4), ("drawing", 0)):
            display.begin(stage, total)
        display.begin("last", 0)
        running = [task.description for task in display._bars.tasks if task.stop_time is None]
        assert running == ["last"]
        whole = {task.description: (task.completed, task.total) for task in display._bars.tasks}
        assert whole["sweep"] == (0, 4)  # what was not done is not said to be
        assert whole["reading"] == (1, 1)
    assert all(task.stop_time is not None for task in display._bars.tasks)


def test_a_disk_that_refuses_is_one_sentence(run, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("dosimeter.report.redraw", refuse)
    code, _, err = run("report", tmp_path)
    assert code == 2
    assert "No space left on device" in err
    assert "Traceback" not in err


def test_the_command_shown_names_no_folder(tmp_path: Path) -> None:
    folder = tmp_path / "O'Brien, Ann"
    settings = load_config(None, cohort=[f"csv:{folder / 'cases.csv'}"], out=folder / "run")
    shown = shown_command(["study", "--cohort", f"csv:{folder}//cases.csv", "--out", f"{folder}/run"], settings, None)
    assert "Brien" not in shown
    assert shown.endswith("study --cohort csv:.../cases.csv --out .../run")


@pytest.mark.parametrize("option", ["--cohort", "--model", "--attack", "--storage"])
def test_an_option_that_names_nothing_is_a_slip(option: str) -> None:
    result = CliRunner().invoke(app, ["study", option, " , ", "--dry-run"])
    assert "an option that takes names must have one, got ' , '. Leave the option out." in str(result.exception)
    assert joined([""]) is None  # an unset variable of a shell
