"""The study's settings: one model for TOML files and command-line options alike. No torch here."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError, model_validator

from dosimeter import registry
from dosimeter.errors import DosimeterError, did_you_mean
from dosimeter.files import read_toml
from dosimeter.plain import is_utf8, named, one_line, shown
from dosimeter.record.model_card import LIMITS, MEMORY, is_brought, name_of, read_model_card, undefended_name
from dosimeter.study.rules import check_native, costly_epsilons
from dosimeter.study.settings import PHANTOM_COHORTS, PHANTOM_LIMIT, REAL_COHORTS, Settings

_NOT_RESULTS = {"out", "data", "mask", "executor", "address", "workers", "allow_flat", "trust"}

_LATER = (
    *("patients", "defence", "group", "data_audit", "tuned_on_test", "findings", "classes", "labels", "label_tag"),
    *("train_patients", "severities", "constants", "modality", "left_out", "given"),
)
"""Settings that came later than the first runs: at their default they do not count, so that these keep their names."""


class StudyConfig(Settings):
    """Every setting of `dosimeter study`.

    In a TOML file the keys are these names; on the command line they are `--cohort`, `--model` and so on.
    """

    @model_validator(mode="after")
    def _of_one_kind(self) -> "StudyConfig":
        """Trained models are tested on every image, others train on some of them."""
        trained = [name for name in self.model if is_brought(name)]
        if trained and len(trained) < len(self.model):
            raise DosimeterError(
                f"model must be trained ones alone, or networks to train alone, got {', '.join(self.names)}. Run two."
            )
        if trained and set(self.protocol) - {"whole"}:
            raise DosimeterError(
                f"protocol must be 'whole' for trained models, got {', '.join(self.protocol)}: dosimeter does not know "
                "which images they were trained on. Bring their test images alone."
            )
        if not trained and "whole" in self.protocol:
            raise DosimeterError("protocol 'whole' trains nothing: bring trained models, or take another protocol.")
        if trained and self.repeats > 1:
            raise DosimeterError(
                f"repeats must be 1 for trained models, got {self.repeats}: nothing is drawn or trained anew."
            )
        for name in self.names:
            if self.names.count(name) > 1:
                raise DosimeterError(f"model: two are called '{name}' in the outputs. Rename one in its card.")
        return self

    @model_validator(mode="after")
    def _nothing_in_vain(self) -> "StudyConfig":
        """What is asked for and cannot be had is a mistake, not silence."""
        if not self.preset and not self.attack:
            raise DosimeterError("preset none must come with another attack. Name one with --attack.")
        attacks = registry.names("attacks") if not self.preset else ()
        if not self.preset and not any(name in attacks for name in self.attack):
            raise DosimeterError(
                f"preset none must come with an attack that has epsilons, got {', '.join(self.attack)} alone: physical "
                "changes are told beside attacks. Add --attack random_sign, say."
            )
        changes = {*registry.names("physical"), "physical"} if self.severities or self.constants else set()
        asked = {part.strip() for text in self.attack for part in text.split("+")}
        for name in ("severities", "constants"):
            if getattr(self, name) and not changes & asked and not (name == "constants" and self.given):
                raise DosimeterError(f"{name} are of physical changes, and none is asked. Name one with --attack.")
        if self.transfer and len(self.model) < 2:
            raise DosimeterError(
                f"transfer must have two models or more, got {self.model[0]} alone. Add another with --model."
            )
        for name in self.declared_accuracy:
            known = (*registry.names("backbones"), *self.names)
            model = name.partition("@")[0]
            if model not in known:
                raise DosimeterError(f"declared_accuracy for '{name}': no such model. {did_you_mean(model, known)}")
            if model not in self.names:
                raise DosimeterError(
                    f"declared_accuracy must be of a model of the study, got one of {name}. Add --model."
                )
        if self.defence and self.executor != "local":
            raise DosimeterError(f"defence must go with the executor local, got {self.executor}. Leave it out.")
        if self.seeds.stop > 2**31:
            raise DosimeterError(
                f"seed and repeats must end at seed {2**31 - 1}, got {self.seeds.stop - 1}. Take a smaller seed."
            )
        return self

    @model_validator(mode="after")
    def _writable(self) -> "StudyConfig":
        """A TOML file is UTF-8, and a run's settings are written to one."""
        for name, value in self:
            text = json.dumps(value, ensure_ascii=False, default=str)
            if not is_utf8(text):
                raise DosimeterError(f"{name} must be UTF-8, got {one_line(text)}. Rename it, or make a link to it.")
        return self

    @model_validator(mode="after")
    def _native(self) -> "StudyConfig":
        if self.native:
            check_native(mask=self.mask is not None, attacks=self.attack)
        return self

    def resolved(self) -> "StudyConfig":
        """Return the settings with every default that depends on others filled in."""
        data = self.data or (Path(os.environ["DOSIMETER_DATA"]) if os.environ.get("DOSIMETER_DATA") else None)
        cohort = self.cohort or (REAL_COHORTS if data else PHANTOM_COHORTS)
        limit = self.limit
        if limit is None and not self.cohort and not data:
            limit = PHANTOM_LIMIT
        filled = self.model_copy(update={"data": data, "cohort": tuple(dict.fromkeys(cohort)), "limit": limit})
        return filled.model_copy(update={"out": self.out or Path("runs") / filled.default_name()})

    @property
    def is_phantom(self) -> bool:
        """Whether any cohort is a phantom, whose numbers say nothing of patients."""
        return any(name.removeprefix(MEMORY).startswith("phantom-") for name in self.cohort)

    def identity(self) -> dict[str, Any]:
        """Return the settings that determine results: all but where they lie and who computes them."""
        settings = self.model_dump(mode="json", exclude=_NOT_RESULTS)
        if self.brought:
            settings["model"] = [
                f"{name} {_digest_of(model)}" for name, model in zip(self.names, self.model, strict=True)
            ]
        for name in _LATER:
            if getattr(self, name) == type(self).model_fields[name].default:
                del settings[name]
        for name, file in (("mask", self.mask), ("labels", self.labels)):
            if file is not None and file.is_file():
                settings[name] = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
        return settings

    @property
    def brought(self) -> bool:
        """Whether the models are trained ones."""
        return any(is_brought(name) for name in self.model)

    @property
    def names(self) -> tuple[str, ...]:
        """What tables call the models."""
        return tuple(name_of(model) for model in self.model)

    @property
    def shares_images(self) -> bool:
        """Whether one classifier's adversarial images are shown to others."""
        return self.transfer or bool(self.defence) or self.defends

    @property
    def defends(self) -> bool:
        """Whether a model is one of the others, defended."""
        return any(undefended_name(model) in self.names for model in self.model)

    @property
    def costly_epsilons(self) -> tuple[float, ...]:
        """The epsilons of the grid at which `visibility` asks for the costly metrics."""
        return costly_epsilons(self.epsilons, self.visibility)

    @property
    def seeds(self) -> range:
        """The seed of every repeat."""
        return range(self.seed, self.seed + self.repeats)

    def digest(self) -> str:
        """Digest of `identity`, in 12 hex digits."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()[:12]

    def default_name(self) -> str:
        """Return a folder name that the same settings always give."""
        names = "+".join(name.partition(":")[0] for name in self.cohort)
        return f"{names}-{self.digest()[:8]}"

    def to_toml(self) -> str:
        """Return the settings as a TOML file that gives them again; but for trust, which no file can give."""
        settings = self.model_dump(mode="json", exclude_none=True, exclude={"trust"})
        return tomli_w.dumps(settings | {"preset": settings["preset"] or ["none"]})


def _digest_of(model: str) -> str:
    """Return a digest of a model card, or of a saved classifier's."""
    if model.endswith(".toml") and (card := read_model_card(Path(model))).endpoint is not None:
        return hashlib.sha256(card.model_dump_json(exclude=LIMITS).encode()).hexdigest()[:12]
    file = Path(model) if model.endswith(".toml") else Path(model) / "card.json"
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12] if file.is_file() else "missing"


def load_config(path: Path | None = None, **overrides: Any) -> StudyConfig:
    """Read settings from a TOML file; `overrides` that are not None win.

    Raises:
        DosimeterError: the file cannot be read, a key is unknown (with a suggestion) or a value is out of its range.
    """
    settings: dict[str, Any] = {}
    if path is not None:
        settings = read_toml(path, "settings file")
        if settings.pop("trust", False) and not overrides.get("trust"):
            raise DosimeterError(
                f"{named(path.name)}: trust cannot stand in a file, which may be another's. Say --trust where you run "
                "it."
            )
    settings |= {key: value for key, value in overrides.items() if value is not None}
    for key in settings:
        if key not in StudyConfig.model_fields:
            raise DosimeterError(
                f"the setting '{named(key)}' is not known. {did_you_mean(key, StudyConfig.model_fields)}"
            )
    try:
        return StudyConfig(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        if first["loc"][0] == "pool":
            message = "pool must be 'whole', 'none' or a number of cells, 1 or more"
        else:
            rule = first["msg"].replace("Input should be", "it must be")
            message = f"{'.'.join(str(part) for part in first['loc'][:2])}: {rule}"
        raise DosimeterError(f"{message}, got {shown(first['input'])}.") from error
