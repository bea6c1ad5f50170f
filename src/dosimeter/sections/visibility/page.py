"""The report's section on visibility: metrics, displays, and the magnitudes that are safe for the attacker."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from dosimeter.analysis.names import STUDY_PRESETS, model_name, series_name
from dosimeter.analysis.visibility import METRICS, RULES, reader_sentence, statements
from dosimeter.analysis.wording import in_run_order, records
from dosimeter.presentation.numbers import DASH, Cell, count, decimal, dose, is_missing, marked, percent, words
from dosimeter.presentation.views import Head, View, classifier_names, of_trial, trials

Tables = Mapping[str, pd.DataFrame]

_N_DOSES = 6
_HEADS = {
    "linf": "largest change",
    "l2": "L2",
    "rms": "RMS",
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "ms_ssim": "MS-SSIM",
    "haarpsi": "HaarPSI",
    "noise_ratio": "RMS / own noise",
    "jnd_p50": "JND, median",
    "jnd_p95": "JND, p95",
    "jnd_max": "JND, largest",
    "jnd_srgb_p95": "JND, p95, sRGB",
}


def visibility_sentences(tables: Tables, meta: Mapping[str, Any]) -> list[str]:
    """Return what the section says first: of readers, and of the safe magnitudes of the study's presets."""
    readers = reader_sentence(meta)
    said = [f"Whether a perturbation can be seen was {readers}: what follows are metrics."] if readers else []
    magnitudes = in_run_order(tables["safe_magnitudes"], meta)
    own = magnitudes[(magnitudes["storage"] == "float") & magnitudes["preset"].isin(STUDY_PRESETS)]
    return said + statements(own)


def visibility_tables(tables: Tables, meta: Mapping[str, Any]) -> Iterator[View]:
    """Yield the tables of the section; those without a row are left out.

    Args:
        tables: as `report.build.build_tables` returns them, of one seed.
        meta: the run's.
    """
    table, shown = (in_run_order(tables[name], meta) for name in ("visibility", "displays"))
    doses = shown_doses(table)
    views = []
    for cohort, protocol in trials(table):
        views.append(_metrics(of_trial(table, cohort, protocol), doses, f"{cohort}, {protocol} protocol"))
        views.append(_displays(of_trial(shown, cohort, protocol), doses, f"{cohort}, {protocol} protocol"))
    views += [_magnitudes(in_run_order(tables["safe_magnitudes"], meta)), _observer(meta.get("observer") or [])]
    yield from (view for view in views if view.rows)


