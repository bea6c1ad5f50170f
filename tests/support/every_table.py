"""Runs that between them have every table of the report: many attacks, files, seeds, classes, findings, defences."""

from typing import Any

import numpy as np
import pandas as pd
from response_factory import class_row, make_responses, response_row

from dosimeter.record.table import Responses, to_frame

DOSES = (0.0, 7e-4, 3e-3, 9e-3, 0.08)
"""Epsilons at which SSIM is measured, too."""

MODELS = ("vgg16", "inception_v3")
CLASSES = ("clear", "pneumonia of unknown cause", "COVID-19", "effusion")
FINDINGS = ("opacity", "effusion")
DEFENDED = "vgg16 + median"
AUDIT = {
    "cohort": "xray-268", "protocol": "paper", "seed": 0,
    "checks": [
        {"id": "letters", "title": "Letters in a corner", "level": "warn",
         "measured": "In 61 % of the images of one class there are letters in a corner, in 4 % of the other's.",
         "rule": "at most 20 points apart", "source": "none", "remedy": "crop", "numbers": {}, "cases": []}
    ],
    "probes": [
        {"name": "grey levels of the border", "target": "COVID-19", "n": 120, "n_groups": 60, "auc": 0.81, "low": 0.7,
         "high": 0.9, "permuted": 0.5}
    ],
    "pairs": [
        {"cases": ["00001-00000000", "00002-00000000"], "labels": [0, 1], "sides": ["train", "test"],
         "one_patient": None, "whole": 0.99, "detail": 0.98}
    ],
    "subgroups": [{"fact": "sex", "value": "female", "counts": {"other": 30, "COVID-19": 20}}],
}  # fmt: skip


def _made(**changes: Any) -> Responses:
    return make_responses(
        **{"cohorts": {"xray-268": "xray"}, "exemplars": False, "refine": False, "epsilons": DOSES, **changes}
    )


