"""What a run tells of its attacks, storages and models to those who read its table."""

from collections.abc import Mapping, Sequence
from typing import Any

from dosimeter import registry
from dosimeter.attacks.base import Attack
from dosimeter.attacks.presets import Preset
from dosimeter.attacks.registry import kind as attack_kind
from dosimeter.defences.base import defended_name
from dosimeter.models.backbones import get_backbone
from dosimeter.physical.registry import entry as change_entry
from dosimeter.physical.registry import kind as change_kind
from dosimeter.storage.base import kind as storage_kind


def kinds_of(
    attacks: Sequence[Attack], storages: Sequence[str], models: Sequence[str], defences: Sequence[str] = ()
) -> dict[str, Any]:
    """Return what a run tells of its attacks, storages and models, each behind each defence too (see `kinds.Kinds`)."""
    systems = [(model, _title(model)) for model in models]
    systems += [(defended_name(name, text), f"{title} + {text}") for name, title in systems for text in defences]
    return {
        "attacks": [attack_kind(each) for each in {attack.name: attack for attack in attacks}.values()],
        "storages": [storage_kind(name) for name in storages],
        "models": [{"name": name, "title": title} for name, title in systems],
    }


def changes_of(presets: Sequence[Preset], constants: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return what a run tells of its physical changes, and of the constants that were not declared."""
    return [
        change_kind(preset.name, change_entry(preset.name), preset.severities, constants)
        for preset in presets
        if preset.is_physical
    ]


def _title(model: str) -> str:
    """Return a network's name as people write it: a backbone's own, else the name that its user gave it."""
    return get_backbone(model).title if model in registry.names("backbones") else model
