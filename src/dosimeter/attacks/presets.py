"""What one curve of the report shows: an attack and how its images are stored."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dosimeter.attacks.base import Attack
from dosimeter.attacks.known.fgsm import FGSM
from dosimeter.attacks.registry import build, entry


@dataclass(frozen=True)
class Preset:
    """An attack and how its images are stored: what one curve of the report shows."""

    name: str
    attack: Attack
    storages: tuple[str, ...]
    note: str
    effort: str | None = None


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


def choose(presets: Sequence[str], attacks: Sequence[str], effort: str, storages: Sequence[str] = ()) -> list[Preset]:
    """Return the presets of those names, then one for each attack, named after it, unless a preset is that attack.

    Args:
        storages: of all of them; if empty, as each preset and each attack's entry say.
    """
    chosen = [PRESETS[name] for name in presets]
    built = {name: build(name, effort) for name in attacks}
    there = [preset.attack for preset in chosen]
    chosen += [
        Preset(name, attack, entry(name).storages, entry(name).note, effort)
        for name, attack in built.items()
        if attack not in there
    ]
    return [replace(preset, storages=tuple(storages)) for preset in chosen] if storages else chosen
