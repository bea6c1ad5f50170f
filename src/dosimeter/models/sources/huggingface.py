"""A local folder of a Hugging Face image classifier: its JSON files say how images must look. Nothing is fetched."""

import os
import re
from pathlib import Path
from typing import Any

from torch import nn

from dosimeter.errors import DosimeterError, in_a_line
from dosimeter.files import digest_of, read_json_object
from dosimeter.models.outputs import Output
from dosimeter.models.source import Brought, Source, size_of
from dosimeter.plain import named, shown
from dosimeter.record.model_card import ModelCard

RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box"}
"""Pillow's numbers of filters, as a preprocessor_config.json has them."""

IMAGES = "preprocessor_config.json"
MULTI_LABEL = "multi_label_classification"
WARPED_PX = 384  # ConvNeXT's own rule: from this size on nothing is cropped


def load(card: ModelCard) -> Brought:
    """Return the network in the folder `card.weights`, and what its files say of size, normalisation and labels.

    Raises:
        DosimeterError: transformers is missing, the folder is none, lacks tensors, needs code of its own, or
            contradicts the card.
    """
    folder = folder_of(card)
    config, images = read(folder, "config.json"), read_images(folder)
    classes = labels(config)
    _check(card, config, images)
    network = _network(folder)
    import transformers

    built_by = f"transformers {transformers.__version__}, {type(network).__name__}"
    return Brought(
        nn.Sequential(network, Output("logits")),
        **how_of(images, folder, card),
        classes=classes,
        built_by=built_by,
        identity=f"{digest_of(folder)} by {built_by}",
    )


def folder_of(card: ModelCard) -> Path:
    """Return the folder that a card names, or raise DosimeterError."""
    if card.weights is None or not (card.weights / "config.json").is_file():
        raise DosimeterError(
            f"the model card of {card.name} must name its weights, a folder beside it with config.json and the "
            "tensors, as save_pretrained writes it."
        )
    return card.weights


def read(folder: Path, file: str) -> dict[str, Any]:
    """Return what a JSON file of the folder holds; {} if there is none.

    Raises:
        DosimeterError: it is no JSON object.
    """
    path = folder / file
    if not path.is_file():
        return {}
    return read_json_object(path, f"{file} of {named(folder.name)}")


def read_images(folder: Path) -> dict[str, Any]:
    """Return what the folder says of its images."""
    found = read(folder, IMAGES)
    if found:
        return found
    within = read(folder, "processor_config.json").get("image_processor")
    return within if isinstance(within, dict) else {}


def labels(config: dict[str, Any]) -> tuple[str, ...] | None:
    """Return the names of the classes; None where they were never named."""
    by_place = config.get("id2label")
    if not isinstance(by_place, dict) or not all(str(key).isdecimal() for key in by_place):
        return None
    found = tuple(str(by_place[key]) for key in sorted(by_place, key=int))
    return None if all(re.fullmatch(r"LABEL_\d+", name) for name in found) else found


def how_of(images: dict[str, Any], folder: Path, card: ModelCard | None) -> dict[str, Any]:
    """Return what `Brought` and a card say of size, resize and normalisation.

    Raises:
        DosimeterError: the folder says a resize that no grid has, and the card none; or something else than it may.
    """
    try:
        return _how_of(images, folder, card)
    except (TypeError, ValueError, KeyError, AttributeError, ZeroDivisionError) as error:
        raise DosimeterError(
            f"{IMAGES} of {named(folder.name)} cannot be understood ({in_a_line(error)[:160]})."
        ) from error


def _how_of(images: dict[str, Any], folder: Path, card: ModelCard | None) -> dict[str, Any]:
    how: dict[str, Any] = {}
    if not images:
        return how
    factor = float(images.get("rescale_factor") or 1 / 255) if images.get("do_rescale", True) else 1.0
    how["scale"] = round(255 * factor, 6)
    shift = 1.0 if images.get("rescale_offset") else 0.0
    normalised = images.get("do_normalize", True)
    mean = images.get("image_mean") if normalised else 0.0
    std = images.get("image_std") if normalised else 1.0
    if mean is not None and std is not None:
        how["mean"] = tuple(shift + float(value) for value in (mean if isinstance(mean, list) else [mean]))
        how["std"] = tuple(float(value) for value in (std if isinstance(std, list) else [std]))
    if images.get("do_resize", True):
        resample = images.get("resample", 2)
        grid = _grid(images)
        unknown = "size" if grid is None else "resample" if resample not in RESAMPLE else ""
        said = card is not None and (card.interpolation if unknown == "resample" else card.size_px and card.resize)
        if unknown and not said:
            keys = "interpolation" if unknown == "resample" else "size_px and resize"
            raise DosimeterError(
                f"{IMAGES} of {named(folder.name)} says {unknown} {shown(images.get(unknown))}, which "
                f"gives images that dosimeter does not make: say {keys} in the card."
            )
        how |= grid or {}
        how |= {"interpolation": RESAMPLE[resample]} if resample in RESAMPLE else {}
    return how


