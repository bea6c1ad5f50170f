"""What every attack leaves of real networks, as a page: `python benchmarks/results.py RUN...` writes docs/attacks.md.

The runs are studies with `--attack`, finished or interrupted; several may speak of one network, each of others.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from as_markdown import table

from dosimeter.analysis.evaluation import overall
from dosimeter.analysis.names import attack_title, model_name
from dosimeter.analysis.wording import records
from dosimeter.record.table import Responses, read_compact
from dosimeter.report.build import build_tables
from dosimeter.report.partial import read_partial

DOSES = (0.001, 0.003, 0.009)
TRIAL = ["cohort", "protocol", "model"]

HEAD = """# What each attack leaves

Accuracy under every attack at three epsilons, with its 95 % interval (Wilson's; images of one patient count as many as
they are worth); n test images; and what an attack takes, the median over images: gradients, queries, and seconds of one
worker for all epsilons together, answers to the grid included; a worker has a core, or shares the GPU. The worst case
takes of each image the attack that breaks it first. Seconds depend on the machine; the rest does not. Made by
`python benchmarks/results.py` from the runs' tables alone; the commands are below each table.

Research use. Not a medical device.
"""


def main() -> None:
    write_page(__doc__, HEAD, section, name="attacks.md")


def write_page(doc: str, head: str, section: Callable[[Responses], Iterator[str]], *, name: str) -> None:
    """Write a page of docs/: `head`, and what `section` yields for each run that the command line names."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="folders of studies; of an interrupted one what is done")
    parser.add_argument("--note", default="", help="a sentence on how they were made")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "docs" / name)
    options = parser.parse_args()
    parts = [head + options.note]
    for folder in options.runs:
        whole = folder / "responses.parquet"
        parts += section(read_compact(whole) if whole.exists() else read_partial(folder))
    options.out.write_text("\n\n".join(part.strip() for part in parts) + "\n", encoding="utf-8")
    print(f"written: {options.out}")


def section(responses: Responses) -> Iterator[str]:
    """Yield a run's tables, one for each network, and how they were made."""
    tables = build_tables(responses)
    robust = tables["robust_accuracy"]
    robust = robust[(robust["storage"] == "float") & (robust["made_on"] == "")]
    for names, rows in robust.groupby(TRIAL, sort=False):
        cohort, protocol, model = names
        spent = tables["cost"][(tables["cost"][TRIAL] == list(names)).all(axis=1)].set_index("preset")
        yield f"## {model_name(model)} on {cohort}, {protocol} protocol"
        header = ["attack", *(f"epsilon {dose:g}" for dose in DOSES), "n", "gradients", "queries", "seconds"]
        yield table(header, [_row(preset, group, spent) for preset, group in rows.groupby("preset", sort=False)])
        yield _verdicts(tables["evaluation"], names)
    yield made(responses.meta)


def _row(preset: str, rows: pd.DataFrame, spent: pd.DataFrame) -> list[str]:
    by_dose = {row["epsilon"]: row for row in records(rows)}
    cells = [_accuracy(by_dose[dose]) if dose in by_dose else "" for dose in DOSES]
    cost = [_number(spent.loc[preset, f"{name}_median"]) for name in ("gradients", "queries", "seconds")] \
        if preset in spent.index else [""] * 3  # fmt: skip
    return [attack_title(preset), *cells, str(next(iter(by_dose.values()))["n"]), *cost]


def _accuracy(row: Mapping[str, Any]) -> str:
    return f"{100 * row['accuracy']:.1f} % ({100 * row['ci_low']:.0f}-{100 * row['ci_high']:.0f})"


def _number(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.3g}"


def _verdicts(evaluation: pd.DataFrame, names: Sequence[Any]) -> str:
    mine = evaluation[(evaluation[TRIAL] == list(names)).all(axis=1)]
    said = []
    for row in records(overall(mine)):
        noted = mine[(mine["preset"] == row["preset"]) & (mine["verdict"] == row["verdict"])]
        why = "" if row["verdict"] == "PASS" else f" ({'; '.join(noted['title'])})"
        said.append(f"`{row['preset']}` {row['verdict']}{why}")
    return f"Can these numbers be trusted: {'; '.join(said)}."


def made(meta: Mapping[str, Any]) -> str:
    machine = meta["environment"]
    engines = ", ".join(sorted({f"{model_name(each['model'])}: {each['name']}" for each in meta["engines"]}))
    total_s = sum(stage["duration_s"] for stage in meta["stages"])
    took = "interrupted before its other attacks" if meta.get("partial") else f"{total_s / 60:.0f} minutes"
    chips = " and ".join(filter(None, [machine.get("gpu"), machine["cpu"]]))
    return (
        f"`{meta['command']}`: {took} on {chips}, {machine['cores']} cores, torch "
        f"{machine['torch']}; engines: {engines}; {meta['created'][:10]}."
    )


if __name__ == "__main__":
    main()
