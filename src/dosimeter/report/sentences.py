"""What the report says in its frame, section by section: each sentence from a fact of the run, absent without it."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from dosimeter.analysis.clusters import FEWEST
from dosimeter.analysis.held import FEW_IMAGES, NOMINAL_LEAST, ranges
from dosimeter.analysis.held import KINDS as INTERVALS
from dosimeter.analysis.intervals import FEWEST_OF_A_MEDIAN, FEWEST_OF_SEVERAL, FEWEST_TO_RESAMPLE
from dosimeter.analysis.names import (
    PUBLISHED,
    STUDY_PRESETS,
    WORST_CASE,
    attack_kind,
    attack_title,
    family,
    place,
    storage_kind,
)
from dosimeter.analysis.paper import COHORTS, is_subject
from dosimeter.analysis.repeats import FIXED_SPLIT
from dosimeter.analysis.taxonomy import knowledge
from dosimeter.analysis.wording import records
from dosimeter.report.numbers import notes, plural
from dosimeter.report.ranges import accuracy_said, has_interval

Meta = Mapping[str, Any]
Tables = Mapping[str, pd.DataFrame]

_SCORES, _DECISIONS = "scores (black box)", "decisions (black box)"


def joined(names: Sequence[str]) -> str:
    """Return ["a", "b", "c"] as "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def beyond_fgsm(frame: pd.DataFrame) -> str:
    """Return which attacks were run beside FGSM and which of them are black boxes, noise or another model's images."""
    ran = _ran(frame)
    presets = sorted(
        {(preset, attack) for preset, attack, source in ran if not source and preset not in STUDY_PRESETS},
        key=lambda pair: place(pair[0]),
    )
    noise = [attack_title(preset) for preset, attack in presets if family(attack) == "control"]
    others = [(attack_title(preset), attack) for preset, attack in presets if family(attack) != "control"]
    said = []
    if others:
        said.append(f"FGSM is one step. Beside it ran {joined([title for title, _ in others])}.")
    blind = [title for title, attack in others if knowledge(attack) in (_SCORES, _DECISIONS)]
    if blind:
        said.append(f"{joined(blind)} {'need' if len(blind) > 1 else 'needs'} no gradient.")
    if noise:
        said.append(f"For comparison there is random noise: {joined(noise)}.")
    if any(source for *_, source in ran):
        said.append("Images made on one network were also shown to another.")
    return " ".join(said)


def attackers(frame: pd.DataFrame) -> str:
    """Return what the attackers of a run know, and that accuracy under them is an upper bound."""
    attacks = list(dict.fromkeys(attack for _, attack, _ in _ran(frame) if family(attack) != "control"))
    if not attacks:
        return ""
    names = {attack: attack_kind(attack).title for attack in attacks}
    known = {knowledge(attack) for attack in attacks}
    if attacks == ["fgsm"]:
        return (
            "FGSM is one step by an attacker who knows the network and the true label. Accuracy under it is an upper "
            "bound: stronger attacks exist, and an image that withstood it is not proven robust."
        )
    parts = ["The attackers know the true label"]
    learned = [names[attack] for attack in attacks if attack_kind(attack).learns]
    if learned:
        parts.append(f" ({joined(learned)}: that of its training images)")
    wanted = {"gradients (white box)": "the network's gradients", _SCORES: "its scores", _DECISIONS: "its decisions"}
    uses = [
        f"{joined([names[attack] for attack in attacks if knowledge(attack) == needed])} {what}"
        for needed, what in wanted.items()
        if needed in known
    ]
    if uses:
        parts.append(f", and use: {'; '.join(uses)}")
    return (
        "".join(parts) + ". Accuracy under an attack is an upper bound: an image that withstood all of these is not "
        "proven robust."
    )


def limits(responses_meta: Meta, clean: pd.DataFrame, models: Sequence[str], *, several: bool) -> list[str]:
    """Return the limits that follow from protocols, cohorts, and how many images and patients were tested."""
    cards = responses_meta["cohorts"]
    said = []
    mixed = [
        card for card in cards if card["protocol"] == PUBLISHED and card.get("n_test_sharing_patient") != 0
    ]  # of unknown patients some may be on both sides
    if mixed:
        said.append(
            "Under the paper protocol test images may share a patient with training images, which flatters the "
            f"classifier: here {_shared(mixed)}."
        )
    own = list(dict.fromkeys(card["cohort"] for card in cards if is_subject(card["cohort"])))
    if own and any(is_subject(own[0], model) for model in models):
        if "xray" in {COHORTS[cohort] for cohort in own}:
            said.append("The paper validated on its test images (its section 3.1); such numbers flatter a classifier.")
        files = ", the list of its X-ray images" if "xray" in {COHORTS[cohort] for cohort in own} else ""
        said.append(
            f"The paper gives neither its split nor its trained weights{files and ' nor' + files[1:]}. Agreement or "
            "disagreement with it may come from other splits, training"
            f"{' and images' if files else ''} as well as from the attack."
        )
    tested = [int(card["n_test"]) for card in cards]
    if tested:
        few = plural(min(tested), "test image")
        few = few if len(set(tested)) == 1 else f"{min(tested)} to {max(tested)} test images"
        wide = "too few for an interval" if max(tested) < FEWEST else "the fewer, the wider the intervals"
        said.append(f"Numbers are of {few}: {wide}.")
    return said + _independence(clean, several=several)


