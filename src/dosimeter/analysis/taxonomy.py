"""What each attack is: its name, what it must know of the classifier, its role, and its place in two public catalogues.

The catalogues give security people words they share. An id says what kind of attack was tried; it is no finding, no
certificate and no claim of conformity.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from dosimeter.analysis.base import answered, plain
from dosimeter.analysis.wording import model_name

CATALOGUES = {"atlas": "5.6.0", "nist": "E2025"}
"""The versions that the ids are of: MITRE ATLAS (its release), NIST AI 100-2 (its edition, March 2025)."""


class Access(NamedTuple):
    """What an attacker must have of the classifier, and what the catalogues call an attack that uses it.

    Attributes:
        knowledge: in words.
        atlas: id and name of MITRE ATLAS's technique.
        nist: id and name of NIST's attack class.
        section: of NIST AI 100-2.
    """

    knowledge: str
    atlas: str = ""
    nist: str = ""
    section: str = ""


_WHITE_BOX = Access(
    "gradients (white box)", "AML.T0043.000 White-Box Optimization", "NISTAML.022 Evasion", "2.2.1 White-box evasion"
)
_BLACK_BOX = ("AML.T0043.001 Black-Box Optimization", "NISTAML.025 Black-box Evasion", "2.2.2 Black-box evasion")
_SCORES = Access("scores (black box)", *_BLACK_BOX)
_DECISIONS = Access("decisions (black box)", *_BLACK_BOX)
_TRANSFER = Access(
    "another model (black box)", "AML.T0043.002 Black-Box Transfer", "NISTAML.022 Evasion", "2.2.3 Transferability"
)
_NOTHING = Access("nothing")
_UNKNOWN = Access("not known")


class Kind(NamedTuple):
    """An attack as people see it.

    Attributes:
        title: its name as people write it.
        family: what it has in common with others: how it looks for its image.
        access: what it needs.
    """

    title: str
    family: str
    access: Access = _WHITE_BOX


KINDS = {
    "fgsm": Kind("FGSM", "one step"),
    "bim": Kind("BIM", "iterative"),
    "mi_fgsm": Kind("MI-FGSM", "iterative"),
    "pgd": Kind("PGD", "iterative"),
    "apgd": Kind("APGD", "iterative"),
    "stored_pgd": Kind("PGD for 8-bit files", "iterative"),
    "deepfool": Kind("DeepFool", "minimum norm"),
    "ddn": Kind("DDN", "minimum norm"),
    "carlini_wagner": Kind("Carlini-Wagner", "minimum norm"),
    "fmn": Kind("FMN", "minimum norm"),
    "square": Kind("Square", "black box", _SCORES),
    "hopskipjump": Kind("HopSkipJump", "black box", _DECISIONS),
    "universal": Kind("universal", "universal"),
    "random_sign": Kind("random sign", "control", _NOTHING),
    "uniform_noise": Kind("uniform noise", "control", _NOTHING),
}
"""Every attack by its name in the table, in the order in which tables and legends list them."""

WORST_CASE = "worst case"
"""Name of what is not one attack: of each image, the attack that needed the smallest epsilon."""

PUBLISHED = "paper"
"""The preset that repeats the published study; it is shown, and bounds nothing."""

STUDY_PRESETS = (PUBLISHED, "sound")
"""The two settings of FGSM that every study has. Of a run of these alone there are no tables of attacks."""

ROLES = ("attack", "worst case", "published", "transfer", "control")
"""What a curve tells: an attack of the model that answers; the worst case over those; the published setting; images
made on another model; what random noise does."""

COLUMNS = [
    *("cohort", "protocol", "model", "preset", "attack", "role", "knowledge", "atlas", "atlas_version"),
    *("nist", "nist_section", "nist_version"),
]


def catalogue_note(roles: Collection[str], *, foreign: bool) -> str:
    """Return what the ids of the catalogues mean, and why some attacks of a run have none.

    Args:
        roles: of `ROLES`, those of the run's attacks.
        foreign: whether some are of another library.
    """
    said = [
        (
            f"ATLAS ids are those of MITRE ATLAS {CATALOGUES['atlas']}, which lists what attackers of AI systems do; "
            "AML.T0043 is “Craft Adversarial Data”. Crafting alone is what is measured here; giving such an image to a "
            "deployed system would be AML.T0015, “Evade AI Model”. NISTAML ids and sections are those of NIST AI 100-2 "
            f"{CATALOGUES['nist']}, a taxonomy of attacks and mitigations."
        )
    ]
    if "transfer" in roles:
        said.append(
            "It gives transferred images a section but no id of their own, so they have that of evasion in general."
        )
    if "control" in roles:
        said.append("A control is no attack and has no id.")
    if foreign:
        said.append("An attack of another library has none either, since it is not known what it uses.")
    return " ".join(said)


def attack_title(preset: str) -> str:
    """Return what people call the attack of a preset: "carlini_wagner" is Carlini-Wagner, "sound" one of two FGSM's."""
    attack, _, source = preset.partition(" from ")
    title = f"FGSM, {attack} preset" if attack in STUDY_PRESETS else KINDS[attack].title if attack in KINDS else attack
    return f"{title} from {model_name(source)}" if source else title


