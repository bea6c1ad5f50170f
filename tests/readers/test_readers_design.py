"""The design of a reader study: balance, order, and that an edited one is noticed."""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from reader_study import make_study_folder

from dosimeter.errors import DosimeterError
from dosimeter.readers.design import Pair, read_design, schedule, write_design


def test_a_design_is_read_as_it_was_written(tmp_path: Path) -> None:
    design = make_study_folder(tmp_path)
    assert read_design(tmp_path) == design
    assert all(isinstance(pair, Pair) for pair in read_design(tmp_path).pairs)


@pytest.mark.parametrize("reader", [1, 2, 3, 8])
def test_every_pair_is_shown_once_and_sides_are_balanced(tmp_path: Path, reader: int) -> None:
    design = make_study_folder(tmp_path, n_images=6)
    trials = schedule(design, reader)
    assert [trial.practice for trial in trials] == [True] * 2 + [False] * len(design.pairs)
    assert sorted(trial.pair for trial in trials if not trial.practice) == list(range(len(design.pairs)))
    left = Counter()
    for trial in trials[2:]:
        pair = design.pair(trial)
        left[pair.kind, pair.epsilon] += trial.altered == "left"
    assert set(left.values()) == {3}  # of 6 images
    cases = [design.pair(trial).case_id for trial in trials[2:]]
    assert all(one != other for one, other in pairwise(cases))


def test_readers_differ_and_couples_counterbalance_each_other(tmp_path: Path) -> None:
    design = make_study_folder(tmp_path)
    first, second, third = (schedule(design, reader)[2:] for reader in (1, 2, 3))
    assert [trial.pair for trial in first] == [trial.pair for trial in second][::-1]
    assert all(one.altered != other.altered for one, other in zip(first, second[::-1], strict=True))
    assert first != third
    assert schedule(design, 1) == schedule(design, 1)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda facts: facts["pairs"][0].update(epsilon=0.5), "was edited"),
        (lambda facts: facts.update(window="free"), "was edited"),
        (lambda facts: facts.update(comment="mine"), "was edited"),
        (lambda facts: facts.pop("digest"), "is damaged"),
        (lambda facts: facts.update(version=99), "Upgrade dosimeter"),
    ],
)
def test_an_edited_design_is_refused(tmp_path: Path, change, sentence: str) -> None:  # type: ignore[no-untyped-def]
    make_study_folder(tmp_path)
    facts = json.loads((tmp_path / "design.json").read_text())
    change(facts)
    (tmp_path / "design.json").write_text(json.dumps(facts))
    with pytest.raises(DosimeterError, match=sentence):
        read_design(tmp_path)


def test_what_is_no_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DosimeterError, match="is no reader study"):
        read_design(tmp_path)
    for text in ("{", "[]", "null"):
        (tmp_path / "design.json").write_text(text)
        with pytest.raises(DosimeterError, match="is damaged"):
            read_design(tmp_path)


def test_the_digest_covers_everything(tmp_path: Path) -> None:
    design = make_study_folder(tmp_path)
    (tmp_path / "other").mkdir()
    write_design(design, tmp_path / "other")
    assert json.loads((tmp_path / "other" / "design.json").read_text())["digest"] == design.digest
