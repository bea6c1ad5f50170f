"""HopSkipJump, the black box that sees only decisions, as Foolbox has it."""

from dataclasses import dataclass
from typing import Any

from dosimeter.attacks.adapters import FoolboxMinimum
from dosimeter.attacks.registry import Entry
from dosimeter.errors import DosimeterError

EFFORT = {"quick": (4, 100), "standard": (10, 300), "thorough": (64, 10_000)}
"""Steps, and queries of a gradient estimate at most. Quick takes some 500 queries an image, standard 2,000."""


@dataclass(frozen=True)
class HopSkipJump(FoolboxMinimum):
    """The nearest adversarial image under L-infinity, from decisions alone.

    Source: Chen et al. 2020 (arXiv 1904.02144).
    """


def _build(effort: str) -> Any:
    try:
        from foolbox.attacks import HopSkipJumpAttack
    except ImportError as error:
        raise DosimeterError("The hopskipjump attack needs Foolbox: pip install 'dosimeter[attacks]'.") from error
    steps, queries = EFFORT[effort]
    attack = HopSkipJumpAttack(
        steps=steps, max_gradient_eval_steps=queries, initial_gradient_eval_steps=min(100, queries), constraint="linf"
    )
    return HopSkipJump(attack, f"steps={steps}, max_gradient_eval_steps={queries}", name="hopskipjump")


ENTRY = Entry(
    build=_build,
    note="black box that sees only decisions (Foolbox)",
    needs_gradient=False,
    source="Chen et al. 2020, arXiv 1904.02144",
    searches="minimum",
    extra="attacks",
)
