"""The accuracy table beside another series over the same images: `accuracy_table(responses, against=...)`."""

from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd

from dosimeter.analysis.base import APART, CURVE, answered, groups
from dosimeter.analysis.curves import fgsm_accuracy
from dosimeter.analysis.paired import NUMBERS, PAIRABLE, Curves, Series
from dosimeter.errors import DosimeterError, did_you_mean
from dosimeter.record.compact import quick_text
from dosimeter.record.table import Responses

NAMED = ("model", "preset", "storage", "seed")
"""What `against` may be the name of; a seed is written "seed 1"."""

COLUMNS = [
    *("against", "n_common", "difference", "difference_low", "difference_high"),
    *("p_mcnemar", "p_patient", "p_holm", "method"),
]
"""What stands beside the accuracies."""

_KEYS = [*CURVE, *APART, "epsilon"]


@quick_text()
def accuracy_table(responses: Responses, *, against: str | Responses | pd.DataFrame | None = None) -> pd.DataFrame:
    """Return accuracy with its interval at every epsilon; see `curves.fgsm_accuracy`.

    Args:
        responses: a run's, or what `sweep` returned.
        against: compare every series with another over the same images, image by image. The name of a model, a preset
            or a storage of `responses` (or "seed 1"), or a second table of responses.

    Returns:
        With `against` also n_common, the images that both answered; difference, this accuracy less the other, with its
        95 % bounds difference_low and difference_high; p_mcnemar, of the exact McNemar test, which takes images as
        independent; p_patient, of exact sign flips by patient, the one to take where a patient has several images;
        p_holm, p_patient adjusted for the epsilons of the curve; method; against. See `paired.compare`.

    Raises:
        DosimeterError: `against` is no such name, is all there is, or has no image in common.
    """
    table = fgsm_accuracy(responses.frame)
    return table if against is None else with_differences(table, responses.frame, against)


def with_differences(table: pd.DataFrame, frame: pd.DataFrame, against: object) -> pd.DataFrame:
    """Return an accuracy table with each row's difference to another series over the same images.

    Args:
        table: as `curves.fgsm_accuracy` returns it for `frame`.
        frame: a response table.
        against: the name of one of its models, presets or storages, or "seed 1": every series is compared with the one
            that has this instead, and else the same names. Or a second response table: every series is compared with
            that of the same names there; a model, seed or protocol that it has alone stands for any other.

    Returns:
        `table` with the columns of `COLUMNS`, empty for the reference itself and where it has no counterpart.

    Raises:
        DosimeterError: `against` is no such name, is all there is, or has no image in common.
    """
    rows = _on_grid(frame)
    if isinstance(against, str):
        found = list(_named(rows, against))
    elif isinstance(against, Responses | pd.DataFrame):
        found = list(_other(rows, _on_grid(against.frame if isinstance(against, Responses) else against)))
    else:
        raise DosimeterError(
            f"against must be a name of these responses or a second table of responses, got {against!r}. "
            f"{did_you_mean('', _names(rows))}"
        )
    if not found:
        raise DosimeterError(
            f"against must share images, epsilons, presets and storages with the responses, {_short(against)} shares "
            "none. Sweep the same cohort with the same split, epsilons and attack."
        )
    keys = [name for name in _KEYS if name in table]
    differences = pd.concat(found, ignore_index=True)[[*keys, *COLUMNS]]
    return table.merge(differences.astype({"n_common": "Int64"}), on=keys, how="left")


def differences(frame: pd.DataFrame, against: pd.DataFrame) -> pd.DataFrame:
    """Return every series of a response table compared with its counterpart in another, at each epsilon that both have.

    Args:
        frame: a response table.
        against: another; a model, seed or protocol that it has alone stands for any other.

    Returns:
        The names of the series, `against` (what the counterpart has instead, or "the same names"), and the columns
        `paired.NUMBERS`: accuracies are of the shared images alone. No row where nothing is shared.

    Raises:
        DosimeterError: it has several models, seeds or protocols, and none is the series' own.
    """
    found = list(_other(_on_grid(frame), _on_grid(against)))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=[*_KEYS, *COLUMNS])


