"""What `interval_coverage` writes: the table for people, and by kind the ranges that a report quotes."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from as_markdown import table

import dosimeter.analysis

RANGES = Path(dosimeter.analysis.__file__).parent / "simulated" / "coverage.csv"

EVERY = 20_000  # studies where one call takes them all
EACH = 2_000  # where each is a call
FEW = 300  # where each takes long
FEW_IMAGES = 10
"""Images, of each class where that counts, below which there are few."""


class Line(NamedTuple):
    """One row of the table; `sample` says whose images the studies have (`sample_of`), "" of anything else."""

    kind: str
    setting: str
    studies: int
    covered: float
    without: float
    width: float
    sample: str = ""


def sample_of(images: int, patients: int) -> str:
    """Return "several" where patients have several images, else "few" or "alone"."""
    if patients < images:
        return "several"
    return "few" if images < FEW_IMAGES else "alone"


def page(lines: list[Line], about: str, duration_s: float) -> str:
    """Return the table, and which of its lines lie outside 93 to 97 %."""
    rows = [
        [*line[:2], f"{line.studies:,}", _percent(line.covered), _percent(line.without), f"{line.width:.3f}"]
        for line in lines
    ]
    head = ("interval", "studies of", "studies", "hold the truth", "without interval", "median width")
    below, above = ([line for line in lines if beyond(line.covered)] for beyond in (_low, _high))
    return "\n\n".join(
        [
            "# How often the intervals hold the truth",
            about,
            f"Made by `python benchmarks/coverage.py` in {duration_s / 60:.1f} minutes of one core. {_chance()}",
            table(head, rows, text_columns=2),
            "Studies without interval (too few images, or images that do not differ) are not in the share.",
            f"Of {len(lines)} lines {len(below)} lie below 93 %, {len(above)} above 97 %.{_named(below, 'below')}",
        ]
    ).rstrip() + "\n"  # fmt: skip


def ranges(lines: list[Line]) -> str:
    """Return, as CSV, the lowest and highest share of each kind of interval and sample: what reports say of theirs."""
    found: dict[tuple[str, str], list[float]] = {}
    for line in lines:
        if not np.isnan(line.covered):
            found.setdefault((line.kind, line.sample), []).append(line.covered)
    rows = [(*names, round(min(held), 4), round(max(held), 4)) for names, held in found.items()]
    text = pd.DataFrame(rows, columns=["interval", "sample", "lowest", "highest"]).to_csv(index=False)
    return text.replace("\r\n", "\n")


def _chance() -> str:
    errors = [
        f"{100 * np.sqrt(0.05 * 0.95 / studies):.1f} points with {studies:,} studies" for studies in (EVERY, EACH, FEW)
    ]
    return f"Standard error of a share of 95 %: {', '.join(errors)}."


def _percent(share: float) -> str:
    return "-" if np.isnan(share) else f"{100 * share:.1f} %"


def _low(covered: float) -> bool:
    return covered < 0.93


def _high(covered: float) -> bool:
    return covered > 0.97


def _named(lines: list[Line], where: str) -> str:
    return "".join(f"\n- {where}: {line.kind}, {line.setting}: {_percent(line.covered)}" for line in lines)
