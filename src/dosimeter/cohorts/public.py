"""The public cohorts: folders with a metadata.csv, as `dosimeter data fetch` builds them."""

import logging
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from dosimeter.cohorts.base import Cohort
from dosimeter.cohorts.files import Row, limit_rows, read_rows
from dosimeter.cohorts.lists import check_split
from dosimeter.cohorts.patients import patient_of
from dosimeter.cohorts.subgroups import COLUMNS, facts_of
from dosimeter.cohorts.tables import read_table
from dosimeter.errors import DosimeterError
from dosimeter.plain import one_line

logger = logging.getLogger(__name__)

CLASSES = ("other", "COVID-19")


class PublicCohort(NamedTuple):
    """How a cohort is cut from its folder: all lines of the metadata, or those whose `column` is True."""

    description: str
    folder: str  # inside the data folder; the modality as well
    column: str | None
    n_images: int  # when every file is there
    note: str


_XRAY_NOTE = "Public chest X-rays of three collections, each with one label only; licences differ by image."
_CT_NOTE = "COVID-CT (Zhao et al. 2020); its source states no licence: do not redistribute the images."

PUBLIC_COHORTS = {
    "xray-268": PublicCohort(
        "chest X-ray, 141 COVID-19 and 127 adults without finding: the size of the paper's cohort",
        "xray",
        "cohort268",
        268,
        _XRAY_NOTE,
    ),
    "xray-268-child": PublicCohort(
        "the same 141 COVID-19 against 127 healthy children: an age detector, kept as a warning",
        "xray",
        "cohort268_child",
        268,
        _XRAY_NOTE,
    ),
    "xray-all": PublicCohort(
        "all 840 public chest X-rays, 290 COVID-19; two pairs have the same pixels",
        "xray",
        None,
        840,
        f"{_XRAY_NOTE} Two pairs have the same pixels, one of them under two patient ids.",
    ),
    "covid-ct": PublicCohort(
        "COVID-CT, 349 COVID-19 and 397 other slices: the paper's cohort", "ct", None, 746, _CT_NOTE
    ),
}


def public_cohort(name: str, *, data: Path, limit: int | None, strict: bool) -> Cohort:
    """Read one of `PUBLIC_COHORTS` from a data folder.

    Args:
        name: a key of `PUBLIC_COHORTS`.
        data: the folder that holds xray/metadata.csv or ct/metadata.csv.
        limit: see `limit_rows`.
        strict: raise on the first unusable image instead of leaving it out.

    Returns:
        The cohort, classes `CLASSES`. The source of a CT slice is unknown: its metadata names none.

    Raises:
        DosimeterError: the folder, its metadata.csv or a column is missing, or a label is not 0 or 1.
    """
    public = PUBLIC_COHORTS[name]
    metadata = data / public.folder / "metadata.csv"
    if not metadata.is_file():
        raise DosimeterError(
            f"the cohort {name} needs {metadata}, which is missing: fetch it with `dosimeter data fetch {name}`, or "
            "give the folder that has it with --data DIR or DOSIMETER_DATA."
        )
    required = ("file", "label", *([public.column] if public.column else []))
    optional = ("patient_id", "source", "official_split", "license")
    table = read_table(metadata, required=required, optional=optional, beside=COLUMNS)
    lines = [line for _, line in table.lines if public.column is None or line[public.column] == "True"]
    rows = [
        Row(
            file=line["file"],
            label=_label(line["label"], metadata),
            patient_id=patient_of(line.get("patient_id", "")),
            source=line.get("source") or None,
            official_split=check_split(line.get("official_split", ""), metadata),
            facts=facts_of(line),
        )
        for line in lines
    ]
    if len(lines) < public.n_images:
        _report_unfinished(name, f"{metadata} lists {len(lines)} of the {public.n_images} images of {name}", strict)
    provenance: dict[str, object] = {"note": public.note, "n_listed": len(lines), "n_images": public.n_images}
    if lines and "license" in lines[0]:
        provenance["licences"] = dict(Counter(line["license"] or "not stated" for line in lines).most_common())
    return read_rows(
        name,
        metadata.parent,
        limit_rows(rows, limit),
        CLASSES,
        modality=public.folder,
        strict=strict,
        provenance=provenance,
    )


def _report_unfinished(name: str, message: str, strict: bool) -> None:
    remedy = f"`dosimeter data fetch {name}` gets the others"
    if strict:
        raise DosimeterError(f"{message}, and strict needs all of them: {remedy}.")
    logger.warning("%s: %s.", one_line(message), remedy)


def _label(value: str, metadata: Path) -> int:
    if value not in ("0", "1"):
        raise DosimeterError(f"the label column of {metadata} must hold 0 or 1, got {value!r}; fetch the data again.")
    return int(value)