def family(attack: str) -> str:
    """Return the family of an attack; that of another library has the family "other"."""
    return KINDS[attack].family if attack in KINDS else "other"


def place(preset: str) -> tuple[int, int, str]:
    """Return where a preset stands among others: FGSM's own, attacks, unknown ones, the worst case; then by source."""
    attack, _, source = preset.partition(" from ")
    known = [*STUDY_PRESETS, *KINDS]
    last = len(known) + (attack == WORST_CASE)
    return bool(source), known.index(attack) if attack in known else last, preset


def roles(rows: pd.DataFrame) -> npt.NDArray[np.object_]:
    """Return the role of each row (n,), one of `ROLES`.

    Args:
        rows: with preset, attack and made_on.
    """
    attack, preset = rows["attack"], rows["preset"]
    controls = [name for name, kind in KINDS.items() if kind.family == "control"]
    found = np.full(len(rows), "attack", dtype=object)
    found[preset == PUBLISHED] = "published"
    found[attack.isin(controls)] = "control"
    found[rows["made_on"] != ""] = "transfer"
    found[attack == WORST_CASE] = "worst case"
    return found


def is_fgsm(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Return which rows are the classifier's own FGSM images, as the paper's tables and figures show them."""
    return (rows["attack"] == "fgsm") & (rows["made_on"] == "")


def taxonomy(frame: pd.DataFrame) -> pd.DataFrame:
    """Return what each attack of a run is, one row per (cohort, protocol, model, preset).

    Args:
        frame: a response table.

    Returns:
        role; knowledge, what it must have of the classifier; atlas, MITRE ATLAS's technique; nist and nist_section,
        the attack class and section of NIST AI 100-2, "" where there is none; and the versions these are of.
    """
    rows = answered(frame)[["cohort", "protocol", "model", "preset", "attack", "made_on"]]
    table = plain(rows.drop_duplicates())
    facts = [_access(role, attack) for role, attack in zip(roles(table), table["attack"], strict=True)]
    table = table.assign(
        role=roles(table),
        knowledge=[each.knowledge for each in facts],
        atlas=[each.atlas for each in facts],
        atlas_version=[CATALOGUES["atlas"] if each.atlas else "" for each in facts],
        nist=[each.nist for each in facts],
        nist_section=[each.section for each in facts],
        nist_version=[CATALOGUES["nist"] if each.nist else "" for each in facts],
    )
    return in_attack_order(table, ["cohort", "protocol", "model"])[COLUMNS]


def in_attack_order(table: pd.DataFrame, first: Sequence[str]) -> pd.DataFrame:
    """Return `table` sorted by the columns `first`, then its presets in the order of `place`, otherwise as it is."""
    ranked = {preset: index for index, preset in enumerate(sorted(table["preset"].unique(), key=place))}
    ordered = table.assign(_place=table["preset"].map(ranked).astype(int))
    return ordered.sort_values([*first, "_place"], kind="stable", ignore_index=True).drop(columns="_place")


def _access(role: str, attack: str) -> Access:
    if role == "transfer":
        return _TRANSFER
    return KINDS[attack].access if attack in KINDS else _UNKNOWN
