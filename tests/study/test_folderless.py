"""Folders of the machine, which may name a person, reach no output of a run."""

import logging
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import sketches
from PIL import Image
from tiny import settings

import dosimeter.study.run
from dosimeter.cli import main
from dosimeter.models.weights import WeightsUnavailable
from dosimeter.plain import FolderlessFormatter, without_folders
from dosimeter.progress import Progress
from dosimeter.study.run import run_study
from dosimeter.study.trials import plan_trials

WHO = "Jane Doe"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("/home/jane/x.png", ".../x.png"),
        ("the file /home/jane/scans/x.png, and /tmp/y.", "the file .../x.png, and .../y."),
        ("cannot read '/home/jane doe/scans/x y.png': no", "cannot read '.../x y.png': no"),
        ('File "/home/jane doe/lib.py", line 3', 'File ".../lib.py", line 3'),
        ("(file:///home/jane/x.png)", "(.../x.png)"),
        ("C:\\Users\\jane\\x.png and C:/Users/jane/x.png", ".../x.png and .../x.png"),
        ("--data=/home/jane/data", "--data=.../data"),
        ("https://example.org/a/b.png, 4/255, 1 / 2, and/or, tables/x.csv, ../x, a//b", None),
        ("", None),
        ("the folder /home/jane doe/my scans of 2020/x y cannot", "the folder .../x y cannot"),
        ("/home//jane/x and \\\\server\\jane\\x.png", ".../x and .../x.png"),
    ],
)
def test_folders_of_absolute_paths_are_left_out(text: str, said: str | None) -> None:
    assert without_folders(text) == (text if said is None else said)


def test_a_traceback_in_the_log_has_no_folder() -> None:
    try:
        shutil.copy("/nowhere/jane/x", "/nowhere/jane/y")
    except OSError:
        record = logging.LogRecord("d", logging.ERROR, "", 1, "of %s", ("/nowhere/jane/x",), sys.exc_info())
    said = FolderlessFormatter("%(message)s").format(record)
    assert said.startswith("of .../x")
    assert 'File ".../shutil.py"' in said
    assert "jane" not in said
    assert str(Path(__file__).parent) not in said


class Removing(Progress):
    """Removes a file once the images are read, so that the sweep does not find it."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def begin(self, stage: str, total: int) -> None:
        if "sweep of" in stage:
            self.file.unlink(missing_ok=True)


@pytest.fixture
def home(image_folder: Path, tmp_path: Path) -> Path:
    """Somebody's folder: a list with absolute paths, some of them of files that cannot be used, and a mask."""
    home = tmp_path / WHO
    shutil.copytree(image_folder, home / "scans")
    (home / "elsewhere").mkdir()
    lines = (home / "scans" / "cases.csv").read_text().splitlines()
    head, rows = lines[0], [line.split(",") for line in lines[1:]]
    for row in rows[20:]:
        shutil.move(home / "scans" / row[0], home / "elsewhere" / row[0])
    named = [
        ",".join([str(home / ("elsewhere" if n >= 20 else "scans") / row[0]), *row[1:]]) for n, row in enumerate(rows)
    ]
    (home / "elsewhere" / "broken.png").write_bytes(b"no image")
    Image.fromarray(np.full((64, 64), 7, np.uint8)).save(home / "elsewhere" / "flat.png")
    shutil.copy(home / "scans" / rows[0][0], home / "elsewhere" / "copy.png")
    for name in ("broken.png", "missing.png", "flat.png", "copy.png"):
        named.append(f"{home / 'elsewhere' / name},1,")
    named += ["../climbs.png,1,", f"{home / 'elsewhere'},1,", f"{home / 'elsewhere' / 'nolabel.png'},,"]
    (home / "scans" / "list.csv").write_text("\n".join([head, *named]) + "\n")
    Image.fromarray(np.full((32, 32), 255, np.uint8)).save(home / "mask.png")
    return home


def texts(folder: Path) -> dict[str, str]:
    """Return all that a run's files say, but its settings: these are as they were typed."""
    found = {}
    for file in folder.rglob("*"):
        if file.suffix == ".parquet":
            table = pq.read_table(file)
            rows = [
                str(table[name].unique().to_pylist()) for name in table.column_names if table[name].type == "string"
            ]
            found[file.name] = str(table.schema.metadata) + "".join(rows)
        elif file.is_file() and file.name != "config.toml":
            found[file.name] = file.read_bytes().decode("utf-8", "replace")
    return found


@pytest.mark.slow  # a study with all that is drawn of it; test_study looks at the texts of another
@pytest.mark.usefixtures("tiny_networks")
@pytest.mark.usefixtures("drawn")
def test_no_output_of_a_run_shows_a_folder(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    present = dosimeter.models.fit.load_weights

    def missing(model: str, **options: object) -> object:
        if model == "inception_v3":
            raise WeightsUnavailable(f"No weights: the folder {home}/cache of {tmp_path}/x cannot be written.")
        return present(model, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(dosimeter.models.fit, "load_weights", missing)
    run = home / "run"
    cohort = f"csv:{home / 'scans' / 'list.csv'}"
    config = settings(
        home, run, cohort=cohort, epochs=1, mask=home / "mask.png", attack="pgd", effort="quick", preset="sound"
    )
    tested = plan_trials(config)[0][0].split.test.records[0]
    run_study(config, progress=Removing(tested.read.args[0]))  # type: ignore[attr-defined]
    said = texts(run)
    log = said["log.txt"]
    assert "broken.png (line 42)" in log
    assert "missing.png (line 43)" in log
    assert "climbs.png" in log
    assert "list.csv: " in log
    assert f"case {tested.case_id} left out: SMITH-" in log
    monkeypatch.setattr(sys, "argv", ["dosimeter", "report", str(run)])
    with sketches.sketched(), pytest.raises(SystemExit):
        main()
    said |= {f"again {name}": text for name, text in texts(run).items()}
    for name, text in said.items():
        for secret in (WHO, str(home), str(tmp_path), str(Path.home()), str(Path.cwd()), sys.prefix):
            assert secret == "/" or secret not in text, f"{name} shows {secret}"
