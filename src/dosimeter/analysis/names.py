"""What people call the attacks, storages, models and classes of a table, and the order in which they are listed.

A table knows names alone. What they stand for travels with it in its facts: `of(meta)` has it in force while the run is
read, so that an attack of another package has its title, its family and its place wherever a run is shown. Runs of
before 0.2.0 do not say it; their names are in `_BEFORE`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import pandas as pd

from dosimeter.record.kinds import AttackKind, ChangeKind, Kinds, ModelKind, StorageKind

WORST_CASE = "worst case"
"""Name of what is not one attack: of each image, the attack that needed the smallest epsilon."""

PUBLISHED = "paper"
"""The preset that repeats the published study; it is shown, and bounds nothing."""

STUDY_PRESETS = (PUBLISHED, "sound")
"""The two settings of FGSM that every study has. Of a run of these alone there are no tables of attacks."""

FAMILIES = ("one step", "iterative", "minimum norm", "black box", "universal", "control")
"""Families in the order in which tables and legends list them; others follow."""

_BEFORE = Kinds(
    attacks=[
        AttackKind.model_validate(dict(name=name, title=title, family=family, access=access, rank=rank, **more))
        for rank, (name, title, family, access, more) in enumerate(
            [
                ("fgsm", "FGSM", "one step", "gradients", {}),
                ("bim", "BIM", "iterative", "gradients", {"exhaustive": True}),
                ("mi_fgsm", "MI-FGSM", "iterative", "gradients", {"exhaustive": True}),
                ("pgd", "PGD", "iterative", "gradients", {"exhaustive": True}),
                ("apgd", "APGD", "iterative", "gradients", {"exhaustive": True}),
                ("stored_pgd", "PGD for 8-bit files", "iterative", "gradients", {"aware": True}),
                ("deepfool", "DeepFool", "minimum norm", "gradients", {}),
                ("ddn", "DDN", "minimum norm", "gradients", {}),
                ("carlini_wagner", "Carlini-Wagner", "minimum norm", "gradients", {}),
                ("fmn", "FMN", "minimum norm", "gradients", {}),
                ("square", "Square", "black box", "scores", {}),
                ("hopskipjump", "HopSkipJump", "black box", "decisions", {}),
                ("universal", "universal", "universal", "gradients", {"learns": True}),
                ("random_sign", "random sign", "control", "nothing", {}),
                ("uniform_noise", "uniform noise", "control", "nothing", {}),
            ]
        )
    ],
    storages=[
        StorageKind(name=name, title=title, what=what, one_plane=one_plane, bits=bits)
        for name, title, what, one_plane, bits in [
            ("float", "floats", "not rounded", False, 0),
            ("png8", "8-bit PNG", "8-bit PNG file, written and read again", False, 8),
            ("png16", "16-bit PNG", "16-bit grey PNG file, written and read again", True, 16),
            ("jpeg95", "JPEG 95", "JPEG file of quality 95, written and read again", False, 0),
            ("jpeg90", "JPEG 90", "JPEG file of quality 90, written and read again", False, 0),
            ("jpeg75", "JPEG 75", "JPEG file of quality 75, written and read again", False, 0),
            ("dicom12", "12-bit DICOM", "DICOM file, 12 bit in 16, MONOCHROME2, written and read again", True, 12),
            ("dicom16", "16-bit DICOM", "DICOM file, 16 bit, MONOCHROME2, written and read again", True, 16),
            (
                *("dicom-mono1", "12-bit DICOM, MONOCHROME1"),
                *("DICOM file, 12 bit in 16, MONOCHROME1, written and read again", True, 12),
            ),
            (
                *("ct-hu", "CT in HU, lung window"),
                *("DICOM file in whole Hounsfield units at the lung window -600/1500, written and read again", True, 0),
            ),
        ]
    ],
    models=[ModelKind(name="vgg16", title="VGG16"), ModelKind(name="inception_v3", title="Inception-v3")],
)
"""What runs of before 0.2.0 take for granted. Nothing new is added here."""


class _Known(NamedTuple):
    attacks: Mapping[str, AttackKind]
    storages: Mapping[str, StorageKind]
    models: Mapping[str, ModelKind]
    changes: Mapping[str, ChangeKind]
    classes: Mapping[str, Sequence[str]] = {}  # by cohort


def _by_name(*all_kinds: Kinds) -> _Known:
    return _Known(
        {each.name: each for kinds in all_kinds for each in kinds.attacks},
        {each.name: each for kinds in all_kinds for each in kinds.storages},
        {each.name: each for kinds in all_kinds for each in kinds.models},
        {each.name: each for kinds in all_kinds for each in kinds.changes},
    )


_IN_FORCE: ContextVar[_Known] = ContextVar("names")
_ALWAYS = _by_name(_BEFORE)


def _known() -> _Known:
    return _IN_FORCE.get(_ALWAYS)


@contextmanager
def of(meta: Mapping[str, Any]) -> Iterator[None]:
    """Have the names that a run's facts tell in force while the block runs."""
    classes = {card["cohort"]: card.get("classes", ()) for card in meta.get("cohorts") or ()}
    known = _by_name(_BEFORE, Kinds.model_validate(meta.get("kinds") or {}))
    token = _IN_FORCE.set(known._replace(classes=classes))
    try:
        yield
    finally:
        _IN_FORCE.reset(token)


