"""Answers that were said to be saved are saved, whatever happens."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from reader_study import make_study_folder

from dosimeter.errors import DosimeterError
from dosimeter.readers.design import read_design
from dosimeter.readers.store import Answer, Store, Taken


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_study_folder(tmp_path / "study")
    return tmp_path / "study"


def opened(folder: Path) -> Store:
    return Store(folder, read_design(folder))


ANSWERING = """
import sys
from pathlib import Path
from dosimeter.readers.design import read_design
from dosimeter.readers.store import Answer, Store
folder = Path(sys.argv[1])
store = Store(folder, read_design(folder))
reader = store.find("alpha") or store.join("alpha")
while True:
    place = store.upcoming(reader.number, 1)[0].place
    store.answer(reader.number, place, Answer("left", 1.5))
    print(place, flush=True)
"""


def test_an_answer_shown_as_saved_survives_kill_9(tmp_path: Path) -> None:
    folder = tmp_path / "large"
    make_study_folder(folder, n_images=60)
    saved: list[int] = []
    for n in (1, 7, 9):
        with subprocess.Popen(
            [sys.executable, "-c", ANSWERING, str(folder)], stdout=subprocess.PIPE, text=True
        ) as reader:
            assert reader.stdout is not None
            saved += [int(reader.stdout.readline()) for _ in range(n)]
            os.kill(reader.pid, signal.SIGKILL)
            saved += [int(line) for line in reader.stdout if line.endswith("\n")]  # said before it died
        there = [answer["place"] for answer in opened(folder).answers()]
        assert there[: len(saved)] == saved == list(range(len(saved)))
        saved = there  # it may have died between saving and saying so


def test_the_disk_syncs_before_an_answer_is_acknowledged(folder: Path) -> None:
    store = opened(folder)
    pragmas = [store._database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    assert pragmas == ["wal", 2]


def test_a_reader_goes_on_another_day(folder: Path) -> None:
    first = opened(folder)
    reader = first.join("alpha")
    before = first.upcoming(reader.number, 100)
    for upcoming in before[:5]:
        first.answer(reader.number, upcoming.place, Answer(upcoming.trial.altered, 0.5))
    first.close()
    later = opened(folder)
    again = later.find("ALPHA")
    assert again is not None
    assert (again.number, again.n_answered, again.n_trials) == (1, 5, len(before))
    assert later.upcoming(1, 100) == before[5:]


def test_an_answer_may_come_twice_but_not_otherwise(folder: Path) -> None:
    store = opened(folder)
    store.join("alpha")
    place, trial = store.upcoming(1)[0]
    other = "left" if trial.altered == "right" else "right"
    assert store.answer(1, place, Answer(trial.altered, 1.0)) is True
    assert store.answer(1, place, Answer(trial.altered, 9.0)) is True
    assert store.answers()[0]["response_s"] == 1.0
    for wrong_place, chosen in ((place, other), (place + 5, "left"), (999, "left")):
        with pytest.raises(Taken):
            store.answer(1, wrong_place, Answer(chosen))
    assert len(store.answers()) == 1


def test_readers_at_the_same_time_do_not_disturb_each_other(folder: Path) -> None:
    """Two connections, as of two processes, four threads."""
    stores = [opened(folder), opened(folder)]
    failures: list[BaseException] = []

    def work(index: int) -> None:
        try:
            store = stores[index % 2]
            reader = store.join(f"reader-{index}")
            for place, trial in store.upcoming(reader.number, 100):
                store.answer(reader.number, place, Answer(trial.altered))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    answers = stores[0].answers()
    assert len(answers) == 4 * (2 + 4 * 7)
    assert {answer["reader"] for answer in answers} == {1, 2, 3, 4}


def test_a_full_disk_is_one_sentence_and_nothing_is_lost(tmp_path: Path) -> None:
    folder = tmp_path / "large"
    make_study_folder(folder, n_images=60)
    store = opened(folder)
    store.join("alpha")
    store.answer(1, 0, Answer("left"))
    pages = store._database.execute("PRAGMA page_count").fetchone()[0]
    store._database.execute(f"PRAGMA max_page_count = {pages}")  # SQLite then refuses to grow as on a full disk
    with pytest.raises(DosimeterError, match="disk is full or refused: this was not saved"):
        store.join("beta")
    store._database.execute("PRAGMA max_page_count = 1000000")
    store.answer(1, 1, Answer("right"))
    assert [answer["place"] for answer in opened(folder).answers()] == [0, 1]


def test_bad_pseudonyms_are_refused(folder: Path) -> None:
    store = opened(folder)
    store.join("alpha")
    for name in ("", "a", "Jane Doe", "<script>", "x" * 25, "-a", "ä1"):
        with pytest.raises(DosimeterError, match="pseudonym must have 2 to 24"):
            store.join(name)
    with pytest.raises(DosimeterError, match="is taken"):
        store.join("Alpha")
    assert list(store.displays()) == [1]


def test_answers_to_another_design_are_kept_apart(folder: Path, tmp_path: Path) -> None:
    make_study_folder(tmp_path / "other", seed=4)
    shutil.copy(tmp_path / "other" / "design.json", folder)
    with pytest.raises(DosimeterError, match="answers to another design"):
        opened(folder)


def test_a_damaged_store_is_one_sentence(folder: Path) -> None:
    for file in folder.glob("answers.sqlite*"):
        file.unlink()
    (folder / "answers.sqlite").write_bytes(b"no database at all, whatever its name" * 200)
    with pytest.raises(DosimeterError, match="is damaged or not ours"):
        opened(folder)


def test_people_and_simulated_readers_do_not_mix(folder: Path, tmp_path: Path) -> None:
    store = opened(folder)
    store.join("alpha")
    with pytest.raises(DosimeterError, match="people have joined"):
        store.mark_simulated()
    assert not store.simulated
    make_study_folder(tmp_path / "other")
    other = opened(tmp_path / "other")
    other.mark_simulated()
    other.join("simulated-1", simulated=True)
    with pytest.raises(DosimeterError, match="are simulated"):
        other.join("alpha")


def test_nothing_but_the_answers_is_in_the_store(folder: Path) -> None:
    tables = sqlite3.connect(folder / "answers.sqlite").execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    assert {name for (name,) in tables} == {"study", "readers", "trials"}
