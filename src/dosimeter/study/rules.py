"""What settings mean together, for a study and for `dm.sweep` alike. No torch here."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from dosimeter import registry
from dosimeter.errors import DosimeterError
from dosimeter.plain import shown


def costly_epsilons(epsilons: tuple[float, ...], visibility: tuple[float, ...] | str) -> tuple[float, ...]:
    """Return those of `epsilons` that `visibility` names; "all" and "none" are what they say. Zero is never one."""
    if visibility == "none":
        return ()
    return tuple(dose for dose in epsilons if dose and (visibility == "all" or dose in visibility))


def fills(storages: Sequence[str], *, shown: bool = False) -> bool:
    """Return whether searches use the whole ball of each epsilon, where the user did not say: for what must last.

    An image that is to be stored, or shown to another model, should be the strongest of its ball.

    Args:
        shown: whether other models are asked about it.
    """
    return shown or any(storage != "float" for storage in storages)


def check_native(*, mask: bool, attacks: Sequence[str]) -> None:
    """Raise DosimeterError if images cannot be attacked at their own size, which differ, with what else is asked for.

    Args:
        mask: whether there is one.
        attacks: their names.
    """
    if mask:
        raise DosimeterError(
            "native takes no mask: a mask has the size of the network's images, and native images have their own. "
            "Leave one of the two out."
        )
    for name in attacks:
        if name in registry.names("attacks") and registry.get("attacks", name).learns:
            raise DosimeterError(
                f"native takes no attack '{name}': it is one perturbation for all images, and native images differ in "
                "size. Name other attacks, or leave native out."
            )


def whole_settings(names: Sequence[str]) -> Iterator[str]:
    """Yield names with the settings behind their colons, which have commas as a list of names has.

    Example:
        >>> list(whole_settings(["trades:epsilon=0.009", "beta=6+jpeg", "median"]))
        ['trades:epsilon=0.009,beta=6+jpeg', 'median']
    """
    whole = ""
    for name in names:
        if whole and re.match(r"\s*[a-z_]+=", name):
            whole += f",{name}"
            continue
        if whole:
            yield whole
        whole = name
    if whole:
        yield whole


def severities_of(value: Any) -> Any:
    """Return severities by the names of their changes, from what a person types; "" stands for the only change.

    Raises:
        DosimeterError: a change is named twice, or nothing stands behind a name.

    Example:
        >>> severities_of("dose_fraction=1,0.5; motion=2 mm")
        {'dose_fraction': (1.0, 0.5), 'motion': ('2 mm',)}
    """
    if isinstance(value, list | tuple):
        return {"": tuple(map(_number, value))}
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"": (float(value),)}
    if not isinstance(value, str):
        return value
    found: dict[str, tuple[float | str, ...]] = {}
    for part in filter(str.strip, value.split(";")):
        name, equals, numbers = part.rpartition("=")
        items = tuple(_number(each) for each in numbers.split(",") if each.strip())
        if not items or name.strip() in found or (equals and not name.strip()):
            raise DosimeterError(
                f"severities must name each change once with its numbers, got {shown(value)}. Write "
                "'dose_fraction=1,0.5;rotation=0,5'."
            )
        found[name.strip()] = items
    return found


def _number(text: Any) -> float | str:
    try:
        return float(text)
    except (TypeError, ValueError):
        return str(text).strip()
