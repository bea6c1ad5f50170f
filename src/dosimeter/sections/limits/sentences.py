"""What the report says in its frame, section by section: each sentence from a fact of the run, absent without it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from dosimeter.analysis.clusters import FEWEST
from dosimeter.analysis.held import FEW_IMAGES, NOMINAL_LEAST, ranges
from dosimeter.analysis.held import KINDS as INTERVALS
from dosimeter.analysis.names import (
    PUBLISHED,
    attack_kind,
    family,
)
from dosimeter.analysis.paper import COHORTS, is_subject
from dosimeter.analysis.repeats import FIXED_SPLIT
from dosimeter.analysis.taxonomy import DECISIONS, SCORES, knowledge, ran
from dosimeter.analysis.wording import joined, records
from dosimeter.presentation.numbers import plural
from dosimeter.presentation.ranges import has_interval
from dosimeter.record.table import Responses

Tables = Mapping[str, pd.DataFrame]


def attackers(frame: pd.DataFrame) -> str:
    """Return what the attackers of a run know, and that accuracy under them is an upper bound."""
    attacks = list(dict.fromkeys(attack for _, attack, _ in ran(frame) if family(attack) != "control"))
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
    wanted = {"gradients (white box)": "the network's gradients", SCORES: "its scores", DECISIONS: "its decisions"}
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


def untested(frame: pd.DataFrame) -> str:
    """Return what no attacker of a run did, so that nothing follows about it."""
    attacks = {attack for _, attack, _ in ran(frame) if family(attack) != "control"}
    asking = {SCORES, DECISIONS} & {knowledge(attack) for attack in attacks}
    left = [] if asking else ["attackers who can only ask for answers"]
    if not any(source for _, _, source in ran(frame)):
        left.append("images made on another network")
    if set(frame["storage"].unique()) <= {"float"}:
        left.append("images saved as files")
    left.append("changes that no epsilon bounds, as rotations, patches or another scanner")
    return f"Not tested here, so nothing follows about it: {joined(left)}."


def limits(run: Responses, clean: pd.DataFrame, models: Sequence[str], *, several: bool) -> list[str]:
    """Return the limits that follow from protocols, cohorts, and how many images and patients were tested."""
    cards = run.meta["cohorts"]
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
    return [*said, *_unnamed(run.frame), *_grouped(cards), *_alike(clean, several=several)]


def _shared(cards: Sequence[Mapping[str, Any]]) -> str:
    parts = []
    for card in {card["cohort"]: card for card in reversed(cards)}.values():
        shared = card.get("n_test_sharing_patient")
        n = "it is not known how many" if shared is None else f"{shared} of {card['n_test']}"
        parts.append(f"{n} in {card['cohort']}")
    return joined(parts[::-1])


def _unnamed(frame: pd.DataFrame) -> Iterator[str]:
    """Yield which cohorts have images without a patient id, those first of which no image has one."""
    named = frame["patient_id"].notna().groupby(frame["cohort"], sort=False, observed=True)
    none, some = (list(found.index[found]) for found in (~named.any(), named.any() & ~named.all()))
    if none:
        yield f"No image of {joined(none)} has a patient id: images are taken as independent."
    if some:
        yield f"Not every image of {joined(some)} has a patient id: images without one are taken as independent."


def _grouped(cards: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what stands for a patient in each cohort whose near duplicates were looked for."""
    told = {card["cohort"]: card["provenance"].get("groups") for card in cards}
    yield from (f"{cohort}: {groups}." for cohort, groups in told.items() if groups)


def _alike(clean: pd.DataFrame, *, several: bool) -> Iterator[str]:
    if several:
        known = "; the intervals take account of it" if has_interval(clean, "accuracy") else ""
        yield f"Images of one patient tell less than as many patients{known}."


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
    "gap between subgroups": ("subgroup_gaps", ("difference",)),
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


def _few(tables: Tables) -> bool:
    """Whether a share with an interval is of fewer images than `FEW_IMAGES`."""
    clean = tables["clean_metrics"]
    smaller = clean[["n_positive"]].assign(rest=clean["n"] - clean["n_positive"]).to_numpy()
    return bool(((smaller >= FEWEST) & (smaller < FEW_IMAGES)).any()) or any(
        bool(((tables[name]["n"] < FEW_IMAGES) & tables[name][f"{stem}_low"].notna()).any())
        for name, stem in _COUNTED.items()
        if name in tables
    )
