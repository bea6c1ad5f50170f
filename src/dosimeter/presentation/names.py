"""Names as the page writes them, where they need more than one column."""

from typing import Any

from dosimeter.analysis.names import attack_kind
from dosimeter.presentation.numbers import is_missing


def attack_words(attack: str, effort: Any) -> str:
    """Return what the report calls an attack, whatever its preset, and its effort if it has one."""
    title = attack_kind(attack).title or attack
    return title if is_missing(effort) or not effort else f"{title}, {effort} effort"