def _shared(cards: Sequence[Mapping[str, Any]]) -> str:
    parts = []
    for card in {card["cohort"]: card for card in reversed(cards)}.values():
        shared = card.get("n_test_sharing_patient")
        n = "it is not known how many" if shared is None else f"{shared} of {card['n_test']}"
        parts.append(f"{n} in {card['cohort']}")
    return joined(parts[::-1])


def _independence(clean: pd.DataFrame, *, several: bool) -> list[str]:
    said = []
    unknown = list(dict.fromkeys(clean.loc[clean["n_patients"].isna(), "cohort"]))
    if unknown:
        said.append(
            f"Not every image of {joined(unknown)} has a patient id: images without one are taken as independent."
        )
    if several:
        known = "; the intervals take account of it" if has_interval(clean, "accuracy") else ""
        said.append(f"Images of one patient tell less than as many patients{known}.")
    return said


def interval_rules(tables: Tables, *, several: bool) -> str:
    """Return what an interval of this run is of, and below how many images or patients there is none.

    Args:
        tables: of the run.
        several: whether patients have several images (`several_images`).
    """
    said = ["Intervals are 95 %, of one number each"]
    if has_interval(tables["fgsm_accuracy"], "band"):
        said.append("; the band beside that of an accuracy is of its whole curve at once")
    said.append(". ")
    if has_interval(tables["fgsm_accuracy"], "ci"):
        said.append(
            "“By patient” means that images of one patient count for less than as many patients, by how alike they "
            "are in this table. "
        )
    whose = "images or patients" if several else "images"
    said.append(
        f"Fewer than {FEWEST} {whose} have no interval, for an AUC fewer of either class; a median (epsilon50) has "
        f"none with fewer than {FEWEST_OF_A_MEDIAN} images"
    )
    if several:
        said.append(
            f", nor, where patients have several, with fewer than {FEWEST_OF_SEVERAL} patients or with such as count "
            f"as fewer than {FEWEST_OF_A_MEDIAN} of equal numbers of images"
        )
    if "rank_agreement" in tables:
        count = f"patients who count as fewer than {FEWEST_TO_RESAMPLE} of equal numbers of images" if several else (
            f"fewer than {FEWEST_TO_RESAMPLE} images"
        )  # fmt: skip
        said.append(f"; a rank correlation has none with {count}")
    return f"{''.join(said)}."


def simulations(tables: Tables, *, several: bool, readers: bool = False) -> list[str]:
    """Return how often the kinds of interval of this run hold the truth in simulations of samples like its own.

    Args:
        tables: of the run.
        several: whether patients have several images (`several_images`).
        readers: whether readers' answers are among its numbers.
    """
    there = {kind: columns for kind, (name, columns) in _SIMULATED.items() if name in tables}
    kinds = [kind for kind, columns in there.items() if has_interval(tables[_SIMULATED[kind][0]], *columns)]
    if "repeats" in tables:
        given = tables["repeats"]["protocol"] == FIXED_SPLIT
        kinds += ["mean over splits"] * (not given.all()) + ["mean over trainings"] * bool(given.any())
    if readers:
        kinds += ["readers' threshold", "answers right at one epsilon"]
    alone = not several and bool((tables["clean_metrics"]["n"] >= FEW_IMAGES).any())
    samples = {
        "several": "where patients have several images" if several else "",
        "alone": f"with {FEW_IMAGES} images and more, each of another patient" if alone else "",
        "few": f"with fewer than {FEW_IMAGES} images" if _few(tables) else "",
        "": "of splits, trainings or readers",
    }
    return [
        f"In simulations {where}, 95 % intervals and bands of the kinds here hold the truth in {_held(found)}."
        for sample, where in samples.items()
        if where and len(found := ranges(kinds, sample))
    ]


def _held(found: pd.DataFrame) -> str:
    """Return "92.9 to 98.2 % of studies", and which kinds of interval lie below `NOMINAL_LEAST`."""
    low, high = (f"{100 * value:.1f}" for value in (found["lowest"].min(), found["highest"].max()))
    below = [
        f"{INTERVALS[row['interval']]} in as few as {100 * row['lowest']:.1f} %"
        for row in records(found[found["lowest"].mul(100).round(1) < 100 * NOMINAL_LEAST])
    ]
    return f"{low} to {high} % of studies{f': {joined(below)}' if below else ''}"


