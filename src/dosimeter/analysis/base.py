"""What every analysis shares: the columns that name a group, and the rows a classifier answered."""

import numpy as np
import pandas as pd

from dosimeter.errors import DosimeterError

GROUP = ["cohort", "protocol", "model", "preset", "storage", "modality"]
"""One curve: a classifier under one attack, stored one way. `modality` follows from `cohort`."""

CLASSIFIER = ["cohort", "protocol", "model", "modality"]
"""One trained network, whatever was done to its images."""


def answered(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that have a response, typed, with what the analyses derive from them.

    Args:
        frame: a response table (`responses.SCHEMA`) of two-class classifiers; class 1 is the positive one.

    Returns:
        The rows of status "ok", with `correct` and `on_grid` as bool, `unchanged` and `grad_zero` as 0, 1 or
        NaN, a missing `modality` as "", and three more columns: `probability` of class 1; `score`, the logit
        of class 1 less that of class 0, which orders images as `probability` does but never saturates; and
        `cluster`, the patient, or the case where the patient is unknown.

    Raises:
        DosimeterError: a response does not have two classes.
    """
    rows = frame[frame["status"] == "ok"]
    logits = _pairs(rows["logits"])
    return rows.assign(
        modality=rows["modality"].fillna(""),
        cluster=rows["patient_id"].fillna(rows["case_id"]),
        label=rows["label"].astype(np.int64),
        predicted=rows["predicted"].astype(np.int64),
        correct=rows["correct"].astype(bool),
        on_grid=rows["on_grid"].astype(bool),
        unchanged=rows["unchanged"].astype(np.float64),
        grad_zero=rows["grad_zero"].astype(np.float64),
        probability=_pairs(rows["probabilities"])[:, 1],
        score=logits[:, 1] - logits[:, 0],
    )


def clean_answers(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row per (classifier, case): its answer at epsilon 0.

    Presets share the unperturbed image, so one answer serves them all: the `float` one, of the `sound` preset
    where there is a choice.

    Args:
        rows: as `answered` returns them.
    """
    clean = rows[rows["epsilon"] == 0]
    order = clean.assign(_stored=clean["storage"] != "float", _other=clean["preset"] != "sound")
    order = order.sort_values(["_stored", "_other", "preset", "storage"], kind="stable")
    unique = order.drop_duplicates([*CLASSIFIER, "case_id"]).drop(columns=["_stored", "_other"])
    return unique.sort_values([*CLASSIFIER, "case_id"], ignore_index=True)


def _pairs(lists: pd.Series) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    if lists.empty:
        return np.empty((0, 2))
    flat = np.concatenate(lists.to_list()).astype(np.float64)
    if flat.size != 2 * len(lists):
        raise DosimeterError(
            f"{lists.name} must have two classes a row, got {flat.size} values in {len(lists)} rows. "
            "Evaluate a two-class classifier."
        )
    return flat.reshape(-1, 2)  # (rows, 2)
