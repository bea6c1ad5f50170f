"""All tables of a run, as CSV in full precision and as LaTeX for a paper."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from dosimeter.analysis import classes
from dosimeter.analysis.against import with_differences
from dosimeter.analysis.attacks import area, class_flips, cost, gain, robust_accuracy, transfer
from dosimeter.analysis.base import answered, attackable, is_fgsm
from dosimeter.analysis.clean import clean_metrics, confusion, training
from dosimeter.analysis.curves import fgsm_accuracy
from dosimeter.analysis.drops import probability_drop
from dosimeter.analysis.evaluation import evaluate
from dosimeter.analysis.flips import epsilon50, flip_epsilon
from dosimeter.analysis.marks import with_marks
from dosimeter.analysis.names import STUDY_PRESETS
from dosimeter.analysis.paired import paired
from dosimeter.analysis.repeats import repeats
from dosimeter.analysis.storage import deployed_epsilon, deployed_median, is_stored, survival
from dosimeter.analysis.susceptibility import most_susceptible, rank_agreement, susceptibility
from dosimeter.analysis.taxonomy import taxonomy
from dosimeter.analysis.visibility import displays, safe_magnitudes, visibility, was_measured
from dosimeter.analysis.worst_case import with_worst_case
from dosimeter.record.table import VISIBILITY, Responses, compact

_BAND = (
    "The simultaneous band, band_low to band_high, holds the accuracies at all epsilons of a curve at once in 95 % of "
    "studies; the interval, ci_low to ci_high, that at its own epsilon."
)
CAPTIONS = {
    "clean_metrics": "Classification without attack, with 95 % intervals.",
    "confusion": "Confusion matrices without attack.",
    "training": "Loss and accuracy on training and test images after every epoch.",
    "fgsm_accuracy": f"Accuracy under FGSM, with Wilson's 95 % interval by patient. {_BAND}",
    "probability_drop": "Probability of the true class before and after FGSM.",
    "flip_epsilon": "The smallest epsilon that changes each image's answer.",
    "epsilon50": "The epsilon at which half of the correctly classified images have flipped.",
    "paired": "Two curves over the same images at every epsilon: the difference in accuracy with its 95 % interval, "
    "images that one alone answers correctly, McNemar's exact p, that of sign flips by patient, and this by Holm.",
    "survival": "Of the images that an attack flips as floats, those whose file flips too, with Wilson's interval by "
    "patient.",
    "deployed_epsilon": "The smallest epsilon whose file changes each image's answer, and what that file really moved.",
    "deployed_median": "Medians over images of the smallest epsilon whose file changes the answer.",
    "repeats": "Means over the seeds, with 95 % intervals over splits (corrected resampled t), under the official "
    "protocol over trainings on one split (t), in which the sampling of the test images is not.",
    "robust_accuracy": "Accuracy under every attack, with Wilson's 95 % interval by patient, and the worst case over "
    f"attacks. {_BAND}",
    "area": "Area under the accuracy curve, epsilon being linear, as a share of the largest possible.",
    "class_flips": "Images of each class that each attack flips, of those answered correctly without attack.",
    "gain": "What each attack does beyond random signs of the same epsilon.",
    "susceptibility": "The order in which images fall under each attack.",
    "rank_agreement": "Rank correlation of two models' flip epsilons.",
    "most_susceptible": "The images that fall first under the worst case over attacks.",
    "transfer": "Images made on one model, answered by another: the share that flips.",
    "cost": "Gradients, queries and seconds of each attack, an image and in all.",
    "evaluation": "Whether the numbers can be trusted: every check of every evaluation.",
    "visibility": "How far perturbed images may be seen: every metric, median and quartiles over images.",
    "displays": "Just-noticeable differences on every display and at every window, 95th percentile over pixels.",
    "safe_magnitudes": "Epsilons that flip half of the images and keep a rule of visibility.",
    "taxonomy": "What each attack needs, and what MITRE ATLAS and NIST AI 100-2 call it.",
    **classes.CAPTIONS,
}
_PUBLISHED = {
    "confusion": ("paper_tp", "tables 2 and 3"),
    "fgsm_accuracy": ("paper_accuracy", "tables 4 and 8"),
    "probability_drop": ("paper_decrease", "tables 5 and 9"),
    "safe_magnitudes": ("paper_epsilon", "figures 6 and 11"),
}
"""By table: a column of the paper's numbers, and where the paper has them."""

_OF_ATTACKS = (
    robust_accuracy,
    area,
    class_flips,
    gain,
    susceptibility,
    rank_agreement,
    most_susceptible,
    transfer,
    cost,
)
LATEX_ROWS = 5_000
"""Rows of a LaTeX table at most, some hundred pages: a table of one row an image goes on in its CSV file."""

