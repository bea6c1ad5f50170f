"""Synthetic response tables whose every number follows from a closed form.

The margin of a case (logit of its class minus the other) falls linearly with the realised dose:

    margin(epsilon) = clean - gain * slope * dose(epsilon) + rebound * max(0, dose(epsilon) - 0.02)

where the gain is 1.3 for free channels and 1 for tied ones; the dose is epsilon for `float`, epsilon rounded
to 8-bit grey levels for `png8`, and 0 for the cases of Inception-v3 whose gradient is exactly zero under the
`paper` preset.
"""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from dosimeter.record.table import SCHEMA, VISIBILITY, Responses, merge_parts, to_frame
from dosimeter.study.settings import VISIBILITY_EPSILONS

EPSILONS = (
    *(0.0, 1e-4, 3e-4, 5e-4, 7e-4, 9e-4, 1e-3, 2e-3, 3e-3, 4e-3, 5e-3, 6e-3, 7e-3, 8e-3, 9e-3, 0.01),
    *(0.07, 0.08, 0.09),
)
COHORTS = {"xray-268": "xray", "covid-ct": "ct"}
MODELS = ("vgg16", "inception_v3")
CLASSES = ("other", "COVID-19")
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"loss": "keras_bce", "channels": "free", "storages": ("float",)},
    "sound": {"loss": "margin", "channels": "tied", "storages": ("float", "png8")},
}


class FakeAttack(NamedTuple):
    """An attack beside the presets of the paper's study: how it compares with FGSM, and what it spends on an image."""

    strength: float  # of the slope that FGSM has on tied channels
    n_gradients: int
    n_queries: int
    loss: str = "margin"
    claims: bool = True  # whether it says that it succeeded, and stops there


ATTACKS = {
    "fgsm": FakeAttack(1.0, 1, 0, claims=False),
    "random_sign": FakeAttack(0.02, 0, 0, "none", claims=False),
    "uniform_noise": FakeAttack(0.01, 0, 0, "none", claims=False),
    "bim": FakeAttack(1.12, 40, 20),
    "pgd": FakeAttack(1.2, 80, 30),
    "mi_fgsm": FakeAttack(1.1, 40, 20),
    "apgd": FakeAttack(1.25, 200, 40),
    "stored_pgd": FakeAttack(1.18, 90, 40),
    "square": FakeAttack(0.7, 0, 900),
    "universal": FakeAttack(0.45, 0, 0, claims=False),
    "fmn": FakeAttack(1.22, 50, 1),
    "ddn": FakeAttack(0.9, 50, 1),
    "deepfool": FakeAttack(0.85, 12, 1),
    "carlini_wagner": FakeAttack(0.95, 150, 4),
    "hopskipjump": FakeAttack(0.5, 0, 5000, "none"),
}
TRANSFER_STRENGTH = 0.4
RESOLUTION = 1e-5
REBOUND_FROM = 0.02
FREE_GAIN = 1.3


class FakeCase(NamedTuple):
    """A case and how one classifier answers it."""

    case_id: str
    patient_id: str | None
    label: int
    clean: float  # margin at epsilon 0; negative: answered wrongly
    slope: float  # margin lost per unit of epsilon
    rebound: float  # margin regained per unit of epsilon beyond REBOUND_FROM
    saturated: bool  # its keras_bce gradient is exactly zero


class Setting(NamedTuple):
    """One group of rows: what the analyses group by."""

    cohort: str
    protocol: str
    model: str
    preset: str
    storage: str
    seed: int


