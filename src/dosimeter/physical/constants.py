"""What a physical change must know of the apparatus, and an image file does not say: declared, or assumed by name."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from dosimeter.errors import DosimeterError, did_you_mean
from dosimeter.plain import shown


@dataclass(frozen=True)
class Constants:
    """Constants of an apparatus and of how its images are shown. Those not declared are assumptions, and named so.

    Attributes:
        exposure_decades: exposure from white to black of a radiograph, in decades: grey g is exposure 10^(-decades g).
        quanta: absorbed by a pixel of the image that is asked about where it is black, at full dose. By default those
            of 2.5 uGy at a thorax's detector: 30,000 quanta for each mm2 and uGy (IEC 61267, RQA5), of which about 0.65
            are absorbed, in a pixel of 2 mm, as a radiograph of 430 mm has that was made 224 pixels wide. A detector's
            own pixel of 0.15 mm absorbs some 2,000.
        electronic: standard deviation of a pixel's electronic noise, in quanta; it adds up over pixels as quanta do.
        detector_blur_px: sigma of the detector's point spread, in pixels of the image that is asked about; the MTF,
            and the square root of the noise power spectrum, are exp(-2 (pi sigma u)^2).
        scatter_width: sigma of scattered radiation's spread, as a share of the image's longer side.
        headroom: exposure at which the detector saturates, in units of that which is black.
        grid_period_px: of a grid's lines, in pixels.
        window_centre_hu, window_width_hu: of a CT image: black is centre - width / 2, white centre + width / 2.
        field_mm: side of a CT image.
        ct_quanta: detected along a ray of one of `projection.N_VIEWS` views through air, at full tube current.
        ct_noise_hu: standard deviation of a CT image's noise at full tube current, in pixels of 1.5 mm.
        pixel_mm: side of a pixel of the image that is asked about; nothing is assumed.
    """

    exposure_decades: float = 1.75
    quanta: float = 300_000.0
    electronic: float = 60.0
    detector_blur_px: float = 0.5
    scatter_width: float = 0.15
    headroom: float = 1.5
    grid_period_px: float = 4.0
    window_centre_hu: float = -600.0
    window_width_hu: float = 1500.0
    field_mm: float = 350.0
    ct_quanta: float = 1e7
    ct_noise_hu: float = 6.0
    pixel_mm: float | None = None


_NEED_NOT_BE_POSITIVE = ("electronic", "detector_blur_px", "window_centre_hu")


def declared(values: Mapping[str, Any]) -> Constants:
    """Return the constants of an apparatus of which those in `values` are declared.

    Raises:
        DosimeterError: there is no such constant, or it is no number in its range.

    Example:
        >>> declared({"quanta": 800}).quanta
        800.0
    """
    known = [each.name for each in fields(Constants)]
    for name, value in values.items():
        if name not in known:
            raise DosimeterError(f"constant {shown(name)} is not known. {did_you_mean(name, known)}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not -1e12 < value < 1e12:
            raise DosimeterError(f"constant {name} must be a finite number, got {shown(value)}. Write {name}=NUMBER.")
        if value < 0 and name != "window_centre_hu":
            raise DosimeterError(f"constant {name} must not be negative, got {value:g}. Write {name}=NUMBER.")
        if value == 0 and name not in _NEED_NOT_BE_POSITIVE:
            raise DosimeterError(f"constant {name} must be above 0, got 0. Write {name}=NUMBER, or leave it out.")
    return Constants(**{name: float(value) for name, value in values.items()})
