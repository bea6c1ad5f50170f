"""The settings of a study one by one: names, defaults, what each may be. For what they mean together see `config`."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from dosimeter import registry
from dosimeter.errors import DosimeterError, did_you_mean
from dosimeter.record.model_card import is_brought, name_of
from dosimeter.study.rules import severities_of, whole_settings
from dosimeter.units import DEFAULT_EPSILONS, parse_epsilons

PAPER_MODELS = ("vgg16", "inception_v3")
"""The published study's networks, which a study trains unless it is told otherwise."""

PROTOCOLS = ("paper", "patient", "official", "whole")
PRESETS = ("paper", "sound")
EFFORTS = ("quick", "standard", "thorough")
ENGINES = ("auto", "torch", "winograd", "ncnn", "compile")
EXECUTORS = ("local", "ray")
REAL_COHORTS = ("xray-268", "covid-ct")
PHANTOM_COHORTS = ("phantom-xray", "phantom-ct")
MOST = 10**9
"""What no count of images is above: a larger one is a slip of the hand, and arithmetic fails on it."""

VISIBILITY_EPSILONS = (0.0007, 0.003, 0.009, 0.08)
"""Where the costly metrics of visibility are measured by default: the magnitudes that the paper shows."""

PHANTOM_LIMIT = 60
"""Images of a phantom cohort in a default study, so that it ends in minutes; the paper's have 268 and 746."""


def _several(value: Any) -> Any:
    """Accept "a, b" as a person types it for a list."""
    return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_several)]


