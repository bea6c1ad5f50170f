"""The verdict: a run in a few sentences, each with its numbers."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from dosimeter.analysis.base import TRIAL
from dosimeter.analysis.evaluation import evaluation_name, overall
from dosimeter.analysis.names import WORST_CASE, model_name
from dosimeter.analysis.repeats import COLUMNS, first_repeat, in_words, seeds
from dosimeter.analysis.visibility import reader_statement
from dosimeter.analysis.wording import (
    HALF_GREY_LEVEL,
    TO_A_STEP,
    attacked_accuracy,
    clean_accuracy,
    curve,
    in_run_order,
    mark,
    n_images,
    percent,
    point,
    records,
    unmet,
)
from dosimeter.record.table import Responses

SMALL = 0.001  # a quarter of a grey level of an 8-bit file
SAFE = 0.009  # the dose that the paper calls safe for the attacker in X-rays


def verdict(responses: Responses, tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """Return what a run shows: accuracy without attack, the dose that breaks it, the worst attack, storage, limits.

    The worst attack is there if the run has several.

    Of several seeds it speaks of the first, with the mean and its interval over splits beside the main numbers.

    Args:
        responses: the run's table and meta.
        tables: as `report.build.build_tables` returns them.
    """
    every = seeds(responses)
    responses, tables = first_repeat(responses, tables)
    curves = in_run_order(tables["fgsm_accuracy"], responses.meta)
    repeats = tables.get("repeats", pd.DataFrame(columns=COLUMNS))
    sentences = [
        _evaluations(tables["evaluation"], responses.meta) if "evaluation" in tables else "",
        _unattacked(in_run_order(tables["clean_metrics"], responses.meta), repeats),
        _breaking_dose(in_run_order(tables["epsilon50"], responses.meta), repeats),
        _worst_attack(in_run_order(tables["robust_accuracy"], responses.meta)) if "robust_accuracy" in tables else "",
        _as_published(curves, repeats),
        _stored(curves),
        " ".join(_limits(responses.meta, every)),
    ]
    return [sentence for sentence in sentences if sentence]


def _evaluations(checks: pd.DataFrame, meta: Mapping[str, Any]) -> str:
    """Return which evaluations must not be quoted, or only with care; "" if all passed."""
    judged = in_run_order(overall(checks), meta)
    parts = []
    for verdict, meaning in (("UNRELIABLE", "must not be quoted"), ("CAUTION", "to be read with care")):
        named = [
            f"{model_name(row['model'])} on {_where((row['cohort'], row['protocol']))}, "
            f"{evaluation_name(row['preset'], judged['preset'])} ({unmet(row['because'])})"
            for row in records(judged[judged["verdict"] == verdict])
        ]
        if named:
            parts.append(f"{verdict}, {meaning}: {'; '.join(named)}.")
    if not parts:
        return ""
    return f"Numbers under attack of these evaluations are marked wherever they stand. {' '.join(parts)}"


def _unattacked(clean: pd.DataFrame, repeats: pd.DataFrame) -> str:
    without = repeats[(repeats["quantity"] == "accuracy") & repeats["preset"].isna()]
    parts = []
    for trial, rows in clean.groupby(TRIAL, sort=False):
        names = (f"{model_name(row['model'])} {clean_accuracy(row)}{in_words(without, row)}" for row in records(rows))
        parts.append(f"{_where(trial)}: " + ", ".join(names))
    if not parts:
        return ""
    return f"Without attack this share of test images is classified correctly: {'; '.join(parts)}."


def _breaking_dose(table: pd.DataFrame, repeats: pd.DataFrame) -> str:
    table = table[(table["storage"] == "float") & (table["n"] > 0)]
    presets = [preset for preset in ("sound", "paper") if (table["preset"] == preset).any()]
    if not presets:
        return ""
    medians = repeats[repeats["quantity"] == "epsilon50"]
    parts = []
    for trial, rows in table[table["preset"] == presets[0]].groupby(TRIAL, sort=False):
        ordered = sorted(records(rows), key=lambda row: (bool(row["censored"]), row["epsilon50"]))
        names = (f"{model_name(row['model'])} {_dose(row)}{in_words(medians, row)}" for row in ordered)
        parts.append(f"{_where(trial)}: " + ", ".join(names))
    order = ", the most fragile network first" if len(set(table["model"])) > 1 else ""
    return (
        f"One step of FGSM ({presets[0]} preset) changes the answer of half of the correctly classified images at this "
        f"epsilon (an 8-bit file has 255 grey levels){order}: {'; '.join(parts)}."
    )


def _dose(row: Mapping[str, Any]) -> str:
    if row["censored"]:
        return f"above {row['epsilon_max']:.3g}{mark(row)}"
    high = "beyond the largest asked" if row["high_censored"] else f"{row['epsilon50_high']:.2g}"
    step = f"{TO_A_STEP}, " if row.get("grid_step") else ""
    interval = "" if pd.isna(row["epsilon50_low"]) else f"{row['epsilon50_low']:.2g} to {high}, {step}"
    return f"{row['epsilon50']:.2g}, {row['grey_levels']:.2f} grey levels ({interval}n = {row['n']}){mark(row)}"


def _worst_attack(table: pd.DataFrame) -> str:
    table = table[table["storage"] == "float"]
    worst = table[(table["preset"] == WORST_CASE) & (table["epsilon"] > 0)]
    if worst.empty:
        return ""
    dose = min(worst["epsilon"].unique(), key=lambda epsilon: abs(epsilon - SMALL))
    parts = []
    for trial, rows in worst[worst["epsilon"] == dose].groupby(TRIAL, sort=False):
        names = (f"{model_name(row['model'])} {attacked_accuracy(row)}" for row in records(rows))
        parts.append(f"{_where(trial)}: " + ", ".join(names))
    n_attacks = table.loc[table["role"] == "attack", "preset"].nunique()
    return (
        f"If of {n_attacks} attacks the one is taken that breaks each image first, this share is still classified "
        f"correctly at epsilon {dose:g}: {'; '.join(parts)}."
    )


def _as_published(curves: pd.DataFrame, repeats: pd.DataFrame) -> str:
    means = repeats[(repeats["quantity"] == "accuracy") & (repeats["epsilon"] == SAFE)]
    parts = []
    for (cohort, protocol, model), rows in curves.groupby([*TRIAL, "model"], sort=False):
        paper, sound = curve(rows, "paper"), curve(rows, "sound")
        if SAFE in paper.index and SAFE in sound.index:
            published, sounder = point(paper, SAFE), point(sound, SAFE)
            over, sound_over = in_words(means, published), in_words(means, sounder)
            zero = float(published["grad_zero_share"])
            why = f", {percent(zero)} of the gradients being exactly zero" if zero > 0 else ""
            parts.append(
                f"{model_name(model)} on {_where((cohort, protocol))} {attacked_accuracy(published)}{over}{why}, "
                f"against {attacked_accuracy(sounder)}{sound_over}"
            )
    if not parts:
        return ""
    return (
        f"Accuracy at epsilon {SAFE} under the paper preset (the published loss, planes that move apart) is, against "
        f"that under the sound one (a loss that does not vanish, planes that move together): {'; '.join(parts)}."
    )


def _stored(curves: pd.DataFrame) -> str:
    stored = curves[(curves["preset"] == "sound") & (curves["storage"] == "png8")]
    small = stored[(stored["epsilon"] > 0) & (stored["epsilon"] < HALF_GREY_LEVEL)]
    if small.empty:
        return ""
    unchanged = _unchanged(small)
    after = ""
    safe = stored[stored["epsilon"] == SAFE]
    if len(safe) and (survive := 1 - _unchanged(safe)) > 0:
        best = max(records(safe), key=lambda row: row["accuracy"])
        where = f"{model_name(best['model'])} on {_where((best['cohort'], best['protocol']))}"
        after = (
            f" At {SAFE} the file keeps {percent(survive)} of the perturbations, and "
            f"{'the highest accuracy left' if len(safe) > 1 else 'the accuracy left'} is {attacked_accuracy(best)}, "
            f"{where}."
        )
    return (
        f"Saved as an 8-bit file, {percent(unchanged)} of the images perturbed by less than half a grey level "
        f"(epsilon {HALF_GREY_LEVEL:.5f}) are the originals again, pixel by pixel.{after}"
    )


def _unchanged(curves: pd.DataFrame) -> float:
    return float((curves["unchanged_share"] * curves["n"]).sum() / curves["n"].sum())


def _limits(meta: Mapping[str, Any], every: list[int]) -> Iterator[str]:
    if len(every) > 1:
        yield f"Where nothing else is said, numbers are of seed {every[0]}, the first of {len(every)}."
    config = meta.get("config", {})
    if config.get("target"):
        yield f"Attacks were to have images answered as {config['target']}; images of that class were not attacked."
    if config.get("mask"):
        yield "Only pixels inside a mask were attacked."
    if meta.get("phantom"):
        yield "Phantom images are among these: such numbers show that the instrument works, nothing of patients."
    stand_ins = {model_name(card["model"]) for card in meta.get("classifiers", []) if card["weights"]["stand_in"]}
    if stand_ins:
        names = ", ".join(sorted(stand_ins))
        yield f"{names} ran on stand-in weights, not on the ImageNet weights that the method asks for."
    for trial in meta.get("cohorts", []):
        if shared := trial.get("n_test_sharing_patient"):
            yield (
                f"In {_where((trial['cohort'], trial['protocol']))} {shared} of {n_images(trial['n_test'], 'test')} "
                f"show{'s' if shared == 1 else ''} a patient who is also in training."
            )
    if meta.get("incomplete"):
        yield f"The run is incomplete: {' '.join(meta['incomplete'])}"
    yield reader_statement(meta)


def _where(trial: Any) -> str:
    cohort, protocol = trial
    return f"{cohort} ({protocol} protocol)"
