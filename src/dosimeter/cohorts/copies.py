"""Images that are there more than once: the same file, or other files with the same pixels."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations

from dosimeter.cohorts.base import Cohort, Record
from dosimeter.cohorts.multilabel import label_words
from dosimeter.errors import DosimeterError
from dosimeter.plain import named


def picture_of(record: Record) -> str:
    """Return what two records share if they show the same picture: the digest of its pixels, or of its source."""
    return record.pixels_sha256 or record.sha256


def copies(cohort: Cohort) -> list[list[Record]]:
    """Return the groups of records that show the same picture, each of two or more, in the cohort's order."""
    groups: dict[str, list[Record]] = {}
    for record in cohort.records:
        groups.setdefault(picture_of(record), []).append(record)
    return [group for group in groups.values() if len(group) > 1]


def two_labels(cohort: Cohort) -> list[list[Record]]:
    """Return those of `copies` that carry two labels, or of one finding two."""
    return [group for group in copies(cohort) if contradiction(group)]


def contradiction(group: Sequence[Record]) -> tuple[Record, Record] | None:
    """Return the first two records whose labels contradict each other; None if there are none."""
    return next(((one, other) for one, other in combinations(group, 2) if one.contradicts(other)), None)


def n_seen(tested: Iterable[Record], trained: Iterable[Record]) -> int:
    """Return how many of `tested` show a picture that is among `trained`."""
    known = {picture_of(record) for record in trained}
    return sum(picture_of(record) in known for record in tested)


def require_one_label(cohort: Cohort) -> None:
    """Raise DosimeterError if a picture of the cohort carries two labels."""
    for first, other in filter(None, map(contradiction, copies(cohort))):
        raise DosimeterError(
            f"{named(cohort.name)}: an image must have one label, {named(first.name or first.case_id)} is "
            f"{named(label_words(cohort, first))} and, with the same pixels, {named(other.name or other.case_id)} is "
            f"{named(label_words(cohort, other))}: correct the labels, or leave out --strict to go on with both."
        )


def label_sentences(cohort: Cohort) -> Iterator[str]:
    """Yield a sentence on pictures that carry two labels, if there are any; it names no file."""
    groups = two_labels(cohort)
    if groups:
        n_images = sum(map(len, groups))
        yield (
            f"{n_images} images of {named(cohort.name)} show {_n(len(groups), 'picture')} under two labels (the same "
            "file, or the same pixels)."
        )


def _n(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"
