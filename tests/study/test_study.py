import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import tiny
from noting import Notes, Stages
from tiny import settings

import dosimeter.executors.local
import dosimeter.study.run
from dosimeter.cli import main
from dosimeter.cohorts.base import Case, Cohort
from dosimeter.errors import DosimeterError
from dosimeter.models.weights import WeightsUnavailable
from dosimeter.record import table as responses
from dosimeter.report import redraw
from dosimeter.study.run import run_study
from dosimeter.study.trials import plan_trials

pytestmark = pytest.mark.usefixtures("tiny_networks")


def test_every_stage_of_known_length_is_counted_to_its_end(image_folder: Path, tmp_path: Path) -> None:
    seen = Stages()
    run_study(settings(image_folder, tmp_path, model="vgg16", epochs=2), progress=seen)
    counted = {stage: total for stage, total, _ in seen.stages if total}
    assert [(stage, done) for stage, total, done in seen.stages if total] == list(counted.items())
    where = "vgg16 on csv:cases.csv (paper, seed 0)"
    n_train, n_test = 32, 8
    assert counted[f"{where}: features of 40 images"] == n_train + n_test
    assert counted[f"{where}: training, 2 epochs"] == 2 * n_train
    assert counted[f"{where}: sweep of 8 images under paper, sound"] == 2 * n_test
    assert counted["figures"] == len(list((tmp_path / "figures").glob("*.svg")))


@pytest.mark.usefixtures("drawn")
def test_a_study_leaves_everything_it_promises(image_folder: Path, tmp_path: Path) -> None:
    outcome = run_study(settings(image_folder, tmp_path), command="dosimeter study")
    assert not outcome.incomplete
    for name in ("config.toml", "manifest.json", "responses.parquet", "summary.json", "report.html", "log.txt"):
        assert (tmp_path / name).stat().st_size > 0, name
    for table in (
        "clean_metrics",
        "confusion",
        "training",
        "fgsm_accuracy",
        "probability_drop",
        "flip_epsilon",
        "epsilon50",
    ):
        assert (tmp_path / "tables" / f"{table}.csv").is_file()
        of_a_paper = table not in ("training", "flip_epsilon")
        assert (tmp_path / "tables" / f"{table}.tex").is_file() == of_a_paper
    assert list((tmp_path / "figures").glob("*.svg"))
    accuracy = pd.read_csv(tmp_path / "tables" / "fgsm_accuracy.csv")
    assert set(accuracy.model) == {"vgg16", "inception_v3"}
    assert set(zip(accuracy.preset, accuracy.storage, strict=True)) == {
        ("paper", "float"),
        ("sound", "float"),
        ("sound", "png8"),
    }
    assert set(accuracy.epsilon) == {0.0, 0.001, 0.003, 0.009, 0.08}
    assert (accuracy.n == 8).all()
    stored = accuracy[(accuracy.storage == "png8") & (accuracy.epsilon < 0.00196)]
    assert (stored.unchanged_share == 1).all()
    meta = responses.read(tmp_path / "responses.parquet").meta
    assert meta["environment"]["device"]
    assert {stage["stage"] for stage in meta["stages"]} >= {"read", "features", "training", "sweep"}


