"""What a study's settings ask of every image, and which of it fits a cohort."""

from collections.abc import Collection, Iterator, Sequence

from dosimeter.attacks.presets import Preset, choose
from dosimeter.cohorts.base import Cohort
from dosimeter.errors import DosimeterError
from dosimeter.physical.registry import entry, fits
from dosimeter.plain import named
from dosimeter.study.config import StudyConfig


def presets_of(config: StudyConfig) -> list[Preset]:
    """Return the attacks and physical changes of the settings, in their order.

    Raises:
        DosimeterError: one is not known, or a severity or a constant is out of its range.
    """
    return choose(
        config.preset,
        config.attack,
        config.effort,
        config.storages,
        severities=config.severities,
        constants=config.constants,
    )


def suits(preset: Preset, cohort: Cohort) -> bool:
    """Whether a preset is of a cohort's images: attacks are of any, a physical change of those of its modality."""
    return not preset.is_physical or fits(entry(preset.name), cohort.modality)


def unsuited(
    presets: Sequence[Preset], cohorts: Sequence[Cohort], asked: Collection[str] | None = None
) -> Iterator[str]:
    """Yield a sentence for each change that was asked by its name and is not made on some of the cohorts.

    Args:
        presets: all that are asked.
        cohorts: all that are asked about.
        asked: names, as they were given; None: those of the presets.

    Raises:
        DosimeterError: it is of none of them.
    """
    for preset in presets:
        left = [cohort for cohort in cohorts if not suits(preset, cohort)]
        if not left or (asked is not None and preset.name not in asked):
            continue
        wanted = " or ".join(entry(preset.name).modalities)
        told = ", ".join(f"{named(each.name)} ({each.modality or 'of no modality'})" for each in left)
        if len(left) == len(cohorts):
            hint = (
                ""
                if all(each.modality for each in left)
                else f" Say --modality {wanted.partition(' ')[0]} if they are."
            )
            raise DosimeterError(
                f"attack {preset.name} must be of {wanted} images, got {told}.{hint or ' Leave it out.'}"
            )
        yield f"{preset.name} is of {wanted} images, and is not made on {told}."
