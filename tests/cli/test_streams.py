"""Standard streams that are closed or full, and folders whose names are no UTF-8: work goes on, or one sentence."""

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from matplotlib.figure import Figure
from response_factory import make_responses, write_table

from dosimeter.cli import main
from dosimeter.cli.lines import say, say_json
from dosimeter.errors import DosimeterError
from dosimeter.record.run import held
from dosimeter.record.schema import SCHEMA
from dosimeter.record.table import read_meta
from dosimeter.report.partial import read_partial
from dosimeter.report.prints import Look, save


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&- <&-"])
def test_a_closed_stream_stops_no_command(closed: str, tmp_path: Path) -> None:
    out = tmp_path / "methods"
    command = f'"{sys.executable}" -m dosimeter list storages {closed}'
    done = subprocess.run(["bash", "-c", f"{{ {command}; }} 2>{out}"], check=False, capture_output=True, timeout=60)
    assert done.returncode == 0
    assert not out.read_text()
    assert bool(done.stdout) is (closed == "2>&-")


@pytest.mark.parametrize("command", ["study --help", "list words --json"])
@pytest.mark.parametrize(
    "columns",
    [10, *(pytest.param(each, marks=pytest.mark.slow) for each in (40, 120))],  # a process each
)
@pytest.mark.parametrize("asked", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONCOERCECLOCALE": "0"}])
def test_a_stream_without_letters_or_room_stops_no_command(command: str, columns: int, asked: dict[str, str]) -> None:
    odd = {"LC_ALL": "C", "PYTHONUTF8": "0", "TERM": "dumb", "COLUMNS": f"{columns}", **asked}
    program = [sys.executable, "-m", "dosimeter", *command.split()]
    done = subprocess.run(program, check=False, capture_output=True, timeout=60, env={**os.environ, **odd})
    assert (done.returncode, done.stderr) == (0, b"")
    said = done.stdout.decode("ascii")
    if "--json" in command:
        assert json.loads(said)
    else:
        assert "--declared-accuracy" in said  # the longest name, whole


def test_json_has_letters_that_the_stream_lacks_as_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    say_json({"range": "1\u20132", "far": "\U0001f600", "bytes": "\udcff"})
    assert json.loads(written.getvalue())["range"] == "1\u20132"


class Full:
    """A stream on a full disk."""

    def write(self, _: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def flush(self) -> None:
        """Do nothing."""


def test_notes_that_cannot_be_written_stop_no_work_but_results_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Full())
    say("a note", error=True)
    monkeypatch.setattr(sys, "stdout", Full())
    with pytest.raises(OSError, match="No space"):
        say("a result")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_folder_whose_name_is_no_utf8_is_named(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_responses()
    write_table(pa.Table.from_pandas(made.frame, SCHEMA), made.meta, tmp_path)
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/r\xff"))
    folder.mkdir()
    (tmp_path / "responses.parquet").rename(folder / "responses.parquet")
    with held(folder), pytest.raises(DosimeterError, match=r"must have a name in UTF-8, got .*r\\xff\. Rename it"):
        read_meta(folder / "responses.parquet")
    with pytest.raises(DosimeterError, match="must have a name in UTF-8"):
        read_partial(folder)
    monkeypatch.setattr(sys, "argv", ["dosimeter", "tables", str(folder)])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("error:") == 1


def test_a_full_disk_leaves_the_figure_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "figure.pdf"
    save(Figure, file, Look(200))
    before = file.read_bytes()
    assert before.startswith(b"%PDF")

    def half(_: Figure, path: Path, **__: Any) -> None:
        Path(path).write_bytes(before[:9])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", half)
    with pytest.raises(OSError, match="No space"):
        save(Figure, file, Look(200))
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["figure.pdf"]
