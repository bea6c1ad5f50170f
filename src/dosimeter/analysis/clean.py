"""Evaluation without attack: metrics with intervals, confusion matrices, training histories."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dosimeter.analysis import paper
from dosimeter.analysis.auc import auc_interval
from dosimeter.analysis.base import CLASSIFIER, MODEL, answered, clean_answers, each_seed, groups, plain
from dosimeter.analysis.clusters import per_patient
from dosimeter.analysis.intervals import FloatArray, proportion_interval
from dosimeter.record.scores import class_probabilities, tells_labels

CALIBRATION_BINS = 15
_CELLS = ["tn", "fp", "fn", "tp"]


@each_seed
def clean_metrics(frame: pd.DataFrame) -> pd.DataFrame:
    """Return how well each classifier does on unperturbed images, one row per (cohort, protocol, model).

    All presets share the unperturbed image; see `base.clean_answers` for whose answer is used.

    Args:
        frame: a response table.

    Returns:
        n images, n_positive, n_patients (null if any is unknown), n_errors (cases that failed, in no other
        number); accuracy and, of the positive class against all others, sensitivity, specificity and precision, each
        with `_low` and `_high`, Wilson's on as many images as those of these patients are worth
        (`intervals.proportion_interval`); f1; auc with its interval and `auc_method`; brier, see `brier`; ece, see
        `expected_calibration_error`. What is undefined, such as the AUC of a single class, or where no class is
        declared positive, is null.
    """
    rows = [{**names, **_metrics(group)} for names, group in groups(clean_answers(answered(frame)), CLASSIFIER)]
    columns = [*MODEL, "n", "n_positive", "n_patients", "n_errors"]
    for name in ("accuracy", "sensitivity", "specificity", "precision"):
        columns += [name, f"{name}_low", f"{name}_high"]
    columns += ["f1", "auc", "auc_low", "auc_high", "auc_method", "brier", "ece", "modality"]
    failed = plain(frame.loc[frame["status"] != "ok", [*MODEL, "case_id"]]).groupby(MODEL)["case_id"].nunique()
    table = pd.DataFrame(rows, columns=[name for name in columns if name != "n_errors"])
    table = table.merge(failed.rename("n_errors").reset_index(), on=MODEL, how="left")
    return table.astype({"n_patients": "Int64"}).assign(n_errors=table["n_errors"].fillna(0).astype(int))[columns]


_OF_SCORES = ["auc", "auc_low", "auc_high", "auc_method", "brier", "ece"]


def without_scores(table: pd.DataFrame, meta: Mapping[str, Any]) -> pd.DataFrame:
    """Return `clean_metrics` without what needs scores, of classifiers that tell labels alone.

    Their logits are made up (`models.queried.LABEL_LOGIT`): an AUC or a calibration of them says nothing.
    """
    cards = meta.get("classifiers", [])
    blind = {card["model"] for card in cards if tells_labels(card)}
    kept = table.copy()
    kept.loc[kept["model"].isin(blind), _OF_SCORES] = None
    return kept


@each_seed
def confusion(frame: pd.DataFrame) -> pd.DataFrame:
    """Return confusion matrices at epsilon 0, one row per (cohort, protocol, model).

    Args:
        frame: a response table.

    Returns:
        tn, fp, fn, tp (images) of the positive class against all others, of those not refused, and where the paper
        prints them (X-ray) paper_tn, paper_fp, paper_fn, paper_tp. Without a positive class there is no row;
        `classes.confusion_by_class` has every class.
    """
    clean = plain(clean_answers(answered(frame)))
    clean = clean[clean["positive"] >= 0].reset_index(drop=True)
    actual, called = (clean[name] == clean["positive"] for name in ("label", "predicted"))
    given = clean["abstained"] != 1
    cells = (~actual & ~called & given, ~actual & called & given, actual & ~called & given, actual & called & given)
    counts = pd.DataFrame(dict(zip(_CELLS, cells, strict=True)))
    table = counts.groupby([clean[name] for name in CLASSIFIER]).sum().reset_index()
    published = paper.confusion().rename(columns={name: f"paper_{name}" for name in _CELLS})
    table = paper.beside(table, published.astype({f"paper_{name}": "Int64" for name in _CELLS}))
    return table[[*MODEL, *_CELLS, *(f"paper_{name}" for name in _CELLS), "modality"]]


def training(meta: Mapping[str, Any]) -> pd.DataFrame:
    """Return the training histories in a run's meta, one row per (classifier, epoch); of several seeds with `seed`."""
    columns = ["epoch", "learning_rate", "train_loss", "train_accuracy", "test_loss", "test_accuracy"]
    cards = meta.get("classifiers", [])
    identity = [*MODEL, "seed"] if len({card.get("seed") for card in cards}) > 1 else MODEL
    rows = [
        {**{name: card.get(name) for name in identity}, **epoch} for card in cards for epoch in card.get("history", [])
    ]
    return pd.DataFrame(rows, columns=[*identity, *columns]).sort_values([*identity, "epoch"], ignore_index=True)


