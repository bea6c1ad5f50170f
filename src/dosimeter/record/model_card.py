"""A model card: a TOML file that says what a trained network is and how it wants its images. No torch here."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from dosimeter.errors import DosimeterError, did_you_mean
from dosimeter.files import json_in, read_toml
from dosimeter.plain import named, shown
from dosimeter.record.resizing import Interpolation, Resize

Finite = Annotated[float, Field(allow_inf_nan=False)]
MAX_SIDE_PX = 4096
NETWORK_FILES = (".keras", ".h5", ".hdf5", ".onnx", ".pt", ".pth", ".pt2", ".safetensors")
"""How names of networks' files end: told here, because a `Source`, which knows its own, needs torch."""

SHORTHANDS = {name: name for name in ("timm", "torchvision", "monai", "python")} | {"xrv": "torchxrayvision"}
"""What stands before a colon, where `dosimeter init` takes a name -> source; behind it the architecture."""


def _as_size(value: object) -> object:
    """Return a number, or a list of height and width as a tuple; what is neither is refused."""
    sides = value if isinstance(value, list | tuple) else [value]
    whole = all(isinstance(side, int) and not isinstance(side, bool) and 1 <= side <= MAX_SIDE_PX for side in sides)
    if not whole or len(sides) not in (1, 2):
        raise ValueError(f"it must be a number from 1 to {MAX_SIDE_PX}, or [height, width] of such, got {shown(value)}")
    return tuple(sides) if len(sides) == 2 else sides[0]


Size = Annotated[int | tuple[int, int], BeforeValidator(_as_size)]


class Reference(BaseModel):
    """What a model is known to answer about an image: whoever trained it says so, and it is checked before all else.

    Attributes:
        image: a file, beside the card unless it is absolute.
        scores: what the network itself gives, as `outputs` says: logits, or probabilities.
        probabilities: instead, a probability for each class or finding.
        tolerance: how far each number may be off; by default 0.01 for probabilities, 0.1 for logits.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: Path
    scores: Annotated[tuple[Finite, ...], Field(min_length=1)] | None = None
    probabilities: tuple[Annotated[float, Field(ge=0, le=1)], ...] | None = None
    tolerance: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.scores is None) == (self.probabilities is None):
            raise ValueError("a reference must have scores or probabilities, one of them")
        return self


class Endpoint(BaseModel):
    """How a classifier behind HTTP is asked: each image with a POST of its own.

    Attributes:
        url: where.
        send: what of an image: "png", of 8 bits; "png16", grey, of 16; "json", {"image": [[[...]]]} of floats.
        field: the form field that a PNG stands in; "": the PNG is the whole body.
        answer: where in its JSON the answer stands, as "predictions.0.scores"; "": it is the whole.
        budget: queries at most, in all sessions together, beside the few that name it in each.
        per_second: queries at most.
        timeout_s: how long one may take.
        retries: tries after the first, where the endpoint is down, busy or too slow.
        token: the environment variable that holds a bearer token.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Annotated[str, Field(pattern=r"^https?://[^\s@]+$")]
    send: Literal["png", "png16", "json"] = "png"
    field: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]*$")] = ""
    answer: str = ""
    budget: Annotated[int, Field(ge=1)] = 100_000
    per_second: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 30.0
    retries: Annotated[int, Field(ge=0, le=100)] = 3
    token: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$|^$")] = ""


LIMITS = {"endpoint": {"budget", "per_second", "timeout_s", "retries", "token"}}
"""Keys of a card that only limit how an endpoint is asked: what it answers is the same."""


