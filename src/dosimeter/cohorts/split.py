"""`split`: training and test images by one of three protocols."""

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedGroupKFold, train_test_split

from dosimeter.cohorts.base import Cohort
from dosimeter.cohorts.copies import label_sentences, n_seen, require_one_label
from dosimeter.errors import DosimeterError, did_you_mean
from dosimeter.plain import named

log = logging.getLogger(__name__)

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """A cohort's training and test images, each in the cohort's order.

    Attributes:
        train: images to fit the classifier on.
        test: images to measure it on.
        protocol: "paper", "patient", "official" or "whole".
        seed: the seed of the shuffle; the official protocol does not use it.
        n_unused: images of the cohort on neither side (the official protocol's validation images, and those that
            `draw_tests` left out).
    """

    train: Cohort
    test: Cohort
    protocol: str
    seed: int
    n_unused: int


def split(cohort: Cohort, protocol: str, *, seed: int = 0, test_share: float = 0.2, strict: bool = False) -> Split:
    """Split a cohort into training and test images, and log a warning where one picture is on both sides.

    - `paper`: by image, stratified by class. A patient with several images may be on both sides, which flatters
      the classifier; `shared_patients` counts it.
    - `patient`: no patient, or group (see `groups.grouped`), on both sides, stratified by class, about `test_share`
      of the images in the test.
    - `official`: the split that came with the cohort, train against test; its validation images are not used.
    - `whole`: every image is tested; for a classifier that was trained elsewhere.

    Args:
        cohort: the images.
        protocol: one of the above.
        seed: of the shuffle.
        test_share: share of the images to test on, in (0, 0.5]; the official protocol ignores it.
        strict: raise on a picture (the same file, or the same pixels) on both sides or under two labels.

    Raises:
        DosimeterError: unknown protocol, patient ids or official split missing, a class absent from a side, or see
            `strict`.

    Source: Appl. Sci. 2021, 11, 4233, table 1 (`paper`: 54 of 268 and 150 of 746 images in the test).
    """
    result = divide(cohort, protocol, seed=seed, test_share=test_share)
    if strict:
        require_one_label(cohort)
        require_apart(result)
    for sentence in copy_sentences(result, cohort):
        log.warning("%s", sentence)
    return result


def divide(cohort: Cohort, protocol: str, *, seed: int = 0, test_share: float = 0.2) -> Split:
    """Return what `split` returns, and say nothing of pictures that are on both sides."""
    if protocol not in _PROTOCOLS:
        raise DosimeterError(f"protocol must be known, got {protocol!r}. {did_you_mean(protocol, _PROTOCOLS)}")
    if not 0 < test_share <= 0.5:
        raise DosimeterError(f"test_share must be above 0 and at most 0.5, got {test_share}; the paper has 0.2.")
    train, test = _PROTOCOLS[protocol](cohort, seed, test_share)
    result = Split(
        train=cohort.subset(np.sort(train).tolist()),
        test=cohort.subset(np.sort(test).tolist()),
        protocol=protocol,
        seed=seed,
        n_unused=len(cohort) - len(train) - len(test),
    )
    for side, part in (("training", result.train), ("test", result.test)):
        for name, count in part.counts.items():
            if count == 0 and (protocol, side) != ("whole", "training") and not cohort.findings:
                if protocol == "whole":
                    raise DosimeterError(
                        f"the images of {cohort.name} must be of every class, none is of class {name}. Bring some of "
                        "it too."
                    )
                raise DosimeterError(
                    f"each side of the {protocol} split of {cohort.name} must have every class, the {side} side has "
                    f"no image of class {name}: use more images, another seed or another protocol."
                )
    return result


def draw_tests(whole: Split, n_images: int) -> Split:
    """Return a split that trains on as much and tests on about `n_images`, drawn by its seed in the classes' shares.

    For attacks that cost more than the whole test side is worth. Those left out count as unused.
    """
    test = whole.test
    order = np.random.default_rng(whole.seed).permutation(len(test))
    kept: list[int] = []
    for label in range(len(test.classes)):
        own = order[test.labels[order] == label]
        kept += own[: max(1, round(n_images * len(own) / len(test)))].tolist()
    return replace(whole, test=test.subset(sorted(kept)), n_unused=whole.n_unused + len(test) - len(kept))


