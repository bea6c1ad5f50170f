"""All tables of a run, as CSV in full precision and as LaTeX for a paper."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from dosimeter.analysis.clean import clean_metrics, confusion, training
from dosimeter.analysis.curves import fgsm_accuracy
from dosimeter.analysis.drops import probability_drop
from dosimeter.analysis.flips import epsilon50, flip_epsilon
from dosimeter.analysis.repeats import repeats
from dosimeter.responses import Responses, compact

CAPTIONS = {
    "clean_metrics": "Classification without attack, with 95 % intervals.",
    "confusion": "Confusion matrices without attack, this run's and the paper's.",
    "training": "Loss and accuracy on training and test images after every epoch.",
    "fgsm_accuracy": "Accuracy under FGSM, with Wilson's 95 % interval (the paper's tables 4 and 8).",
    "probability_drop": "Probability of the true class before and after FGSM (the paper's tables 5 and 9).",
    "flip_epsilon": "The smallest epsilon that changes each image's answer.",
    "epsilon50": "The epsilon at which half of the correctly classified images have flipped.",
    "repeats": "Means over the seeds, with 95 % intervals over splits (corrected resampled t).",
}
LATEX_ROWS = 5_000
"""Rows of a LaTeX table at most, some hundred pages: a table of one row an image goes on in its CSV file."""

_ESCAPES = str.maketrans(
    {character: f"\\{character}" for character in "&%_#${}"} | {"\\": "/", "~": r"\textasciitilde{}", "^": r"\^{}"}
)


def build_tables(responses: Responses) -> dict[str, pd.DataFrame]:
    """Return every table of a run, by the name of its file; a key of `CAPTIONS` each, `repeats` only of several seeds.

    Where there are several seeds the tables have a column `seed`.
    """
    frame = compact(responses.frame)
    tables = {
        "clean_metrics": clean_metrics(frame),
        "confusion": confusion(frame),
        "training": training(responses.meta),
        "fgsm_accuracy": fgsm_accuracy(frame),
        "probability_drop": probability_drop(frame),
        "flip_epsilon": flip_epsilon(frame),
        "epsilon50": epsilon50(frame),
    }
    if "seed" in tables["clean_metrics"]:
        tables["repeats"] = repeats(tables, responses.meta)
    return tables


def accuracy_table(responses: Responses) -> pd.DataFrame:
    """Return accuracy with its interval at every epsilon; see `curves.fgsm_accuracy`."""
    return fgsm_accuracy(responses.frame)


def write_tables(tables: Mapping[str, pd.DataFrame], folder: Path) -> None:
    """Write each table as NAME.csv (ten digits) and NAME.tex (three): the same table always gives the same bytes.

    The CSV is whole; of a table longer than `LATEX_ROWS` the LaTeX has the first rows, and says so.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False, float_format="%.10g", lineterminator="\n")
        shown, caption = table.head(LATEX_ROWS), CAPTIONS[name]
        if len(shown) < len(table):
            caption += f" The first {len(shown)} of {len(table)} rows; all are in {name}.csv."
        (folder / f"{name}.tex").write_text(to_latex(shown, caption), encoding="utf-8")


def to_latex(table: pd.DataFrame, caption: str) -> str:
    """Return a table for LaTeX's booktabs and longtable."""
    lines = [
        f"% {caption}",
        rf"\begin{{longtable}}{{{'l' * len(table.columns)}}}",
        rf"\caption{{{caption.translate(_ESCAPES)}}} \\",
        r"\toprule",
        " & ".join(str(name).translate(_ESCAPES) for name in table.columns) + r" \\",
        r"\midrule \endhead",
        *(" & ".join(_cell(value) for value in row) + r" \\" for row in table.itertuples(index=False)),
        r"\bottomrule",
        r"\end{longtable}",
    ]
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    if value is None or value is pd.NA or value != value:  # NaN is the one value that differs from itself
        return "--"
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return text.translate(_ESCAPES)
