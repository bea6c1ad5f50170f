"""What storage leaves of attacks on real networks, and what could be seen: `python benchmarks/deployed.py RUN...`.

Writes docs/deployed.md from the tables of finished studies with `--storage`: the report's own sections, as a page.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from markdown import table
from results import made

from dosimeter.analysis.tables import build_tables
from dosimeter.report.numbers import Cell
from dosimeter.report.storage import storage_sentences, storage_tables
from dosimeter.report.tables import View
from dosimeter.report.visibility import visibility_sentences, visibility_tables
from dosimeter.responses import Responses, read_compact

HEAD = """# Deployed and seen

Sections of the reports of these studies: which flips survive storage, the smallest epsilon whose file changes the
answer, how far the images could be seen, and whether the published “safe magnitudes” stand. [Storage](storage.md) and
[visibility](visibility.md) say how each number is made. In brackets: intervals, quartiles or counts, as the note says.
Made by `python benchmarks/deployed.py` from the runs' tables alone; the commands are below.

Research use. Not a medical device. Not measured with readers.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="folders of finished studies")
    parser.add_argument("--note", default="", help="a sentence on how they were made")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "docs" / "deployed.md")
    options = parser.parse_args()
    parts = [HEAD + options.note]
    for folder in options.runs:
        parts += section(read_compact(folder / "responses.parquet"))
    options.out.write_text("\n\n".join(part.strip() for part in parts) + "\n", encoding="utf-8")
    print(f"written: {options.out}")


def section(responses: Responses) -> Iterator[str]:
    """Yield a run's sentences and tables."""
    tables, meta = build_tables(responses), responses.meta
    order = [(card["cohort"], card["protocol"]) for card in meta["cohorts"]]
    models = dict.fromkeys(card["model"] for card in meta["classifiers"])
    yield f"## {', '.join(cohort for cohort, _ in dict.fromkeys(order))}: {', '.join(models)}"
    yield "\n".join(f"- {each}" for each in (*storage_sentences(tables), *visibility_sentences(tables, meta)))
    for view in (*storage_tables(tables, order), *visibility_tables(tables, meta)):
        yield f"### {view.caption}"
        yield in_markdown(view)
        yield view.note
    yield made(meta)


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