def draw_training(whole: Split, n_patients: int) -> Split:
    """Return a split that trains on the images of `n_patients`, drawn by its seed in the classes' shares.

    Of the same seed a smaller draw is part of a larger one, so that sizes can be compared. A patient counts for the
    class of most of their images, an image whose patient is unknown for a patient. Those left out count as unused.

    Raises:
        DosimeterError: there are fewer patients, or a class would be left without one.
    """
    labels: dict[str, list[int]] = {}
    for record in whole.train.records:
        labels.setdefault(record.unit or record.case_id, []).append(record.label)
    if n_patients > len(labels):
        raise DosimeterError(
            f"train_patients must be at most {len(labels)}, the patients in training of {whole.train.name}, got "
            f"{n_patients}."
        )
    own = {unit: Counter(each).most_common(1)[0][0] for unit, each in labels.items()}
    order = np.random.default_rng(whole.seed).permutation(np.array(list(own), dtype=object))
    places: dict[str, float] = {}
    for label in set(own.values()):
        mine = [unit for unit in order if own[unit] == label]
        places |= {unit: (place + 0.5) / len(mine) for place, unit in enumerate(mine)}
    kept = set(sorted(places, key=lambda unit: (places[unit], unit))[:n_patients])
    chosen = [place for place, each in enumerate(whole.train.records) if (each.unit or each.case_id) in kept]
    train = whole.train.subset(chosen)
    missing = set(whole.train.labels.tolist()) - set(train.labels.tolist())
    if missing:
        lacking = named(whole.train.classes[min(missing)])
        raise DosimeterError(
            f"train_patients must leave an image of {lacking} in training, got {n_patients}. Take more."
        )
    return replace(whole, train=train, n_unused=whole.n_unused + len(whole.train) - len(train))


def shared_patients(split: Split) -> int | None:
    """Return how many test images show a patient who is also in training; None if a patient id is missing."""
    trained = {record.patient_id for record in split.train.records}
    tested = [record.patient_id for record in split.test.records]
    if None in trained or None in tested:
        return None
    return sum(patient in trained for patient in tested)


def shared_images(split: Split) -> int:
    """Return how many test images show the same picture as a training image: the same file, or the same pixels."""
    return n_seen(split.test.records, split.train.records)


def copy_sentences(split: Split, cohort: Cohort) -> Iterator[str]:
    """Yield a sentence on pictures of both sides, and one on pictures of two labels, if there are any; no file's name.

    Args:
        split: of the cohort.
        cohort: the whole of it.
    """
    n_shared = shared_images(split)
    if n_shared:
        yield (
            f"{n_shared} of {len(split.test)} test images of {named(cohort.name)} ({split.protocol} protocol, seed "
            f"{split.seed}) are in training too: the same file, or the same pixels."
        )
    yield from label_sentences(cohort)


def require_apart(split: Split) -> None:
    """Raise DosimeterError if a picture is on both sides."""
    n_shared = shared_images(split)
    if n_shared:
        first = next(record for record in split.test.records if n_seen([record], split.train.records))
        raise DosimeterError(
            f"an image must be on one side of the {split.protocol} split of {named(split.test.name)}, {n_shared} of "
            f"{len(split.test)} test images are in training too, with the same pixels, the first is "
            f"{named(first.name or first.case_id)}: remove the copies, or leave out --strict to go on with them."
        )


def _by_image(cohort: Cohort, seed: int, test_share: float) -> tuple[Indices, Indices]:
    _require_images(cohort, "paper", n_images=2)
    n_test = math.ceil(len(cohort) * test_share)
    if n_test < len(cohort.classes):
        raise DosimeterError(
            f"the paper protocol needs a test image of each class, test_share {test_share} of the {len(cohort)} "
            f"images of {cohort.name} is {n_test}: use more images."
        )
    places = np.arange(len(cohort))
    train, test = train_test_split(places, test_size=test_share, stratify=cohort.labels, random_state=seed)
    return train, test


def _by_patient(cohort: Cohort, seed: int, test_share: float) -> tuple[Indices, Indices]:
    patients = [record.unit for record in cohort.records]
    if None in patients:
        raise DosimeterError(
            f"the patient protocol needs a patient id for every image, {patients.count(None)} of the {len(cohort)} "
            f"images of {cohort.name} have none: add a patient_id column, or use --protocol paper."
        )
    n_folds = round(1 / test_share)
    _require_images(cohort, "patient", n_images=n_folds)
    if len(set(patients)) < n_folds:
        raise DosimeterError(
            f"the patient protocol with test_share {test_share} needs at least {n_folds} patients, "
            f"{cohort.name} has {len(set(patients))}: use more patients, or --protocol paper."
        )
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    train, test = next(folds.split(cohort.labels, cohort.labels, patients))
    return train, test


def _whole(cohort: Cohort, _: int, __: float) -> tuple[Indices, Indices]:
    return np.array([], dtype=np.int64), np.arange(len(cohort))


def _as_published(cohort: Cohort, seed: int, test_share: float) -> tuple[Indices, Indices]:
    del seed, test_share
    sides = np.array([record.official_split or "" for record in cohort.records])
    train, test = np.flatnonzero(sides == "train"), np.flatnonzero(sides == "test")
    if not len(train) or not len(test):
        raise DosimeterError(
            f"the official protocol needs images marked train and test, {cohort.name} has {len(train)} and "
            f"{len(test)}: use --protocol patient or paper."
        )
    return train, test


def _require_images(cohort: Cohort, protocol: str, *, n_images: int) -> None:
    for name, count in cohort.counts.items():
        if count < n_images:
            raise DosimeterError(
                f"the {protocol} protocol needs at least {n_images} images of each class, {cohort.name} has {count} "
                f"of class {name}: use more images."
            )


_PROTOCOLS: dict[str, Callable[[Cohort, int, float], tuple[Indices, Indices]]] = {
    "paper": _by_image,
    "patient": _by_patient,
    "official": _as_published,
    "whole": _whole,
}
