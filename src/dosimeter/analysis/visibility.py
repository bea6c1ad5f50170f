"""How far the perturbed images of a run may be seen, and whether that leaves the attacker a safe magnitude."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from dosimeter.analysis import paper
from dosimeter.analysis.base import APART, CURVE, GROUP, answered, each_seed, groups, joined, plain
from dosimeter.analysis.names import attack_title, model_name
from dosimeter.analysis.wording import mark, n_images, percent, records
from dosimeter.record.table import VISIBILITY
from dosimeter.visibility.gsdf import DISPLAYS, REFERENCE, WINDOWS, jnd_span

METRICS = ("linf", "l2", *VISIBILITY)
"""Every metric of the table, in the table's order."""

USED = 0.5
"""An image that moves by less than this share of epsilon did not use it: a search that ended at its first success, or a
minimum-norm attack beyond its adversarial image. What is seen of such an image says nothing of that epsilon."""

IDENTITY = [*CURVE, "epsilon"]
PEAK_TO_PEAK = 2
"""A perturbation adds epsilon here and takes it there: from trough to peak it is twice its amplitude."""


class Rule(NamedTuple):
    """When a perturbation passes for unseen, as a rule that can be disputed: no reader was asked.

    Attributes:
        text: what it says.
        column: the metric.
        factor: by which the metric is multiplied before it is compared.
        limit: what the median over images may reach.
        source: where it comes from.
    """

    text: str
    column: str
    factor: float
    limit: float
    source: str


RULES = {
    "jnd": Rule(
        "95 % of the pixels move by at most 1 JND, peak to peak, at the default window of a 1-350 cd/m2 GSDF display",
        "jnd_p95",
        PEAK_TO_PEAK,
        1.0,
        "1 JND is the threshold of PS3.14's standard target, a grating on a uniform field; a convention elsewhere",
    ),
    "noise": Rule(
        "the perturbation's RMS is at most half of the image's own noise",
        "noise_ratio",
        1.0,
        0.5,
        "dosimeter's convention: added to the noise, it raises its RMS by an eighth at most",
    ),
}


