"""Every figure of a run, drawn from the table and written as SVG and PNG."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from dosimeter.analysis.base import GROUP, answered, clean_answers, is_fgsm
from dosimeter.analysis.exemplars import choose_exemplar
from dosimeter.analysis.paper import is_subject
from dosimeter.analysis.repeats import first_repeat, seeds
from dosimeter.analysis.wording import MARKS, is_marked
from dosimeter.presentation.patients import unit_of, worded
from dosimeter.presentation.section import UNCHANGED_FIGURE, Drawing, Panel, Tables
from dosimeter.presentation.style import save
from dosimeter.presentation.views import of_trial
from dosimeter.progress import Progress
from dosimeter.record.table import Responses
from dosimeter.report.sections import in_order

_FIRST_FIGURE = {"xray": 4, "ct": 9}
_SHOWN = [
    *(*GROUP, "attack", "made_on", "seed", "case_id", "cluster", "label", "positive", "epsilon", "on_grid"),
    *("predicted", "correct", "abstained", "margin", "truth", "score", "probability", "n_classes", "scores", "status"),
]
"""Columns that figures are drawn from."""


class FigureFile(NamedTuple):
    """A figure on disk.

    Attributes:
        name: of the files, without their endings.
        title: what it shows, of which cohort and protocol.
        caption: how to read it.
        cohort: its cohort.
        protocol: its protocol.
        path_svg: vector file.
        path_png: raster file, 150 dots per inch.
        section: of the report, where it stands.
    """

    name: str
    title: str
    caption: str
    cohort: str
    protocol: str
    path_svg: Path
    path_png: Path
    section: str = "figures"


def write_figures(
    responses: Responses,
    tables: Mapping[str, pd.DataFrame],
    directory: Path,
    *,
    progress: Progress | None = None,
) -> list[FigureFile]:
    """Draw every figure that the table has numbers for into `directory`, which is made if needed.

    Files of figures of the paper's cohorts carry its numbers: 4 to 8 for X-ray, 9 to 13 for CT, and 14 for the one it
    lacks; other cohorts get names without numbers, and so do figures of attacks beyond FGSM. The report numbers its
    own. Of a run of several seeds they show the first, and one more figure shows all.

    Args:
        responses: a run's table and meta.
        tables: as `report.build.build_tables` returns them.
        directory: where the files go.
        progress: told of every figure.

    Returns:
        The figures, cohort by cohort and protocol by protocol, in the order of their sections.
    """
    directory.mkdir(parents=True, exist_ok=True)
    one, unit = _of_seed(responses), unit_of(responses.frame, responses.meta)
    mark = "PARTIAL" if responses.meta.get("partial") else ""
    progress = progress or Progress()
    drawn = [(panel, *each) for panel in _panels(responses, tables) for each in _drawings(panel)]
    progress.begin("figures", len(drawn))
    written = []
    for panel, section, drawing in drawn:
        name, title = _name(panel, drawing), _title(panel, drawing)
        text = worded(_said(panel, drawing, one), unit=unit)
        svg, png = save(drawing.draw(), directory / name, mark=mark)
        written.append(FigureFile(name, title, text, panel.cohort, panel.protocol, svg, png, section))
        progress.advance()
    return written


def captioned(responses: Responses, tables: Mapping[str, pd.DataFrame]) -> Iterator[tuple[str, str, str, Drawing]]:
    """Yield name, title and caption of every figure that `write_figures` would draw, and what draws it."""
    one, unit = _of_seed(responses), unit_of(responses.frame, responses.meta)
    for panel in _panels(responses, tables):
        for _, drawing in _drawings(panel):
            text = worded(_said(panel, drawing, one), unit=unit)
            yield _name(panel, drawing), _title(panel, drawing), text, drawing


def _said(panel: Panel, drawing: Drawing, one: str) -> str:
    """Return the caption of a figure, with the seed that it is of where there are several."""
    return " ".join(
        filter(None, [caption(drawing, panel.tables), _published(panel, drawing), one if drawing.of_seed else ""])
    )


def _of_seed(responses: Responses) -> str:
    """Return that figures are of the first seed, where there are several."""
    every = seeds(responses)
    return f"This is seed {every[0]}, the first of {len(every)}." if len(every) > 1 else ""


def drawings(responses: Responses, tables: Mapping[str, pd.DataFrame]) -> Iterator[tuple[str, Drawing]]:
    """Yield every figure that `write_figures` would draw, by the name of its files."""
    for panel in _panels(responses, tables):
        yield from ((_name(panel, drawing), drawing) for _, drawing in _drawings(panel))


def _drawings(panel: Panel) -> Iterator[tuple[str, Drawing]]:
    """Yield the figures of one cohort and protocol, with their sections."""
    for name, section in in_order():
        yield from ((name, drawing) for drawing in section.figures(panel))


def caption(drawing: Drawing, tables: Tables) -> str:
    """Return a figure's caption: how to read it, and what the signs of verdicts mean."""
    marks = _marks(tables) if drawing.attacked else ""
    return " ".join(sentence for sentence in (*drawing.caption, marks) if sentence)


