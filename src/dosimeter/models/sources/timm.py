"""A network of timm's, with weights from a file; its data config is read, not guessed."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from dosimeter.cohorts.grids import FILTERS
from dosimeter.errors import DosimeterError, did_you_mean, in_a_line
from dosimeter.models.source import Brought, Source, size_of
from dosimeter.models.tensors import fill_tensors, seeded
from dosimeter.record.model_card import ModelCard


def load(card: ModelCard) -> Brought:
    """Return the network of `card.architecture` with an output for each class, nothing fetched."""
    try:
        import timm
    except ImportError as error:
        raise DosimeterError("the source timm needs the package timm: pip install 'dosimeter[timm]'.") from error
    known = timm.list_models()
    if card.architecture not in known:
        raise DosimeterError(
            f"architecture '{card.architecture}' is none of timm's. {did_you_mean(card.architecture, known)}"
        )

    for argument in ("pretrained", "checkpoint_path", "num_classes", "in_chans"):
        if argument in card.arguments:
            raise DosimeterError(
                f"arguments of {card.architecture} must not have {argument}: the card says it elsewhere."
            )

    def build(**options: Any) -> nn.Module:
        options |= card.arguments | {"num_classes": card.n_outputs, "in_chans": card.channels}
        made: nn.Module = timm.create_model(card.architecture, pretrained=False, **options)
        return made

    try:
        try:
            network = seeded(lambda: build(**({} if card.size_px is None else {"img_size": card.size_px})))
        except TypeError:  # a convolutional network, which takes images of any size
            network = seeded(build)
    except Exception as error:  # constructors raise nearly anything about arguments
        raise DosimeterError(
            f"{card.architecture} cannot be made of the card's size_px and arguments ({in_a_line(error)[:160]})."
        ) from error
    fill_tensors(network, card)
    config = timm.data.resolve_data_config({}, model=network)
    return Brought(
        network,
        size_px=card.size_px or _size(config["input_size"]),
        **_resize(config),
        mean=tuple(float(value) for value in config["mean"]),
        std=tuple(float(value) for value in config["std"]),
        built_by=f"timm {timm.__version__}",
        note=_left_out(config),
    )


def _size(input_size: Sequence[int]) -> int | tuple[int, int]:
    return size_of(int(input_size[-2]), int(input_size[-1]), "timm's data config")


def _resize(config: dict[str, Any]) -> dict[str, Any]:
    """Return how timm's own evaluation resizes an image, as its data config says.

    Source: timm.data.transforms_factory.transforms_imagenet_eval.
    """
    mode = config.get("crop_mode") or "center"
    kind = str(config.get("interpolation") or "bilinear")
    how: dict[str, Any] = {"resize": {"center": "crop", "border": "letterbox"}.get(mode, "squash")}
    how["interpolation"] = kind if kind in FILTERS else "bilinear"
    how["crop_pct"] = float(config.get("crop_pct") or 0.875)
    return how


def _left_out(config: dict[str, Any]) -> str:
    """Return what timm's own evaluation does otherwise than a grid."""
    return "timm's own evaluation lays an image on the mean colour; here on black." * (
        config.get("crop_mode") == "border"
    )


ENTRY = Source(
    "a network of timm's (architecture), tensors in .safetensors, .pt or .pth",
    load,
    takes_arguments=True,
    needs_tensors=True,
)
