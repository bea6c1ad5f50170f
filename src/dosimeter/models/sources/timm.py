"""A network of timm's, with weights from a file; its data config is read, not guessed."""

from typing import Any

from torch import nn

from dosimeter.errors import DosimeterError, did_you_mean
from dosimeter.models.source import Brought, Source, fill_tensors, seeded
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

    def build(**options: int) -> nn.Module:
        made: nn.Module = timm.create_model(card.architecture, pretrained=False, num_classes=card.n_outputs, **options)
        return made

    try:
        network = seeded(lambda: build(**({} if card.size_px is None else {"img_size": card.size_px})))
    except TypeError:  # a convolutional network, which takes images of any size
        network = seeded(build)
    fill_tensors(network, card)
    config = timm.data.resolve_data_config({}, model=network)
    return Brought(
        network,
        size_px=card.size_px or int(config["input_size"][-1]),
        mean=tuple(float(value) for value in config["mean"]),
        std=tuple(float(value) for value in config["std"]),
        built_by=f"timm {timm.__version__}",
        note=_resized(config),
    )


def _resized(config: dict[str, Any]) -> str:
    """Return what timm's own evaluation does to an image before the network, where that is another thing than here."""
    crop, kind = float(config.get("crop_pct") or 1), str(config.get("interpolation", "bilinear"))
    if crop == 1 and kind == "bilinear":
        return ""
    cropped = f" and takes the middle {crop:g} of it" if crop < 1 else ""
    return f"timm's own evaluation resizes an image by {kind}{cropped}; here it is squashed to a square, bilinear."


ENTRY = Source("a network of timm's (architecture), tensors in .safetensors, .pt or .pth", load)
