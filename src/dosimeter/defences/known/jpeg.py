"""Defence: every image is compressed as a JPEG and read again before the network sees it."""

from dataclasses import dataclass
from io import BytesIO
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from dosimeter.defences.base import Entry, Gradient, InputDefence, whole_setting
from dosimeter.models.transforms import Transform
from dosimeter.storage.raster import encode_jpeg


class Compressed(Transform):
    """Images as a JPEG file gives them back, from levels that were rounded; the gradient passes straight through."""

    exact = False

    def __init__(self, quality: int) -> None:
        super().__init__()
        self.quality = quality

    def value(self, images: Tensor) -> Tensor:
        """Return `images` written as JPEG of `quality` and read again."""
        return torch.stack([self._one(image) for image in images.cpu()]).to(images.device, images.dtype)

    def _one(self, image: Tensor) -> Tensor:
        content = encode_jpeg(image.float().clamp(0, 1).numpy(), quality=self.quality)
        with Image.open(BytesIO(content)) as read:
            levels = np.asarray(read, dtype=np.float32) / 255
        planes = levels[None] if levels.ndim == 2 else levels.transpose(2, 0, 1)
        return torch.from_numpy(np.ascontiguousarray(planes)).expand(3, -1, -1)


@dataclass(frozen=True)
class Jpeg(InputDefence):
    """Compresses images with `quality`."""

    quality: int
    gradient: ClassVar[Gradient] = "approximate"

    def transform(self) -> nn.Module:
        """Return the module of its setting."""
        return Compressed(self.quality)


ENTRY = Entry(
    build=lambda setting: Jpeg(whole_setting(setting, name="jpeg", default=75, least=1, most=100)),
    note="images compressed as JPEG of quality 75, or of that behind the colon, and read again",
    title="JPEG",
    kind="input",
    source="Das et al. 2017 (arXiv 1705.02900)",
    broken_by="Athalye et al. 2018 (arXiv 1802.00420)",
)