class Settings(BaseModel):
    """Each setting, held against its own rule alone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cohort: Names = Field((), description="cohorts; empty: the real ones if `data` is known, else phantoms")
    model: Names = Field(
        PAPER_MODELS, description="networks to transfer-learn, or trained ones: model cards (.toml), saved classifiers"
    )
    trust: bool = Field(False, description="let a model card run the code that it names")
    protocol: Names = Field(
        (), description="paper, patient, official, or of trained models whole: every image is tested; empty: what fits"
    )
    preset: Names = Field(
        PRESETS, description="settings of FGSM: paper, as published, and sound, whose loss does not vanish; or none"
    )
    attack: Names = Field(
        (),
        description="further attacks, or `all` (see `dosimeter list attacks`), and physical changes, or `physical` "
        "(see `dosimeter list physical`)",
    )
    severities: dict[str, tuple[float | str, ...]] = Field(
        {},
        description='severities of a physical change, as "1,0.5,0.25"; of several "dose_fraction=1,0.5;rotation=0,5"',
    )
    constants: dict[str, float] = Field(
        {}, description="constants of the apparatus that physical changes need, NAME=NUMBER (docs/physical.md)"
    )
    modality: Literal["xray", "ct"] | None = Field(
        None, description="xray or ct: what the images are, of cohorts that do not say it; physical changes need it"
    )
    effort: str = Field("standard", description="how long these attacks search: quick, standard or thorough")
    storages: Names = Field(
        (), description="files that perturbed images are written to and read from (see `dosimeter list storages`)"
    )
    fill: bool | None = Field(
        None,
        description="an attack goes on to the strongest image within each epsilon, instead of stopping at the first "
        "that fools the classifier; default: where images are stored or shown to other models",
    )
    defence: Names = Field(
        (),
        description="defences; the classifier is attacked with each of them and without: NAME, NAME:SETTING, or "
        "several as A+B (see `dosimeter list defences`)",
    )
    transfer: bool = Field(False, description="also ask every other model about each model's adversarial images")
    target: str | None = Field(None, description="the class that images should be given; default: any but their own")
    mask: Path | None = Field(None, description="image file of the network's size, white where a pixel may move")
    native: bool = Field(False, description="attack images at their own size, before they are resized for the network")
    bits: int | None = Field(None, description="bits of a file: perturbed pixels keep to its grey levels")
    declared_accuracy: dict[str, float] = Field(
        {}, description="accuracy that you state for MODEL, or MODEL@COHORT; a check compares the measured one with it"
    )
    epsilons: tuple[float, ...] = Field(
        DEFAULT_EPSILONS,
        description='perturbation budgets, fractions of the range from black to white, as 0.003 or "4/255"',
    )
    visibility: tuple[float, ...] | Literal["all", "none"] = Field(
        VISIBILITY_EPSILONS, description="epsilons at which SSIM, MS-SSIM and HaarPSI are measured, `all` or `none`"
    )
    seed: int = Field(
        0,
        ge=0,
        lt=2**31,
        description="seed of all random numbers: the split, the head's initial values, batches, dropout and attacks",
    )
    repeats: int = Field(
        1,
        ge=1,
        le=1000,
        description="number of seeds, from `seed` on; the study splits, trains and attacks anew with each",
    )
    data: Path | None = Field(None, description="folder of the real images; default: $DOSIMETER_DATA")
    out: Path | None = Field(None, description="the run's folder; default: runs/ and a name from the settings")
    limit: int | None = Field(None, ge=10, le=MOST, description="most images taken of each cohort")
    test_limit: int | None = Field(
        None,
        ge=2,
        le=MOST,
        description="most test images attacked in each split, drawn at random; training does not change",
    )
    train_patients: int | None = Field(
        None,
        ge=2,
        le=MOST,
        description="patients whose images are trained on in each split, drawn at random; testing does not change",
    )
    given: str | None = Field(
        None,
        description="a physical change of every test image before it is attacked or asked about, as "
        "dose_fraction=0.25; in pixels of the files",
    )
    left_out: str | None = Field(
        None, description="a source of the images: it alone is tested, the others are trained on (dosimeter shift)"
    )
    strict: bool = Field(
        False, description="stop at an image that is unreadable, has two labels or is on both sides of a split"
    )
    allow_flat: bool = Field(False, description="go on although many images use next to nothing of their grey range")
    patients: Literal["list", "dicom"] = Field(
        "list",
        description="how images of one patient are known: list, by the cohort's list; dicom, by PatientID where it "
        "is silent",
    )
    group: Literal["patient", "duplicates"] = Field(
        "patient",
        description="what a split keeps on one side and intervals take as one: patient; or duplicates, patients united "
        "where their images are near duplicates",
    )
    data_audit: bool = Field(False, description="audit the images too: near duplicates, shortcuts, outliers, sizes")
    tuned_on_test: Literal["yes", "no"] | None = Field(
        None, description="yes or no: whether choices (thresholds, epochs, models) were made on the test images"
    )
    positive: str | None = Field(None, description="the positive class of a folder: or csv: cohort")
    findings: Names = Field(
        (),
        description="columns of a list, one a finding, with 1, 0 or nothing; for an archive (npz:) the findings' names",
    )
    classes: Names = Field((), description="names of the labels 0, 1 ... of an archive (npz:)")
    labels: Path | None = Field(None, description="CSV file that lists the files of a folder: cohort")
    label_tag: str | None = Field(
        None, description="keyword of the DICOM tag that is the label in a folder: cohort, such as ViewPosition"
    )
    weights: dict[str, Path] = Field({}, description="files of base weights by network")
    preprocessing: Literal["source", "torchvision", "caffe", "minus1to1", "unit"] = Field(
        "source", description="how pixels are scaled for the network's base; source: as when its weights were trained"
    )
    pool: Literal["whole", "none"] | Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None, description="side of the average pooling before the head, or whole or none; default: the paper's"
    )
    epochs: int = Field(25, ge=1, le=1_000_000, description="training epochs")
    batch_size: int = Field(8, ge=1, le=MOST, description="images in a training batch")
    learning_rate: float = Field(1e-3, gt=0, allow_inf_nan=False, description="Adam's initial learning rate")
    decay: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="decay of the learning rate by epoch; default: learning_rate / epochs",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="where networks run; auto: a GPU if any")
    engine: str = Field(
        "auto",
        description="what computes the network's answers (`dosimeter list engines`); auto: the fastest that agrees "
        "with torch",
    )
    executor: str = Field(
        "local", description="where images are attacked; local: on this machine's cores; ray: on a cluster"
    )
    address: str = Field("auto", description="address of the Ray cluster; auto: the one this machine belongs to")
    workers: int | None = Field(
        None,
        ge=1,
        le=65_536,
        description="groups of images attacked at once, a thread each; default: one for each core, 4 on a GPU",
    )

    @field_validator("epsilons", mode="before")
    @classmethod
    def _epsilons(cls, value: Any) -> tuple[float, ...]:
        return parse_epsilons(value if isinstance(value, str | list | tuple) else [value])

    @field_validator("visibility", mode="before")
    @classmethod
    def _visibility(cls, value: Any) -> tuple[float, ...] | str:
        if isinstance(value, str) and value.strip() in ("all", "none"):
            return value.strip()
        doses = parse_epsilons(value if isinstance(value, str | list | tuple) else [value])
        return tuple(dose for dose in doses if dose)

    @field_validator("engine", "executor", "effort")
    @classmethod
    def _one_of(cls, value: str, info: Any) -> str:
        choices = {"engine": ENGINES, "executor": EXECUTORS, "effort": EFFORTS}[info.field_name]
        if value not in choices:
            raise DosimeterError(f"{info.field_name} '{value}' is not known. {did_you_mean(value, choices)}")
        return value

    @field_validator("model", "protocol", "preset")
    @classmethod
    def _known(cls, value: tuple[str, ...], info: Any) -> tuple[str, ...]:
        known = {"protocol": PROTOCOLS, "preset": PRESETS}
        choices = registry.names("backbones") if info.field_name == "model" else known[info.field_name]
        if info.field_name == "preset" and value == ("none",):
            return ()
        for name in value:
            if info.field_name == "model" and is_brought(name):
                name_of(name)  # a card that cannot be read is a mistake of now
            elif name not in choices:
                raise DosimeterError(f"{info.field_name} '{name}' is not known. {did_you_mean(name, choices)}")
        if info.field_name != "protocol" and not value:
            raise DosimeterError(f"{info.field_name} must name at least one of: {', '.join(choices)}.")
        return tuple(dict.fromkeys(value))

    @field_validator("attack")
    @classmethod
    def _attacks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        known = registry.names("attacks")
        choices = (*known, "all", *registry.names("physical"), "physical")
        for name in (part.strip() for text in value for part in text.split("+")):
            if name not in choices:
                raise DosimeterError(f"attack '{name}' is not known. {did_you_mean(name, choices)}")
        return tuple(dict.fromkeys(each for name in value for each in (known if name == "all" else (name,))))

    @field_validator("severities", mode="before")
    @classmethod
    def _severities(cls, value: Any) -> Any:
        return severities_of(value)

    @field_validator("storages")
    @classmethod
    def _storages(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        known = registry.names("storages") if value else ()
        for name in value:
            if name not in known:
                raise DosimeterError(f"storage '{name}' is not known. {did_you_mean(name, known)}")
        return tuple(dict.fromkeys(("float", *value))) if value else ()  # what survives is told against floats

    @field_validator("defence")
    @classmethod
    def _defences(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        value = tuple(whole_settings(value))
        known = registry.names("defences") if value else ()
        for name in (part.strip().partition(":")[0] for text in value for part in text.split("+")):
            if name not in known:
                raise DosimeterError(f"defence '{name}' is not known. {did_you_mean(name, known)}")
        return tuple(dict.fromkeys(value))

    @field_validator("declared_accuracy")
    @classmethod
    def _accuracies(cls, value: dict[str, float]) -> dict[str, float]:
        for name, share in value.items():
            if not 0 <= share <= 1:
                meant = f" Did you mean {share / 100:g}?" if 1 < share <= 100 else ""
                raise DosimeterError(f"declared_accuracy must be a share from 0 to 1, got {share} for {name}.{meant}")
        return value

    @field_validator("weights")
    @classmethod
    def _weights(cls, value: dict[str, Path]) -> dict[str, Path]:
        for name in value:
            known = registry.names("backbones")
            if name not in known:
                raise DosimeterError(f"weights for '{name}': no such model. {did_you_mean(name, known)}")
        return value