def attacked() -> Responses:
    """Two classifiers, several attacks, visibility, files, two subgroups of twelve, and an audit of the images."""
    run = _made(attacks=("pgd", "random_sign"), transfers=("pgd",), presets=("sound",), visibility=True)
    cases = sorted(set(run.frame.loc[run.frame["status"] == "ok", "case_id"]))
    run.meta["data_audits"] = [AUDIT]
    halves = {"female": cases[: len(cases) // 2], "male": cases[len(cases) // 2 :]}
    run.meta["cohorts"][0]["subgroups"] = {"sex": halves}
    return run


def stored() -> Responses:
    """One attack beside FGSM, whose images were saved."""
    return _made(attacks=("pgd",), presets=("sound",), models=("vgg16",))


def repeated() -> Responses:
    """Three seeds."""
    return _made(repeats=3, models=("vgg16",), presets=("sound",), attacks=("pgd",))


def of_classes() -> Responses:
    """Four classes: of each ten images, which become the next class one after another."""
    rng = np.random.default_rng(0)
    rows = []
    for model in MODELS:
        for image in range(40):
            label, clean, slope = image % 4, rng.uniform(0.5, 3), rng.uniform(300, 700)
            for epsilon in DOSES:
                logits = rng.normal(0, 0.1, 4)
                logits[label] = clean
                logits[(label + 1) % 4] = slope * epsilon
                rows.append(
                    class_row(logits.tolist(), label, case_id=f"{image:05d}", epsilon=epsilon, model=model,
                              preset="pgd", attack="pgd", linf=epsilon)
                )  # fmt: skip
    counts = dict.fromkeys(CLASSES, 10)
    run = _made(models=MODELS, n_cases=40)
    card = run.meta["cohorts"][0] | {"classes": list(CLASSES), "counts": counts, "test_counts": counts}
    return Responses(to_frame(rows), run.meta | {"cohorts": [card | {"train_counts": counts}]})


def of_findings() -> Responses:
    """Two findings: each has twelve images with it and twelve without."""
    rng = np.random.default_rng(1)
    rows = []
    for finding in FINDINGS:
        for image in range(24):
            label, clean, slope = image % 2, rng.uniform(-0.5, 3), rng.uniform(300, 700)
            for epsilon in DOSES:
                margin = clean - slope * epsilon
                rows.append(
                    response_row(case_id=f"{image:05d}", patient_id=f"p{image // 2}", decision=finding, label=label,
                                 probability=float(1 / (1 + np.exp(-margin if label else margin))), epsilon=epsilon,
                                 preset="pgd", attack="pgd", linf=epsilon)
                )  # fmt: skip
    run = _made(models=("vgg16",))
    sides = {side: {"present": 12, "absent": 12, "unknown": 0} for side in ("all", "train", "test")}
    card = run.meta["cohorts"][0] | {
        "classes": ["no finding", "any finding"], "finding_counts": dict.fromkeys(FINDINGS, sides)
    }  # fmt: skip
    return Responses(to_frame(rows), run.meta | {"cohorts": [card]})


def defended() -> Responses:
    """A classifier, and the same with a detector that refuses some images."""
    run = _made(models=(*MODELS,), attacks=("pgd",), presets=("sound",), transfers=("pgd",))
    frame = run.frame.copy()
    for column in ("model", "made_on", "preset"):
        renamed = frame[column].astype(object)
        frame[column] = renamed.where(
            renamed.isna(), renamed.astype(str).str.replace("inception_v3", DEFENDED, regex=False)
        )
    mine = (frame["model"] == DEFENDED) & (frame["status"] == "ok")
    frame.loc[mine, "defence"] = "median"
    alarm = np.random.default_rng(2).normal(-1, 0.5, len(frame)) + 100 * frame["epsilon"].fillna(0).to_numpy()
    frame["alarm"] = np.where(mine, alarm, np.nan)
    refused = frame["alarm"] > 0
    frame["abstained"] = refused.astype(object).where(mine, None)
    frame.loc[mine & refused, "correct"] = False
    for card in run.meta["classifiers"]:
        card["model"] = card["model"].replace("inception_v3", DEFENDED)
    return Responses(frame, run.meta)


def everyday() -> Responses:
    """A classifier under one attack, and under two physical changes of which one leaves most of its answers."""
    run = _made(models=("vgg16",), presets=("sound",), visibility=True, n_cases=20)
    shared = {"model": "vgg16", "classifier": run.frame["classifier"].iloc[0], "loss": "none", "norm": "none"}
    rows = []
    for change, unit, wrong_from in (
        ("dose_fraction", "of the dose", {1.0: 2, 0.5: 4, 0.25: 14, 0.1: 18}),
        ("rotation", "degrees", {0.0: 2, -5.0: 3, -10.0: 5}),
    ):
        for place, (severity, n_wrong) in enumerate(wrong_from.items()):
            for case in range(20):
                right = 0.9 if case >= n_wrong else 0.1
                rows.append(
                    response_row(
                        **shared, case_id=f"{case:05d}-00000000", patient_id=f"p{case}", label=case % 2, epsilon=None,
                        severity=severity, unit=unit, preset=change, attack=change, unchanged=not place,
                        probability=right if case % 2 else 1 - right, jnd_p95=4.0 * place, linf=0.01 * place,
                    )
                )  # fmt: skip
    frame = pd.concat([run.frame, to_frame(rows)], ignore_index=True)
    told = [
        {"name": "dose_fraction", "title": "dose fraction", "unit": "of the dose", "severities": [1.0, 0.5, 0.25, 0.1]},
        {"name": "rotation", "title": "rotation", "unit": "degrees", "severities": [0.0, -5.0, -10.0]},
    ]
    kinds = run.meta.get("kinds", {}) | {"changes": told}
    return Responses(frame, run.meta | {"kinds": kinds})


EVERY = {made.__name__: made for made in (attacked, stored, repeated, of_classes, of_findings, defended, everyday)}
