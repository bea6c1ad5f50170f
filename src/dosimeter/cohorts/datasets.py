"""What yields images and targets: PyTorch's `Dataset` and `DataLoader`, MAITE's dataset, known by what they do."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from dosimeter.cohorts.base import FloatImage, pixel_digest
from dosimeter.errors import DosimeterError, in_a_line

ToImage = Callable[[Any], FloatImage]


class Items(NamedTuple):
    """Images and their targets.

    Attributes:
        digests: of the pixels of each.
        targets: indices or vectors.
        reads: give the image again.
    """

    digests: list[str]
    targets: list[Any]
    reads: list[Callable[[], FloatImage]]


def is_dataset(source: Any) -> bool:
    """Whether something yields images with targets, and is no array, list or tensor of images alone."""
    if hasattr(source, "shape") or isinstance(source, list | tuple | Mapping | str):
        return False
    return _is_loader(source) or (hasattr(source, "__getitem__") and hasattr(source, "__len__"))


def items_of(source: Any, to_image: ToImage) -> Items:
    """Return what a source yields: a dataset is read once here and again when asked, a loader's images are kept.

    Raises:
        DosimeterError: it yields something else, nothing, or another image the second time.
    """
    items = _of_loader(source, to_image) if _is_loader(source) else _of_dataset(source, to_image)
    if not items.targets:
        raise DosimeterError("a dataset must have an image, it has none.")
    return items


def names_of(source: Any) -> tuple[str, ...]:
    """Return the classes that a source names: torchvision's `classes`, MAITE's `index2label`; () if it names none."""
    inner = getattr(source, "dataset", source)
    metadata = getattr(inner, "metadata", None)
    labels = metadata.get("index2label") if isinstance(metadata, Mapping) else None
    if isinstance(labels, Mapping) and sorted(labels) == list(range(len(labels))):
        return tuple(str(labels[index]) for index in range(len(labels)))
    classes = getattr(inner, "classes", None)
    return tuple(map(str, classes)) if isinstance(classes, list | tuple) else ()


def _is_loader(source: Any) -> bool:
    """Whether something yields batches, as PyTorch's `DataLoader` does."""
    return hasattr(source, "dataset") and hasattr(source, "batch_size") and hasattr(source, "__iter__")


def _of_loader(loader: Any, to_image: ToImage) -> Items:
    items = Items([], [], [])
    for batch in loader:
        images, targets = _pair(batch)
        if len(images) != len(targets):
            raise DosimeterError(f"a batch must have a target an image, got {len(targets)} for {len(images)}.")
        for image, target in zip(images, targets, strict=True):
            pixels = to_image(image)
            items.digests.append(pixel_digest(pixels))
            items.targets.append(np.asarray(target))
            items.reads.append(partial(_kept, pixels))
    return items


def _of_dataset(dataset: Any, to_image: ToImage) -> Items:
    items = Items([], [], [])
    for index in range(len(dataset)):
        image, target = _pair(_item(dataset, index))
        digest = pixel_digest(to_image(image))
        items.digests.append(digest)
        items.targets.append(np.asarray(target))
        items.reads.append(partial(_again, dataset, index, digest, to_image))
    return items


def _again(dataset: Any, index: int, digest: str, to_image: ToImage) -> FloatImage:
    """Return an image of a dataset, which must be what it was."""
    pixels = to_image(_pair(_item(dataset, index))[0])
    if pixel_digest(pixels) != digest:
        raise DosimeterError(
            f"a dataset must give the same image each time, number {index} has changed. Turn augmentation off."
        )
    return pixels


def _kept(pixels: FloatImage) -> FloatImage:
    return pixels


def _item(dataset: Any, index: int) -> Any:
    try:
        return dataset[index]
    except DosimeterError:
        raise
    except Exception as error:  # of a user's own code
        raise DosimeterError(f"item {index} of the dataset cannot be had: {in_a_line(error)}.") from error


def _pair(item: Any) -> tuple[Any, Any]:
    """Return image and target of (image, target), or of MAITE's (image, target, metadata)."""
    if not isinstance(item, tuple | list) or len(item) not in (2, 3):
        raise DosimeterError(
            f"a dataset must yield (image, target), or (image, target, metadata), got {type(item).__name__}. Wrap it."
        )
    return item[0], item[1]