@pytest.mark.usefixtures("only_tables")
def test_running_again_computes_nothing_and_a_changed_input_reuses_nothing(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executed: list[str] = []
    original = dosimeter.executors.local.execute_cell

    def counting(cell, *rest, **options):  # type: ignore[no-untyped-def]
        executed.append(cell.cell_id)
        return original(cell, *rest, **options)

    monkeypatch.setattr(dosimeter.executors.local, "execute_cell", counting)
    run_study(settings(image_folder, tmp_path, model="vgg16"))
    first = set(executed)
    written = (tmp_path / "report.html").stat().st_mtime_ns
    executed.clear()
    assert run_study(settings(image_folder, tmp_path, model="vgg16")).reused
    assert executed == []
    assert (tmp_path / "report.html").stat().st_mtime_ns == written
    assert not run_study(settings(image_folder, tmp_path, model="vgg16", epsilons="0.002")).reused
    assert not first & set(executed)
    table = pd.read_csv(tmp_path / "tables" / "fgsm_accuracy.csv")
    assert set(table.epsilon) == {0.0, 0.002}


@pytest.mark.usefixtures("only_tables")
def test_same_seed_same_tables(image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        monkeypatch.setenv("DOSIMETER_CACHE", str(tmp_path / f"cache-{name}"))
        run_study(settings(image_folder, tmp_path / name, model="vgg16"))
    for table in (tmp_path / "one" / "tables").iterdir():
        assert table.read_bytes() == (tmp_path / "two" / "tables" / table.name).read_bytes()


@pytest.mark.slow  # processes that are killed and begin anew
@pytest.mark.usefixtures("only_tables")
def test_a_study_killed_with_sigkill_goes_on_where_it_was(image_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    script = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); import tiny, operator\n"
        "tiny.install(operator.setitem)\n"
        "import dosimeter.study.run as study; from tiny import settings; from pathlib import Path\n"
        "from dosimeter.executors import local as executor\n"
        "whole = executor.execute_cell\n"
        "def slow(*arguments, **options):\n"
        "    time.sleep(0.5); return whole(*arguments, **options)\n"
        "executor.execute_cell = slow\n"
        "study.run_study(settings(Path(sys.argv[2]), Path(sys.argv[3]), model='vgg16'))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(Path(tiny.__file__).parent), str(image_folder), str(run)], env=os.environ
    )
    deadline = time.monotonic() + 120
    while len(list(run.glob("parts/*.parquet"))) < 2:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {part.name: part.read_bytes() for part in run.glob("parts/*.parquet")}
    assert not (run / "responses.parquet").exists()
    run_study(settings(image_folder, run, model="vgg16"))
    assert all((run / "parts" / name).read_bytes() == content for name, content in before.items())
    run_study(settings(image_folder, tmp_path / "straight", model="vgg16"))
    for table in (run / "tables").iterdir():
        assert table.read_bytes() == (tmp_path / "straight" / "tables" / table.name).read_bytes()


def test_one_missing_network_leaves_the_other_s_study_marked_incomplete(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    present = dosimeter.models.fit.load_weights

    def missing(model, **options):  # type: ignore[no-untyped-def]
        if model == "inception_v3":
            raise WeightsUnavailable("inception_v3 has no weights. Install npm.")
        return present(model, **options)

    monkeypatch.setattr(dosimeter.models.fit, "load_weights", missing)
    notes = Notes()
    outcome = run_study(settings(image_folder, tmp_path), progress=notes)
    assert outcome.incomplete == ["inception_v3 has no weights. Install npm."]
    assert set(outcome.incomplete) < set(notes.notes)  # beside how well the other one does
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == "incomplete"
    assert "Install npm" in (tmp_path / "report.html").read_text()
    with pytest.raises(DosimeterError, match="Install npm"):
        run_study(settings(image_folder, tmp_path / "none", model="inception_v3"))


@pytest.mark.usefixtures("no_report")
def test_a_protocol_that_a_cohort_cannot_serve_is_said(image_folder: Path, tmp_path: Path) -> None:
    outcome = run_study(settings(image_folder, tmp_path, model="vgg16", protocol="paper,official"))
    assert len(outcome.incomplete) == 1
    assert "official" in outcome.incomplete[0]
    with pytest.raises(DosimeterError, match="official"):
        run_study(settings(image_folder, tmp_path / "none", protocol="official"))


@pytest.mark.usefixtures("no_report")
def test_a_run_stopped_while_drawing_is_not_taken_for_the_finished_one_before(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = settings(image_folder, tmp_path, model="vgg16")
    run_study(first)
    second = settings(image_folder, tmp_path, model="vgg16", epsilons="0.02")
    with monkeypatch.context() as patched:
        patched.setattr(dosimeter.study.run, "redraw", stop)
        with pytest.raises(KeyboardInterrupt):
            run_study(second)
    run_study(first)
    assert 0.02 not in set(responses.read(tmp_path / "responses.parquet").frame.epsilon)


def stop(folder: Path, **_: object) -> Path:
    raise KeyboardInterrupt


@pytest.mark.usefixtures("no_report")
def test_an_image_that_could_not_be_read_is_tried_again(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(image_folder, tmp_path, model="vgg16", preset="paper")
    original = Cohort.__getitem__

    def unmounted(cohort: Cohort, index: int) -> Case:
        if cohort.records[index].case_id == broken:
            raise OSError("the share is gone")
        return original(cohort, index)

    trials, _ = plan_trials(config.resolved())
    broken = trials[0].split.test.records[0].case_id
    run_study(config)  # trains and fills the feature cache
    for part in tmp_path.glob("parts/*"):
        part.unlink()
    with monkeypatch.context() as patched:
        patched.setattr(Cohort, "__getitem__", unmounted)
        run_study(config)
    frame = responses.read(tmp_path / "responses.parquet").frame
    assert frame[frame.status == "error"].case_id.tolist() == [broken]
    run_study(config)
    frame = responses.read(tmp_path / "responses.parquet").frame
    assert (frame.status == "ok").all()
    assert len(set(frame.run_id)) == 1


def test_two_processes_do_not_share_a_folder(image_folder: Path, tmp_path: Path) -> None:
    from filelock import FileLock

    with FileLock(tmp_path / ".lock"), pytest.raises(DosimeterError, match="in use by another"):
        run_study(settings(image_folder, tmp_path))


def test_a_folder_that_cannot_be_written_is_said(image_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DosimeterError, match="cannot be written"):
        run_study(settings(image_folder, tmp_path / "file" / "run"))


def test_the_report_is_redrawn_from_the_table_alone(image_folder: Path, tmp_path: Path) -> None:
    run_study(settings(image_folder, tmp_path / "run", model="vgg16"))
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "responses.parquet").write_bytes((tmp_path / "run" / "responses.parquet").read_bytes())
    redraw(alone)
    for name in ("summary.json", "report.html", "tables/fgsm_accuracy.csv"):
        assert (alone / name).read_bytes() == (tmp_path / "run" / name).read_bytes(), name


@pytest.mark.usefixtures("drawn")
def test_outputs_name_no_file_and_no_patient(image_folder: Path, tmp_path: Path) -> None:
    cases = (image_folder / "cases.csv").read_text() + "SMITH-gone.png,1,MRN-7\n"
    (image_folder / "more.csv").write_text(cases)
    run = tmp_path / "run"
    notes = Notes()
    run_study(settings(image_folder, run, model="vgg16", cohort=f"csv:{image_folder / 'more.csv'}"), progress=notes)
    assert any("SMITH-gone.png" in note for note in notes.notes)
    for file in run.rglob("*"):
        if file.is_file() and file.name not in ("log.txt", "config.toml"):
            content = file.read_bytes()
            for secret in (b"SMITH", b"MRN-", str(image_folder).encode()):
                assert secret not in content, (file, secret)


def test_copies_of_images_are_said_and_strict_refuses_them(image_folder: Path, tmp_path: Path) -> None:
    first, *rest = (image_folder / "cases.csv").read_text().splitlines()
    sides = ["test" if index % 4 < 2 else "train" for index in range(len(rest))]
    rows = [f"{image_folder}/{row},{side}" for row, side in zip(rest, sides, strict=True)]
    name, label, patient, _ = rows[2].split(",")
    rows += [f"{name},{label},{patient},test", f"{rows[0].split(',')[0]},{1 - int(rows[0].split(',')[1])},,test"]
    (tmp_path / "more.csv").write_text("\n".join([f"{first},split", *rows]) + "\n")
    changes = {"model": "vgg16", "protocol": "official", "cohort": f"csv:{tmp_path / 'more.csv'}"}
    notes = Notes()
    run_study(settings(image_folder, tmp_path / "run", **changes), progress=notes)
    n_test = sides.count("test") + 2
    assert any(f"1 of {n_test} test images of csv:more.csv" in note for note in notes.notes)
    assert any("2 images of csv:more.csv show 1 picture under two labels" in note for note in notes.notes)
    report = (tmp_path / "run" / "report.html").read_text()
    assert f"1 of {n_test} test images are in training too" in " ".join(report.split())
    assert "2 of 42 images of the cohort show a picture that carries both labels" in " ".join(report.split())
    for file in (tmp_path / "run").rglob("*"):  # the list gives absolute paths
        assert not file.is_file() or file.name in ("log.txt", "config.toml") or b"SMITH" not in file.read_bytes()
    with pytest.raises(DosimeterError, match="an image must have one label"):
        run_study(settings(image_folder, tmp_path / "strict", strict=True, **changes))
    (tmp_path / "more.csv").write_text("\n".join([f"{first},split", *rows[:-1]]) + "\n")
    with pytest.raises(DosimeterError, match=f"1 of {n_test - 1} test images are in training too"):
        run_study(settings(image_folder, tmp_path / "strict", strict=True, **changes))


def damage(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.usefixtures("only_tables")
@pytest.mark.parametrize(
    "pattern",
    ["manifest.json", "responses.parquet", "parts/*", "pictures/*", "classifiers/*/card.json", "classifiers/*/head.*"],
)
def test_a_damaged_file_is_made_again(
    study_copy: Callable[..., Path], image_folder: Path, tmp_path: Path, pattern: str
) -> None:
    study_copy(tmp_path / "run", model="vgg16", epochs=1)
    config = settings(image_folder, tmp_path / "run", model="vgg16", epochs=1)
    before = {table.name: table.read_bytes() for table in (tmp_path / "run" / "tables").iterdir()}
    damage(next((tmp_path / "run").glob(pattern)))
    run_study(config)
    responses.read(tmp_path / "run" / "responses.parquet")
    for name, content in before.items():
        assert (tmp_path / "run" / "tables" / name).read_bytes() == content


@pytest.mark.usefixtures("no_report")
def test_a_part_of_another_cell_is_not_taken(image_folder: Path, tmp_path: Path) -> None:
    run_study(settings(image_folder, tmp_path, model="vgg16", epochs=1))
    one, other = sorted((tmp_path / "parts").iterdir())[:2]
    assert responses.is_done(one)
    one.write_bytes(other.read_bytes())
    assert not responses.is_done(one)


def test_what_is_not_a_run_is_not_overwritten(image_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "mine.png").write_text("mine")
    with pytest.raises(DosimeterError, match="holds figures and is no run"):
        run_study(settings(image_folder, tmp_path))
    assert (tmp_path / "figures" / "mine.png").read_text() == "mine"


def test_a_mistake_keeps_the_settings_that_were_there(image_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "config.toml").write_text("old")
    with pytest.raises(DosimeterError, match="nowhere"):
        run_study(settings(image_folder, tmp_path, cohort="csv:/nowhere.csv"))
    assert (tmp_path / "config.toml").read_text() == "old"


@pytest.mark.usefixtures("only_tables")
def test_repeats_are_seeds_of_their_own(image_folder: Path, tmp_path: Path) -> None:
    run_study(settings(image_folder, tmp_path / "two", model="vgg16", seed=4, repeats=2))
    frame = responses.read(tmp_path / "two" / "responses.parquet").frame
    assert set(frame.seed) == {4, 5}
    assert frame.classifier.nunique() == 2
    cases = frame.groupby("seed").case_id.unique().map(set)
    assert cases[4] != cases[5]
    table = pd.read_csv(tmp_path / "two" / "tables" / "repeats.csv")
    assert set(table.n_repeats) == {2}
    run_study(settings(image_folder, tmp_path / "one", model="vgg16", seed=5))
    alone = responses.read(tmp_path / "one" / "responses.parquet").frame.drop(columns=["run_id", "duration_s"])
    same = frame[frame.seed == 5].drop(columns=["run_id", "duration_s"]).reset_index(drop=True)
    pd.testing.assert_frame_equal(same, alone)


@pytest.mark.usefixtures("no_report")
def test_a_disk_that_fills_up_keeps_what_is_done(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write, written = responses.write_part, []

    def full(rows: object, path: Path) -> None:
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        write(rows, path)  # type: ignore[arg-type]

    monkeypatch.setattr(responses, "write_part", full)
    arguments = ["study", "--cohort", f"csv:{image_folder / 'cases.csv'}", "--epochs", "3", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["dosimeter", *arguments, "--epsilons", "0.003"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "No space left on device" in capsys.readouterr().err
    parts = sorted((tmp_path / "parts").iterdir())
    assert parts == sorted(written)
    before = [part.stat().st_mtime_ns for part in parts]
    monkeypatch.setattr(responses, "write_part", write)
    run_study(settings(image_folder, tmp_path, epsilons="0.003"))
    assert [part.stat().st_mtime_ns for part in parts] == before


@pytest.mark.usefixtures("no_report")
def test_an_engine_that_a_resumed_run_has_no_more_is_replaced(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_study(settings(image_folder, tmp_path))
    plans = json.loads((tmp_path / "manifest.json").read_text())
    for plan in plans["engine_plans"].values():
        plan |= {"name": "winograd", "versions": {"numba": "0"}, "tolerance": 1e-3}  # the tiny network cannot have it
    (tmp_path / "manifest.json").write_text(json.dumps(plans))
    progress = Notes()
    assert not run_study(settings(image_folder, tmp_path), progress=progress).incomplete
    assert any("winograd" in note and note.endswith("is chosen again.") for note in progress.notes)
    engines = responses.read(tmp_path / "responses.parquet").meta["engines"]
    assert {engine["name"] for engine in engines} == {"torch"}
