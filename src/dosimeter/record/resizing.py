"""The words for how images are resized, as a model card and a grid use them."""

from typing import Literal

Resize = Literal["squash", "crop", "letterbox"]
Interpolation = Literal["nearest", "box", "bilinear", "bicubic", "lanczos"]
