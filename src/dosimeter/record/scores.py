"""How sure a classifier is of each class: scores against the rest and probabilities, of logits and of compact rows."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from scipy.special import expit

FloatArray = npt.NDArray[np.float64]

SCORES = pa.list_(pa.float32())
"""The type of the column `scores`."""


def one_against_rest(logits: FloatArray) -> FloatArray:
    """Return how far each logit lies above all others together: z_c - log(sum over k != c of exp z_k).

    It is the logit of the class's softmax probability, and so orders images as that does, but never saturates.

    Args:
        logits: (n, classes).

    Returns:
        (n, classes).
    """
    n_classes = logits.shape[1]
    scores = np.empty_like(logits)
    for each in range(n_classes):
        rest = np.delete(logits, each, axis=1)
        largest = rest.max(axis=1)
        scores[:, each] = logits[:, each] - largest - np.log(np.exp(rest - largest[:, None]).sum(axis=1))
    return scores


def class_scores(rows: pd.DataFrame) -> FloatArray:
    """Return each class's score (see `one_against_rest`) of compact rows with one number of classes.

    Returns:
        (n, classes), float64.
    """
    n_classes = int(rows["n_classes"].iloc[0]) if len(rows) else 0
    assert (rows["n_classes"] == n_classes).all(), "rows of several numbers of classes"
    if n_classes == 2:
        score, positive = rows["score"].to_numpy(np.float64), rows["positive"].to_numpy()
        return np.where(np.arange(2) == positive[:, None], score[:, None], -score[:, None])
    flat = pa.chunked_array(pa.array(rows["scores"])).combine_chunks().flatten()
    scores: FloatArray = flat.to_numpy(zero_copy_only=False).astype(np.float64).reshape(len(rows), -1)
    return scores


OF_PROBABILITIES = ("n_classes", "positive", "probability", "score", "scores")
"""Columns that `class_scores` and `class_probabilities` look at."""


def no_scores(n_rows: int) -> pd.arrays.ArrowExtensionArray:
    """Return a column `scores` of `n_rows` nulls."""
    return pd.arrays.ArrowExtensionArray(pa.chunked_array([pa.nulls(n_rows, SCORES)]))


def class_probabilities(rows: pd.DataFrame) -> FloatArray:
    """Return each class's probability (n, classes) of compact rows, as `class_scores`."""
    if len(rows) and int(rows["n_classes"].iloc[0]) == 2:
        probability, positive = rows["probability"].to_numpy(np.float64), rows["positive"].to_numpy()
        return np.where(np.arange(2) == positive[:, None], probability[:, None], 1 - probability[:, None])
    probabilities: FloatArray = expit(class_scores(rows))
    return probabilities


def tells_labels(card: Mapping[str, Any]) -> bool:
    """Whether a classifier, as its card says, answers with labels alone: its scores are then made up."""
    return bool((card.get("head") or {}).get("outputs") == "labels")