_SIMULATED = {
    "share of images": ("fgsm_accuracy", ("ci",)),
    "accuracy, whole curve (band)": ("fgsm_accuracy", ("band",)),
    "AUC": ("clean_metrics", ("auc",)),
    "epsilon50 (ranks)": ("epsilon50", ("epsilon50",)),
    "probability drop (t)": ("probability_drop", ("decrease",)),
    "area under a curve": ("area", ("area",)),
    "gain over random signs": ("gain", ("gain",)),
    "paired comparison": ("paired", ("difference",)),
    "rank agreement (bootstrap)": ("rank_agreement", ("spearman",)),
}
"""The kinds of interval that were simulated -> a table that has them, and the stem of their columns."""

_COUNTED = {
    "clean_metrics": "accuracy",
    "fgsm_accuracy": "ci",
    "survival": "share",
    "class_flips": "share",
    "transfer": "share",
}
"""Tables of shares of images, with the stem of their interval's columns."""


def several_images(frame: pd.DataFrame) -> bool:
    """Whether any patient is known to have several test images."""
    asked = frame.loc[(frame["epsilon"] == 0) & frame["patient_id"].notna(), ["cohort", "patient_id", "case_id"]]
    return bool(asked.drop_duplicates().duplicated(["cohort", "patient_id"]).any())


def _few(tables: Tables) -> bool:
    """Whether a share with an interval is of fewer images than `FEW_IMAGES`."""
    clean = tables["clean_metrics"]
    smaller = clean[["n_positive"]].assign(rest=clean["n"] - clean["n_positive"]).to_numpy()
    return bool(((smaller >= FEWEST) & (smaller < FEW_IMAGES)).any()) or any(
        bool(((tables[name]["n"] < FEW_IMAGES) & tables[name][f"{stem}_low"].notna()).any())
        for name, stem in _COUNTED.items()
        if name in tables
    )


def strength_note(tables: Tables, *, stored: bool) -> str:
    """Return the note under the table of what every attack leaves: what its rows are, of those that are there.

    Args:
        tables: robust_accuracy, epsilon50 and area, of what the table shows.
        stored: whether images were stored too.
    """
    robust = tables["robust_accuracy"]
    roles, several = set(robust["role"]), WORST_CASE in set(robust["preset"])
    apart = [
        name
        for role, name in (
            ("control", "controls"),
            ("transfer", "images made on another model"),
            ("published", "the published preset, which colours a grey image"),
        )
        if role in roles
    ]
    less = f": not {', '.join(apart)}" if apart else ""
    under = accuracy_said(robust)
    ranges = [
        words
        for words, there in (
            ("the area has a 95 % interval by patient", has_interval(tables["area"], "area")),
            ("epsilon50 has one from ranks", has_interval(tables["epsilon50"], "epsilon50")),
        )
        if there
    ]
    said = [
        f"Under each accuracy: {notes(*under)}." if under else "",
        "The worst case counts an image as lost as soon as any attack of the model itself breaks it at this or a "
        f"smaller epsilon{less}."
        if several
        else "",
        (
            "Epsilon50 flips half of the correctly answered images. The area under the curve is the mean accuracy over "
            "all epsilons up to the one named."
        ),
        f"{joined(ranges).capitalize()}." if ranges else "",
        (
            f"All epsilons{', also of stored images,' if stored else ''} are in tables/robust_accuracy.csv, area.csv "
            "and epsilon50.csv."
        ),
    ]
    return " ".join(sentence for sentence in said if sentence)


def grey_files(tables: Tables) -> bool:
    """Whether a run stored images in files that hold one plane alone."""
    return "survival" in tables and any(storage_kind(each).one_plane for each in tables["survival"]["storage"].unique())


def has_worst_case(tables: Tables) -> bool:
    """Whether a run has the worst case over several attacks."""
    return "robust_accuracy" in tables and WORST_CASE in set(tables["robust_accuracy"]["preset"])


def are_published(tables: Tables) -> bool:
    """Whether any number of the paper stands beside this run's."""
    beside = (("confusion", "paper_tp"), ("fgsm_accuracy", "paper_accuracy"), ("probability_drop", "paper_decrease"))
    return any(bool(tables[name][column].notna().any()) for name, column in beside)


def _ran(frame: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Return preset, attack and the model whose images these are ("" for the classifier's own), each once."""
    table = frame.loc[frame["status"] == "ok", ["preset", "attack", "made_on"]].drop_duplicates().astype(object)
    rows = table.where(table.notna(), "").itertuples(index=False, name=None)
    return sorted(
        ((str(preset), str(attack), str(source)) for preset, attack, source in rows), key=lambda row: place(row[0])
    )
