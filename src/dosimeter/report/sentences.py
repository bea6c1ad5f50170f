"""What the report says in its frame, section by section: each sentence from a fact of the run, absent without it."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

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
from dosimeter.analysis.taxonomy import knowledge

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


def limits(responses_meta: Meta, clean: pd.DataFrame, models: Sequence[str]) -> list[str]:
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
        few = f"{min(tested)} test images" if len(set(tested)) == 1 else f"{min(tested)} to {max(tested)} test images"
        said.append(f"Numbers are of {few}: the fewer, the wider the intervals.")
    return said + _independence(clean)


def _shared(cards: Sequence[Mapping[str, Any]]) -> str:
    parts = []
    for card in {card["cohort"]: card for card in reversed(cards)}.values():
        shared = card.get("n_test_sharing_patient")
        n = "it is not known how many" if shared is None else f"{shared} of {card['n_test']}"
        parts.append(f"{n} in {card['cohort']}")
    return joined(parts[::-1])


def _independence(clean: pd.DataFrame) -> list[str]:
    said = []
    unknown = list(dict.fromkeys(clean.loc[clean["n_patients"].isna(), "cohort"]))
    if unknown:
        said.append(
            f"Not every image of {joined(unknown)} has a patient id: images without one are taken as independent."
        )
    several = bool((clean["n_patients"] < clean["n"]).any())
    if several:
        said.append("Images of one patient tell less than as many patients; the intervals take account of it.")
    few = "; with about a dozen patients of several images each in 91 % (epsilon50) to 99 % (shares)"
    said.append(f"In simulations the intervals hold the truth in 93 to 97 % of studies{few if several else ''}.")
    return said


def strength_note(robust: pd.DataFrame, *, stored: bool) -> str:
    """Return the note under the table of what every attack leaves: what its rows are, of those that are there."""
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
    said = [
        "Under each accuracy its 95 % Wilson interval by patient.",
        "The worst case counts an image as lost as soon as any attack of the model itself breaks it at this or a "
        f"smaller epsilon{less}."
        if several
        else "",
        (
            "Epsilon50 flips half of the correctly answered images. The area under the curve is the mean accuracy over "
            "all epsilons up to the one named. The area has a 95 % interval by patient, epsilon50 one from ranks."
        ),
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
