"""From rows to a cohort: every file read once, hashed and proved readable, or left out and named."""

import hashlib
import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from dosimeter.cohorts.base import Cohort, Record, Skipped, pixel_digest, pseudonymise
from dosimeter.cohorts.contrast import flat_sentences, used_range
from dosimeter.cohorts.copies import require_one_label
from dosimeter.cohorts.headers import read_person
from dosimeter.cohorts.images import ImageError, decode_with_padding, header_facts, read_bytes, read_image
from dosimeter.cohorts.multilabel import require_known_findings
from dosimeter.cohorts.paths import find_file
from dosimeter.cohorts.tables import meant
from dosimeter.errors import DosimeterError, did_you_mean
from dosimeter.plain import LONGEST_NAME, named, one_line, shown

logger = logging.getLogger(__name__)


_CHUNK = 32  # files that one task reads


class Row(NamedTuple):
    """One image as a list names it: `label` indexes the classes, None if the list gives no label."""

    file: str  # relative to the list, with forward slashes, or absolute
    label: int | None
    patient_id: str | None = None
    source: str | None = None
    official_split: str | None = None
    line: int | None = None  # of the list
    facts: tuple[tuple[str, str], ...] = ()
    findings: tuple[int | None, ...] = ()
    more: tuple[str, ...] = ()  # what else a reader asked its list for

    def name(self, root: Path) -> str:
        """Return what the image is called in a sentence: its path below `root`, the list's folder.

        Of any other absolute path that is the file's name and its line: folders may name a person.
        """
        if not self.file:
            return f"line {self.line}"
        if not self.file.startswith(os.sep):
            return self.file
        path = PurePath(self.file)
        if path.is_relative_to(root):
            return path.relative_to(root).as_posix()
        return path.name if self.line is None else f"{path.name} (line {self.line})"


def order_classes(names: Iterable[str], positive: str | None, *, where: str) -> tuple[str, ...]:
    """Return class names, of two the negative and the positive one; which is positive is declared, never guessed.

    More than two are in alphabetical order, whole numbers in theirs; one of them may be declared positive.
    """
    found = sorted(set(names))
    _require_plain(found, where)
    if len(found) < 2:
        raise DosimeterError(
            f"a cohort must have two classes or more, {where} give {len(found)}: {', '.join(map(named, found)) or '-'}."
        )
    if len(found) > 2 and all(name.isdecimal() for name in found):
        found.sort(key=int)
    if positive is None and found == ["0", "1"]:
        positive = "1"
    if positive is None and len(found) > 2:
        return tuple(found)
    if positive is None:
        example = f"--positive {named(found[1])}"
        raise DosimeterError(
            f"which class is positive must be declared, {where} give {named(found[0])} and {named(found[1])}: say "
            f"which with --positive NAME, for example {example}."
        )
    positive = unicodedata.normalize("NFC", positive)
    if positive not in found:
        raise DosimeterError(
            f"positive must be one of the classes, got {shown(positive)}. {did_you_mean(positive, found)}"
        )
    return (found[1], found[0]) if len(found) == 2 and positive == found[0] else tuple(found)


def _require_plain(names: Sequence[str], where: str) -> None:
    """Raise DosimeterError for names of classes that outputs cannot show, or that differ only to a computer."""
    alike: dict[str, str] = {}
    for name in names:
        if one_line(name) != name:
            raise DosimeterError(
                f"the name of a class must be text that can be shown, {where} give {shown(name)}: rename it."
            )
        if len(name) > LONGEST_NAME:
            raise DosimeterError(
                f"the name of a class must have at most {LONGEST_NAME} characters, {where} give one of {len(name)}, "
                f"{shown(name)}: rename it."
            )
        other = alike.setdefault(meant(name), name)
        if other != name:
            raise DosimeterError(
                "names of classes must differ in more than case, spaces or how a letter or number is written, "
                f"{where} give {shown(other)} and {shown(name)}: make them one, or rename one."
            )


def limit_rows(rows: Sequence[Row], limit: int | None) -> list[Row]:
    """Return the first rows of each class, `limit` in all, in about the classes' own shares; None keeps all.

    No chance is involved: a longer prefix contains a shorter one.
    """
    if limit is None or limit >= len(rows):
        return list(rows)
    counts = Counter(row.label for row in rows if row.label is not None)
    n_classes, total = max(2, max(counts, default=0) + 1), max(1, counts.total())
    if limit < n_classes:
        raise DosimeterError(f"limit must be at least {n_classes}, one image of each class, got {limit}.")
    room = {0: limit}
    for label in range(n_classes - 1, 0, -1):
        room[label] = min(room[0] - label, max(1, round(limit * counts[label] / total)))
        room[0] -= room[label]
    kept = []
    for row in rows:
        if row.label is not None and room[row.label] > 0:
            room[row.label] -= 1
            kept.append(row)
    return kept


