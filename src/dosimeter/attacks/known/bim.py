"""The basic iterative method: FGSM in small steps."""

from dosimeter.attacks.known.mi_fgsm import MIFGSM
from dosimeter.attacks.registry import Entry

TRAVEL = 1.25
"""How far the steps go in all, as a share of epsilon."""

STEPS = {"quick": 10, "standard": 10, "thorough": 40}


def bim(steps: int = 10) -> MIFGSM:
    """Return small FGSM steps of 1.25 epsilon / `steps` from the image: MI-FGSM that forgets every earlier gradient.

    The paper takes steps of one grey level and at most 1.25 times as many as epsilon has grey levels: the same way in
    all. Unlike the paper's, the best iterate is kept.

    Source: Kurakin et al. 2016 (arXiv 1607.02533), section 2.2.
    """
    return MIFGSM(steps=steps, momentum=0.0, step_size=TRAVEL / max(steps, 1), name="bim")


ENTRY = Entry(
    build=lambda effort: bim(STEPS[effort]),
    note="FGSM in 10 (thorough: 40) small steps from the image, best iterate kept",
    source="Kurakin et al. 2016, arXiv 1607.02533",
    title="BIM",
    family="iterative",
    rank=10,
    exhaustive=True,
    searches="budget",
)