def make_responses(
    *,
    cohorts: Mapping[str, str] = COHORTS,
    protocols: Sequence[str] = ("paper",),
    models: Sequence[str] = MODELS,
    presets: Sequence[str] = ("paper", "sound"),
    attacks: Sequence[str] = (),
    transfers: Sequence[str] = (),
    epsilons: Sequence[float] = EPSILONS,
    n_cases: int = 24,
    patients: bool = True,
    refine: bool = True,
    error_row: bool = True,
    exemplars: bool = True,
    phantom: bool = False,
    repeats: int = 1,
    visibility: bool = False,
) -> Responses:
    """Return a response table and its meta, the same for the same arguments; the repeats have the seeds 0, 1, ...

    `attacks` are names of `ATTACKS`, a preset each; the images of `transfers` are also shown to every other model.
    """
    rows: list[dict[str, Any]] = []
    chosen: list[dict[str, Any]] = []
    for cohort, protocol, model, seed in product(cohorts, protocols, models, range(repeats)):
        cases = _make_cases(cohort, protocol, model, n_cases, patients, seed)
        if seed:  # the same images, answered otherwise
            first = _make_cases(cohort, protocol, model, n_cases, patients, seed=0)
            cases = [case._replace(case_id=same.case_id) for case, same in zip(cases, first, strict=True)]
        moved = [f"{attack} from {source}" for attack in transfers for source in models if source != model]
        for preset in (*presets, *attacks, *moved):
            for storage in PRESETS.get(preset, {"storages": ("float",)})["storages"]:
                setting = Setting(cohort, protocol, model, preset, storage, seed)
                new = list(_case_rows(setting, cohorts[cohort], cases, epsilons, refine))
                rows += new
                if exemplars and storage == "float" and preset in PRESETS:
                    chosen += _make_exemplar(setting, new)
    if visibility:
        rows = [row | _visibility(row) for row in rows]
    if error_row and rows:
        rows.append(_error_row(rows[0]))
    pairs = list(product(cohorts, protocols, range(repeats)))
    meta = _make_meta(cohorts, pairs, models, n_cases, patients, phantom, chosen)
    if attacks:
        meta["attacks"] = [{"preset": name, "effort": "standard", "steps": 10, "name": name} for name in attacks]
    return Responses(to_frame(rows), meta)


def write_large_run(
    folder: Path, *, n_cases: int, epsilons: Sequence[float] = EPSILONS, images_per_patient: int = 2, part: int = 2500
) -> None:
    """Write parts and responses.parquet of one classifier under one preset in float storage, a million rows in seconds.

    The same closed form, without rebound; one case in ten is answered wrongly at epsilon 0. `part` is the number of
    cases in a part.
    """
    (folder / "parts").mkdir(parents=True)
    rng = np.random.default_rng(0)
    parts = []
    for start in range(0, n_cases, part):
        cases = np.arange(start, min(start + part, n_cases))
        parts.append(folder / "parts" / f"{start:08d}.parquet")
        pq.write_table(_large_part(cases, np.array(epsilons), images_per_patient, rng), parts[-1], compression="zstd")
    meta = _make_meta({"xray-268": "xray"}, [("xray-268", "paper", 0)], ("vgg16",), n_cases, True, False, [])
    merge_parts(parts, folder / "responses.parquet", meta)


def _large_part(cases: np.ndarray, epsilons: np.ndarray, per_patient: int, rng: np.random.Generator) -> pa.Table:
    n, n_rows = len(cases), len(cases) * len(epsilons)
    label = np.repeat(cases % 2, len(epsilons)).astype(np.int16)
    clean = rng.uniform(0.5, 3.0, (n, 1)) * np.where(rng.random((n, 1)) < 0.1, -1, 1)
    margin = (clean - rng.uniform(300, 700, (n, 1)) * epsilons).ravel()  # (n_rows,)
    half = np.where(label == 1, margin, -margin) / 2
    logits = np.stack([-half, half], axis=1).astype(np.float32)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float64)
    predicted = logits.argmax(axis=1).astype(np.int16)
    dose = np.tile(epsilons, n)
    names = {
        "case_id": [f"{case:06d}-{case * 2654435761 % 2**32:08x}" for case in cases],
        "patient_id": [f"p{case // per_patient:06d}" for case in cases],
    }
    place = pa.array(np.repeat(np.arange(n), len(epsilons)))
    ends = pa.array(np.arange(0, 2 * n_rows + 1, 2, dtype=np.int32))
    columns: dict[str, pa.Array] = {name: pa.array(values).take(place) for name, values in names.items()}
    columns["logits"] = pa.ListArray.from_arrays(ends, pa.array(logits.ravel()))
    columns["probabilities"] = pa.ListArray.from_arrays(ends, pa.array((odds / odds.sum(axis=1)[:, None]).ravel()))
    numbers = {"label": label, "epsilon": dose, "linf": dose, "l2": dose * 388, "clipped_fraction": dose}
    numbers |= {"unchanged": dose == 0, "predicted": predicted, "correct": predicted == label}
    columns |= {name: pa.array(values) for name, values in numbers.items()}
    usual = response_row()
    for field in SCHEMA:
        columns.setdefault(field.name, pa.repeat(pa.scalar(usual[field.name], field.type), n_rows))
    return pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def response_row(**columns: Any) -> dict[str, Any]:
    """Return one valid row; `probability` is that of class 1, `columns` override any column."""
    probability = columns.pop("probability", 0.9)
    label = columns.get("label", 1)
    predicted = int(probability > 0.5)
    row = {
        "run_id": "run", "cell_id": "cell", "cohort": "xray-268", "modality": "xray", "protocol": "paper",
        "case_id": "00000-00000000", "patient_id": None, "split": "test", "decision": "", "label": label,
        "positive": None, "model": "vgg16",
        "classifier": "vgg16-0000", "defence": "none", "preset": "sound", "attack": "fgsm", "loss": "margin",
        "channels": "tied", "effort": None, "target": None, "made_on": None,
        "maker": None, "norm": "linf", "storage": "float",
        "seed": 0, "epsilon": 0.0, "severity": None, "unit": None, "on_grid": True,
        "linf": 0.0, "l2": 0.0, "clipped_fraction": 0.0,
        **dict.fromkeys(VISIBILITY), "unchanged": False, "grad_zero": False,
        "found": None, "n_gradients": 1, "n_queries": 0,
        "logits": [float(np.log(max(1 - probability, 1e-12))), float(np.log(max(probability, 1e-12)))],
        "probabilities": [1 - probability, probability], "predicted": predicted,
        "correct": predicted == label, "alarm": None, "abstained": None, "certified": None,
        "status": "ok", "error": None, "duration_s": 0.1,
    }  # fmt: skip
    return {**row, **columns}


