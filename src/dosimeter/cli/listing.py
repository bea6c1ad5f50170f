"""What `dosimeter list` shows."""

from typing import TYPE_CHECKING

from dosimeter import registry
from dosimeter.errors import DosimeterError, did_you_mean

if TYPE_CHECKING:
    from dosimeter.attacks.presets import Preset


_PLAIN = ("storages", "checks", "data_checks", "sections", "sources", "examinations", "defences", "physical")
"""Kinds of the registry of which a name and a note is all to be listed."""


LISTED = ("models", "cohorts", "attacks", "engines", *_PLAIN, "words")
"""What can be listed."""


def listing(what: str) -> list[tuple[str, str]]:
    """Return (name, note) of everything of a kind that this version knows; kinds are those that `known` names."""
    if what == "models":
        return _notes("backbones")
    if what == "cohorts":
        from dosimeter.cohorts import COHORTS

        return list(COHORTS.items())
    if what == "attacks":
        from dosimeter.attacks.presets import PRESETS

        presets = [(f"preset {name}", f"fgsm, {_shown(preset)}: {preset.note}") for name, preset in PRESETS.items()]
        return [*presets, *_notes("attacks")]
    if what in _PLAIN:
        return _notes(what)
    if what == "engines":
        from dosimeter.engines.choose import ENGINES

        return [
            ("auto", "the fastest that agrees with torch on the study's own images"),
            *((name, note) for name, (_, note) in ENGINES.items()),
        ]
    if what == "words":
        from dosimeter.report.glossary import GLOSSARY

        return list(GLOSSARY.items())
    raise DosimeterError(f"'{what}' cannot be listed. {did_you_mean(what, LISTED)}")


def _notes(kind: str) -> list[tuple[str, str]]:
    """Return (name, note) of everything of a kind; of what cannot be loaded, why."""
    rows = []
    for name in registry.names(kind):
        try:
            rows.append((name, str(registry.get(kind, name).note)))
        except DosimeterError as error:
            rows.append((name, str(error)))
    return rows


def attack_facts(name: str) -> list[tuple[str, str]]:
    """Return (what, value) of an attack: what it needs, where it comes from, and its settings for each effort."""
    from dosimeter.attacks.registry import EFFORTS, build, entry, parameters

    known = entry(name)
    facts = [
        ("what", known.note),
        ("finds", _SEARCHES[known.searches]),
        ("needs", "a gradient" if known.needs_gradient else "answers only"),
        ("source", known.source),
    ]
    if known.extra:
        facts.append(("package", f"pip install 'dosimeter[{known.extra}]'"))
    for effort in EFFORTS:
        try:
            settings = parameters(build(name, effort))
        except DosimeterError as error:
            settings = {"": str(error)}
        facts.append((effort, ", ".join(f"{key} {value}" for key, value in settings.items() if key != "name")))
    return facts


_SEARCHES = {
    "direction": "one direction for all epsilons",
    "budget": "the worst image of one ball; the sweep looks for the smallest ball of the grid that succeeds",
    "minimum": "the nearest adversarial image, hence every epsilon from one run",
}


def _shown(preset: "Preset") -> str:
    return f"{preset.attack.loss}, {preset.attack.channels}, {'/'.join(preset.storages)}"
