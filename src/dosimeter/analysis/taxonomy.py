"""What each attack is in two public catalogues: what it must know of the classifier, and what they call it.

The catalogues give security people words they share. An id says what kind of attack was tried; it is no finding, no
certificate and no claim of conformity.
"""

from collections.abc import Collection
from typing import NamedTuple

import pandas as pd

from dosimeter.analysis.base import MODEL, answered, plain, roles
from dosimeter.analysis.names import attack_kind, in_attack_order, place

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


_BLACK_BOX = ("AML.T0043.001 Black-Box Optimization", "NISTAML.025 Black-box Evasion", "2.2.2 Black-box evasion")
_ACCESS = {
    "gradients": Access(
        "gradients (white box)",
        "AML.T0043.000 White-Box Optimization",
        "NISTAML.022 Evasion",
        "2.2.1 White-box evasion",
    ),
    "scores": Access("scores (black box)", *_BLACK_BOX),
    "decisions": Access("decisions (black box)", *_BLACK_BOX),
    "nothing": Access("nothing"),
    "": Access("not known"),
}
"""By `kinds.AttackKind.access`."""

SCORES, DECISIONS = (_ACCESS[access].knowledge for access in ("scores", "decisions"))
BLACK_BOXES = (SCORES, DECISIONS)
"""What black boxes must have, in words."""

_TRANSFER = Access(
    "another model (black box)", "AML.T0043.002 Black-Box Transfer", "NISTAML.022 Evasion", "2.2.3 Transferability"
)

COLUMNS = [
    *(*MODEL, "preset", "attack", "role", "knowledge", "atlas", "atlas_version"),
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


def taxonomy(frame: pd.DataFrame) -> pd.DataFrame:
    """Return what each attack of a run is, one row per (cohort, protocol, model, preset).

    Args:
        frame: a response table.

    Returns:
        role; knowledge, what it must have of the classifier; atlas, MITRE ATLAS's technique; nist and nist_section,
        the attack class and section of NIST AI 100-2, "" where there is none; and the versions these are of.
    """
    rows = answered(frame)[[*MODEL, "preset", "attack", "made_on"]]
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
    return in_attack_order(table, MODEL)[COLUMNS]


def knowledge(attack: str) -> str:
    """Return in words what an attack must have of the classifier."""
    return _ACCESS[attack_kind(attack).access].knowledge


def _access(role: str, attack: str) -> Access:
    return _TRANSFER if role == "transfer" else _ACCESS[attack_kind(attack).access]


def ran(frame: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Return preset, attack and the model whose images these are ("" for the classifier's own), each once, in order."""
    table = frame.loc[frame["status"] == "ok", ["preset", "attack", "made_on"]].drop_duplicates().astype(object)
    rows = table.where(table.notna(), "").itertuples(index=False, name=None)
    return sorted(
        ((str(preset), str(attack), str(source)) for preset, attack, source in rows), key=lambda row: place(row[0])
    )