def _make_cases(cohort: str, protocol: str, model: str, n_cases: int, patients: bool, seed: int) -> list[FakeCase]:
    key = [seed, *(sum(map(ord, word)) for word in (cohort, protocol, model))]
    rng = np.random.default_rng(key)
    inception = model == "inception_v3"
    names = np.random.default_rng(key[:3])  # the same for every model
    cases = []
    for index in range(n_cases):
        saturated = inception and index % 3 != 0
        wrong = index % 8 == 7 or (protocol != "paper" and index % 8 == 5)
        clean = rng.uniform(0.5, 3.0) * (12.0 if saturated else 1.0) * (-1 if wrong else 1)
        slope = rng.uniform(300, 700) * (12.0 if saturated else 1.0) * (2.0 if inception else 1.0)
        cases.append(
            FakeCase(
                case_id=f"{index:05d}-{names.integers(2**32):08x}",
                patient_id=f"p{index // 2:04d}" if patients else None,
                label=index % 2,
                clean=float(clean),
                slope=float(slope),
                rebound=float(1.4 * slope) if index % 4 == 1 else 0.0,
                saturated=saturated and not wrong,
            )
        )
    return cases


def _case_rows(
    setting: Setting, modality: str, cases: Sequence[FakeCase], epsilons: Sequence[float], refine: bool
) -> Iterator[dict[str, Any]]:
    for case in cases:
        grid = [_row(setting, modality, case, epsilon, on_grid=True) for epsilon in epsilons]
        yield from grid
        if refine and grid[0]["correct"]:
            yield from _bisect(setting, modality, case, grid)


