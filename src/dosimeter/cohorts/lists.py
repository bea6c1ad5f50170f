"""Cohorts of the user's own image files: a folder for each class, a list in a CSV file, or a tag of DICOM headers."""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dosimeter.cohorts.base import Cohort, Skipped
from dosimeter.cohorts.files import Row, limit_rows, order_classes, read_rows
from dosimeter.cohorts.headers import read_tag
from dosimeter.cohorts.multilabel import CLASSES, any_of, check_findings, known_findings
from dosimeter.cohorts.paths import is_hidden, walk
from dosimeter.cohorts.patients import patient_of
from dosimeter.cohorts.subgroups import COLUMNS, facts_of
from dosimeter.cohorts.tables import read_table
from dosimeter.errors import DosimeterError, did_you_mean
from dosimeter.plain import named, shown

SPLITS = ("train", "val", "test")
_SIDES = {*SPLITS, "training", "valid", "validation", "testing", "tests", "dev"}
_MOST_NAMES = 5


def folder_cohort(path: Path, *, positive: str | None, limit: int | None, strict: bool) -> Cohort:
    """Read a folder that has one sub-folder for each class, two or more; their sub-folders belong to the class.

    Every file counts as an image but for hidden ones (a leading dot, and what operating systems leave behind); those
    are counted in `Cohort.notes`. Links are followed. Patients are unknown, so the `patient` protocol needs a CSV
    file instead.

    Args:
        path: the folder.
        positive: the name of the positive class's sub-folder; may be left out if they are called 0 and 1, or are more
            than two.
        limit: see `limit_rows`.
        strict: see `read_rows`.

    Raises:
        DosimeterError: no such folder, one class alone, no `positive` of two, or no image left.
    """
    folders, hidden, beside = _top(path)
    where = f"the sub-folders of {named(path)}"
    if len(folders) == 2 and all(name.lower() in _SIDES for name in folders):
        raise DosimeterError(
            f"{where} must be classes, {' and '.join(folders)} are sides of a split: list the images in a CSV file "
            "with the columns file, label and split."
        )
    classes = order_classes([_class_name(name) for name in folders], positive, where=where)
    rows: list[Row] = []
    skipped: list[Skipped] = []
    empty: list[str] = []
    for folder in sorted(folders, key=lambda name: classes.index(_class_name(name))):
        found = walk(path, folder)
        rows += [Row(file, classes.index(_class_name(folder))) for file in found.files]
        skipped += found.skipped
        hidden += found.hidden
        empty += found.empty
    notes = [
        *_passed_over(hidden, "hidden or left by an operating system, not read"),
        *_passed_over(beside, "beside the classes' sub-folders, not read"),
        *_passed_over(empty, "a folder without any file", "folders without any file"),
    ]
    rows = limit_rows(rows, limit)
    told: dict[str, Any] = {"strict": strict, "skipped": skipped, "notes": notes}
    told["positive"] = positive and _class_name(positive)
    return read_rows(f"folder:{path.name}", path, rows, classes, **told)


def _top(path: Path) -> tuple[list[str], list[str], list[str]]:
    """Return the names of a folder's sub-folders, of what is hidden, and of the files beside them."""
    folders, hidden, beside = [], [], []
    try:
        if not path.is_dir():
            raise DosimeterError(
                f"folder:PATH must be a folder of sub-folders, one a class; there is none at {named(path)}."
            )
        for item in sorted(path.iterdir()):
            if is_hidden(item.name):
                hidden.append(item.name)
            elif item.is_dir():
                folders.append(item.name)
            elif item.is_symlink() and not item.is_file():
                raise DosimeterError(
                    f"a class must be a folder, {named(item.name)} in {named(path)} is a link that leads nowhere: mend "
                    "or remove it."
                )
            else:
                beside.append(item.name)
    except OSError as error:
        raise DosimeterError(
            f"folder:PATH must be a folder that can be looked into, {named(path)} cannot ({error.strerror or error})."
        ) from error
    return folders, hidden, beside


def _class_name(folder: str) -> str:
    return unicodedata.normalize("NFC", folder)


def _passed_over(names: Sequence[str], what: str, several: str | None = None) -> Iterator[str]:
    if len(names) == 1:
        yield f"1 entry is {what}: {named(names[0])}."
    elif names:
        yield f"{len(names)} entries are {several or what}: {_first(names)}."


def _first(names: Sequence[str]) -> str:
    return ", ".join(map(named, names[:_MOST_NAMES])) + (", ..." if len(names) > _MOST_NAMES else "")


class Listed(NamedTuple):
    """What a CSV file lists: its images, the classes that their labels index, and columns that were passed over."""

    rows: list[Row]
    classes: tuple[str, ...]
    notes: list[str]


