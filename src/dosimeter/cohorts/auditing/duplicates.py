"""Near duplicates in the audit: under two patients, under two labels, on both sides of the split."""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from PIL import Image

from dosimeter.cohorts.base import Cohort, FloatImage
from dosimeter.cohorts.multilabel import label_words
from dosimeter.cohorts.near_duplicates import LEAST_DETAIL, LEAST_WHOLE, Pair
from dosimeter.cohorts.split import Split
from dosimeter.record.data_audit import DataCheck, NearPair

N_SHOWN = 12
"""Pairs whose pictures are kept."""

SHOWN_PX = 192
"""The longer side of such a picture."""

SOURCE = (
    "dosimeter's own: of 840 public radiographs and 746 CT slices, pairs of one exam have 0.87 or more, other patients "
    "at most 0.45; Kapoor and Narayanan 2023, Patterns 4:100804 (leaks L1.4 and L3.2)"
)
_RULE = (
    f"near duplicates: correlation of the whole images at least {LEAST_WHOLE:.2f}, of their aligned details at least "
    f"{LEAST_DETAIL:.2f}"
)


def near_pairs(cohort: Cohort, pairs: Sequence[Pair], split: Split | None) -> list[NearPair]:
    """Return what is told of pairs of images that are near duplicates; those that matter most come first.

    Pairs of one patient whose labels agree are left out: they are expected, and whether patients are on both sides of
    the split is another check.
    """
    side = sides(cohort, split)
    told = [found for pair in pairs if not _is_expected(found := _told(cohort, pair, side))]
    told.sort(key=lambda at: (not straddles(at), not straddles(at, "val"), not at.contradict, -at.detail))
    places = {record.case_id: place for place, record in enumerate(cohort.records)}
    for found in told[:N_SHOWN]:
        found.pictures = [png(cohort[places[case]].image) for case in found.cases]
    return told


def _told(cohort: Cohort, pair: Pair, side: Mapping[str, str]) -> NearPair:
    both = [cohort.records[pair.first], cohort.records[pair.second]]
    known = all(record.patient_id is not None for record in both)
    return NearPair(
        cases=[record.case_id for record in both],
        whole=round(pair.whole, 4),
        detail=round(pair.detail, 4),
        labels=[label_words(cohort, record) for record in both],
        contradict=both[0].contradicts(both[1]),
        one_patient=both[0].patient_id == both[1].patient_id if known else None,
        sides=[side.get(record.case_id, "") for record in both],
        together=both[0].unit is not None and both[0].unit == both[1].unit,
    )


def _is_expected(pair: NearPair) -> bool:
    return pair.one_patient is True and not pair.contradict


def checks(pairs: Sequence[NearPair], split: Split | None) -> Iterator[DataCheck]:
    """Yield what is to be judged of `near_pairs`."""
    yield _apart(pairs)
    yield _labels(pairs)
    if split is not None and len(split.train):
        yield _across(pairs, split)


def _apart(pairs: Sequence[NearPair]) -> DataCheck:
    other = [pair for pair in pairs if pair.one_patient is False]
    unknown = [pair for pair in pairs if pair.one_patient is None]
    apart = [pair for pair in other if not pair.together]
    words = f", and {_n(unknown)} of patients that are not known" if unknown else ""
    words += "; splits keep them together" if other and not apart else ""
    return DataCheck(
        id="near duplicates: patients",
        title="Are near duplicates under different patients?",
        level="warn" if apart else "info" if other or unknown else "pass",
        measured=f"{_n(other)} of different patients{words}.",
        rule=f"{_RULE}; warn if any two are of different patients, unless splits keep them together",
        source=SOURCE,
        remedy="look at the pairs; correct the patients, keep one image of each, or use `--group duplicates`"
        if apart or unknown
        else "",
        numbers={"n": len(other), "n_unknown": len(unknown)},
        cases=_cases([*other, *unknown]),
    )


def _labels(pairs: Sequence[NearPair]) -> DataCheck:
    other = [pair for pair in pairs if pair.contradict]
    return DataCheck(
        id="near duplicates: labels",
        title="Are near duplicates labelled differently?",
        level="warn" if other else "pass",
        measured=f"{_n(other)} with different labels.",
        rule=f"{_RULE}; warn if any two have different labels, or of a finding that both state",
        source=SOURCE,
        remedy="look at the pairs, and correct the labels" if other else "",
        numbers={"n": len(other)},
        cases=_cases(other),
    )


def _across(pairs: Sequence[NearPair], split: Split) -> DataCheck:
    found, tuned = ([pair for pair in pairs if straddles(pair, side)] for side in ("train", "val"))
    tests = {case for pair in found for case, side in zip(pair.cases, pair.sides, strict=True) if side == "test"}
    val = f", {_n(tuned)} with one in validation and one in the test" if split.protocol == "official" else ""
    return DataCheck(
        id="near duplicates: split",
        title="Are near duplicates on both sides of the split?",
        level="fail" if found else "warn" if tuned else "pass",
        measured=f"{_n(found)} with one image in training and one in the test, {len(tests)} of {len(split.test)} test "
        f"images{val} ({split.protocol} protocol, seed {split.seed}).",
        rule=f"{_RULE}; fail if any two are in training and in the test, warn if in validation and in the test",
        source=SOURCE,
        remedy="split with `--protocol patient --group duplicates`, or keep one image of each pair"
        if found or tuned
        else "",
        numbers={"n": len(found), "n_validation": len(tuned), "n_test_images": len(tests), "n_test": len(split.test)},
        cases=_cases([*found, *tuned]),
    )


def sides(cohort: Cohort, split: Split | None) -> dict[str, str]:
    """Return the side of each case of a split, "train", "test", or "val" of the official one."""
    if split is None:
        return {}
    halves = (("train", split.train), ("test", split.test))
    found = {record.case_id: side for side, half in halves for record in half.records}
    if split.protocol == "official":
        found |= {record.case_id: "val" for record in cohort.records if record.official_split == "val"}
    return found


def straddles(pair: NearPair, side: str = "train") -> bool:
    """Whether one image is on that side and one in the test."""
    return set(pair.sides) == {side, "test"}


def png(image: FloatImage) -> str:
    """Return a small grey picture of an image (C, H, W), PNG in base64."""
    grey = np.rint(255 * image.mean(axis=0)).astype(np.uint8)
    picture = Image.fromarray(grey)
    picture.thumbnail((SHOWN_PX, SHOWN_PX))
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def _cases(pairs: Sequence[NearPair]) -> list[str]:
    return list(dict.fromkeys(case for pair in pairs for case in pair.cases))


def _n(pairs: Sequence[NearPair]) -> str:
    return f"{len(pairs)} pair{'' if len(pairs) == 1 else 's'}"