def read_rows(
    name: str,
    root: Path,
    rows: Sequence[Row],
    classes: tuple[str, ...],
    *,
    positive: str | None = None,
    modality: str = "",
    strict: bool = False,
    provenance: Mapping[str, Any] | None = None,
    inside: bool = True,
    skipped: Sequence[Skipped] = (),
    notes: Sequence[str] = (),
    findings: Sequence[str] = (),
    read: Callable[[Path, int, Row, bool], Record | Skipped] | None = None,
) -> Cohort:
    """Read every file once, hash it, prove that it decodes, and return the cohort of those that do.

    Args:
        name: the cohort's name.
        root: the folder that `Row.file` is relative to.
        rows: the images in their order; a case id is built from the place in it.
        classes: their names, of two the negative and the positive one.
        positive: the positive one of more than two.
        modality: "xray", "ct" or "".
        strict: raise on the first unusable image, which otherwise is logged and listed in `Cohort.skipped`, and on
            one image under two labels.
        provenance: facts for the manifest.
        inside: no file may lie outside `root`; otherwise a path may be absolute.
        skipped: what is left out already.
        notes: see `Cohort.notes`.
        findings: names of what rows tell one by one.
        read: makes a record of a row, given `root`, its place, itself and `inside`; by default of an image file.

    Raises:
        DosimeterError: an image is unusable or has two labels and `strict` is set, or a class has no usable image.
    """
    make = read or _read_row

    def read_chunk(start: int) -> list[Record | Skipped]:
        end = min(start + _CHUNK, len(rows))
        return [_labelled(root, index, rows[index], inside, make) for index in range(start, end)]

    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        results = list(chain.from_iterable(pool.map(read_chunk, range(0, len(rows), _CHUNK))))
    skipped = (*skipped, *(result for result in results if isinstance(result, Skipped)))
    if strict and skipped:
        raise DosimeterError(
            f"{named(name)}: {len(skipped)} of {len(rows)} images cannot be used, the first is "
            f"{named(skipped[0].name)}: {skipped[0].reason} Mend or remove it, or leave out --strict to go on "
            "without it."
        )
    cohort = Cohort(
        name=name,
        classes=classes,
        records=tuple(result for result in results if isinstance(result, Record)),
        modality=modality,
        skipped=skipped,
        provenance=dict(provenance or {}),
        notes=tuple(notes),
        positive=positive if len(classes) > 2 else None,
        findings=tuple(findings),
    )
    for sentence in (*cohort.left_out, *flat_sentences(cohort)):
        logger.warning("%s: %s", named(name), sentence)
    for sentence in notes:
        logger.info("%s: %s", named(name), sentence)
    _require_every_class(cohort)
    if strict:
        require_one_label(cohort)
    return cohort


def _require_every_class(cohort: Cohort) -> None:
    if cohort.findings:
        require_known_findings(cohort)
        return
    for label, count in cohort.counts.items():
        if count == 0:
            because = "."
            if cohort.skipped:
                n, first = len(cohort.skipped), cohort.skipped[0]
                because = f"; {n} were left out, the first is {named(first.name)}: {first.reason}"
            raise DosimeterError(
                f"{named(cohort.name)}: class {named(label)} must have at least one image that can be read, it has "
                f"none{because}"
            )


def _labelled(
    root: Path, index: int, row: Row, inside: bool, make: Callable[[Path, int, Row, bool], Record | Skipped]
) -> Record | Skipped:
    """Return the record of a row, if its list gives it a label."""
    if row.label is None:
        return Skipped(row.name(root), "it has no label.")
    return make(root, index, row, inside)


def _read_row(root: Path, index: int, row: Row, inside: bool) -> Record | Skipped:
    name = row.name(root)
    assert row.label is not None
    try:
        path = find_file(root, row.file, inside=inside)
        content = read_bytes(path)
        decoded, padding = decode_with_padding(content, name=row.file)
    except ImageError as error:
        return Skipped(name, error.reason)
    sha256 = hashlib.sha256(content).hexdigest()
    return Record(
        case_id=pseudonymise(index, sha256),
        label=row.label,
        sha256=sha256,
        read=partial(read_image, path),
        patient_id=row.patient_id,
        source=row.source,
        official_split=row.official_split,
        used=used_range(decoded.image, padding),
        modality=header_facts(content).modality,
        person=partial(read_person, path),
        name=name,
        pixels_sha256=pixel_digest(decoded.image),
        findings=row.findings,
        facts=row.facts,
    )