def csv_cohort(
    path: Path,
    *,
    positive: str | None,
    limit: int | None,
    strict: bool,
    findings: Sequence[str] = (),
    folder: Path | None = None,
) -> Cohort:
    """Read a CSV file with the columns file, label and, if known, patient_id, source, split and those of `facts_of`.

    Args:
        path: the CSV file (UTF-8, a header line; see `read_table`). Its `file` column is absolute, or relative to the
            CSV file's folder and then stays inside it. `split` is train, val, test or empty.
        positive: the label of the positive class; may be left out if the labels are 0 and 1, or are more than two.
        limit: see `limit_rows`.
        strict: see `read_rows`.
        findings: columns that say 1, 0 or nothing of a finding each; a column `label` is then not needed, nor read.
        folder: what `file` is relative to, and stays inside, instead.

    Raises:
        DosimeterError: no such file, a column is missing or in doubt, a line is malformed, one class alone, no
            `positive` of two, or no image left.
    """
    listed = read_list(path, positive=positive, findings=findings)
    name = f"csv:{path.name}" if folder is None else f"folder:{folder.name}"  # a whole path may name a person
    told: dict[str, Any] = {"strict": strict, "notes": listed.notes, "findings": findings}
    told["positive"] = positive and _class_name(positive)
    if folder is None:
        return read_rows(name, path.parent, limit_rows(listed.rows, limit), listed.classes, inside=False, **told)
    _top(folder)  # says what is wrong with it
    told["notes"] = [*listed.notes, *_unlisted(folder, path, listed.rows)]
    return read_rows(name, folder, limit_rows(listed.rows, limit), listed.classes, **told)


def read_list(path: Path, *, positive: str | None, findings: Sequence[str] = (), more: Sequence[str] = ()) -> Listed:
    """Read what a CSV file lists, as `csv_cohort` says; `more` are columns that must be there too, see `Row.more`.

    Raises:
        DosimeterError: see `csv_cohort`.
    """
    findings = check_findings(findings)
    required = ("file", *(findings or ("label",)), *more)
    optional = ("patient_id", "source", "split")
    table = read_table(path, required=required, optional=optional, beside=COLUMNS)
    labels: dict[str, int] = {}  # in the order in which they come
    rows = []
    placeholders: Counter[str] = Counter()
    for number, cells in table.lines:
        known = known_findings(cells, findings, path=path, line=number)
        label = unicodedata.normalize("NFC", cells.get("label", ""))
        place = any_of(known) if findings else labels.setdefault(label, len(labels)) if label else None
        said = cells.get("patient_id", "")
        if said and patient_of(said) is None:
            placeholders[said] += 1
        rows.append(
            Row(
                file=cells["file"],
                label=place,
                patient_id=patient_of(said),
                source=cells.get("source") or None,
                official_split=check_split(cells.get("split", ""), path),
                line=number,
                facts=facts_of(cells),
                findings=known,
                more=tuple(cells[name] for name in more),
            )
        )
    notes = [f"columns that have no meaning here were not read: {_first(table.unused)}."] if table.unused else []
    if n := placeholders.total():
        notes.append(
            f"{n} cells of patient_id say nothing of a patient ({_first(list(placeholders))}): images of these lines "
            "have no patient id."
        )
    if findings:
        return Listed(rows, CLASSES, notes)
    classes = order_classes(labels, positive, where=f"the labels of {named(path)}")
    if classes != tuple(labels):  # so that a label is its class's place
        places = [classes.index(name) for name in labels]
        rows = [row if row.label is None else row._replace(label=places[row.label]) for row in rows]
    return Listed(rows, classes, notes)


def _unlisted(folder: Path, path: Path, rows: Sequence[Row]) -> Iterator[str]:
    """Yield a sentence on files of a folder that its list does not name."""
    listed = {Path(row.file).as_posix() for row in rows}
    others = [
        file for file in walk(folder, "").files if file not in listed and (folder / file).resolve() != path.resolve()
    ]
    yield from _passed_over(others, "in no line of the list, not read")


def tagged_cohort(path: Path, *, tag: str, positive: str | None, limit: int | None, strict: bool) -> Cohort:
    """Read a folder of DICOM files, whatever its sub-folders, whose label is what a tag of their headers says.

    Args:
        path: the folder.
        tag: keyword of a coded string, such as ViewPosition; other kinds of values may name a person.
        positive: see `csv_cohort`.
        limit: see `limit_rows`.
        strict: see `read_rows`.

    Raises:
        DosimeterError: no such folder or tag, one class alone, no `positive` of two, or no image left.
    """
    _top(path)  # says what is wrong with it
    found = walk(path, "")
    values = [read_tag(path / file, tag) for file in found.files]
    skipped = [
        *found.skipped,
        *(
            Skipped(file, f"its header has no {tag}.")
            for file, value in zip(found.files, values, strict=True)
            if not value
        ),
    ]
    given = [(file, value) for file, value in zip(found.files, values, strict=True) if value]
    classes = order_classes(
        [value for _, value in given], positive, where=f"the values of the tag {tag} in {named(path)}"
    )
    rows = [Row(file, classes.index(value)) for file, value in given]
    notes = [*_passed_over(found.hidden, "hidden or left by an operating system, not read")]
    told: dict[str, Any] = {"strict": strict, "skipped": skipped, "notes": notes, "positive": positive}
    return read_rows(f"folder:{path.name}", path, limit_rows(rows, limit), classes, **told)


def check_split(value: str, path: Path) -> str | None:
    """Return an official split, None for an empty cell."""
    if value and value not in SPLITS:
        raise DosimeterError(
            f"the split column of {named(path)} must hold train, val, test or nothing, got {shown(value)}. "
            f"{did_you_mean(value, SPLITS)}"
        )
    return value or None
