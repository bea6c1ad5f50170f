"""Bounds that the data audit and the analyses of a run both give."""

from collections.abc import Callable


def root(function: Callable[[float], float], *, outside: float, inside: float) -> float:
    """Bisect between a point where `function` is positive or zero and one where it is negative."""
    for _ in range(60):
        middle = (outside + inside) / 2
        outside, inside = (middle, inside) if function(middle) > 0 else (outside, middle)
    return outside


def newcombe(auc: float, n_positive: float, n_negative: float, *, z: float) -> tuple[float, float]:
    """Return Newcombe's score interval of an AUC, which keeps its width at 0 and 1.

    The bounds are the two areas A at which `auc` lies exactly z standard errors away, with the Hanley-McNeil error of A
    itself. With the error of `auc`, cut at [0, 1], it would cover as little as 82 % near the ends, and begin above the
    true area in 9 %; with that error on the logit's scale an area just below 1 would have a lower bound near 0.

    Args:
        auc: in [0, 1].
        n_positive: images of the class, or what they are worth; more than 0.
        n_negative: of the others.
        z: the normal quantile of the confidence.

    Returns:
        The lower and the upper bound.

    Source: Newcombe, Stat. Med. 25 (2006) 559, method 5.
    """
    spare = (n_positive + n_negative) / 2 - 1

    def excess(area: float) -> float:
        spread = 1 + spare * ((1 - area) / (2 - area) + area / (1 + area))
        return (area - auc) ** 2 - z**2 * area * (1 - area) * spread / (n_positive * n_negative)

    low = 0.0 if auc == 0 else root(excess, outside=0.0, inside=auc)
    high = 1.0 if auc == 1 else root(excess, outside=1.0, inside=auc)
    return low, high
