"""`dosimeter data audit`: the part that reads images."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dosimeter.cli.lines import say, say_json
from dosimeter.cohorts import load_cohort
from dosimeter.cohorts.auditing.base import audit_cohort
from dosimeter.cohorts.groups import GROUPINGS, grouped
from dosimeter.cohorts.split import divide
from dosimeter.errors import DosimeterError, did_you_mean
from dosimeter.files import write_text
from dosimeter.plain import shown

if TYPE_CHECKING:
    from dosimeter.models.base import Classifier

_TUNED = {"yes": True, "no": False}


def audit_data(
    name: str,
    cohort: dict[str, Any],
    *,
    protocol: str | None,
    seed: int,
    group: str,
    tuned: str | None,
    model: Path | None,
    trust: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Audit a cohort, print what was found, and write it.

    Args:
        name: of the cohort.
        cohort: how it is loaded, see `load_cohort`.
        protocol: of the split in use, None if there is none.
        seed: of that split.
        group: one of `GROUPINGS`.
        tuned: "yes", "no" or None.
        model: a model card, or the folder of a saved classifier, that is asked about the test images without their
            centre; None if none is.
        trust: let the card run the code that it names.
        out: a file that ends in .html or .json.
        as_json: print JSON instead.

    Raises:
        DosimeterError: an argument is none of these, or the file cannot be written.
    """
    if group not in GROUPINGS:
        raise DosimeterError(f"group must be known, got {shown(group)}. {did_you_mean(group, GROUPINGS)}")
    if tuned is not None and tuned not in _TUNED:
        raise DosimeterError(f"tuned-on-test must be yes or no, got {shown(tuned)}: leave it out if you do not know.")
    if out is not None and out.suffix not in (".html", ".json"):
        raise DosimeterError(f"out must end in .html or .json, got {shown(out.name)}: give audit.html, say.")
    images = grouped(load_cohort(name, **cohort), group)
    split = None if protocol is None else divide(images, protocol, seed=seed)
    subject = None if model is None else _classifier(model, trust)
    found = audit_cohort(images, split=split, tuned=None if tuned is None else _TUNED[tuned])
    if subject is not None:
        from dosimeter.examinations.shortcut import with_classifier

        found = with_classifier(found, subject, images if split is None else split.test)
    if out is not None:
        from dosimeter.report.data_page import data_page

        text = data_page(found) if out.suffix == ".html" else found.model_dump_json(indent=2)
        try:
            write_text(out, text)
        except OSError as error:
            raise DosimeterError(
                f"out must be a file that can be written, {shown(str(out))} cannot ({error.strerror})."
            ) from error
    if as_json:
        say_json(found.model_dump(exclude={"pairs": {"__all__": {"pictures"}}}))
        return
    for check in found.checks:
        say(f"{check.level.upper():<5} {check.title} {check.measured}")
        if check.remedy:
            say(f"      {check.remedy}{f' (cases {_cases(check.cases)})' if check.cases else ''}")
    if out is not None:
        say(f"written: {out}")


def _classifier(model: Path, trust: bool) -> "Classifier":
    """Return the classifier of a card, under the card's name."""
    from dosimeter.defences.saved import bring
    from dosimeter.record.model_card import name_of

    found = bring(model, trust=trust)
    found.card["model"] = name_of(str(model))
    return found


def _cases(cases: list[str]) -> str:
    return ", ".join(cases[:4]) + (f" and {len(cases) - 4} more" if len(cases) > 4 else "")
