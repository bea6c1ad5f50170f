"""The one error a user can mend, the "did you mean" that goes with it, and what the table says of failed images."""

import difflib
from collections.abc import Iterable

from dosimeter.plain import named, one_line


class DosimeterError(Exception):
    """A mistake the user can mend. Its message names the argument, the rule, the value and the remedy.

    The command line prints the message as one sentence and exits with code 2. Programming errors of ours
    are `assert`s and never use this class. As text it is one line that is safe on a terminal (`plain.one_line`).
    """

    def __str__(self) -> str:
        return one_line(super().__str__())


def in_a_line(error: BaseException) -> str:
    """Return an error as part of a sentence.

    Example:
        >>> in_a_line(ValueError("two\\nlines."))
        'ValueError: two lines'
    """
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".rstrip(" .:")


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return the end of an error sentence: the nearest of `choices`, or all of them.

    Example:
        >>> did_you_mean("vg16", ["vgg16", "inception_v3"])
        "Did you mean 'vgg16'?"
    """
    known = sorted(choices)
    spelt = {choice.lower(): choice for choice in known}
    near = difflib.get_close_matches(str(name).lower(), spelt, n=1)
    return f"Did you mean '{named(spelt[near[0]])}'?" if near else f"Choose from: {', '.join(map(named, known))}."


READ_ERROR = "the image could not be read"
"""The error of a row whose image was there when the run began; it may be there again."""

TOO_LARGE = "the image is too large to be attacked at its own size"
"""The error of the row of an image of more than `models.native.MAX_NATIVE_PIXELS`."""

NOT_ATTACKED = (READ_ERROR, TOO_LARGE)
"""Errors that say nothing of the classifier or the attack."""