@each_seed
def visibility(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the median and the quartiles over images of every metric, one row per (group, epsilon, metric).

    Args:
        frame: a response table. Rows of the grid count, epsilon 0 left out; images made on another model are the other
            model's.

    Returns:
        n images for which the metric is defined; q1, median, q3. Metrics that were not measured have no row.
    """
    columns = [*IDENTITY, "metric", "n", "q1", "median", "q3", "modality"]
    parts = []
    for names, group in _measured(frame):
        measured, doses = group[list(METRICS)].to_numpy(np.float64), group["epsilon"].to_numpy()
        for epsilon in np.unique(doses):
            values = measured[doses == epsilon]
            n = np.count_nonzero(~np.isnan(values), axis=0)
            low, middle, high = np.nanquantile(values[:, n > 0], [0.25, 0.5, 0.75], axis=0)
            numbers = {"n": n[n > 0], "q1": low, "median": middle, "q3": high}
            parts.append(({**names, "epsilon": epsilon}, pd.DataFrame({"metric": np.array(METRICS)[n > 0], **numbers})))
    return joined(parts)[columns] if parts else pd.DataFrame(columns=columns)


def displays(table: pd.DataFrame) -> pd.DataFrame:
    """Return the JNDs on every display at every window, from those on the reference display.

    On a display that follows PS3.14 JNDs are linear in the pixel: so they scale with the display's span, and with the
    window as long as it cuts nothing off.

    Args:
        table: as `visibility` returns it.

    Returns:
        One row per (group, epsilon, display, window): amplitude and peak_to_peak of the 95th percentile over pixels,
        medians over images. `window` is how many times narrower than the default one it is.
    """
    mine = table[table["metric"] == "jnd_p95"].drop(columns=["metric", "q1", "q3"])
    reference = jnd_span(DISPLAYS[REFERENCE])
    parts = [
        mine.assign(display=name, window=window, amplitude=mine["median"] * jnd_span(display) / reference * window)
        for name, display in DISPLAYS.items()
        for window in WINDOWS
    ]
    shown = pd.concat(parts, ignore_index=True).drop(columns="median")
    order = [name for name in shown.columns if name in (*IDENTITY, *APART)]
    shown = shown.assign(peak_to_peak=PEAK_TO_PEAK * shown["amplitude"])
    return shown.sort_values(order, kind="stable", ignore_index=True)


@each_seed
def safe_magnitudes(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the "safe magnitudes for the attacker": epsilons that flip half of the images and keep a rule of `RULES`.

    Args:
        frame: a response table.

    Returns:
        One row per (group, rule): n images answered correctly without attack; epsilons, as text, the doses of the grid
        at which at least half of them are answered wrongly while the median over images keeps the rule; empty, whether
        there is none; largest_unseen, the largest dose that keeps the rule; smallest_flipping, the smallest that flips
        half. A dose of which half of the images use less than the share `USED` does not keep a rule. Of the dose that
        the paper shows as invisible for this cohort and model: paper_epsilon, paper_flip_share, paper_measure (what
        the rule looks at), paper_stands, whether it flips half and keeps the rule; null where the paper shows none or
        the dose is not on the grid.
    """
    rows = [
        {**names, **_band(group, name, rule, _claimed(names))}
        for names, group in _measured(frame, zero=True)
        for name, rule in RULES.items()
        if group[rule.column].notna().any()
    ]
    columns = [*IDENTITY[:-1], "rule", "n", "epsilons", "empty", "largest_unseen", "smallest_flipping"]
    columns += ["paper_epsilon", "paper_flip_share", "paper_measure", "paper_stands", "modality"]
    return pd.DataFrame(rows, columns=columns)


def _band(rows: pd.DataFrame, name: str, rule: Rule, claimed: float) -> dict[str, Any]:
    clean = rows.loc[(rows["epsilon"] == 0) & rows["correct"], "case_id"]
    attacked = rows[["epsilon", "correct", "linf", rule.column]][(rows["epsilon"] > 0) & rows["case_id"].isin(clean)]
    by_dose = attacked.groupby("epsilon")
    flipped = 1 - by_dose["correct"].mean()
    used = by_dose["linf"].median()
    measure = (rule.factor * by_dose[rule.column].median())[used >= USED * used.index]
    unseen, flipping = measure[measure <= rule.limit].index, flipped[flipped >= 0.5].index
    band = flipping.intersection(unseen)
    there = [dose for dose in flipped.index if abs(dose - claimed) < 1e-9]
    at = there[0] if there else None
    return {
        "rule": name,
        "n": len(clean),
        "epsilons": ", ".join(f"{dose:g}" for dose in band),
        "empty": band.empty,
        "largest_unseen": unseen.max() if len(unseen) else np.nan,
        "smallest_flipping": flipping.min() if len(flipping) else np.nan,
        "paper_epsilon": claimed if at is not None else np.nan,
        "paper_flip_share": flipped[at] if at is not None else np.nan,
        "paper_measure": measure.get(at, np.nan),
        "paper_stands": at in band if at is not None else None,
    }


def _claimed(names: Mapping[str, Any]) -> float:
    """Return the dose that the paper shows as invisible; NaN if it shows none of this cohort and model."""
    return paper.shown(names["cohort"], names["model"]).get("invisible_epsilon", np.nan)


def _measured(frame: pd.DataFrame, *, zero: bool = False) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Yield each curve that a classifier's own attacks made on the grid; with epsilon 0 only if `zero`."""
    rows = answered(frame, [*GROUP, "made_on", "on_grid", "case_id", "epsilon", "correct", *METRICS])
    kept = rows["on_grid"] & (rows["made_on"] == "") & (zero | (rows["epsilon"] > 0))
    yield from groups(rows, GROUP, kept & rows["linf"].notna())


def was_measured(frame: pd.DataFrame) -> bool:
    """Whether a response table says how far images may be seen: those of schema version 1 and 2 do not."""
    return "rms" in frame and bool(frame["rms"].notna().any())


def reader_sentence(meta: Mapping[str, Any]) -> str:
    """Return what is to be said of readers: "" once people answered a study that was joined to the run."""
    people = any(not study["simulated"] for study in meta.get("readers") or [])
    return "" if people else NOT_MEASURED


def reader_statement(meta: Mapping[str, Any]) -> str:
    """Return, in a sentence, of which perturbations people were asked whether they see them, and how many people."""
    asked: dict[str, int] = {}
    for study in meta.get("readers") or []:
        if not study["simulated"]:
            where = f"{study['cohort']} ({study['protocol']} protocol)"
            what = f"{attack_title(study['preset'])} on {model_name(study['model'])}, {where}"
            asked[what] = asked.get(what, 0) + study["n_readers"]
    if not asked:
        return f"Whether anyone could see these perturbations was {NOT_MEASURED}."
    of = "; ".join(f"{what}: {n} reader{'' if n == 1 else 's'}" for what, n in asked.items())
    return f"Whether anyone can see these perturbations was measured with readers of these alone: {of}."


NOT_MEASURED = "not measured with readers"


def statements(magnitudes: pd.DataFrame) -> list[str]:
    """Return, for each classifier and rule, what became of the paper's claim of a safe magnitude, in words.

    Args:
        magnitudes: as `safe_magnitudes` returns them, of one seed and storage.
    """
    said = []
    for row in records(plain(magnitudes)):
        if not row["n"]:  # no right answer, so nothing to flip
            continue
        where = (
            f"{model_name(row['model'])} on {row['cohort']} ({row['protocol']} protocol), {attack_title(row['preset'])}"
        )
        found = "no epsilon of the grid" if row["empty"] else f"epsilon {row['epsilons']}"
        sentence = (
            f"{where}: {found} flips at least half of the {n_images(row['n'])} under the rule “{row['rule']}”"
            f"{mark(row)}."
        )
        limit = RULES[str(row["rule"])].limit
        if pd.notna(row["paper_epsilon"]):
            verdict = "stands" if row["paper_stands"] else "does not stand"
            measure = f"the rule's measure is {row['paper_measure']:.2g} where {limit:g} is allowed"
            if pd.isna(row["paper_measure"]):
                measure = "the images do not use so much"
            sentence += (
                f" The paper's {row['paper_epsilon']:g} {verdict} here: it flips {percent(row['paper_flip_share'])}"
                f"{mark(row)}, and {measure}."
            )
        said.append(sentence)
    return said
