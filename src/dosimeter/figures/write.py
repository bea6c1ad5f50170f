"""Every figure of a run, drawn from the table and written as SVG and PNG."""

import functools
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from dosimeter.analysis.base import GROUP, answered, clean_answers, is_fgsm
from dosimeter.analysis.exemplars import choose_exemplar
from dosimeter.analysis.names import WORST_CASE, in_order, model_name
from dosimeter.analysis.paper import is_subject
from dosimeter.analysis.repeats import first_repeat, seeds, what_varies
from dosimeter.figures.attacks import (
    class_flip_curves,
    cost_against_strength,
    security_curves,
    susceptibility_scatter,
    transfer_matrices,
)
from dosimeter.figures.captions import Shown, caption
from dosimeter.figures.curves import accuracy_curves, zero_gradients
from dosimeter.figures.drops import drop_epsilon, single_image_drop
from dosimeter.figures.pictures import adversarial_pictures, triptychs
from dosimeter.figures.readers import of_study, psychometric_curves
from dosimeter.figures.repeats import repeated_curves
from dosimeter.figures.storage import survival_curves
from dosimeter.figures.style import save, signed
from dosimeter.figures.training import metric_bars, roc_curves, training_curves
from dosimeter.figures.visibility import visibility_curves
from dosimeter.progress import Progress
from dosimeter.record.table import Responses

_FIRST_FIGURE = {"xray": 4, "ct": 9}
UNCHANGED_FIGURE = 14
_SHOWN = [
    *(*GROUP, "attack", "made_on", "seed", "case_id", "cluster", "label", "epsilon", "on_grid"),
    *("predicted", "correct", "score", "probability", "status"),
]
"""Columns that figures are drawn from."""

_SECTIONS = dict.fromkeys(("security", "harm", "susceptibility", "transfer", "cost"), "attacks") | {
    "survival": "storage",
    "visibility": "visibility",
    "repeats": "repeats",
    "readers": "readers",
}
"""Where figures beyond the paper's study stand, by subject."""


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
        section: of the report, where it stands: "figures" for those of the paper's study, or one of `_SECTIONS`.
    """

    name: str
    title: str
    caption: str
    cohort: str
    protocol: str
    path_svg: Path
    path_png: Path
    section: str = "figures"


class _Drawing(NamedTuple):
    """A figure to draw.

    Attributes:
        place: after the modality's first number; `UNCHANGED_FIGURE` for the figure that the paper lacks; None for a
            figure without a number.
        subject: names the file and the caption.
        title: what it shows.
        draw: makes it.
        model: the one model shown, if it is one.
        reader_study: the study with readers that is shown, if it is one.
    """

    place: int | None
    subject: str
    title: str
    draw: Callable[[], Figure]
    model: str = ""
    reader_study: Mapping[str, Any] | None = None


class _Trial(NamedTuple):
    """What one cohort and protocol needs for its figures; answers and doses are of FGSM alone."""

    cohort: str
    protocol: str
    modality: str
    classes: tuple[str, str]
    tables: dict[str, pd.DataFrame]
    answers: pd.DataFrame
    clean: pd.DataFrame
    doses: pd.DataFrame
    exemplars: list[Mapping[str, Any]]
    every: dict[str, pd.DataFrame]  # the tables of all seeds
    readers: list[Mapping[str, Any]]  # studies with readers


def write_figures(
    responses: Responses,
    tables: Mapping[str, pd.DataFrame],
    directory: Path,
    *,
    progress: Progress | None = None,
) -> list[FigureFile]:
    """Draw every figure that the table has numbers for into `directory`, which is made if needed.

    Figures of the paper's cohorts carry its numbers: 4 to 8 for X-ray, 9 to 13 for CT, and 14 for the one it lacks;
    other cohorts get names without numbers, and so do figures of attacks beyond FGSM. Of a run of several seeds they
    show the first, and one more figure shows all.

    Args:
        responses: a run's table and meta.
        tables: as `analysis.tables.build_tables` returns them.
        directory: where the files go.
        progress: told of every figure.

    Returns:
        The figures, cohort by cohort and protocol by protocol, in the order of their numbers.
    """
    directory.mkdir(parents=True, exist_ok=True)
    every = seeds(responses)
    one = f" This is seed {every[0]}, the first of {len(every)}." if len(every) > 1 else ""
    partial = bool(responses.meta.get("partial"))
    progress = progress or Progress()
    drawings = [(trial, drawing) for trial in _trials(responses, tables) for drawing in _drawings(trial)]
    progress.begin("figures", len(drawings))
    written = []
    for trial, drawing in drawings:
        name, title = _name(trial, drawing), _title(trial, drawing)
        tables_shown = trial.every if drawing.subject == "repeats" else trial.tables
        shown = Shown(trial.cohort, trial.protocol, drawing.model, tables_shown, drawing.reader_study)
        text = caption(drawing.subject, shown) + ("" if drawing.subject in ("repeats", "readers") else one)
        svg, png = save(drawing.draw(), directory / name, mark="PARTIAL" if partial else "")
        where = (trial.cohort, trial.protocol)
        section = _SECTIONS.get(drawing.subject, "figures")
        written.append(FigureFile(name, title, text, *where, svg, png, section))
        progress.advance()
    return written


def slug(text: str) -> str:
    """Return `text` fit for a file name; a changed text gets a digest, so that two texts never share a name."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._")[:60]
    return safe if safe == text else f"{safe}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def _trials(responses: Responses, every: Mapping[str, pd.DataFrame]) -> Iterator[_Trial]:
    responses, tables = first_repeat(responses, every)
    rows = answered(responses.frame, _SHOWN)
    own = is_fgsm(rows)
    fgsm = rows if own.all() else rows[own]
    clean, doses = clean_answers(rows), choose_exemplar(fgsm)
    cards = {(card["cohort"], card["protocol"]): card for card in responses.meta.get("cohorts", [])}
    exemplars = responses.meta.get("exemplars", [])
    known = rows[["cohort", "protocol", "modality"]].drop_duplicates()
    for cohort, protocol, modality in known.itertuples(index=False):
        negative, positive = cards.get((cohort, protocol), {}).get("classes", ("class 0", "class 1"))
        yield _Trial(
            cohort=cohort,
            protocol=protocol,
            modality=str(modality),
            classes=(negative, positive),
            tables={name: _of(table, cohort, protocol) for name, table in tables.items()},
            answers=_of(fgsm, cohort, protocol),
            clean=_of(clean, cohort, protocol),
            doses=_of(doses, cohort, protocol),
            exemplars=[item for item in exemplars if (item["cohort"], item["protocol"]) == (cohort, protocol)],
            every={name: _of(table, cohort, protocol) for name, table in every.items()},
            readers=[
                study
                for study in responses.meta.get("readers", [])
                if (study["cohort"], study["protocol"]) == (cohort, protocol)
            ],
        )


