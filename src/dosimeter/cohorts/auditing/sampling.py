"""How much can be concluded from so many images: balance, width of intervals, what the test set was used for."""

from collections.abc import Iterator
from math import ceil, sqrt

from scipy.stats import norm

from dosimeter.cohorts.base import Cohort
from dosimeter.record.data_audit import DataCheck

WIDE = 0.10
"""Half the width of an interval from which an accuracy says little."""

WANTED = 0.05
"""Half the width that many a study would like."""

RARE = 0.1
"""Share of the images below which a class is rare."""

FEW = 10
"""Images below which nothing can be said of a class."""

_Z = float(norm.ppf(0.975))


def half_width(share: float, n: int) -> float:
    """Return half the width of a 95 % interval of a share that is seen in n images.

    Source: Wilson 1927, J Am Stat Assoc 22:209.

    Example:
        >>> round(half_width(0.5, 54), 3)
        0.129
    """
    return _Z / (1 + _Z**2 / n) * sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))


def images_for(share: float, width: float) -> int:
    """Return how many images give an interval that is `width` to each side.

    Example:
        >>> images_for(0.5, 0.05)
        381
    """
    high = ceil((_Z / width) ** 2)  # more than enough
    low = 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if half_width(share, middle) <= width else (middle + 1, high)
    return low


def checks(test: Cohort, *, tuned: bool | None) -> Iterator[DataCheck]:
    """Yield what the test images allow to conclude.

    Args:
        test: the images tested.
        tuned: whether choices were made on them (thresholds, epochs, models); None if that was not declared.
    """
    yield _balance(test)
    yield _width(test)
    yield _tuned(tuned)


def _balance(test: Cohort) -> DataCheck:
    counts = test.counts
    if test.findings:
        counts = {name: min(of["present"], of["absent"]) for name, of in test.finding_counts.items()}
    name, least = min(counts.items(), key=lambda item: item[1])
    small = least < FEW or least < RARE * len(test)
    return DataCheck(
        id="balance",
        title="Does every class have enough test images?",
        level="warn" if small else "pass",
        measured=f"The smallest is {name} with {least} of {len(test)} test images ({least / len(test):.0%}).",
        rule=f"warn if a class has fewer than {FEW} test images, or less than {RARE:.0%} of them (of a finding: images "
        "with it, or without)",
        source="dosimeter's own; accuracy says little where one class is rare (METRICS 2024, item 20)",
        remedy="read sensitivity and specificity, or balanced accuracy, and test more images" if small else "",
        numbers={"n": len(test), **counts},
    )


def _width(test: Cohort) -> DataCheck:
    n_images = len(test)
    units = [record.unit for record in test.records]
    n = n_images if None in units else len(set(units))
    at_half, at_most = half_width(0.5, n), half_width(0.9, n)
    known = all(record.patient_id is not None for record in test.records)
    whose = f"images of {n} patients" if known else "images, of patients not known"
    if not known and None not in units:
        whose += f", in {n} groups of near duplicates"
    return DataCheck(
        id="interval",
        title="How wide are intervals from so many test images?",
        level="warn" if at_half > WIDE else "pass",
        measured=f"{n_images} test {whose}: an accuracy of 50 % is known to {100 * at_half:.0f} points to each side, "
        f"one of 90 % to {100 * at_most:.0f}; {100 * WANTED:.0f} points need {images_for(0.5, WANTED)} and "
        f"{images_for(0.9, WANTED)} patients.",
        rule=f"warn if the 95 % interval of an accuracy of 50 % is more than {100 * WIDE:.0f} points to each side, "
        "each patient counting once",
        source="Wilson 1927, J Am Stat Assoc 22:209; METRICS 2024, item 21; the limit is dosimeter's own",
        remedy="test more patients, or read intervals and not numbers" if at_half > WIDE else "",
        numbers={
            "n_images": n_images,
            "n": n,
            "half_width_at_50": at_half,
            "half_width_at_90": at_most,
            "needed_at_50": images_for(0.5, WANTED),
            "needed_at_90": images_for(0.9, WANTED),
        },
    )


def _tuned(tuned: bool | None) -> DataCheck:
    said = {None: "It was not declared.", True: "Declared: yes.", False: "Declared: no."}[tuned]
    return DataCheck(
        id="tuning",
        title="Were choices made on the test images?",
        level="info" if tuned is None else "fail" if tuned else "pass",
        measured=said,
        rule="as declared: fail if thresholds, epochs, models or settings were chosen on the test images",
        source="Kapoor and Narayanan 2023, Patterns 4:100804 (leaks of kind L1); CLAIM 2024 (data partitions)",
        remedy={
            None: "declare it with `--tuned-on-test`, yes or no",
            True: "test on images that no choice was made on",
            False: "",
        }[tuned],
    )
