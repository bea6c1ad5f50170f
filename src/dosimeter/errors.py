"""The one error a user can mend, and the "did you mean" that goes with it."""

import difflib
from collections.abc import Iterable


class DosimeterError(Exception):
    """A mistake the user can mend. Its message names the argument, the rule, the value and the remedy.

    The command line prints the message as one sentence and exits with code 2. Programming errors of ours
    are `assert`s and never use this class.
    """


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return the end of an error sentence: the nearest of `choices`, or all of them.

    Example:
        >>> did_you_mean("vg16", ["vgg16", "inception_v3"])
        "Did you mean 'vgg16'?"
    """
    known = sorted(choices)
    near = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean '{near[0]}'?" if near else f"Choose from: {', '.join(known)}."