def attack_kind(name: str) -> AttackKind:
    """Return what is known of an attack, the value of a table's column `attack`."""
    return _known().attacks.get(name) or AttackKind(name=name, title=name)


def change_kind(name: str) -> ChangeKind | None:
    """Return what the run tells of a physical change, None if it tells nothing of it."""
    return _known().changes.get(name)


def change_title(name: str) -> str:
    """Return what people call a physical change."""
    found = change_kind(name)
    return (found and found.title) or name


def attack_number(name: str) -> int:
    """Return where an attack stands among all that are known, for what tells them apart in a figure."""
    known = sorted(_known().attacks, key=place)
    return known.index(name) if name in known else len(known)


def is_known(attack: str) -> bool:
    """Whether anything but its name is known of an attack."""
    return attack in _known().attacks and bool(attack_kind(attack).access)


def storage_kind(name: str) -> StorageKind:
    """Return what is known of a way to store images."""
    return _known().storages.get(name) or StorageKind(name=name, title=name, what=name)


def model_name(model: object) -> str:
    """Return a network's name as people write it."""
    found = _known().models.get(str(model))
    return (found and found.title) or str(model)


def class_name(cohort: object, label: int) -> str:
    """Return what a cohort calls the class of a label, the value of a table's columns `label` and `predicted`."""
    classes = _known().classes.get(str(cohort), ())
    return classes[label] if 0 <= label < len(classes) else f"class {label}"


def attack_title(preset: str) -> str:
    """Return what people call the attack of a preset: "carlini_wagner" is Carlini-Wagner, "sound" one of two FGSM's."""
    attack, _, source = preset.partition(" from ")
    title = f"FGSM, {attack} preset" if attack in STUDY_PRESETS else attack_kind(attack).title or attack
    return f"{title} from {model_name(source)}" if source else title


def series_name(preset: str, storage: str) -> str:
    """Return what a legend calls a preset's curve."""
    attack = preset.partition(" from ")[0]
    name = attack_title(preset) if attack == WORST_CASE or is_known(attack) else f"{preset} preset"
    return f"{name}, {storage_name(storage)}"


def storage_name(storage: str) -> str:
    """Return what people call a way to store images."""
    return storage_kind(storage).title or storage


def family(attack: str) -> str:
    """Return the family of an attack; that of an attack of which nothing is known is "other"."""
    return attack_kind(attack).family


def place(preset: str) -> tuple[int, int, int, str]:
    """Return where a preset stands among others: FGSM's own, attacks, unknown ones, the worst case; then by source."""
    attack, _, source = preset.partition(" from ")
    kind = attack_kind(attack)
    if attack in STUDY_PRESETS:
        return bool(source), -1, STUDY_PRESETS.index(attack), preset
    if attack == WORST_CASE:
        return bool(source), len(FAMILIES) + 2, 0, preset
    group = FAMILIES.index(kind.family) if kind.family in FAMILIES else len(FAMILIES) + (kind.family == "other")
    return bool(source), group, kind.rank, preset


def in_attack_order(table: pd.DataFrame, first: Sequence[str]) -> pd.DataFrame:
    """Return `table` sorted by the columns `first`, then its presets in the order of `place`, otherwise as it is."""
    ranked = {preset: index for index, preset in enumerate(sorted(table["preset"].unique(), key=place))}
    ordered = table.assign(_place=table["preset"].map(ranked).astype(int))
    return ordered.sort_values([*first, "_place"], kind="stable", ignore_index=True).drop(columns="_place")


def in_order(models: Iterable[str]) -> list[str]:
    """Return the distinct names of `models` in the order in which the run tells of them, others after them."""
    return _ordered(models, _known().models)


def storages_in_order(storages: Iterable[str]) -> list[str]:
    """Return the distinct names of `storages` in the order in which they are known, others after them."""
    return _ordered(storages, _known().storages)


def _ordered(names: Iterable[str], known: Iterable[str]) -> list[str]:
    places = {name: place for place, name in enumerate(known)}
    return sorted(set(names), key=lambda name: (places.get(name, len(places)), name))