class ModelCard(BaseModel):
    """What cannot be read from a network's file, declared by who brings it.

    Attributes:
        name: of the model, in tables and reports.
        source: what the network is built by (`dosimeter list sources`).
        architecture: the source's name for it: of torchvision and timm a network, of python MODULE:FUNCTION.
        arguments: of the network's constructor, for sources that take them (monai, timm, python).
        weights: its file, beside the card unless it is absolute; the source says which kinds it reads.
        random_weights: a network without weights of its own, to try the instrument.
        classes: names, in the order of its outputs; of outputs "findings" those of the findings.
        positive: the class that counts as positive, if one does.
        size_px: side of its square input, or [height, width].
        resize: how an image gets that size, as it did when the network was trained: "squash" (the default), "crop" or
            "letterbox" (see `cohorts.grids.Grid`).
        interpolation: "bilinear" (the default), "nearest", "box", "bicubic" or "lanczos".
        antialias: whether an image that shrinks is averaged, as Pillow does; by default true.
        crop_pct: the share of the resized image that is kept, its middle; by default 1.
        channels: 1 for a network of grey images; it gets the mean of the three planes.
        scale: white, as it was trained: 1 or 255.
        mean, std: by channel, on that scale, in the network's own order of channels.
        channel_order: that order.
        outputs: logits or probabilities, one for each class, or one of the positive class alone; findings: a logit
            for each of several findings, which an image may have or not; labels: a class alone, without scores.
        thresholds: of findings, the probability from which each counts as there; by default 0.5.
        licence: of the weights.
        note: what readers of the report should know.
        reference: predictions that are known, checked first.
        endpoint: of the source http.
        trained_on: a file, beside the card, of the SHA-256 of every image that it was trained on, a line each: an audit
            leaves these images out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._ +-]{0,63}$")]
    source: str
    architecture: str = ""
    arguments: dict[str, Any] = Field(default_factory=dict)
    weights: Path | None = None
    random_weights: bool = False
    classes: Annotated[tuple[str, ...], Field(min_length=2)]
    positive: str | None = None
    size_px: Size | None = None
    resize: Resize | None = None
    interpolation: Interpolation | None = None
    antialias: bool | None = None
    crop_pct: Annotated[float, Field(gt=0, le=1)] | None = None
    channels: Literal[1, 3] = 3
    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    mean: tuple[Finite, Finite, Finite] | None = None
    std: tuple[Finite, Finite, Finite] | None = None
    channel_order: Literal["rgb", "bgr"] = "rgb"
    outputs: Literal["logits", "probabilities", "one logit", "one probability", "findings", "labels"] = "logits"
    thresholds: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()
    licence: str = "not stated"
    note: str = ""
    reference: tuple[Reference, ...] = ()
    endpoint: Endpoint | None = None
    trained_on: Path | None = None

    @property
    def n_outputs(self) -> int:
        """How many outputs its network has."""
        return 1 if self.outputs.startswith("one ") or self.outputs == "labels" else len(self.classes)

    @property
    def access(self) -> str:
        """What an attacker has of it, as far as the card tells: "gradients", "scores" or "decisions"."""
        if self.outputs == "labels":
            return "decisions"
        return "scores" if self.source == "http" else "gradients"

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes must differ, got {list(self.classes)}")
        if self.positive is not None and self.positive not in self.classes:
            raise ValueError(f"positive must be one of the classes {list(self.classes)}, got '{self.positive}'")
        if self.outputs.startswith("one ") and len(self.classes) != 2:
            raise ValueError(f"outputs '{self.outputs}' must have two classes, got {len(self.classes)}")
        if self.thresholds and (self.outputs != "findings" or len(self.thresholds) != len(self.classes)):
            raise ValueError("thresholds must be one for each of several findings")
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std must be given together")
        if self.std is not None and not all(value > 0 for value in self.std):
            raise ValueError(f"std must be above 0, got {list(self.std)}")
        if self.weights is not None and self.random_weights:
            raise ValueError("weights and random_weights exclude each other")
        return self


def read_model_card(path: Path) -> ModelCard:
    """Return the card in a TOML file; its files and the images of its references become paths from here.

    Raises:
        DosimeterError: the file cannot be read, or a key or value is none of a card.
    """
    card = checked(read_toml(path, "model card"), f"the model card {named(path)}")
    here = path.parent
    known = tuple(each.model_copy(update={"image": here / each.image}) for each in card.reference)
    weights = None if card.weights is None else here / card.weights
    digests = None if card.trained_on is None else here / card.trained_on
    return card.model_copy(update={"weights": weights, "reference": known, "trained_on": digests})


def checked(facts: dict[str, Any], where: str) -> ModelCard:
    """Return the card of these facts.

    Raises:
        DosimeterError: a key or a value is none of a card; the sentence begins with `where`.
    """
    for key in facts:
        if key not in ModelCard.model_fields:
            raise DosimeterError(
                f"{where} has the key '{named(key)}', which is not known. {did_you_mean(key, ModelCard.model_fields)}"
            )
    try:
        return ModelCard.model_validate(facts)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"][: 3 if first["loc"][:1] == ("reference",) else 2])
        rule = first["msg"].removeprefix("Value error, ").replace("Input should be", "it must be")
        rule = "it must be there" if rule == "Field required" else rule
        got = "" if first["type"] in ("missing", "value_error") else f", got {shown(first['input'])}"
        said = f"{key}: {rule}" if key else rule
        raise DosimeterError(f"{where}: {said}{got}.") from error


DEFENDED = "defended.json"
"""The card of a defended classifier in its folder (see `defences.saved`)."""

MEMORY = "memory:"
"""What begins the name of a classifier or a cohort that a Python session brings (see `study.subjects`)."""


def is_brought(model: str) -> bool:
    """Whether a name means a trained network: a model card, a saved classifier, or one of a Python session."""
    spelt = model.startswith(MEMORY) or model.endswith(".toml") or "/" in model or "\\" in model or lacks_card(model)
    return spelt or Path(model, "card.json").is_file() or is_defended(model)


def is_defended(model: str) -> bool:
    """Whether a name means a folder with a defended classifier."""
    return Path(model, DEFENDED).is_file()


def undefended_name(model: str) -> str:
    """Return what tables call the model that a defended classifier was, "" if it is none."""
    return str(_defended_facts(model)["name"]) if is_defended(model) else ""


def _defended_facts(model: str) -> dict[str, Any]:
    try:
        facts = json_in(Path(model, DEFENDED))
        return {"name": str(facts["name"]), "defence": str(facts["defence"])}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DosimeterError(f"{named(Path(model).name)} is damaged: {DEFENDED} cannot be read.") from error


def lacks_card(model: str) -> bool:
    """Whether that is a network's file, or a name that only `dosimeter init` knows: what needs a card."""
    return model.endswith(NETWORK_FILES) or (":" in model and model.partition(":")[0] in SHORTHANDS)