def _bisect(
    setting: Setting, modality: str, case: FakeCase, grid: Sequence[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    first = next((index for index, row in enumerate(grid) if not row["correct"]), None)
    if first is None:
        return
    low, high = grid[first - 1]["epsilon"], grid[first]["epsilon"]
    while high - low > RESOLUTION:
        row = _row(setting, modality, case, (low + high) / 2, on_grid=False)
        low, high = (row["epsilon"], high) if row["correct"] else (low, row["epsilon"])
        yield row


def _row(setting: Setting, modality: str, case: FakeCase, epsilon: float, *, on_grid: bool) -> dict[str, Any]:
    dose = round(epsilon * 255) / 255 if setting.storage == "png8" else epsilon
    if setting.preset in PRESETS:
        preset = PRESETS[setting.preset]
        grad_zero = case.saturated and preset["loss"] == "keras_bce"
        dose = 0.0 if grad_zero else dose
        slope = case.slope * (FREE_GAIN if preset["channels"] == "free" else 1.0)
        margin = case.clean - slope * dose + case.rebound * max(0.0, dose - REBOUND_FROM)
        how = {"loss": preset["loss"], "channels": preset["channels"], "grad_zero": grad_zero}
    else:
        margin, how = _attacked(setting.preset, case, dose)
    sign = 1 if case.label == 1 else -1
    logits = np.float32([-sign * margin / 2, sign * margin / 2])
    shifted = np.exp(logits.astype(np.float64) - logits.max())
    predicted = int(logits.argmax())
    return response_row(
        cohort=setting.cohort, modality=modality, protocol=setting.protocol, model=setting.model,
        preset=setting.preset, storage=setting.storage, seed=setting.seed,
        case_id=case.case_id, patient_id=case.patient_id,
        label=case.label, classifier=f"{setting.model}-{12345678 + setting.seed}",
        epsilon=epsilon, on_grid=on_grid, linf=dose, l2=dose * 388.0,
        clipped_fraction=min(0.3, dose), unchanged=dose == 0.0, logits=logits.tolist(),
        probabilities=(shifted / shifted.sum()).tolist(), predicted=predicted,
        correct=predicted == case.label, **how,
    )  # fmt: skip


def _visibility(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of visibility of a row on the grid: 600 JND from black to white, an own noise of 0.01."""
    dose = row["linf"]
    if not row["on_grid"]:
        return {}
    costly = dict.fromkeys(("ssim", "ms_ssim", "haarpsi"), 1 - dose) if row["epsilon"] in VISIBILITY_EPSILONS else {}
    return {
        "rms": dose, "psnr": -20 * np.log10(dose) if dose else None, "noise_ratio": dose / 0.01,
        **dict.fromkeys(("jnd_p50", "jnd_p95", "jnd_max"), 600 * dose), "jnd_srgb_p95": 500 * dose, **costly,
    }  # fmt: skip


def _attacked(preset: str, case: FakeCase, dose: float) -> tuple[float, dict[str, Any]]:
    """Return the margin that an attack of `ATTACKS` leaves at `dose`, and its columns.

    Its strength varies a little from image to image. An attack that claims to succeed stops right behind the boundary.
    """
    name, _, source = preset.partition(" from ")
    attack = ATTACKS[name]
    rng = np.random.default_rng([*map(ord, preset), int(case.case_id[-8:], 16)])
    strength = attack.strength * rng.uniform(0.95, 1.05) * (TRANSFER_STRENGTH * rng.uniform(0.2, 1.8) if source else 1)
    margin = case.clean - strength * case.slope * dose
    if attack.claims and case.clean > 0:
        margin = max(margin, -0.02)
    return margin, {
        "attack": name, "loss": attack.loss, "channels": "tied", "effort": "standard", "made_on": source or None,
        "found": margin < 0 if attack.claims else None, "n_gradients": attack.n_gradients,
        "n_queries": attack.n_queries, "duration_s": 0.002 + 0.0004 * (2 * attack.n_gradients + attack.n_queries),
    }  # fmt: skip


def _error_row(row: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("run_id", "cell_id", "cohort", "modality", "protocol", "split", "label", "model", "classifier")
    kept += ("defence", "preset", "attack", "loss", "channels", "effort", "made_on", "norm", "storage", "seed")
    return {
        **{name: row[name] for name in kept},
        "case_id": "99999-deadbeef",
        "status": "error",
        "error": "the image is truncated",
    }


def _make_exemplar(setting: Setting, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the lower-median flipped case, positives first: an oracle for `choose_exemplar`."""
    correct = {row["case_id"] for row in rows if row["epsilon"] == 0 and row["correct"]}
    flips: dict[str, float] = {}
    for row in rows:
        if row["case_id"] in correct and not row["correct"]:
            flips[row["case_id"]] = min(row["epsilon"], flips.get(row["case_id"], 2.0))
    positive = {row["case_id"] for row in rows if row["label"] == 1} & flips.keys()
    candidates = sorted((flips[case_id], case_id) for case_id in positive or flips)
    if not candidates:
        return []
    case_id = candidates[(len(candidates) - 1) // 2][1]
    rng = np.random.default_rng(0)
    row, column = np.mgrid[0:224, 0:224]
    thorax = 180 * np.exp(-(((row - 112) / 90) ** 2 + ((column - 112) / 70) ** 2)) + 30
    shape = (224, 224, 3) if setting.preset == "paper" else (224, 224)
    direction = rng.choice(np.uint8([0, 255]), shape)
    facts = setting._asdict()
    del facts["storage"]
    if not setting.seed:
        del facts["seed"]  # a missing one is the first
    return [{**facts, "case_id": case_id, "original_png": _png(thorax.astype(np.uint8)),
             "direction_png": _png(direction)}]  # fmt: skip


def _png(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _make_meta(
    cohorts: Mapping[str, str],
    splits: Sequence[tuple[str, str, int]],
    models: Sequence[str],
    n_cases: int,
    patients: bool,
    phantom: bool,
    exemplars: list[dict[str, Any]],
) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "run_id": "run",
        "dosimeter_version": "0.1.0",
        "command": "dosimeter study --seed 0",
        "created": "2026-01-01T00:00:00+00:00",
        "phantom": phantom,
        "config": {"cohort": list(cohorts), "model": list(models), "seed": 0, "repeats": max(splits)[2] + 1},
        "environment": {"python": "3.11.0", "torch": "2.6.0", "platform": "Linux", "cpu": "fake", "cores": 2,
                        "device": "cpu"},
        "cohorts": [_cohort_meta(name, cohorts[name], *split, n_cases, patients) for name, *split in splits],
        "classifiers": [_classifier_meta(model, *split) for split in splits for model in models],
        "incomplete": [],
        "stages": [
            {"stage": stage, "cohort": cohort, "protocol": protocol, "model": model, "duration_s": 1.5}
            for cohort, protocol, _ in splits for model in models for stage in ("features", "fit", "sweep")
        ],
        "peak_memory_mib": 812.5,
        "exemplars": exemplars,
    }  # fmt: skip


def _cohort_meta(cohort: str, modality: str, protocol: str, seed: int, n_test: int, patients: bool) -> dict[str, Any]:
    halves = {CLASSES[0]: (n_test + 1) // 2, CLASSES[1]: n_test // 2}
    leak = (n_test * 2 // 3 if protocol == "paper" else 0) if patients else None
    return {
        "cohort": cohort, "modality": modality, "protocol": protocol, "seed": seed, "classes": list(CLASSES),
        "n": 5 * n_test, "counts": {name: 5 * count for name, count in halves.items()}, "sha256": "ab" * 32,
        "skipped": 0, "n_train": 4 * n_test, "n_test": n_test,
        "train_counts": {name: 4 * count for name, count in halves.items()}, "test_counts": halves,
        "n_test_sharing_patient": leak, "n_unused": 0, "provenance": {"source": "synthetic"},
    }  # fmt: skip


def _classifier_meta(model: str, cohort: str, protocol: str, seed: int) -> dict[str, Any]:
    history = [
        {"epoch": epoch, "learning_rate": 1e-3 / (1 + epoch / 25), "train_loss": 0.7 / epoch,
         "train_accuracy": 1 - 0.4 / epoch, "test_loss": 0.3 + 0.5 / epoch,
         "test_accuracy": 0.88 - 0.3 / epoch + 0.05 * (epoch == 12)}
        for epoch in range(1, 26)
    ]  # fmt: skip
    return {
        "classifier": f"{model}-{12345678 + seed}", "model": model, "cohort": cohort, "protocol": protocol,
        "seed": seed,
        "weights": {"name": model, "source": "torchvision", "sha256": "cd" * 32, "licence": "BSD-3-Clause",
                    "stand_in": False, "note": ""},
        "preprocessing": "ImageNet mean and standard deviation, RGB, [0, 1]",
        "head": {"pooling": "average", "hidden": 64, "dropout": 0.5},
        "fit": {"epochs": 25, "batch_size": 8, "learning_rate": 1e-3},
        "history": history, "sha256": "ef" * 32,
    }  # fmt: skip


def class_row(logits: list[float], label: int, **columns: object) -> dict[str, object]:
    """A row of a classifier of `len(logits)` classes."""
    odds = np.exp(np.float64(logits) - max(logits))
    predicted = int(np.argmax(logits))
    return response_row(
        logits=logits, probabilities=(odds / odds.sum()).tolist(), label=label, predicted=predicted,
        correct=predicted == label, **columns,
    )  # fmt: skip


def write_table(rows: pa.Table, meta: dict[str, Any], folder: Path) -> Path:
    """Write a table as a study does: through a part."""
    pq.write_table(rows, folder / "part.parquet")
    merge_parts([folder / "part.parquet"], folder / "responses.parquet", meta)
    return folder / "responses.parquet"
