"""What an audit asks unless it is told otherwise. No torch here."""

from collections.abc import Iterable
from typing import NamedTuple


class AuditDefaults(NamedTuple):
    """What an audit asks unless it is told otherwise."""

    preset: str
    attacks: str
    epsilons: str = "0.0005,0.001,0.002,1/255,2/255,4/255,8/255"
    protocol: str = "whole"


AUDIT = {
    "gradients": AuditDefaults("sound", "random_sign,pgd,fmn,square"),
    "scores": AuditDefaults("none", "random_sign,square"),
    "decisions": AuditDefaults("none", "random_sign,hopskipjump"),
}
"""By what an attacker has of a classifier; of gradients: one step, many steps, the nearest image, scores, noise."""


def audit_of(accesses: Iterable[str]) -> AuditDefaults:
    """Return what is asked of classifiers of which an attacker has that: what all of them can be asked."""
    return AUDIT[max(accesses, key=list(AUDIT).index, default="gradients")]