def _marks(tables: Tables) -> str:
    """Return what the signs of verdicts mean, if any evaluation of these tables has one."""
    found = {str(each) for table in tables.values() if "evaluation" in table for each in table["evaluation"].unique()}
    signs = [f"{MARKS[verdict]} {verdict}" for verdict in reversed(MARKS) if verdict in found and is_marked(verdict)]
    return f"{' and '.join(signs)}: the verdict on the evaluation that a number belongs to." if signs else ""


def slug(text: str) -> str:
    """Return `text` fit for a file name; a changed text gets a digest, so that two texts never share a name."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._")[:60]
    return safe if safe == text else f"{safe}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def _panels(responses: Responses, every: Mapping[str, pd.DataFrame]) -> Iterator[Panel]:
    responses, tables = first_repeat(responses, every)
    rows = answered(responses.frame, _SHOWN)
    own = is_fgsm(rows)
    fgsm = rows if own.all() else rows[own]
    clean, doses = clean_answers(rows), choose_exemplar(fgsm)
    cards = {(card["cohort"], card["protocol"]): card for card in responses.meta.get("cohorts", [])}
    exemplars = responses.meta.get("exemplars", [])
    known = rows[["cohort", "protocol", "modality"]].drop_duplicates()
    asked = set(fgsm[["model", "preset"]].drop_duplicates().itertuples(index=False, name=None))
    for cohort, protocol, modality in known.itertuples(index=False):
        yield Panel(
            cohort=cohort,
            protocol=protocol,
            modality=str(modality),
            classes=tuple(cards.get((cohort, protocol), {}).get("classes", ("class 0", "class 1"))),
            tables={name: of_trial(table, cohort, protocol) for name, table in tables.items()},
            answers=of_trial(fgsm, cohort, protocol),
            clean=of_trial(clean, cohort, protocol),
            doses=of_trial(doses, cohort, protocol),
            exemplars=[
                item
                for item in exemplars
                if (item["cohort"], item["protocol"]) == (cohort, protocol) and (item["model"], item["preset"]) in asked
            ],
            every={name: of_trial(table, cohort, protocol) for name, table in every.items()},
            readers=[
                study
                for study in responses.meta.get("readers", [])
                if (study["cohort"], study["protocol"]) == (cohort, protocol)
            ],
        )


def _number(panel: Panel, drawing: Drawing) -> int | None:
    """Return the figure's number; None for a cohort that the paper has not, and for a figure without one."""
    subject = any(is_subject(panel.cohort, model) for model in panel.clean["model"].unique())
    first = _FIRST_FIGURE.get(panel.modality) if subject else None
    if first is None or drawing.place is None:
        return None
    return UNCHANGED_FIGURE if drawing.place == UNCHANGED_FIGURE else first + drawing.place


def _name(panel: Panel, drawing: Drawing) -> str:
    number = _number(panel, drawing)
    parts = (slug(panel.cohort), slug(panel.protocol), f"fig{number:02d}" if number else "", drawing.subject)
    return "-".join(part for part in (*parts, slug(drawing.model)) if part)


def _title(panel: Panel, drawing: Drawing) -> str:
    return f"{drawing.title}: {panel.cohort}, {panel.protocol} protocol"


def _published(panel: Panel, drawing: Drawing) -> str:
    """Return which figure of the paper this is, "" if it is none."""
    number = _number(panel, drawing)
    return "" if number is None or number == UNCHANGED_FIGURE else f"In the paper it is figure {number}."
