"""The response table in a form that a million rows fit into: names as categories, numbers instead of lists.

What a row says is made the same here for two classes, for many, and for findings: nothing that reads a compact table
need know how many classes there are.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from dosimeter.errors import DosimeterError
from dosimeter.record.schema import SCHEMA, VISIBILITY
from dosimeter.record.scores import SCORES, FloatArray, one_against_rest

UNDEFENDED = "none"
"""The `defence` of a classifier that has none."""


@contextmanager
def quick_text() -> Iterator[None]:
    """Let pandas make strings of Python instead of Arrow: in tables of few rows Arrow takes several times as long."""
    with pd.option_context("mode.string_storage", "python"):
        yield


def compact(frame: pd.DataFrame) -> pd.DataFrame:
    """Return what the analyses need of a response table, in a form that a million rows fit into.

    Args:
        frame: a table with the columns of `SCHEMA`, or one that is compact already, which is returned as it is.

    Returns:
        The same rows in the same order. Names are categoricals whose categories are in alphabetical order; where one
        `model` stands for two classifiers (see `_told_apart`) it is the classifier's name. `label` and `predicted` are
        int16, `correct` and `on_grid` bool, `unchanged`, `grad_zero`, `found` and `abstained` 0, 1 or NaN, `target` a
        class or NaN, a missing `modality`, `effort`, `made_on`, `decision` or `unit` is "", a missing `defence` "none".
        `cluster` is the patient, or the case where the patient is unknown. Instead of lists there are

        - `margin`, the logit of the true class less the largest other one: above 0 the answer is right;
        - `truth`, the probability of the true class;
        - `positive`, the class that is declared positive, of two classes the second unless said otherwise; -1: none;
        - `probability` of the positive class, and `score`, its logit less the logarithm of the summed exponentials of
          the others (of two classes: less the other), which orders images as the probability does but never saturates;
          NaN where no class is positive;
        - `n_classes`, and `scores`, of more than two classes those of every class, else null (see `class_scores`).

        Where a row's status is not "ok", what it lacks is -1, False or NaN.

    Raises:
        DosimeterError: a row is not what a sweep writes.
    """
    if "score" in frame:
        return frame
    whole = frame.reindex(columns=COMPACT.names)
    table = pa.Table.from_pandas(whole, schema=COMPACT, preserve_index=False)
    return compacted(table.to_batches(), len(table))


def apart(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of attacks, each with an epsilon, and those of physical changes, each with a unit.

    No analysis of the first knows of the second, nor of the columns `severity` and `unit`.

    Args:
        frame: a compact table.
    """
    if "unit" not in frame:
        return frame, frame.iloc[:0]
    changed = (frame["unit"] != "").to_numpy()
    attacked = frame.drop(columns=["severity", "unit"])
    if not changed.any():
        return attacked, frame.iloc[:0]
    return _of_their_own(attacked[~changed]), _of_their_own(frame[changed])