def _of(table: pd.DataFrame, cohort: str, protocol: str) -> pd.DataFrame:
    own = (table["cohort"] == cohort) & (table["protocol"] == protocol)
    return table if own.all() else table[own]


def _drawings(trial: _Trial) -> Iterator[_Drawing]:
    training, clean = trial.tables["training"], trial.tables["clean_metrics"]
    if not training.empty:
        yield _Drawing(0, "training", "Training", lambda: training_curves(training))
    if not clean.empty:
        yield _Drawing(0, "roc", "ROC without attack", lambda: roc_curves(trial.clean, clean))
        yield _Drawing(1, "metrics", "Metrics without attack", lambda: metric_bars(clean))
    for model in in_order(trial.answers["model"].unique()):
        yield from _pictures(trial, model)
    curves = trial.tables["fgsm_accuracy"]
    if (curves["epsilon"] > 0).any():
        yield from _attacked(trial, curves)
    if "survival" in trial.tables and (trial.tables["survival"]["n"] > 0).any():
        survival = trial.tables["survival"]
        yield _Drawing(None, "survival", "What survives storage", lambda: survival_curves(survival))
    if "robust_accuracy" in trial.tables:
        yield from _attacks(trial)
    if "visibility" in trial.tables and not trial.tables["visibility"].empty and not curves.empty:
        yield from _visibility(trial, curves)
    for study in trial.readers:
        draw = functools.partial(psychometric_curves, study, of_study(trial.every["epsilon50"], study))
        yield _Drawing(None, "readers", "What readers saw", draw, f"{study['model']}-{study['study']}", study)


def _visibility(trial: _Trial, curves: pd.DataFrame) -> Iterator[_Drawing]:
    seen = trial.tables["visibility"]
    own = seen[(seen["storage"] == "float") & seen["preset"].isin(curves["preset"].unique())]
    presets = sorted(own["preset"].unique(), key=lambda name: (name != "sound", name))
    if presets:
        draw = functools.partial(visibility_curves, curves, own, presets[0])
        yield _Drawing(None, "visibility", "Accuracy and visibility against epsilon", draw)


