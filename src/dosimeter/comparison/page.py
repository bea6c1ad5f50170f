"""The page of a comparison: one HTML file with everything in it, no script, nothing loaded from anywhere."""

import base64
import io
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from dosimeter.analysis.names import change_title, model_name, series_name, storage_name
from dosimeter.analysis.wording import is_marked, records
from dosimeter.comparison.compare import Comparison, attacked, quoted, who
from dosimeter.comparison.figures import overlays
from dosimeter.presentation.numbers import count, dose, moment, percent
from dosimeter.presentation.patients import unit_of, worded
from dosimeter.presentation.section import fill, read_file
from dosimeter.presentation.style import svg_of


class Line(NamedTuple):
    """A row of a table of differences, in words."""

    run: str
    who: str
    attack: str
    at: str
    n: str
    reference: str
    accuracy: str
    difference: str
    interval: str
    alone: str
    p: str
    mark: str


def render(found: Comparison) -> str:
    """Return the page; the names of the runs must be in force (`compare.in_force`)."""
    methods = sorted(set(found.table["method"]))
    filled = fill(
        __package__,
        "page.html",
        css=read_file(__package__, "style.css"),
        sides=[_facts(side.label, side.run.meta) for side in found.sides],
        shared=[(side.label, shared) for side, shared in zip(found.sides[1:], found.shared, strict=True)],
        phantom=any(side.run.meta["phantom"] for side in found.sides),
        incomplete=[(side.label, " ".join(side.run.meta["incomplete"])) for side in found.sides],
        first=[_line(row) for row in records(quoted(found))],
        figures=[(each.title, each.caption, _data_url(each.figure)) for each in overlays(found)],
        every=[_line(row) for row in records(found.table)],
        physical=[_of_change(row) for row in records(found.physical)],
        methods=methods,
    )
    units = {unit_of(side.run.responses.frame, side.run.meta) for side in found.sides}
    return worded(str(filled), unit="group" if "group" in units else "patient" if "patient" in units else None)


def _facts(label: str, meta: dict[str, Any]) -> dict[str, str]:
    models = dict.fromkeys(model_name(card["model"]) for card in meta["classifiers"])
    cohorts = dict.fromkeys(f"{card['cohort']} ({card['protocol']}, seed {card['seed']})" for card in meta["cohorts"])
    return {
        "label": label,
        "run": meta["run_id"],
        "created": moment(meta["created"]),
        "version": meta["dosimeter_version"],
        "models": ", ".join(models),
        "cohorts": "; ".join(cohorts),
    }


def _line(row: dict[str, Any]) -> Line:
    """Return a row of the comparison under attack."""
    clean = row["epsilon"] == 0
    attack = attacked(row).partition(",")[0] if clean else series_name(str(row["preset"]), str(row["storage"]))
    return _worded(row, attack, dose(row["epsilon"]))


def _of_change(row: dict[str, Any]) -> Line:
    """Return a row of the comparison under physical changes."""
    stored = "" if row["storage"] == "float" else f", {storage_name(str(row['storage']))}"
    return _worded(
        {**row, "evaluation": ""}, f"{change_title(str(row['change']))}{stored}", f"{row['severity']:g} {row['unit']}"
    )


def _worded(row: dict[str, Any], attack: str, at: str) -> Line:
    missing = pd.isna(row["difference_low"])
    low, high = (100 * row[f"difference_{end}"] for end in ("low", "high"))
    return Line(
        row["run"],
        who(row),
        attack,
        at,
        count(row["n_common"]),
        percent(row["accuracy_against"]),
        percent(row["accuracy"]),
        f"{100 * row['difference']:+.1f}",
        "" if missing else f"{low:+.1f} to {high:+.1f}",
        f"{count(row['right_alone'])} and {count(row['right_alone_against'])}",
        _p(row["p_holm"]),
        row["evaluation"] if is_marked(row["evaluation"]) else "",
    )


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _data_url(figure: Figure) -> str:
    buffer = io.BytesIO()
    svg_of(figure, buffer)
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def as_json(found: Comparison) -> dict[str, Any]:
    """Return all of it as JSON types; what is undefined is None."""
    return {
        "runs": [_facts(side.label, side.run.meta) for side in found.sides],
        "reference": found.sides[0].label,
        "shared": {side.label: each._asdict() for side, each in zip(found.sides[1:], found.shared, strict=True)},
        "headline_epsilon": found.headline,
        "differences": _records(found.table),
        "physical": _records(found.physical),
    }


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    known = table.astype(object).where(table.notna(), None)
    return [{name: _plain(value) for name, value in row.items()} for row in records(known)]


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
