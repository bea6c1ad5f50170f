"""What settings mean together, for a study and for `dm.sweep` alike. No torch here."""

import re
from collections.abc import Iterator, Sequence

from dosimeter import registry
from dosimeter.errors import DosimeterError


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
