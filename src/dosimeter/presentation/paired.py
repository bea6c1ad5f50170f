"""The report's tables of paired comparisons: two curves without attack, and where they differ most."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from dosimeter.analysis.names import STUDY_PRESETS, WORST_CASE, attack_title, model_name, series_name, storage_name
from dosimeter.analysis.paired import BY_PATIENT, BY_WORTH
from dosimeter.analysis.wording import records
from dosimeter.presentation.numbers import DASH, Cell, count, dose, is_missing, marked, percent_range, words
from dosimeter.presentation.ranges import has_interval
from dosimeter.presentation.views import Head, View, of_trial, sorted_by_trial, trials

_PAIR = ["compared", "model", "preset", "storage", "against"]
_SHOWN = (*STUDY_PRESETS, WORST_CASE)
_NOTE = (
    "The difference is the accuracy of the first less that of the other over the images that both answered, in "
    "percentage points{}; under its p, how many images the first and the other alone answer correctly. {} They "
    "differ most at an epsilon that was chosen by looking: its p is adjusted for all epsilons of the pair (Holm){}. "
    "All pairs and epsilons are in tables/paired.csv."
)
_BY_IMAGE = "p is that of the exact McNemar test."
_BY_PATIENT = (
    "Patients have several images: p is exact, of the sum of the differences if each patient's might as well have had "
    "the other sign{}."
)
_INTERVALS = {
    BY_PATIENT: "a bootstrap by patient",
    BY_WORTH: "Newcombe's of as many images as theirs are worth where none differs or patients are few",
}


def paired_tables(paired: pd.DataFrame, order: Sequence[tuple[str, str]]) -> Iterator[View]:
    """Yield a table for each trial, of classifiers, presets and storages; those without a row are left out.

    Of attacks there are the study's presets and the worst case. The whole is in tables/paired.csv.

    Args:
        paired: as `analysis.paired.paired` returns it.
        order: of (cohort, protocol).
    """
    shown = paired["preset"].isin(_SHOWN) & ((paired["storage"] == "float") | (paired["compared"] == "storages"))
    yield from _tables(paired[shown & (paired["compared"] != "seeds")], order, "Compared image by image")


def seed_tables(paired: pd.DataFrame, order: Sequence[tuple[str, str]]) -> Iterator[View]:
    """Yield a table for each trial of the first seed against the others, with floats; see `paired_tables`."""
    shown = paired["preset"].isin(_SHOWN) & (paired["storage"] == "float") & (paired["compared"] == "seeds")
    yield from _tables(paired[shown], order, "Seeds compared on the test images that they share")


def _tables(paired: pd.DataFrame, order: Sequence[tuple[str, str]], title: str) -> Iterator[View]:
    paired = sorted_by_trial(paired, order)
    top = [
        *(Head(name, rows=2) for name in ("model", "attack, stored as", "first", "other", "images")),
        Head("without attack", span=2),
        Head("where they differ most", span=3),
    ]
    sub = [Head(name) for name in ("difference", "p", "epsilon", "difference", "p, adjusted")]
    for cohort, protocol in trials(paired):
        mine = of_trial(paired, cohort, protocol)
        rows = [_row(pair.sort_values("epsilon")) for _, pair in mine.groupby(_PAIR, sort=False)]
        used = [said for method, said in _INTERVALS.items() if (mine["method"] == method).any()]
        known = has_interval(mine, "difference")
        how = f", and the interval is {', or '.join(used)}" if known else ""
        note = _NOTE.format(
            ", with its 95 % interval" if known else "",
            _BY_PATIENT.format(how) if used else _BY_IMAGE,
            ", its interval is not" if known else "",
        )
        yield View(f"{title}: {cohort}, {protocol} protocol", [top, sub], rows, note)


def _row(pair: pd.DataFrame) -> list[Cell]:
    clean, attacked = pair[pair["epsilon"] == 0], pair[pair["epsilon"] > 0]
    cells = _names(records(pair)[0])
    cells.append(Cell(count(pair["n_common"].max())))
    cells += _difference(records(clean)[0], "p_patient") if len(clean) else [Cell(DASH)] * 2
    size = attacked["difference"].abs()
    if not (size > 0).any():
        return [*cells, *[Cell(DASH)] * 3]
    most = records(attacked[size >= size.max() - 1e-9].sort_values(["p_patient", "epsilon"], kind="stable"))[0]
    return [*cells, Cell(dose(most["epsilon"])), *(marked(cell, most) for cell in _difference(most, "p_holm"))]


def _names(row: Mapping[str, Any]) -> list[Cell]:
    """Return what a pair has in common, model and attack, and what differs."""
    model, attack = model_name(row["model"]), series_name(row["preset"], row["storage"])
    against = str(row["against"])
    if row["compared"] == "classifiers":
        return [words(DASH), words(attack), words(model), words(model_name(against))]
    if row["compared"] == "presets":
        both = attack_title(row["preset"]), attack_title(against)
        return [words(model), words(storage_name(row["storage"])), *map(words, both)]
    if row["compared"] == "storages":
        both = storage_name(row["storage"]), storage_name(against)
        return [words(model), words(attack_title(row["preset"])), *map(words, both)]
    return [words(model), words(attack), words(f"seed {row['seed']}"), words(against)]


def _difference(row: Mapping[str, Any], p: str) -> list[Cell]:
    interval = percent_range(row["difference_low"], row["difference_high"])
    alone = f"{count(row['right_alone'])} and {count(row['right_alone_against'])}"
    return [Cell(f"{100 * row['difference']:+.1f}", interval.replace("–", " to ")), Cell(_p(row[p]), alone)]


def _p(value: Any) -> str:
    if is_missing(value):
        return DASH
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