def _grid(images: dict[str, Any]) -> dict[str, Any] | None:
    """Return size_px, resize and crop_pct; None if the files do not say what they mean, or keep the aspect ratio."""
    size, crop = images.get("size"), images.get("crop_size")
    crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop if isinstance(crop, dict) else {}
    if not isinstance(size, dict):
        return None
    cropped = {"height", "width"} <= crop.keys() and images.get("do_center_crop", False)
    if "shortest_edge" in size:
        edge = size_of(size["shortest_edge"], size["shortest_edge"], IMAGES)
        assert isinstance(edge, int)
        if "crop_pct" in images and not cropped:
            share = float(images["crop_pct"] or 224 / 256)
            warped = {"size_px": edge, "resize": "squash"}
            return {"size_px": edge, "resize": "crop", "crop_pct": share} if edge < WARPED_PX else warped
        if not cropped or crop["height"] != crop["width"] or crop["height"] > edge:
            return None
        return {"size_px": int(crop["height"]), "resize": "crop", "crop_pct": crop["height"] / edge}
    if not {"height", "width"} <= size.keys():
        return None
    wanted = crop if cropped else size
    shares = {wanted[side] / size[side] for side in ("height", "width")}
    if len(shares) > 1 or max(shares) > 1:
        return None
    size_px = size_of(wanted["height"], wanted["width"], IMAGES)
    return {"size_px": size_px, "resize": "squash", "crop_pct": shares.pop()}


def _check(card: ModelCard, config: dict[str, Any], images: dict[str, Any]) -> None:
    """Raise DosimeterError if the folder contradicts the card."""
    multi = config.get("problem_type")
    if multi is not None and (multi == MULTI_LABEL) != (card.outputs == "findings"):
        right = "findings" if multi == MULTI_LABEL else "logits"
        raise DosimeterError(
            f"the model card of {card.name} says outputs '{card.outputs}', its config.json problem_type "
            f"{shown(multi)}: say {right}."
        )
    channels = config.get("num_channels")
    if isinstance(channels, int) and channels != card.channels:
        raise DosimeterError(f"the model card of {card.name} says channels {card.channels}, its file {channels}.")
    if images.get("do_flip_channel_order") and card.channel_order != "bgr":
        raise DosimeterError(f"the model card of {card.name} says channel_order 'rgb', its files 'bgr'. Mend the card.")


def _network(folder: Path) -> nn.Module:
    """Return the folder's network, from its files alone, with every tensor of its own."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        from transformers import AutoModelForImageClassification
        from transformers.utils import logging
    except ImportError as error:
        raise DosimeterError(
            f"the source huggingface needs {error.name}: pip install 'dosimeter[huggingface]'."
        ) from error
    shown_before, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        network, found = AutoModelForImageClassification.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, output_loading_info=True
        )
    except Exception as error:  # damaged folders raise nearly anything
        raise DosimeterError(
            f"{named(folder.name)} cannot be read without code of its own ({in_a_line(error)[:200]})."
        ) from error
    finally:
        logging.set_verbosity(level)
        if shown_before:
            logging.enable_progress_bar()
    lacking = [*found["missing_keys"], *(each[0] for each in found["mismatched_keys"])]
    if lacking:
        raise DosimeterError(
            f"{named(folder.name)} has no tensors for {', '.join(map(str, sorted(lacking)[:5]))}: they would be random."
        )
    made: nn.Module = network
    return made


ENTRY = Source(
    "a local folder of a Hugging Face image classifier (weights); size, normalisation and labels are read", load
)