def physical_differences(physical: pd.DataFrame, against: pd.DataFrame) -> pd.DataFrame:
    """Return what `differences` does, of physical changes: at each severity that both runs have of a change.

    Args:
        physical: rows of physical changes, compact.
        against: another run's.

    Returns:
        `change`, `severity` and `unit` stand in place of preset and epsilon; p_holm is adjusted for the severities of
        a change.
    """
    others = dict(iter(against.groupby(["preset", "unit"], observed=True)))
    found = [
        table.assign(unit=str(unit))
        for (change, unit), rows in physical.groupby(["preset", "unit"], observed=True)
        if (change, unit) in others
        for table in _other(_of_severities(rows), _of_severities(others[change, unit]))
    ]
    table = (
        pd.concat(found, ignore_index=True)
        if found
        else pd.DataFrame(columns=[*_KEYS, "modality", "against", *NUMBERS, "unit"])
    )
    return table.rename(columns={"preset": "change", "epsilon": "severity"})


def _of_severities(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the answers to one physical change with the severity where a curve has its epsilon."""
    answers = rows[rows["status"] == "ok"]
    return answers.assign(epsilon=answers["severity"])


def _named(rows: pd.DataFrame, name: str) -> Iterator[pd.DataFrame]:
    names = _names(rows)
    if name not in names:
        raise DosimeterError(f"against '{name}' is no model, preset or storage here. {did_you_mean(name, names)}")
    column = names[name]
    if len(rows[column].unique()) < 2:
        raise DosimeterError(
            f"against '{name}' is the only {column} of these responses, so there is nothing to compare it with. Pass a "
            "second table of responses."
        )
    wanted: Any = int(name.removeprefix("seed ")) if column == "seed" else name
    for trial, mine in groups(rows, PAIRABLE):
        curves = Curves(mine)
        for series in curves.roles:
            other = series._replace(**{column: wanted})
            if other != series and other in curves.roles:
                yield from _found(trial, series, name, curves.compared(series, other))


def _other(rows: pd.DataFrame, other: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Compare every series with its counterpart in another table."""
    for trial, mine in groups(rows, PAIRABLE):
        there = other[(other["cohort"] == trial["cohort"]) & (other["decision"] == trial["decision"])]
        for name in ("protocol", "defence"):
            there = there[there[name] == _counterpart(trial[name], there[name].unique(), name)]
        curves = Curves(mine)
        second = Curves(there, like=curves)
        alone = {name: len({getattr(each, name) for each in curves.roles}) < 2 for name in ("preset", "storage")}
        for series in curves.roles:
            twin = _twin(series, list(second.roles), alone)
            if twin is not None:
                name = " ".join(str(value) for value in twin if value not in series) or "the same names"
                yield from _found(trial, series, name, curves.compared(series, twin, of=second))


def _twin(series: Series, others: list[Series], alone: dict[str, bool]) -> Series | None:
    """Return the one of `others` that a series is to be compared with, None if there is none."""
    for name in ("preset", "storage"):
        wanted = getattr(series, name)
        known = {getattr(each, name) for each in others}
        if wanted not in known and not (alone[name] and len(known) == 1):
            return None
        others = [each for each in others if wanted not in known or getattr(each, name) == wanted]
    for name in ("model", "seed"):
        wanted = _counterpart(getattr(series, name), {getattr(each, name) for each in others}, name)
        others = [each for each in others if getattr(each, name) == wanted]
    return others[0] if others else None


def _counterpart(wanted: Any, known: Iterable[Any], what: str) -> Any:
    """Return what stands for `wanted` among `known`: itself, or the only one."""
    names = sorted(known)
    if wanted in names or not names:
        return wanted
    if len(names) > 1:
        raise DosimeterError(
            f"against must have the {what} {wanted}, or one {what} alone, got {', '.join(map(str, names))}. "
            f"Pass the rows of one {what}."
        )
    return names[0]


def _found(trial: dict[str, Any], series: Series, against: str, table: pd.DataFrame) -> Iterator[pd.DataFrame]:
    if len(table):
        yield table.assign(**trial, **series._asdict(), against=against)


def _names(rows: pd.DataFrame) -> dict[str, str]:
    """Return what `against` may be, and the column that each name is of."""
    seeds = {f"seed {seed}": "seed" for seed in sorted(rows["seed"].unique())} if len(rows["seed"].unique()) > 1 else {}
    return seeds | {str(name): column for column in reversed(NAMED[:-1]) for name in rows[column].unique()}


def _on_grid(frame: pd.DataFrame) -> pd.DataFrame:
    rows = answered(frame)
    return rows[rows["on_grid"]]


def _short(against: object) -> str:
    return f"'{against}'" if isinstance(against, str) else "this table"
