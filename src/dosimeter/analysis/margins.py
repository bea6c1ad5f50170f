"""How the margins of training images grew, in defences that attack each image within a margin of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

MARGIN_KEYS = ("cohort", "protocol", "model", "seed", "defence")
QUARTILES = ("least", "q1", "median", "q3", "most")


def margins(meta: Mapping[str, Any]) -> pd.DataFrame:
    """Return the margins within which images were attacked in training, epoch by epoch, of defences that have such.

    Args:
        meta: the run's facts.

    Returns:
        A row for each classifier, seed and epoch, 0 before the first: n training images; least, q1, median, q3 and most
        of their margins, in the image range.

    Source: Ma and Liang 2023 (arXiv 2005.09147), figure 4: the margins' distribution tells a largest useful epsilon.
    """
    rows = [
        {**{name: card.get(name) for name in MARGIN_KEYS}, "epoch": epoch, "n": part["n_margins"], **_quartiles(values)}
        for card in meta.get("classifiers", [])
        for part in card.get("defences") or []
        for epoch, values in enumerate(part.get("margins") or [])
    ]
    return pd.DataFrame(rows, columns=[*MARGIN_KEYS, "epoch", "n", *QUARTILES])


def _quartiles(values: Sequence[float]) -> dict[str, float]:
    return dict(zip(QUARTILES, values, strict=True))