def _of_their_own(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows whose columns of names know no name that none of them has."""
    rows = rows.reset_index(drop=True)
    names = [str(name) for name in rows.select_dtypes("category")]
    return rows.assign(**{name: rows[name].cat.remove_unused_categories() for name in names})


NAMES = (
    *("cohort", "modality", "protocol", "case_id", "patient_id", "model", "defence", "decision"),
    *("preset", "attack", "loss", "channels", "effort", "made_on", "storage", "unit", "status", "error"),
)
IDENTITIES = ("classifier", "maker")
"""Names that are read to tell classifiers apart, and not kept."""

_BLANK = {
    "modality": "",
    "effort": "",
    "made_on": "",
    "decision": "",
    "unit": "",
    "defence": UNDEFENDED,
}  # where there is none
_NUMBERS = {"label": np.int16, "seed": np.int64, "epsilon": np.float64, "severity": np.float64, "on_grid": np.bool_}
_NUMBERS |= {"predicted": np.int16, "correct": np.bool_, "positive": np.int16}
_SINGLE = (
    *("unchanged", "grad_zero", "found", "n_gradients", "n_queries", "duration_s", "linf", "l2", "target"),
    *("alarm", "abstained", "certified"),
    *VISIBILITY,
)
_NUMBERS |= dict.fromkeys(_SINGLE, np.float32)
_DERIVED = {"margin": np.float32, "truth": np.float64, "probability": np.float64, "score": np.float64}
COMPACT = pa.schema([SCHEMA.field(name) for name in (*NAMES, *IDENTITIES, *_NUMBERS, "logits", "probabilities")])
_Codes = npt.NDArray[np.signedinteger[Any]]


class _Name:
    """A column of names that is being read: the distinct ones, and for each row the place of its own.

    A null has place -1, or that of `blank` if there is one.
    """

    def __init__(self, n_rows: int, blank: str | None) -> None:
        self.known: dict[str, int] = {}
        self.codes: _Codes = np.empty(n_rows, np.int8)  # wider once there are more names
        self._blank = blank

    def put(self, rows: slice, column: pa.Array) -> None:
        column = column if isinstance(column, pa.DictionaryArray) else column.dictionary_encode()
        places = [self.place(name) for name in column.dictionary.to_pylist()]
        none = self.place(self._blank) if column.null_count and self._blank is not None else -1
        self.codes = self.codes.astype(np.min_scalar_type(-len(self.known) - 1), copy=False)
        indices = column.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        self.codes[rows] = np.array([*places, none], np.int32)[indices]

    def place(self, name: str) -> int:
        """Return the place of a name, which is known from now on."""
        return self.known.setdefault(name, len(self.known))

    def rename(self, which: npt.NDArray[np.bool_], name: str) -> None:
        """Give the rows `which` another name."""
        place = self.place(name)
        self.codes = self.codes.astype(np.min_scalar_type(-len(self.known) - 1), copy=False)
        self.codes[which] = place

    def finish(self) -> "pd.Categorical[str]":
        """Return the column, with the names that a row has."""
        used = np.unique(self.codes[self.codes >= 0])
        names = list(self.known)
        place = np.full(len(names) + 1, -1, np.int32)
        place[used] = np.arange(len(used))
        return _categorical(place[self.codes], [names[each] for each in used])


def compacted(batches: Iterable[pa.RecordBatch], n_rows: int) -> pd.DataFrame:
    """Return batches of the columns of `COMPACT`, `n_rows` together, as `compact` describes them."""
    names = {name: _Name(n_rows, blank=_BLANK.get(name)) for name in (*NAMES, *IDENTITIES)}
    numbers: dict[str, npt.NDArray[Any]] = {name: np.empty(n_rows, kind) for name, kind in _NUMBERS.items()}
    numbers |= {name: np.full(n_rows, np.nan, kind) for name, kind in _DERIVED.items()}
    numbers["n_classes"] = np.zeros(n_rows, np.int16)
    scores: list[pa.Array] = []
    start = 0
    for batch in batches:
        rows = slice(start, start + len(batch))
        start += len(batch)
        for name, column in names.items():
            column.put(rows, batch[name])
        for name, kind in _NUMBERS.items():
            numbers[name][rows] = _numbers(batch[name], kind)
        mine = {name: column[rows] for name, column in numbers.items()}  # views
        scores.append(_judge(batch, _check(batch), mine))
    _tell_apart(names, numbers["seed"])
    columns: dict[str, Any] = {"cluster": _clusters(names["patient_id"], names["case_id"])}
    columns |= {name: names.pop(name).finish() for name in NAMES}
    columns |= numbers
    columns["scores"] = pd.arrays.ArrowExtensionArray(pa.chunked_array(scores, SCORES))
    return pd.DataFrame(columns, copy=False)


# --- what a row decides --------------------------------------------------------------------------------------


def _judge(batch: pa.RecordBatch, ok: npt.NDArray[np.bool_], columns: dict[str, npt.NDArray[Any]]) -> pa.Array:
    """Fill the columns that stand for the lists of a batch, and return its column `scores`."""
    answers = batch.filter(pa.array(ok))
    sizes = answers["logits"].value_lengths().to_numpy(zero_copy_only=False)
    others = answers["probabilities"].value_lengths().to_numpy(zero_copy_only=False)
    _refuse(int((sizes != others).sum()), "logits and probabilities of different lengths")
    _refuse(int((sizes < 2).sum()), "logits of fewer than two classes")
    place = np.flatnonzero(ok)
    columns["n_classes"][place] = sizes
    kept: list[Any] = [None] * len(batch) if (sizes > 2).any() else []
    for size in np.unique(sizes):
        which = sizes == size
        part, rows = answers.filter(pa.array(which)), place[which]
        logits, probabilities = (_flat(part[name], size) for name in ("logits", "probabilities"))
        found = _scored(logits, probabilities, rows, columns)
        if size > 2:
            for row, values in zip(rows, found.astype(np.float32), strict=True):
                kept[row] = values
    return pa.array(kept, SCORES) if kept else pa.nulls(len(batch), SCORES)


def _scored(
    logits: FloatArray, probabilities: FloatArray, rows: npt.NDArray[np.int64], columns: dict[str, npt.NDArray[Any]]
) -> FloatArray:
    """Fill the columns of `rows`, whose `logits` and `probabilities` are (rows, classes); return each class's score."""
    n, n_classes = logits.shape
    label, positive = columns["label"][rows], columns["positive"][rows]
    for name, values in (("label", label), ("predicted", columns["predicted"][rows])):
        _refuse(int(((values < 0) | (values >= n_classes)).sum()), f"a {name} that is no class of {n_classes}")
    if n_classes == 2:
        positive = np.where(positive < 0, 1, positive)
        columns["positive"][rows] = positive
    _refuse(int((positive >= n_classes).sum()), f"a positive class that is none of {n_classes}")
    each = np.arange(n)
    others = np.where(np.arange(n_classes) == label[:, None], -np.inf, logits)
    columns["margin"][rows] = logits[each, label] - others.max(axis=1)
    scores = one_against_rest(logits) if n_classes > 2 else logits - logits[:, ::-1]
    known = positive >= 0
    columns["score"][rows[known]] = scores[each[known], positive[known]]
    columns["probability"][rows[known]] = probabilities[each[known], positive[known]]
    columns["truth"][rows] = probabilities[each, label]
    if n_classes == 2:  # as it always was, to the last bit
        negative = label != positive
        columns["truth"][rows[negative]] = 1 - columns["probability"][rows[negative]]
    return scores


def _flat(lists: pa.Array, size: int) -> FloatArray:
    """Return lists of `size` numbers each as (rows, size)."""
    flat: FloatArray = lists.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
    return flat.reshape(-1, size)


# --- two classifiers of one name -----------------------------------------------------------------------------


def _tell_apart(names: dict[str, _Name], seed: npt.NDArray[Any]) -> None:
    """Give classifiers their own names where several of one cohort, protocol, seed and defence share a model's.

    So no two are pooled by whoever takes the model for their name. `made_on`, and a preset that says what it was made
    on, follow where the row tells the maker.
    """
    keys = [names[name].codes for name in ("cohort", "protocol", "defence", "model")]
    shared: dict[str, set[str]] = {}  # by classifier's name: models that stand for several
    models, classifiers = list(names["model"].known), list(names["classifier"].known)
    trials = np.unique(np.stack([seed, *keys, names["classifier"].codes], axis=1), axis=0)  # (n, 6)
    trials = trials[trials[:, -1] >= 0]
    _, inverse, counts = np.unique(trials[:, :-1], axis=0, return_inverse=True, return_counts=True)
    for *trial, classifier in trials[counts[inverse.ravel()] > 1].tolist():
        shared.setdefault(classifiers[classifier], set()).add(models[trial[-1]])
    for classifier, of_models in shared.items():
        for model in of_models:
            _name_after(names, model, classifier)


def _name_after(names: dict[str, _Name], model: str, classifier: str) -> None:
    """Call the rows of a `model` that are of `classifier`, or were made on it, by the classifier's name."""
    shown = classifier if classifier.startswith(model) else f"{model} {classifier}"

    def are(column: str, name: str) -> npt.NDArray[np.bool_]:
        return np.asarray(names[column].codes == names[column].known.get(name, -2))

    names["model"].rename(are("model", model) & are("classifier", classifier), shown)
    moved = are("made_on", model) & are("maker", classifier)
    if not moved.any():
        return
    names["made_on"].rename(moved, shown)
    for preset in list(names["preset"].known):
        which = moved & are("preset", preset)
        if which.any() and preset.endswith(f" from {model}"):
            names["preset"].rename(which, f"{preset.removesuffix(model)}{shown}")


# --- what is refused -----------------------------------------------------------------------------------------

_ALWAYS = ("cohort", "protocol", "case_id", "model", "preset", "status")
_ANSWERED = ("storage", "label", "on_grid", "predicted", "correct", "logits", "probabilities")


def _check(batch: pa.RecordBatch) -> npt.NDArray[np.bool_]:
    """Return which rows are answers, or raise DosimeterError if a row is not what a sweep writes."""
    for name in _ALWAYS:
        _refuse(batch[name].null_count, f"no {name}")
    status = batch["status"].cast(pa.string()).to_numpy(zero_copy_only=False)
    ok: npt.NDArray[np.bool_] = status == "ok"
    answers = batch.filter(pa.array(ok))
    for name in _ANSWERED:
        _refuse(answers[name].null_count, f"no {name}")
    changed = answers["unit"].is_valid().to_numpy(zero_copy_only=False)
    doses = {name: answers[name].to_numpy(zero_copy_only=False).astype(np.float64) for name in ("epsilon", "severity")}
    _refuse(int(np.isnan(doses["epsilon"][~changed]).sum()), "no epsilon")
    _refuse(int((~np.isfinite(doses["severity"][changed])).sum()), "no severity")
    probabilities = answers["probabilities"].flatten().to_numpy(zero_copy_only=False)
    for name, values in (("epsilon", doses["epsilon"][~changed]), ("probabilities", probabilities)):
        within = (values >= 0) & (values <= 1)  # False for NaN
        _refuse(int((~within).sum()), f"{name} outside [0, 1]")
    _refuse(int((~np.isfinite(answers["logits"].flatten().to_numpy(zero_copy_only=False))).sum()), "logits not finite")
    return ok


def _refuse(n: int, what: str) -> None:
    if n:
        raise DosimeterError(
            f"a response table must hold answers as a sweep writes them, but {n} of its values are wrong: {what}. The "
            "table is damaged; run the study again."
        )


def completed(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch of an older table with the columns that it lacks, all null, and numbers as wide as today's."""
    there = {name: batch[name] for name in batch.schema.names}
    columns = {}
    for field in COMPACT:
        is_name = field.name in (*NAMES, *IDENTITIES)
        column = there.get(field.name, pa.nulls(len(batch), pa.string() if is_name else field.type))
        columns[field.name] = column if is_name else column.cast(field.type)
    return pa.RecordBatch.from_pydict(columns)


def _numbers(column: pa.Array, kind: type[np.generic]) -> npt.NDArray[Any]:
    """Return numbers of `kind`, with -1, False or NaN where there is none."""
    if issubclass(kind, np.floating):
        floats = column.cast(pa.int8()) if pa.types.is_boolean(column.type) else column
        return np.asarray(floats.cast(pa.float64()).to_numpy(zero_copy_only=False), kind)
    blank = False if kind is np.bool_ else -1
    return np.asarray(column.fill_null(blank).to_numpy(zero_copy_only=False))


def _clusters(patients: _Name, cases: _Name) -> "pd.Categorical[str]":
    unknown = patients.codes < 0
    if not unknown.any():
        return patients.finish()
    both = dict.fromkeys([*patients.known, *cases.known])
    place = {name: index for index, name in enumerate(both)}
    of_case = np.array([*(place[name] for name in cases.known), -1], np.int32)
    return _categorical(np.where(unknown, of_case[cases.codes], patients.codes), list(both))


def _categorical(codes: _Codes, names: list[str]) -> "pd.Categorical[str]":
    """Return a categorical with its categories in alphabetical order, so that sorting rows sorts names."""
    ordered = sorted(range(len(names)), key=names.__getitem__)
    rank = np.full(len(names) + 1, -1, np.int32)
    rank[ordered] = np.arange(len(names))
    return pd.Categorical.from_codes(rank[codes], pd.Index([names[place] for place in ordered], dtype=str))