def expected_calibration_error(probability: FloatArray, correct: FloatArray) -> float:
    """Return how far confidence is from accuracy, on average over images.

    The confidence is the probability of the predicted class. Images are put into 15 bins (i/15, (i+1)/15] of
    it; a bin's error is |mean confidence - share correct|, weighted by its images. With K classes
    confidence starts at 1/K, so the lower bins stay empty. With few images it overstates the error; compare
    it between models only.

    Args:
        probability: (n, classes), or of two classes (n,) of the positive one.
        correct: (n,) 1 where the predicted class is right.

    Source: Guo et al., ICML 2017, equation 3.
    """
    if not len(probability):
        return np.nan
    confidence = np.maximum(probability, 1 - probability) if probability.ndim == 1 else probability.max(axis=1)
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, None)
    gap = np.bincount(bins, weights=confidence - correct)  # bin size x (mean confidence - accuracy)
    return float(np.abs(gap).sum() / len(probability))


def _metrics(rows: pd.DataFrame) -> dict[str, Any]:
    right, cluster = rows["correct"].to_numpy(bool), rows["cluster"].to_numpy(object)
    probabilities = class_probabilities(rows)
    return {
        "n": len(rows),
        "n_patients": pd.NA if rows["patient_id"].isna().any() else rows["patient_id"].nunique(),
        **_proportion("accuracy", right, cluster),
        **_positive_metrics(rows),
        "brier": brier(rows, probabilities),
        "ece": expected_calibration_error(probabilities, right.astype(np.float64)),
    }


def _positive_metrics(rows: pd.DataFrame) -> dict[str, Any]:
    """Return what is counted of the positive class against all others; nothing where none is declared."""
    positive = int(rows["positive"].iloc[0])
    if positive < 0:
        return {"n_positive": np.nan}
    label, called = (rows[name].to_numpy() == positive for name in ("label", "predicted"))
    given = rows["abstained"].to_numpy() != 1
    called, cleared = called & given, ~called & given  # a refused image is called nothing, and so is not cleared
    cluster = rows["cluster"].to_numpy(object)
    area = auc_interval(label, rows["score"].to_numpy(np.float64), cluster)
    both = int(label.sum() + called.sum())
    return {
        "n_positive": int(label.sum()),
        **_proportion("sensitivity", called[label], cluster[label]),
        **_proportion("specificity", cleared[~label], cluster[~label]),
        **_proportion("precision", label[called], cluster[called]),
        "f1": 2 * int((label & called).sum()) / both if both else np.nan,
        "auc": area.auc,
        "auc_low": area.low,
        "auc_high": area.high,
        "auc_method": area.method or None,
    }


def brier(rows: pd.DataFrame, probabilities: FloatArray) -> float:
    """Return the Brier score of compact `rows`: the squared error of `probabilities` (n, classes), summed over classes.

    Of two classes, whose errors are equal, it is that of one, as is usual.

    Source: Brier, Monthly Weather Review 78 (1950) 1.
    """
    n_classes = probabilities.shape[1]
    errors = (probabilities - (np.arange(n_classes) == rows["label"].to_numpy()[:, None])) ** 2
    return float(np.mean(errors[:, 1] if n_classes == 2 else errors.sum(axis=1)))


def _proportion(name: str, hits: npt.NDArray[np.bool_], cluster: npt.NDArray[np.object_]) -> dict[str, float]:
    low, high = proportion_interval(per_patient(hits, cluster), per_patient(np.ones(len(hits)), cluster))
    return {
        name: float(hits.mean()) if len(hits) else np.nan,
        f"{name}_low": float(low),
        f"{name}_high": float(high),
    }
