"""Every physical change by its name: the files of `physical.known`, and those that other packages bring.

Another package brings one by an entry point `dosimeter.physical`; `foreign` makes an entry of any callable.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from dosimeter import registry
from dosimeter.errors import DosimeterError, did_you_mean
from dosimeter.physical.base import Entry
from dosimeter.physical.constants import Constants
from dosimeter.plain import shown

KIND = "physical"

EVERY = "physical"
"""The name that stands for all changes of the images' modality."""

FEWEST = 2
"""Severities that a grid has at least: the identity, and one more."""


def names() -> tuple[str, ...]:
    """Return the names of all physical changes, without importing them."""
    return registry.names(KIND)


def entry(name: str) -> Entry:
    """Return what is known of a change.

    Raises:
        DosimeterError: there is none of that name, or what another package brings is no entry, or lacks its unit.
    """
    found = registry.get(KIND, name)
    if not isinstance(found, Entry):
        raise DosimeterError(f"change '{name}' must be a dosimeter.physical.base.Entry, got {type(found).__name__}.")
    check_entry(name, found)
    return found


def check_entry(name: str, found: Entry) -> None:
    """Raise DosimeterError unless an entry says what its severities mean: unit, identity, bounds and modalities."""
    if not isinstance(found.unit, str) or not found.unit.strip():
        raise DosimeterError(
            f"change '{name}' must declare the unit of its severities, got {shown(found.unit)}. Give "
            "unit='degrees', say."
        )
    if len(found.severities) < FEWEST:
        raise DosimeterError(
            f"change '{name}' must have two severities or more, the identity first, got {len(found.severities)}. Give "
            "severities=(0, 1, 2), say."
        )
    if not found.modalities or set(found.modalities) - {"xray", "ct"}:
        raise DosimeterError(
            f"change '{name}' must be of images of the modality xray, ct or both, got {shown(found.modalities)}. Give "
            "modalities=('xray',), say."
        )
    grid_of(name, found, ())


def grid_of(name: str, found: Entry, asked: Sequence[float]) -> tuple[float, ...]:
    """Return the severities that are asked, the identity first and the mildest next; by default the entry's own.

    Raises:
        DosimeterError: one is out of its bounds, or they lie on both sides of the identity.
    """
    low, high = found.bounds
    for severity in asked or found.severities:
        if not low <= severity <= high:
            raise DosimeterError(
                f"severity of {name} must be from {low:g} to {high:g} {found.unit}, got {severity:g}, because "
                f"{found.reason}."
            )
        if found.whole and severity != math.floor(severity):
            raise DosimeterError(f"severity of {name} must be a whole number, got {severity:g}. Write {severity:.0f}.")
    beyond = {severity for severity in asked or found.severities if severity != found.identity}
    if len({severity > found.identity for severity in beyond}) > 1:
        raise DosimeterError(
            f"severities of {name} must all lie on one side of {found.identity:g} {found.unit}, which changes nothing, "
            f"got {', '.join(f'{each:g}' for each in sorted(beyond))}. Run the two sides apart."
        )
    if not beyond:
        raise DosimeterError(
            f"severities of {name} must name more than {found.identity:g} {found.unit}, which changes nothing. Leave "
            "--severities out for its own."
        )
    return (found.identity, *sorted(beyond, key=lambda severity: abs(severity - found.identity)))


def fits(found: Entry, modality: str) -> bool:
    """Whether a change is of images of that modality."""
    return modality in found.modalities or set(found.modalities) == {"xray", "ct"}


def require_known(name: str) -> None:
    """Raise DosimeterError unless there is a change of that name."""
    if name not in names():
        raise DosimeterError(f"change '{name}' is not known. {did_you_mean(name, names())}")


def kind(name: str, found: Entry, grid: Sequence[float], constants: Mapping[str, float]) -> dict[str, Any]:
    """Return what a run tells of a change to those who read its table (see `record.kinds.ChangeKind`).

    Args:
        name: the change's.
        found: its entry.
        grid: the severities that were asked, the identity first.
        constants: those that were declared.
    """
    values = asdict(Constants(**constants))
    return {
        "name": name,
        "title": found.title,
        "unit": found.unit,
        "severities": list(grid),
        "bounds": list(found.bounds),
        "reason": found.reason,
        "source": found.source,
        "note": found.note,
        "rank": found.rank,
        "constants": {each: values[each] for each in found.constants},
        "assumed": [each for each in found.constants if each not in constants],
    }