def trained_on(model: str) -> frozenset[str]:
    """Return the SHA-256 of every image that a trained network was trained on, as far as its card tells.

    Raises:
        DosimeterError: the file that tells it cannot be read.
    """
    file = read_model_card(Path(model)).trained_on if model.endswith(".toml") else None
    if is_defended(model):
        file = Path(model, "trained")
    if file is None:
        return frozenset()
    try:
        return frozenset(file.read_text(encoding="ascii").split())
    except (OSError, ValueError) as error:
        raise DosimeterError(
            f"trained_on of {named(Path(model).name)} must name a file of digests, a line each, beside the card; "
            f"{named(file.name)} cannot be read so."
        ) from error


def access_of(model: str) -> str:
    """Return what an attacker has of a trained network, as far as its name and card tell."""
    return read_model_card(Path(model)).access if model.endswith(".toml") else "gradients"


def name_of(model: str) -> str:
    """Return what tables call a model: its own name, or that in its card.

    Raises:
        DosimeterError: it needs a card, or has one that cannot be read.
    """
    if lacks_card(model):
        raise DosimeterError(
            f"model must be a model card, which says what {named(model)} does not: dosimeter init {named(model)} DATA "
            "writes one."
        )
    if not is_brought(model) or model.startswith(MEMORY):
        return model.removeprefix(MEMORY)
    if is_defended(model):
        return "{name} + {defence}".format(**_defended_facts(model))
    return read_model_card(Path(model)).name if model.endswith(".toml") else Path(model).name