def _pictures(trial: _Trial, model: str) -> Iterator[_Drawing]:
    exemplars = [item for item in trial.exemplars if item["model"] == model]
    answers, doses = trial.answers, trial.doses
    own = (answers["model"] == model) & (answers["storage"] == "float")
    answers = answers[["preset", "case_id", "label", "epsilon", "probability"]][own]
    curves = trial.tables["fgsm_accuracy"]
    judged = curves[(curves["model"] == model) & (curves["storage"] == "float")]
    rows = [
        row._replace(title=signed(row.title, judged[judged["preset"] == row.title.partition(" ")[0]], words=False))
        for row in triptychs(exemplars, answers, doses[doses["model"] == model])
    ]
    if rows:
        title = f"Adversarial images, {model_name(model)}"
        yield _Drawing(2, "pictures", title, lambda: adversarial_pictures(rows, trial.classes), model)


def _attacked(trial: _Trial, curves: pd.DataFrame) -> Iterator[_Drawing]:
    yield _Drawing(3, "accuracy", "Accuracy against epsilon", lambda: accuracy_curves(curves))
    if (curves["storage"] == "float").any():
        title = f"One image's probabilities at epsilon {drop_epsilon(trial.answers):g}"
        yield _Drawing(4, "drop", title, lambda: single_image_drop(trial.answers, trial.classes, curves))
    yield _Drawing(UNCHANGED_FIGURE, "unchanged", "Images left unchanged", lambda: zero_gradients(curves))
    if "repeats" in trial.every:
        title = f"Accuracy against epsilon over {what_varies(trial.protocol)}"
        every = trial.every
        yield _Drawing(None, "repeats", title, lambda: repeated_curves(every["fgsm_accuracy"], every["repeats"]))


def _attacks(trial: _Trial) -> Iterator[_Drawing]:
    robust, flips, ranks, agreement, moved, cost = (
        trial.tables[name]
        for name in ("robust_accuracy", "class_flips", "susceptibility", "rank_agreement", "transfer", "cost")
    )
    own = (robust["storage"] == "float") & (robust["role"] != "transfer") & (robust["epsilon"] > 0)
    if own.any():
        draw = functools.partial(security_curves, robust)
        yield _Drawing(None, "security", "Accuracy under every attack", draw)
    if ((flips["storage"] == "float") & flips["role"].isin(["attack", "worst case"])).any():
        draw = functools.partial(class_flip_curves, flips, trial.classes)
        yield _Drawing(None, "harm", "Images flipped, by class", draw)
    worst, agreed = (
        table[(table["preset"] == WORST_CASE) & (table["storage"] == "float")] for table in (ranks, agreement)
    )
    if len(worst["model"].unique()) > 1 and worst["flip_epsilon"].notna().any():
        draw = functools.partial(susceptibility_scatter, worst, agreed, trial.classes)
        yield _Drawing(None, "susceptibility", "Which images fall first", draw)
    if (moved["storage"] == "float").any():
        draw = functools.partial(transfer_matrices, moved)
        yield _Drawing(None, "transfer", "Images made on one model, answered by another", draw)
    half = trial.tables["epsilon50"]
    if own.any() and (half["n"] > 0).any():
        draw = functools.partial(cost_against_strength, cost, half)
        yield _Drawing(None, "cost", "Cost against strength", draw)


def _number(trial: _Trial, drawing: _Drawing) -> int | None:
    """Return the figure's number; None for a cohort that the paper has not, and for a figure without one."""
    subject = any(is_subject(trial.cohort, model) for model in trial.clean["model"].unique())
    first = _FIRST_FIGURE.get(trial.modality) if subject else None
    if first is None or drawing.place is None:
        return None
    return UNCHANGED_FIGURE if drawing.place == UNCHANGED_FIGURE else first + drawing.place


def _name(trial: _Trial, drawing: _Drawing) -> str:
    number = _number(trial, drawing)
    parts = (slug(trial.cohort), slug(trial.protocol), f"fig{number:02d}" if number else "", drawing.subject)
    return "-".join(part for part in (*parts, slug(drawing.model)) if part)


def _title(trial: _Trial, drawing: _Drawing) -> str:
    number = _number(trial, drawing)
    return f"{f'Figure {number}. ' if number else ''}{drawing.title}: {trial.cohort}, {trial.protocol} protocol"