_ESCAPES = str.maketrans(
    {character: f"\\{character}" for character in "&%_#${}"} | {"\\": "/", "~": r"\textasciitilde{}", "^": r"\^{}"}
)


def build_tables(responses: Responses) -> dict[str, pd.DataFrame]:
    """Return every table of a run, by the name of its file: a key of `CAPTIONS` each.

    `repeats` is there only of several seeds; then the tables have a column `seed`. `survival`, `deployed_epsilon` and
    `deployed_median` are there only if images were stored. The tables of attacks, from `robust_accuracy` on, are there
    only if the run has more than `taxonomy.STUDY_PRESETS`; `fgsm_accuracy` and
    `probability_drop` are of the classifier's own FGSM images even then, and epsilon50 has the worst case too.
    `evaluation` is there with them, or if the run was examined before it began.
    The tables of `classes` are there if there is a decision between more than two.
    `visibility`, `displays` and `safe_magnitudes` are there if visibility was measured.
    Of a run that aimed at a class, images of that class count in the paper's tables alone.
    Numbers under attack have their `evaluation` beside them, see `marks.with_marks`.
    """
    frame = compact(responses.frame)
    own = is_fgsm(frame)
    fgsm = frame if own.all() else frame[own]
    several = not set(frame["preset"].unique()).issubset(STUDY_PRESETS)
    aimed = attackable(frame)
    every = with_worst_case(answered(aimed.drop(columns=[*VISIBILITY], errors="ignore"))) if several else aimed
    tables = {
        "clean_metrics": clean_metrics(frame),
        "confusion": confusion(frame),
        "training": training(responses.meta),
        "fgsm_accuracy": fgsm_accuracy(fgsm),
        "probability_drop": probability_drop(fgsm),
        "flip_epsilon": flip_epsilon(aimed),
        "epsilon50": epsilon50(every),
        "paired": paired(every),
    }
    if is_stored(frame):
        tables |= {analyse.__name__: analyse(aimed) for analyse in (survival, deployed_epsilon, deployed_median)}
    if several:
        tables |= {analyse.__name__: analyse(every) for analyse in _OF_ATTACKS}
        tables["taxonomy"] = taxonomy(frame)
    tables |= classes.class_tables(frame, every) | visibility_tables(frame)
    if "seed" in tables["clean_metrics"]:
        tables["repeats"] = repeats(tables, responses.meta)
    preflights, convergence = (responses.meta.get(name) or [] for name in ("preflights", "convergence"))
    if several or preflights or convergence:
        tables["evaluation"] = evaluate(frame, preflights, convergence=convergence)
    return with_marks(tables)


def visibility_tables(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return `visibility`, `displays` and `safe_magnitudes`; none if the rows do not say how far images may be seen."""
    if not was_measured(frame):
        return {}
    seen = visibility(frame)
    return {"visibility": seen, "displays": displays(seen), "safe_magnitudes": safe_magnitudes(frame)}


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


def write_tables(tables: Mapping[str, pd.DataFrame], folder: Path, *, remark: str = "") -> None:
    """Write each table as NAME.csv (ten digits) and NAME.tex (three): the same table always gives the same bytes.

    The CSV is whole; of a table longer than `LATEX_ROWS` the LaTeX has the first rows, and says so.

    Args:
        tables: by the names of their files.
        folder: where they go.
        remark: what every caption begins with.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False, float_format="%.10g", lineterminator="\n")
        shown, caption = table.head(LATEX_ROWS), f"{remark} {CAPTIONS[name]}".strip()
        column, source = _PUBLISHED.get(name, ("", ""))
        if column and table[column].notna().any():
            caption += f" Columns paper_... are the published numbers ({source} of the paper)."
        bounds = [column for column in table.columns if str(column).endswith(("_low", "_high"))]
        if bounds and len(table) and table[bounds].isna().all(axis=None):
            caption += " No row has an interval: too few images."
        if len(shown) < len(table):
            caption += f" The first {len(shown)} of {len(table)} rows; all are in {name}.csv."
        (folder / f"{name}.tex").write_text(to_latex(shown, caption), encoding="utf-8")


def to_latex(table: pd.DataFrame, caption: str) -> str:
    """Return a table for LaTeX's booktabs and longtable."""
    lines = [
        f"% {caption}",
        rf"\begin{{longtable}}{{{'l' * len(table.columns)}}}",
        rf"\caption{{{caption.translate(_ESCAPES)}}} \\",
        r"\toprule",
        " & ".join(str(name).translate(_ESCAPES) for name in table.columns) + r" \\",
        r"\midrule \endhead",
        *(" & ".join(_cell(value) for value in row) + r" \\" for row in table.itertuples(index=False)),
        r"\bottomrule",
        r"\end{longtable}",
    ]
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    if value is None or value is pd.NA or value != value:  # NaN is the one value that differs from itself
        return "--"
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return text.translate(_ESCAPES)
