"""A letter burnt into a corner, as markers of the side are."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from dosimeter.physical.base import Change, Entry, Random

LETTER = "R"
_FROM_CORNER = 0.04  # of either side


@dataclass(frozen=True, kw_only=True)
class Marker(Change):
    """A white letter R in the upper left corner, where the patient's right is."""

    name: str = "marker"

    def change(self, images: Tensor, severity: float, random: Random) -> Tensor:
        """Return images with a letter whose height is `severity` % of theirs."""
        height, width = images.shape[2:]
        return torch.maximum(images, _letter(height, width, severity / 100).to(images))


def _letter(height: int, width: int, share: float) -> Tensor:
    """Return the letter, white on black (height, width)."""
    picture = Image.new("L", (width, height))
    font = ImageFont.load_default(size=max(share * height / 0.7, 1.0))  # a capital is 0.7 of its font's size
    corner = (_FROM_CORNER * width, _FROM_CORNER * height)
    ImageDraw.Draw(picture).text(corner, LETTER, fill=255, font=font, anchor="lt")
    return torch.from_numpy(np.asarray(picture, np.float32) / 255)


ENTRY = Entry(
    build=lambda constants: Marker(),
    title="marker",
    note="a white letter in the upper left corner, its height as a share of the image's",
    unit="% of the height",
    severities=(0.0, 4.0, 6.0, 8.0, 12.0),
    bounds=(0.0, 20.0),
    reason="no marker is larger than a fifth of the image",
    source="DeGrave et al., Nat. Mach. Intell. 3 (2021) 610 (markers as shortcuts)",
    modalities=("xray",),
    rank=120,
)
