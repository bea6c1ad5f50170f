"""What one curve of the report shows: an attack and how its images are stored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from dosimeter.attacks.base import Attack
from dosimeter.attacks.known.fgsm import FGSM
from dosimeter.attacks.registry import build, entry, names
from dosimeter.physical.registry import Chosen
from dosimeter.physical.registry import chosen as chosen_changes


@dataclass(frozen=True)
class Preset:
    """An attack, or a physical change, and how its images are stored: what one curve of the report shows.

    Attributes:
        severities: of a physical change, the one that changes nothing first; of an attack none: it has epsilons.
        unit: of the severities.
    """

    name: str
    attack: Attack
    storages: tuple[str, ...]
    note: str
    effort: str | None = None
    severities: tuple[float, ...] = ()
    unit: str = ""

    @property
    def is_physical(self) -> bool:
        """Whether it is a physical change."""
        return bool(self.severities)


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "paper",
            FGSM(loss="keras_bce", channels="free"),
            ("float",),
            "as published: clipped Keras loss, three free planes, images never stored",
        ),
        Preset(
            "sound",
            FGSM(loss="margin", channels="tied"),
            ("float", "png8"),
            "margin loss, grey stays grey, as floats and as an 8-bit file",
        ),
    )
}


_NOTHING: Mapping[str, float] = MappingProxyType({})
_THEIR_OWN: Mapping[str, Sequence[float | str]] = MappingProxyType({})


def choose(
    presets: Sequence[str],
    attacks: Sequence[str],
    effort: str,
    storages: Sequence[str] = (),
    *,
    severities: Mapping[str, Sequence[float | str]] = _THEIR_OWN,
    constants: Mapping[str, float] = _NOTHING,
) -> list[Preset]:
    """Return the presets of those names, then one for each attack, named after it, unless a preset is that attack.

    Args:
        attacks: names of attacks and of physical changes; these come last.
        storages: of all of them; if empty, as each preset and each attack's entry say.
        severities: of physical changes, by their names (see `physical.registry.chosen`).
        constants: those of an apparatus that are declared.

    Raises:
        DosimeterError: there is no such attack or change, or a severity or a constant is out of its range.
    """
    chosen = [PRESETS[name] for name in presets]
    built = {name: build(name, effort) for name in attacks if name in names()}
    there = [preset.attack for preset in chosen]
    chosen += [
        Preset(name, attack, entry(name).storages, entry(name).note, effort)
        for name, attack in built.items()
        if attack not in there
    ]
    physical = [name for name in attacks if name not in built]
    chosen += [changed(each) for each in chosen_changes(physical, severities, constants)]
    return [replace(preset, storages=tuple(storages)) for preset in chosen] if storages else chosen


def changed(chosen: Chosen) -> Preset:
    """Return the preset of a physical change."""
    change, entry, severities, _ = chosen
    return Preset(change.name, change, ("float",), entry.note, None, severities, entry.unit)
