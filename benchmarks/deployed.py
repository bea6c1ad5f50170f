"""What storage leaves of attacks on real networks, and what could be seen: `python benchmarks/deployed.py RUN...`.

Writes docs/deployed.md from the tables of finished studies with `--storage`: much of the report, as a page.
"""

from collections.abc import Iterator

import pandas as pd
from as_markdown import table
from results import made, write_page

from dosimeter.analysis.names import attack_title, model_name
from dosimeter.analysis.visibility import statements
from dosimeter.presentation.numbers import Cell, decimal
from dosimeter.presentation.views import View
from dosimeter.record.table import Responses
from dosimeter.report.build import build_tables
from dosimeter.sections.storage.page import storage_sentences, storage_tables

HEAD = """# Deployed and seen

Which flips survive storage, the smallest epsilon whose file changes the answer, how far the images may be seen, and
whether the published “safe magnitudes” stand. [Storage](storage.md) and [visibility](visibility.md) say how each number
is made. In brackets: intervals and counts, as the notes say. JND are amplitudes at the default window of a 1-350 cd/m2
display, medians over images; peak to peak is twice that. The rules “jnd” and “noise” are conventions, not readers.
Made by `python benchmarks/deployed.py` from the runs' tables alone; the commands are below.

Research use. Not a medical device. Not measured with readers.
"""


def main() -> None:
    write_page(__doc__, HEAD, section, name="deployed.md")


def section(responses: Responses) -> Iterator[str]:
    """Yield a run's sentences and tables."""
    tables, meta = build_tables(responses), responses.meta
    order = [(card["cohort"], card["protocol"]) for card in meta["cohorts"]]
    models = dict.fromkeys(model_name(card["model"]) for card in meta["classifiers"])
    yield f"## {', '.join(models)} on {', '.join(cohort for cohort, _ in order)}"
    magnitudes = tables["safe_magnitudes"]
    said = (*storage_sentences(tables, meta), *statements(magnitudes[magnitudes["storage"] == "float"]))
    yield "\n".join(f"- {each}" for each in said)
    for view in storage_tables(tables, order):
        yield f"### {view.caption}"
        yield in_markdown(view)
        yield view.note
    yield "### How far the images may be seen, as floats"
    yield seen(tables["visibility"])
    yield made(meta)


def seen(visibility: pd.DataFrame) -> str:
    """Return the medians of some metrics, a line for each attack and epsilon."""
    floats = visibility[visibility["storage"] == "float"]
    curves = ["model", "preset", "epsilon"]
    medians = floats.pivot_table("median", curves, "metric", sort=False)
    n_images = floats.groupby(curves)["n"].max()
    medians = medians[medians["ssim"].notna()].sort_index(level="epsilon", sort_remaining=False, kind="stable")
    rows = []
    for (model, preset, epsilon), line in medians.iterrows():
        values = [decimal(line[metric], digits) for metric, (_, digits) in METRICS.items()]
        n = str(n_images[model, preset, epsilon])
        rows.append([model_name(model), attack_title(preset), f"{epsilon:g}", n, *values])
    heads = ["network", "attack", "epsilon", "n", *(name for name, _ in METRICS.values())]
    return table(heads, rows, text_columns=2)


METRICS = {
    "psnr": ("PSNR, dB", 1),
    "ssim": ("SSIM", 4),
    "haarpsi": ("HaarPSI", 4),
    "noise_ratio": ("RMS over own noise", 2),
    "jnd_p50": ("JND, median pixel", 2),
    "jnd_p95": ("JND, 95th percentile", 2),
}


def in_markdown(view: View) -> str:
    """Return a table whose head is one line."""
    (heads,) = view.head
    names = sum(cell.kind == "name" for cell in view.rows[0])
    return table(
        [head.text for head in heads], [[_text(cell) for cell in row] for row in view.rows], text_columns=names
    )


def _text(cell: Cell) -> str:
    return f"{cell.text} ({cell.note})" if cell.note else cell.text


if __name__ == "__main__":
    main()
