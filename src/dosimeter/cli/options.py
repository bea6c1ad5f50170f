"""What commands share that take a study's settings as options."""

import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from dosimeter.cli import completion
from dosimeter.cli.lines import say
from dosimeter.errors import DosimeterError
from dosimeter.plain import named, shown
from dosimeter.study.config import StudyConfig, load_config

PHANTOM_WARNING = (
    "PHANTOM DATA: these are computed thoraxes, not patients. The numbers show that the instrument works and nothing "
    "else. Set DOSIMETER_DATA or --data to a folder of real images (see `dosimeter data fetch`)."
)


def warn_of_phantoms(settings: StudyConfig) -> None:
    """Say loudly that the images are computed, if any are."""
    if settings.resolved().is_phantom:
        say("=" * 80, PHANTOM_WARNING, "=" * 80, error=True, urgent=True)


def described(name: str) -> str:
    """Return what a setting is, for the help of its option."""
    return StudyConfig.model_fields[name].description or ""


def setting(name: str, *flags: str, also: str = "", completion: Callable[[str], Any] | None = None) -> Any:
    """Return the option of a setting: its help is the setting's own."""
    return typer.Option(*flags, help=described(name) + also, autocompletion=completion)


Names = list[str] | None

# The settings that several commands take, each once.
AllowFlat = Annotated[bool, setting("allow_flat", "--allow-flat")]
Attacks = Annotated[Names, setting("attack", completion=completion.attacks)]
Classes = Annotated[Names, setting("classes")]
Cohorts = Annotated[Names, setting("cohort", completion=completion.cohorts)]
Constants = Annotated[Names, setting("constants")]
Data = Annotated[Path | None, setting("data")]
DeclaredAccuracy = Annotated[Names, setting("declared_accuracy", also=", as NAME=SHARE")]
Defences = Annotated[Names, setting("defence", completion=completion.defences)]
Device = Annotated[str | None, setting("device")]
Effort = Annotated[str | None, setting("effort", completion=completion.efforts)]
Engine = Annotated[str | None, setting("engine", completion=completion.engines)]
Epochs = Annotated[int | None, setting("epochs")]
Epsilons = Annotated[str | None, setting("epsilons")]
Findings = Annotated[Names, setting("findings")]
Given = Annotated[str | None, setting("given")]
Group = Annotated[str | None, setting("group")]
LabelTag = Annotated[str | None, setting("label_tag")]
Labels = Annotated[Path | None, setting("labels")]
Limit = Annotated[int | None, setting("limit")]
Modality = Annotated[str | None, setting("modality")]
Models = Annotated[Names, setting("model", completion=completion.models)]
Native = Annotated[bool | None, setting("native", "--native")]
Out = Annotated[Path | None, setting("out")]
Patients = Annotated[str | None, setting("patients")]
Positive = Annotated[str | None, setting("positive")]
Protocols = Annotated[Names, setting("protocol", completion=completion.protocols)]
RandomWeights = Annotated[bool, typer.Option("--random-weights", help="leave a network given by its name untrained")]
Seed = Annotated[int | None, setting("seed")]
Severities = Annotated[str | None, setting("severities")]
Storages = Annotated[Names, setting("storages", completion=completion.storages)]
Target = Annotated[str | None, setting("target")]
TestLimit = Annotated[int | None, setting("test_limit")]
Transfer = Annotated[bool | None, setting("transfer", "--transfer")]
Trust = Annotated[bool, setting("trust", "--trust")]
TunedOnTest = Annotated[str | None, setting("tuned_on_test")]
Visibility = Annotated[str | None, setting("visibility")]
Workers = Annotated[int | None, setting("workers")]


def shown_command(arguments: list[str], settings: StudyConfig, config: Path | None) -> str:
    """Return the command line without the folders it names: a folder may name a person, and the report shows it."""
    paths = [settings.data, settings.out, settings.mask, settings.labels, config, *settings.weights.values()]
    paths += [Path(name.partition(":")[2]) for name in settings.cohort if ":" in name]
    paths += [Path(name) for name in settings.model if settings.brought]
    shown = [re.sub(f"{re.escape(os.sep)}+", lambda _: os.sep, argument) for argument in arguments]
    for path in paths:
        if path is not None and path.parent != Path():
            shown = [argument.replace(f"{path.parent}{os.sep}", f"...{os.sep}") for argument in shown]
    return shlex.join(["dosimeter", *shown])


def joined(values: list[str] | None) -> str | None:
    """Return a repeated option as the comma-separated text that settings take.

    Of an empty text, as an unset variable of a shell gives, nothing is taken.

    Raises:
        DosimeterError: it names nothing.
    """
    text = ",".join(filter(None, values or ())) or None
    if text is not None and not text.replace(",", "").strip():
        raise DosimeterError(f"an option that takes names must have one, got '{named(text)}'. Leave the option out.")
    return text


def settings_of(config: Path | None = None, **options: Any) -> StudyConfig:
    """Return the settings that options ask for, a list of names as settings take it (see `joined`)."""
    given = {name: joined(value) if isinstance(value, list) else value for name, value in options.items()}
    return load_config(config, **given)


def meaning(
    *,
    positive: str | None,
    findings: list[str] | None,
    classes: list[str] | None,
    labels: Path | None,
    label_tag: str | None,
) -> dict[str, Any]:
    """Return what options say of the meaning of labels, as `load_cohort` takes it."""
    return {
        "positive": positive,
        "labels": labels,
        "label_tag": label_tag,
        **names_of(findings=findings, classes=classes),
    }


def names_of(**options: list[str] | None) -> dict[str, Any]:
    """Return options that take names, several times or with commas, as tuples."""
    return {
        option: tuple(name.strip() for value in values or () for name in value.split(",") if name.strip())
        for option, values in options.items()
    }


def repeated(**options: object) -> list[str]:
    """Return options as arguments of another command, with what was given of them alone."""
    said = {name: ",".join(value) if isinstance(value, tuple) else value for name, value in options.items()}
    return [word for name, value in said.items() if value for word in (f"--{name.replace('_', '-')}", str(value))]


def pairs(values: list[str] | None, rule: str, example: str) -> dict[str, str] | None:
    """Return the NAME=VALUE of an option as a mapping."""
    if values is None:
        return None
    pairs = [value.partition("=") for value in values]
    for name, equals, value in pairs:
        if not (name and equals and value):
            raise typer.BadParameter(f"{rule}, got '{named(name + equals + value)}'. Try {example}.")
    return {name: value for name, _, value in pairs}


def constants_of(values: list[str] | None) -> dict[str, str] | None:
    """Return the constants of an apparatus that `--constant` declares."""
    return pairs(values, "--constant takes NAME=NUMBER", "quanta=300000")


def triple(text: str | None, name: str) -> tuple[float, ...] | None:
    """Return three numbers by channel from "0.5", which is that of each, or "0.485,0.456,0.406"; None from None.

    Raises:
        DosimeterError: it is neither one number nor three.
    """
    if text is None:
        return None
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if len(found) not in (1, 3):
        raise DosimeterError(f"{name} must be one number, or three with commas, got {shown(text)}: give 0.5, say.")
    return found * (3 // len(found))