def shown_doses(table: pd.DataFrame) -> list[float]:
    """Return the doses that the page shows: where SSIM was measured, else some of the grid."""
    measured = sorted(table.loc[table["metric"] == "ssim", "epsilon"].unique())
    doses = measured or sorted(table["epsilon"].unique())
    step = -(-len(doses) // _N_DOSES) if doses else 1
    return [float(epsilon) for epsilon in doses[::step]]


def _metrics(table: pd.DataFrame, doses: Sequence[float], where: str) -> View:
    rows = []
    measured = [metric for metric in METRICS if (table["metric"] == metric).any()]
    keys = ["model", "preset", "storage", "epsilon"]
    for names, group in table[table["epsilon"].isin(doses)].groupby(keys, sort=False):
        model, preset, storage, epsilon = names
        found = {row["metric"]: row for row in records(group)}
        cells = [_quartiles(found.get(metric)) for metric in measured]
        n = count(found["rms"]["n"]) if "rms" in found else DASH
        lead = [Cell(model_name(model), kind="name"), words(series_name(str(preset), str(storage)))]
        rows.append([*lead, Cell(dose(epsilon)), Cell(n), *cells])
    heads = ["model", "attack", "epsilon", "n", *(_HEADS[metric] for metric in measured)]
    return View(
        f"How far the perturbed images may be seen: {where}",
        [[Head(name) for name in heads]],
        rows,
        "Medians over images, under them the quartiles. JND: amplitude of the difference, on a display of 1 to 350 "
        "cd/m2 that follows DICOM's display function, at the default window; peak to peak is twice that. 1 JND is "
        "defined for a grating of 4 cycles a degree, 2 by 2 degrees, on a uniform field: in an image it proves "
        "nothing. HaarPSI has the constants fitted to medical images. A dash: not measured or, for PSNR, unchanged.",
    )


def _displays(shown: pd.DataFrame, doses: Sequence[float], where: str) -> View:
    chosen = shown[shown["epsilon"].isin(doses) & (shown["storage"] == "float")]
    columns = list(dict.fromkeys(zip(chosen["display"], chosen["window"], strict=True)))
    rows = []
    for (model, preset, epsilon), group in chosen.groupby(["model", "preset", "epsilon"], sort=False):
        found = {(row["display"], row["window"]): row for row in records(group)}
        cells = [_amplitude(found[column]) for column in columns]
        lead = [Cell(model_name(model), kind="name"), words(series_name(str(preset), "float")), Cell(dose(epsilon))]
        rows.append([*lead, *cells])
    names = [_setting(display, window) for display, window in columns]
    return View(
        f"Just-noticeable differences by display and window: {where}",
        [[Head(name) for name in ("model", "attack", "epsilon", *names)]],
        rows,
        "The 95th percentile over pixels, the median over images: amplitude, under it peak to peak. On a display that "
        "follows DICOM's function JNDs are linear in the pixel, so a window half as wide doubles them where it cuts "
        "nothing off.",
    )


def _amplitude(row: Mapping[str, Any]) -> Cell:
    return marked(Cell(decimal(row["amplitude"], 1), decimal(row["peak_to_peak"], 1)), row)


def _setting(display: str, window: int) -> str:
    return f"{display} cd/m2, {'default window' if window == 1 else f'window / {window}'}"


def _magnitudes(magnitudes: pd.DataFrame) -> View:
    rows = []
    published = bool(magnitudes["paper_epsilon"].notna().any())
    for row in records(magnitudes):
        claim = [Cell(DASH)] * (4 if published else 0)
        if not is_missing(row["paper_epsilon"]):
            claim = [
                Cell(dose(row["paper_epsilon"]), kind="published"),
                marked(Cell(percent(row["paper_flip_share"])), row),
                marked(Cell(decimal(row["paper_measure"], 2)), row),
                marked(Cell("yes" if row["paper_stands"] else "no"), row),
            ]
        rows.append(
            [
                *classifier_names(row),
                words(series_name(row["preset"], row["storage"])),
                words(row["rule"]),
                Cell(count(row["n"])),
                marked(words(row["epsilons"] or ("none: the band is empty" if row["n"] else DASH)), row),
                marked(Cell(dose(row["largest_unseen"])), row),
                marked(Cell(dose(row["smallest_flipping"])), row),
                *claim,
            ]
        )
    heads = ["cohort", "protocol", "model", "attack", "rule", "n", "safe for the attacker", "largest under the rule"]
    heads += ["smallest that flips half"]
    if published:
        heads += ["published “safe”", "flips there", "measure there", "stands here"]
    rules = "; ".join(f"“{name}”: {rule.text} ({rule.source})" for name, rule in RULES.items())
    return View(
        "Magnitudes that are safe for the attacker",
        [[Head(name) for name in heads]],
        rows,
        "Epsilons of the grid at which at least half of the n images answered correctly without attack are answered "
        f"wrongly while the median over images keeps a rule. The rules are conventions: {rules}."
        + (
            " The published magnitudes are those that the paper shows as invisible (figures 6 and 11); it tells of no "
            "readers."
            if published
            else ""
        ),
    )


def _observer(facts: Sequence[Mapping[str, Any]]) -> View:
    rows = [
        [
            *classifier_names(each),
            Cell(dose(each["epsilon"])),
            words(str(each["channels"]).replace("_", "-")),
            Cell(count(each["n_patches"]), f"{each['n_images']} images"),
            Cell(decimal(each["d_holdout"], 2), f"on its own images {decimal(each['d_resubstitution'], 2)}"),
            Cell(decimal(each["auc"])),
            Cell(decimal(each["d_image"], 2)),
            Cell(decimal(each["auc_image"])),
        ]
        for each in facts
    ]
    heads = (
        "cohort",
        "protocol",
        "model",
        "epsilon",
        "channels",
        "patches",
        "d' of a patch",
        "AUC",
        "d' of the image",
        "AUC",
    )
    return View(
        "A model observer that knows the perturbation (sound preset, floats)",
        [[Head(name) for name in heads]],
        rows,
        "A channelised Hotelling observer knows the perturbation of each patch exactly and has no internal noise. It "
        "is an upper-bound style figure of what a linear observer finds through these channels, not a human: a reader "
        "does not know what to look for, but may use what the channels do not pass. Backgrounds are of images that the "
        "observer did not learn from. Medians; for the image, its patches are taken as independent.",
    )


def _quartiles(row: Mapping[str, Any] | None) -> Cell:
    """Return a median with its quartiles, in the digits that its size calls for."""
    if row is None:
        return Cell(DASH)
    low, middle, high = (_digits(row[name]) for name in ("q1", "median", "q3"))
    return marked(Cell(middle, f"{low} to {high}"), row)


def _digits(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 0.995 or abs(value) > 1 else f"{value:.4f}"
