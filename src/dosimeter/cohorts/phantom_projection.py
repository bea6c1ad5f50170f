"""How a phantom's solids fall on a grid of pixels: chords of many small ones, unions of large ones, smooth noise."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, zoom

from dosimeter.cohorts.phantom_anatomy import Conics, Ellipsoids, Floats, Rng, covered

Ints = npt.NDArray[np.int64]

SIZE_PX = 224
# Linear attenuation at an effective 70 keV, 1 / cm.
MU_SOFT, MU_CORTEX, MU_MARROW = 0.195, 0.62, 0.27
MARROW_LACK = (MU_CORTEX - MU_MARROW) / (MU_CORTEX - MU_SOFT)


class Grid(NamedTuple):
    """Where the pixels lie: cm coordinates of each (bent a little, so that no outline is a perfect ellipse).

    Attributes:
        u: (h, w), along the columns.
        v: (h, w), along the rows.
        origin: (u, v) of the unbent pixel (0, 0).
        pitch: cm a column and a row, negative where the coordinate falls.
    """

    u: Floats
    v: Floats
    origin: tuple[float, float]
    pitch: tuple[float, float]

    def locate(self, points: Floats) -> tuple[Ints, Floats]:
        """Find the (column, row) nearest to each point, and how far from the point it is, cm; all (n, 2)."""
        straight = np.clip(np.rint((points - self.origin) / self.pitch), 0, SIZE_PX - 1).astype(int)
        bent = np.stack([axis[straight[:, 1], straight[:, 0]] for axis in (self.u, self.v)], axis=1)
        steps = np.rint((points - bent) / self.pitch)
        return straight + steps.astype(int), bent + steps * self.pitch - points


class Patches(NamedTuple):
    """Values at pixels, a pixel as often as something lies over it; both (n,)."""

    pixels: Ints
    values: Floats

    def total(self) -> Floats:
        """Their sum in every pixel, (h, w)."""
        flat = np.bincount(self.pixels, self.values, minlength=SIZE_PX * SIZE_PX)
        return np.asarray(flat.reshape(SIZE_PX, SIZE_PX), dtype=np.float64)

    def highest(self) -> Floats:
        """The largest in every pixel, 0 where there is none; (h, w)."""
        flat = np.zeros(SIZE_PX * SIZE_PX)
        np.maximum.at(flat, self.pixels, self.values)
        return flat.reshape(SIZE_PX, SIZE_PX)


def make_grid(centre: tuple[float, float], pitch: tuple[float, float], bend: Floats) -> Grid:
    """A square of pixels about `centre`; `bend` is (2, waves, 4): amplitude, two frequencies and phase."""
    steps = np.arange(SIZE_PX) - (SIZE_PX - 1) / 2
    columns, rows = centre[0] + pitch[0] * steps, centre[1] + pitch[1] * steps
    size, along, down, phase = (bend[..., i, None] for i in range(4))  # (2, waves, 1) each
    across = size * np.exp(1j * (along * columns + phase))
    waves = (np.exp(1j * down * rows).swapaxes(1, 2) @ across).imag  # sum of size * sin(along u + down v + phase)
    return Grid(columns + waves[0], rows[:, None] + waves[1], (columns[0], rows[0]), pitch)


def draw_bend(rng: Rng) -> Floats:
    """Draw the waves (2, waves, 4) of `make_grid`."""
    amplitude = rng.uniform(0.05, 0.2, (2, 4, 1))
    return np.concatenate([amplitude, rng.normal(0, 0.45, (2, 4, 2)), rng.uniform(0, 2 * np.pi, (2, 4, 1))], axis=2)


def splat(conics: Conics, grid: Grid, profile: Callable[[Floats], Floats], weight: Floats) -> Patches:
    """Evaluate weight * profile(q) of many small conics, each only on the pixels near it.

    Each is first widened by half a pixel and weakened to match, so that thin vessels neither vanish nor flicker.
    """
    spread = np.linalg.inv(conics.forms)
    wide = spread + np.diag(np.square(grid.pitch)) / 4
    forms = np.asarray(np.linalg.inv(wide), dtype=np.float64)
    weight = weight * np.sqrt(np.linalg.det(spread) / np.linalg.det(wide))
    reach = np.sqrt(np.maximum(0, wide[:, (0, 1), (0, 1)] * (1 - conics.level)[:, None]))
    radius_px = np.ceil((reach / np.abs(grid.pitch)).max(axis=1) + 1.5)
    home, offset = grid.locate(conics.centres)
    near = np.all((home > -radius_px[:, None]) & (home < SIZE_PX + radius_px[:, None]), axis=1)
    tier = (2 * np.ceil(radius_px / 2)).astype(int) * (near & (conics.level < 1))
    found = []
    for size in np.unique(tier[tier > 0]):
        chosen = np.flatnonzero(tier == size)
        span = np.arange(-size, size + 1)
        du = offset[chosen, 0, None, None] + grid.pitch[0] * span  # (n, 1, 2 size + 1)
        dv = offset[chosen, 1, None, None] + grid.pitch[1] * span[:, None]  # (n, 2 size + 1, 1)
        local = Conics(np.zeros((len(chosen), 2)), forms[chosen], conics.level[chosen])
        q = local.q(du, dv)
        item, down, across = np.nonzero(q < 1)
        column, row = home[chosen[item], 0] + span[across], home[chosen[item], 1] + span[down]
        seen = (row >= 0) & (row < SIZE_PX) & (column >= 0) & (column < SIZE_PX)
        height = weight[chosen[item]] * profile(q[item, down, across])
        found.append(((row * SIZE_PX + column)[seen], height[seen]))
    pixels, values = zip(*found, strict=True) if found else ([np.zeros(0, int)], [np.zeros(0)])
    return Patches(np.concatenate(pixels), np.concatenate(values))


def path_through(solid: Ellipsoids, grid: Grid, marrow: float = 0.0) -> Floats:
    """Sum of the chords of many small ellipsoids, (h, w), cm; of bones, those through a marrow count for less.

    Args:
        marrow: size of the marrow relative to its bone; the bone's wall is denser by `MARROW_LACK`.
    """

    def profile(q: Floats) -> Floats:
        return np.sqrt(1 - q) - MARROW_LACK * np.sqrt(np.maximum(0, marrow**2 - q))

    return splat(solid.projected(), grid, profile, 2 * solid.half_depth()).total()


def coarser(image: Floats, factor: int) -> Floats:
    """Mean of every factor x factor pixels."""
    blocks = (SIZE_PX // factor, factor, SIZE_PX // factor, factor)
    return np.asarray(image.reshape(blocks).mean(axis=(1, 3)))


def finer(image: Floats, factor: int) -> Floats:
    """Interpolate to factor x factor times as many pixels."""
    return np.asarray(zoom(image, factor, order=1, mode="nearest", grid_mode=True))


def blur_wide(image: Floats, sigma_px: float) -> Floats:
    """Gaussian blur by many pixels, found on a grid four times coarser."""
    return finer(gaussian_filter(coarser(image, 4), sigma_px / 4, mode="nearest", truncate=3), 4)


def union_path(grid: Grid, factor: int, *parts: Ellipsoids) -> Floats:
    """Length of the beam inside the union of large ellipsoids, cm, (h, w) of a grid `factor` coarser."""
    u, v = coarser(grid.u, factor), coarser(grid.v, factor)
    entry, leave = zip(*(part.chords(u, v) for part in parts), strict=True)
    return covered(np.concatenate(entry), np.concatenate(leave))


def texture(rng: Rng, *scales_px: float) -> Floats:
    """Smooth noise (h, w) of unit variance: the mean of white noise blurred to each scale."""
    layers = [gaussian_filter(rng.standard_normal((SIZE_PX, SIZE_PX)), scale) * 2 * scale for scale in scales_px]
    total = np.sum(layers, axis=0) * np.sqrt(np.pi)
    return np.asarray(total / total.std())
