"""Every physical change by its name: the files of `physical.known`, and those that other packages bring.

Another package brings one by an entry point `dosimeter.physical`; `foreign` makes an entry of any callable.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from dosimeter import registry
from dosimeter.errors import DosimeterError, did_you_mean
from dosimeter.physical.base import Change, Entry
from dosimeter.physical.composed import JOINS, composed
from dosimeter.physical.constants import Constants, declared
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
    """Return what is known of a change, or of several one after another, as "dose_fraction+motion".

    Raises:
        DosimeterError: there is none of that name, or what another package brings is no entry, or lacks its unit.
    """
    if JOINS in name:
        parts = [part.strip() for part in name.split(JOINS)]
        return composed(JOINS.join(parts), [entry(part) for part in parts])
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
            "severities out for its own."
        )
    return (found.identity, *sorted(beyond, key=lambda severity: abs(severity - found.identity)))


def fits(found: Entry, modality: str) -> bool:
    """Whether a change is of images of that modality."""
    return modality in found.modalities or set(found.modalities) == {"xray", "ct"}


_NUMBER = re.compile(r"(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)(?P<unit>.*)", re.IGNORECASE)


class Chosen(NamedTuple):
    """A change that is to be made, and at which severities: the one that changes nothing first.

    Attributes:
        constants: those of the apparatus that were declared; the others are assumed.
    """

    change: Change
    entry: Entry
    severities: tuple[float, ...]
    constants: Mapping[str, float]


def change(name: str, *, severities: str | Sequence[float | str] = (), **constants: float) -> Chosen:
    """Return a physical change as `sweep` takes it, at chosen severities.

    Args:
        name: one of `dosimeter list physical`, or several one after another, as "dose_fraction+motion".
        severities: numbers or texts with a unit, as "2 mm"; by default its own. The one that changes nothing is
            always asked.
        constants: of the apparatus, by their names, as `quanta=50000` (`dosimeter show change NAME` has them). Those
            not given are assumed, as the responses' meta says, but for `pixel_mm`, which a severity in mm needs.

    Raises:
        DosimeterError: there is no such change, or a severity or a constant is out of its range.

    Example:
        >>> import dosimeter as dm
        >>> dm.change("dose_fraction", severities=[0.5, 0.25], quanta=50000).severities
        (1.0, 0.5, 0.25)
    """
    asked = severities.split(",") if isinstance(severities, str) else severities
    (found,) = chosen((name,), {name: tuple(asked)}, constants)
    return found


def chosen(
    wanted: Sequence[str], severities: Mapping[str, Sequence[float | str]], constants: Mapping[str, float]
) -> list[Chosen]:
    """Return changes by their names, each with its severities.

    Args:
        wanted: names; `EVERY` stands for all.
        severities: by a change's name what is asked of it, numbers or texts with a unit as "2 mm"; under "" what is
            asked of the only change. Of others their own.
        constants: those of an apparatus that are declared, by their names (see `Constants`).

    Raises:
        DosimeterError: a change, a severity or a constant is not known or out of its range; or severities are of a
            change that is not wanted, or of nobody knows which of several.
    """
    every = list(dict.fromkeys(each for name in wanted for each in (names() if name == EVERY else (name,))))
    apparatus = declared(constants)
    for name in severities:
        if name == "" and len(every) != 1:
            raise DosimeterError(
                f"severities must name their change where there are {len(every) or 'none'}, got numbers alone. Write "
                f"{(every or ['dose_fraction'])[0]}=0.5,0.25, say, with semicolons between changes."
            )
        if name and name not in every:
            raise DosimeterError(f"severities are of '{name}', which is no change asked. {did_you_mean(name, every)}")
    found = []
    for name in every:
        known = entry(name)
        asked = severities.get(name, severities.get("", ()))
        numbers = [in_unit(each, name, known, apparatus) for each in asked]
        found.append(Chosen(known.build(apparatus), known, grid_of(name, known, numbers), constants))
    return found


def in_unit(severity: float | str, name: str, found: Entry, constants: Constants) -> float:
    """Return a severity as a number of its change's unit; mm become pixels where a pixel's side is declared.

    Raises:
        DosimeterError: it is no number, its unit is another, or mm cannot be told in pixels.

    Example:
        >>> in_unit("3 mm", "motion", entry("motion"), Constants(pixel_mm=1.5))
        2.0
    """
    told = _NUMBER.fullmatch(str(severity).strip())
    if told is None:
        raise DosimeterError(f"severity of {name} must be a finite number, got {shown(severity)}. Write 0.5, say.")
    value, unit = float(told["number"]), told["unit"].strip()
    if unit in ("", found.unit):
        return value
    if unit != "mm" or found.unit != "px":
        raise DosimeterError(
            f"severity of {name} must be in {found.unit}, got {shown(severity)}. Write the number alone"
            + (", or mm where pixel_mm is declared." if found.unit == "px" else ".")
        )
    if constants.pixel_mm is None:
        raise DosimeterError(
            f"constant pixel_mm must be declared for a severity of {name} in mm, got {shown(severity)}. Give "
            "pixel_mm=1.4 (--constant pixel_mm=1.4), or pixels."
        )
    return value / constants.pixel_mm


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
        "ordered": found.ordered,
        "constants": {each: values[each] for each in found.constants},
        "assumed": [each for each in found.constants if each not in constants],
    }
