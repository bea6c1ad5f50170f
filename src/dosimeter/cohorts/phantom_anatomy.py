"""A thorax of ellipsoids, drawn anew for every patient, and its two views: chords along a beam, sections by a plane.

Coordinates are centimetres from the carina: x to the patient's left (the right of the image), y to the back, z up.
Every organ is a set of ellipsoids. Ribs, vessels and airways are chains of overlapping ones ("beads").
"""

from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Rng = np.random.Generator

BEAD_OVERLAP = 1.6
"""Half-length of a bead in units of the chain's step."""
CHAIN_DENSITY = 2 / (np.pi * BEAD_OVERLAP)
"""Weight that makes the chords of a chain's overlapping beads add up to the chord of one tube."""
SPINE_STEP_CM = 2.45
RIB_BEADS = 40


class Conics(NamedTuple):
    """Ellipsoids as seen in an image plane: q(p) = (p - centre)^T form (p - centre) + level is below 1 inside.

    Attributes:
        centres: (n, 2), cm.
        forms: (n, 2, 2), 1 / cm^2.
        level: (n,), 0 for a projection, the squared relative distance of the plane for a section.
    """

    centres: Floats
    forms: Floats
    level: Floats

    def q(self, u: Floats, v: Floats) -> Floats:
        """Evaluate every conic at the points (u, v), (h, w) or a conic's own (n, h, w); returns (n, h, w)."""
        du, dv = u - self.centres[:, 0, None, None], v - self.centres[:, 1, None, None]
        a, b, c = (self.forms[:, i, j, None, None] for i, j in ((0, 0), (0, 1), (1, 1)))
        values: Floats = (a * du + 2 * b * dv) * du + (c * dv * dv + self.level[:, None, None])
        return values


class Ellipsoids(NamedTuple):
    """Solid ellipsoids: x is inside where (x - centre)^T shape (x - centre) <= 1.

    Attributes:
        centres: (n, 3), cm.
        shapes: (n, 3, 3), 1 / cm^2.
    """

    centres: Floats
    shapes: Floats

    def level(self, points: Floats) -> Floats:
        """The smallest (x - c)^T S (x - c) over the set for points (m, 3); shape (m,), below 1 inside."""
        lean = np.einsum("nij,nj->ni", self.shapes, self.centres)
        squares = (points[:, :, None] * points[:, None, :]).reshape(-1, 9) @ self.shapes.reshape(-1, 9).T
        values = squares - 2 * points @ lean.T + np.sum(lean * self.centres, axis=1)  # (m, n)
        return np.asarray(values.min(axis=1))

    def moved(self, matrix: Floats) -> "Ellipsoids":
        """Turn or stretch by a matrix (3, 3) about the carina."""
        back = np.linalg.inv(matrix)
        return Ellipsoids(self.centres @ matrix.T, back.T @ self.shapes @ back)

    def projected(self) -> Conics:
        """The shadows on the frontal (x, z) plane of a beam along y."""
        keep = np.ix_(range(len(self.centres)), (0, 2), (0, 2))
        across = self.shapes[:, (0, 2), 1]
        shadow = across[:, :, None] * across[:, None, :] / self.shapes[:, 1, 1, None, None]
        return Conics(self.centres[:, (0, 2)], self.shapes[keep] - shadow, np.zeros(len(self.centres)))

    def half_depth(self) -> Floats:
        """Half of the longest chord along y, (n,), cm; the chord at q is 2 * half_depth * sqrt(1 - q)."""
        depth: Floats = 1 / np.sqrt(self.shapes[:, 1, 1])
        return depth

    def chords(self, u: Floats, v: Floats) -> tuple[Floats, Floats]:
        """Where beams along y through (u, v) enter and leave: two arrays (n, h, w), equal where they miss."""
        x, z = (axis[:, None, None] for axis in (self.centres[:, 0], self.centres[:, 2]))
        xy, zy, yy = (self.shapes[:, i, 1][:, None, None] for i in (0, 2, 1))
        middle = self.centres[:, 1, None, None] - (xy * (u - x) + zy * (v - z)) / yy
        half = np.sqrt(np.maximum(0, 1 - self.projected().q(u, v)) / yy)
        return middle - half, middle + half

    def section(self, z_cm: float, thickness_cm: float = 0.0) -> Conics:
        """The cuts by an axial slice at height z; in a thick one, each where it is largest."""
        plane, up = self.shapes[:, :2, :2], self.shapes[:, :2, 2]
        height = z_cm - self.centres[:, 2]
        height = np.sign(height) * np.maximum(0, np.abs(height) - thickness_cm / 2)
        lean = np.linalg.solve(plane, up[:, :, None])[:, :, 0]
        level = height**2 * (self.shapes[:, 2, 2] - np.sum(up * lean, axis=1))
        return Conics(self.centres[:, :2] - lean * height[:, None], plane, level)


def covered(entry: Floats, leave: Floats) -> Floats:
    """Length covered by the union of the intervals [entry, leave] along axis 0; (n, h, w) -> (h, w).

    With both ends sorted apart, a gap lies wherever the (i + 1)-th entry comes after the i-th leaving.
    """
    starts, ends = np.sort(entry, axis=0), np.sort(leave, axis=0)
    gaps = np.maximum(0, starts[1:] - ends[:-1]).sum(axis=0)
    return np.asarray(ends[-1] - starts[0] - gaps)


def rotation(tilt_deg: float, roll_deg: float, turn_deg: float) -> Floats:
    """Rotation about x (bend forward), then y (lean sideways), then z (turn to the side)."""
    (ca, sa), (cb, sb), (cc, sc) = ((np.cos(t), np.sin(t)) for t in np.radians((tilt_deg, roll_deg, turn_deg)))
    about_x = np.array([[1, 0, 0], [0, ca, -sa], [0, sa, ca]])
    about_y = np.array([[cb, 0, sb], [0, 1, 0], [-sb, 0, cb]])
    about_z = np.array([[cc, -sc, 0], [sc, cc, 0], [0, 0, 1]])
    turned: Floats = about_z @ about_y @ about_x
    return turned


def _organ(
    centre: tuple[float, float, float], axes: tuple[float, float, float], lean: tuple[float, ...] = (0, 0, 0)
) -> Ellipsoids:
    """One ellipsoid: centre and semi-axes in cm, then its tilt, roll and turn in degrees."""
    turned = rotation(*lean)
    return Ellipsoids(np.array([centre]), (turned @ np.diag(1 / np.square(axes)) @ turned.T)[None])


def _join(*parts: Ellipsoids) -> Ellipsoids:
    return Ellipsoids(np.concatenate([p.centres for p in parts]), np.concatenate([p.shapes for p in parts]))


def _pair(
    centre: tuple[float, float, float], axes: tuple[float, float, float], lean: tuple[float, ...] = (0, 0, 0)
) -> Ellipsoids:
    """An organ on the left and its mirror image on the right."""
    (x, y, z), (tilt, roll, turn) = centre, lean
    return _join(_organ(centre, axes, lean), _organ((-x, y, z), axes, (tilt, -roll, -turn)))


def _beads(starts: Floats, ends: Floats, thin: Floats, wide: Floats) -> Ellipsoids:
    """One bead a segment, (n, 3) to (n, 3): half-thickness `thin` outwards and `wide` upwards, both (n,), cm."""
    along = ends - starts
    length = np.linalg.norm(along, axis=1, keepdims=True)
    along = along / length
    out = np.cross(along, (0.0, 0.0, 1.0)) + 1e-6
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    up = np.cross(out, along)
    half = np.maximum(BEAD_OVERLAP * length[:, 0], thin)
    shapes = sum(
        axis[:, :, None] * axis[:, None, :] / (size**2)[:, None, None]
        for axis, size in ((along, half), (out, thin), (up, wide))
    )
    return Ellipsoids((starts + ends) / 2, np.asarray(shapes))


def _chain(points: list[tuple[float, float, float]], radius: float, steps: int = 6) -> Ellipsoids:
    """Beads of one radius along a line through the points, each stretch cut into `steps`."""
    knots = np.array(points, dtype=float)
    at = np.linspace(0, len(knots) - 1, steps * (len(knots) - 1) + 1)
    path = np.stack([np.interp(at, np.arange(len(knots)), axis) for axis in knots.T], axis=1)
    size = np.full(len(path) - 1, radius)
    return _beads(path[:-1], path[1:], size, size)


@dataclass(frozen=True)
class Anatomy:
    """One patient's thorax.

    Attributes:
        skin: outside of the trunk; a union.
        muscle: the same without the layer of fat.
        limbs: shoulders and arms, which a CT patient lifts out of the picture.
        lungs: a union; what `solids` cover is no lung.
        solids: mediastinum, heart, great vessels, diaphragm, spine.
        bones: vertebrae and sternum.
        limb_bones: humeri and scapulae, which go with `limbs`.
        ribs: chains; clavicles too.
        vessels: chains, branching through the lungs.
        airways: chains of air: trachea and main bronchi.
        gas: the stomach's bubble.
        sites: lobules where opacity would be, (sites * lobules).
        site_density: fraction of soft tissue in each lobule, (sites * lobules,).
    """

    skin: Ellipsoids
    muscle: Ellipsoids
    limbs: Ellipsoids
    lungs: Ellipsoids
    solids: Ellipsoids
    bones: Ellipsoids
    limb_bones: Ellipsoids
    ribs: Ellipsoids
    vessels: Ellipsoids
    airways: Ellipsoids
    gas: Ellipsoids
    sites: Ellipsoids
    site_density: Floats

    def moved(self, matrix: Floats) -> "Anatomy":
        """The patient in another pose or size: see `Ellipsoids.moved`."""
        organs = {f.name: getattr(self, f.name) for f in fields(self) if f.type is Ellipsoids}
        changes: dict[str, Any] = {name: organ.moved(matrix) for name, organ in organs.items()}
        return replace(self, **changes)


def _wall(fat_cm: float, breast: float) -> tuple[Ellipsoids, Ellipsoids]:
    """Trunk and limbs, each a union, grown by a layer of fat; `breast` 0 to 1 scales the breasts' projection."""
    f = fat_cm
    trunk = _join(
        _pair((4.4, 0.8, 0), (11.5 + f, 10.9 + f, 19 + f)),
        _pair((4.6, 0.8, -22), (11.3 + 1.2 * f, 11.6 + 1.3 * f, 34)),
        _pair((3.2, 8.8, -12), (3.4 + f, 3.0 + f, 34)),
        _pair((7.4, -8.4, -8.5), (5.6 + 0.8 * f, 1.0 + 5 * breast + f, 5.2 + 0.6 * f), (-12, 0, 12)),
        _organ((0, 1.5, 20), (5.0 + f, 5.6 + f, 15)),
    )
    limbs = _join(
        _pair((9.5, 3.0, 9.4), (8.5 + f, 3.8 + f, 4.0 + f), (0, 24, 0)),
        _pair((16.6, 2.5, 6.5), (4.2 + f, 4.8 + f, 5.6 + f), (0, 15, 0)),
        _pair((20.0, 3.0, -8.0), (3.4 + f, 4.2 + f, 18.0), (0, -8, 0)),
    )
    return trunk, limbs


def _solids(rng: Rng) -> Ellipsoids:
    """Everything that is not lung inside the rib cage; the heart leans to the patient's left."""
    heart = rng.uniform(0.86, 1.18)
    arch = rng.uniform(1.5, 2.1)
    right, left = rng.normal(0, 1.2, 2)
    return _join(
        _organ((0, -4.2, 0), (1.1 + rng.uniform(0, 0.6), 5.6, 21)),
        _organ((0.2, 1.6, 1), (2.1 + rng.uniform(0, 0.6), 4.6, 24), (-6, 0, 0)),
        _organ((-0.2, 7.6, -5), (2.5, 3.8, 60)),
        _organ((3.0, -3.0, -7.0), (6.9 * heart, 5.4 * heart, 4.6 * heart), (0, 38, -28)),
        _organ((-1.2, -2.2, -6.2), (3.4 * heart, 5.0 * heart, 5.4 * heart), (0, -8, 0)),
        _organ((1.2, -2.4, -3.8), (3.2 * heart, 4.4, 5.0), (0, 14, 0)),
        _organ((0.4, -3.6, 0.2), (1.8, 1.8, 5.0), (0, -6, 0)),
        _organ((-1.9, -1.6, 3.0), (1.3, 1.4, 9.0), (0, 3, 0)),
        _organ((1.3, 0.2, 2.7), (arch, 4.9, arch), (0, 0, -22)),
        _organ((2.1, 4.4, -8), (1.35, 1.45, 15)),
        _pair((2.2, 0.8, -2.2), (1.9, 1.6, 2.2), (0, 20, 0)),
        _organ((-6.3, -1.8, -21.2 + right), (9.6, 11.6, 12.0)),
        _organ((6.6, -1.8, -22.4 + left), (9.2, 11.6, 12.0)),
        _organ((0, -1.0, -20.5), (7.5, 9.5, 11.0)),
    )


def _lungs(rng: Rng) -> Ellipsoids:
    """Two ellipsoids a side: a tall one, and one that squares off the upper lobe."""
    lean = rng.uniform(3, 7)
    return _join(
        _pair((6.5, 0.5, -5.5), (6.9, 9.2, 17.0), (0, -lean / 2, -7)),
        _pair((5.7, 0.7, 2.6), (5.7, 8.1, 9.6), (0, -lean, -5)),
    )


def _cage_width(z: Floats) -> Floats:
    """Size of the rib cage at height z relative to its widest, between 0 and 1."""
    width: Floats = np.maximum(0.02, 1 - np.abs((z + 5.5) / 18.6) ** 3.2) ** (1 / 2.4)
    return width


def _ribs(rng: Rng) -> Ellipsoids:
    """Eleven pairs of ribs from the spine round the lungs, and the clavicles."""
    drop, phase, height = rng.uniform(1.05, 1.35), rng.normal(0, 0.4), rng.uniform(0.52, 0.68)
    chains = []
    for rib in range(11):
        last = np.radians(np.interp(rib, [0, 6, 8, 10], [158, 158, 128, 92]))
        t = np.linspace(np.radians(-38), last, RIB_BEADS + 1)
        way = (t - t[0]) / (np.radians(158) - t[0])
        fall = np.interp(rib, [0, 2, 6, 10], [4.0, 7.0, 9.5, 9.0]) * drop
        z = 11.6 + phase - 2.32 * rib - fall * way**1.35 + 0.5 * np.sin(3 * way)
        size = _cage_width(z)
        for side in (-1, 1):
            x = side * (1.6 + (4.7 + 7.6 * np.sin(t)) * size + 0.2)
            path = np.stack([x, 0.5 + 10.0 * np.cos(t) * np.maximum(size, 0.45), z], axis=1)
            thin, wide = np.full(RIB_BEADS, 0.42), np.full(RIB_BEADS, height)
            chains.append(_beads(path[:-1], path[1:], thin, wide))
    lift = rng.normal(0, 0.7)
    for side in (-1, 1):
        knots = [
            (1.6, -8, 8.4),
            (5, -8.4, 9.3),
            (9, -6, 10.2 + lift),
            (13, -2, 10.8 + lift),
            (16, 1, 10.6 + lift),
        ]
        chains.append(_chain([(side * x, y, z) for x, y, z in knots], 0.68))
    return _join(*chains)


@cache
def _bones() -> Ellipsoids:
    """Vertebrae with their processes, and the sternum."""
    parts = [_organ((0, -9.3, -1), (1.5, 0.55, 9)), _organ((0, -8.6, 7), (2.6, 0.65, 2.2))]
    for step in range(-13, 9):
        z = step * SPINE_STEP_CM
        parts += [
            _organ((0, 6.3, z), (1.85, 1.55, 1.12)),
            _organ((0, 10.6, z - 1), (0.45, 1.9, 0.8)),
            _pair((2.3, 9.0, z), (1.7, 0.55, 0.6), (0, 0, 24)),
            _pair((1.5, 8.0, z), (0.42, 1.2, 0.55)),
        ]
    return _join(*parts)


@cache
def _limb_bones() -> Ellipsoids:
    return _join(
        _pair((12.6, 8.2, 3.4), (3.2, 0.28, 6.6), (8, 16, -18)),
        _pair((13.6, 6.2, 9.6), (3.4, 0.5, 0.8), (0, -12, 0)),
        _pair((17.2, 2.5, 8.6), (2.3, 2.3, 2.3)),
        _pair((19.8, 2.8, -4.0), (1.2, 1.2, 12.0), (0, -11, 0)),
    )


def _vessels(rng: Rng, lungs: Ellipsoids, solids: Ellipsoids) -> Ellipsoids:
    """Arteries and veins that leave the hila, branch, taper and stop short of the pleura."""
    n = 40
    side = np.repeat([-1.0, 1.0], n // 2)
    tip = np.stack([side * rng.uniform(2.0, 3.2, n), rng.normal(0.6, 0.8, n), rng.normal(-1.6, 1.5, n)], axis=1)
    heading = np.stack([side * rng.uniform(0.3, 1.3, n), rng.normal(0.25, 0.75, n), rng.normal(-0.35, 0.95, n)], 1)
    radius = rng.uniform(0.22, 0.48, n)
    step, chains = 0.7, []
    for generation in range(24):
        heading += rng.normal(0, 0.2, heading.shape)
        heading /= np.linalg.norm(heading, axis=1, keepdims=True)
        end = tip + step * heading
        alive = (lungs.level(end) < 0.93) & ((solids.level(end) > 1.0) | (generation < 4)) & (radius > 0.075)
        tip, heading, end, radius = tip[alive], heading[alive], end[alive], radius[alive]
        if not len(tip):
            break
        chains.append(_beads(tip, end, radius, radius))
        fork = rng.random(len(end)) < 0.34
        spread = rng.normal(0, 0.62, (int(fork.sum()), 3))
        share = rng.uniform(0.6, 0.8, len(end))
        twigs = radius[fork] * share[fork]
        radius = np.where(fork, radius * (1 - share**3) ** (1 / 3) * 1.04, radius * 0.97)
        tip, radius = np.concatenate([end, end[fork]]), np.concatenate([radius, twigs])
        heading = np.concatenate([heading, heading[fork] + spread])
    return _join(*chains)


def _sites(rng: Rng, lungs: Ellipsoids, solids: Ellipsoids) -> tuple[Ellipsoids, Floats]:
    """Irregular clusters of lobules under the pleura, mostly low and to the back, and their densities."""

    def aerated(points: Floats) -> npt.NDArray[np.bool_]:
        mid_lung = (points[:, 2] > -10) & (points[:, 2] < 4.5)
        free: npt.NDArray[np.bool_] = mid_lung & (lungs.level(points) < 0.88) & (solids.level(points) > 1.1)
        return free

    n_candidates, lobules = 400, 14
    angle = np.radians(rng.normal(50, 50, n_candidates))
    depth, side = rng.uniform(0.72, 0.93, n_candidates), rng.choice([-1.0, 1.0], n_candidates)
    z = rng.normal(-6.0, 4.5, n_candidates)
    spread = depth * np.sqrt(np.maximum(0, 1 - ((z + 5.5) / 17) ** 2))
    centre = np.stack([side * (6.5 + 6.9 * spread * np.sin(angle)), 0.5 + 9.2 * spread * np.cos(angle), z], axis=1)
    chosen = centre[aerated(centre)][: rng.integers(4, 10)]
    n_sites, middle = len(chosen), chosen.repeat(lobules, axis=0)
    assert n_sites > 0, "a lung without room for opacity"
    at = middle + rng.normal(0, 1.3, (len(middle), 3)) * (1.0, 1.0, 1.3)
    sizes = rng.uniform(0.9, 2.6, (len(at), 3)) * rng.uniform(0.75, 1.3, n_sites).repeat(lobules)[:, None]
    density = rng.uniform(0.4, 1.0) * rng.uniform(0.45, 1.0, n_sites).repeat(lobules)
    keep = aerated(at)
    return Ellipsoids(at[keep], np.eye(3) / (sizes[keep] ** 2)[:, :, None]), density[keep]


def draw_anatomy(rng: Rng) -> Anatomy:
    """Draw a patient: habitus, heart size, breathing, rib slope, vessel tree and the sites of opacity.

    Whether the sites hold any opacity is the label's business, so both classes share one distribution of all else.
    """
    fat = float(rng.gamma(2.2, 0.7)) + 0.4
    breast = max(0.0, float(rng.uniform(-0.8, 0.8)))
    skin, limbs = _wall(fat, breast)
    muscle, _ = _wall(0.0, 0.6 * breast)
    lungs, solids = _lungs(rng), _solids(rng)
    sites, site_density = _sites(rng, lungs, solids)
    anatomy = Anatomy(
        skin=skin,
        muscle=muscle,
        limbs=limbs,
        lungs=lungs,
        solids=solids,
        bones=_bones(),
        limb_bones=_limb_bones(),
        ribs=_ribs(rng),
        vessels=_vessels(rng, lungs, solids),
        airways=_join(
            _chain([(0.2, 1.2, 22), (0.1, 1.4, 6), (0, 1.6, 0)], 0.95, steps=10),
            _chain([(0, 1.6, 0.2), (-2.4, 1.6, -2.4), (-3.4, 2.0, -5.0)], 0.62),
            _chain([(0, 1.6, 0.2), (3.6, 1.8, -2.6), (4.3, 2.4, -5.0)], 0.56),
        ),
        gas=_organ((rng.uniform(4, 7), -3.5, -15.5 - rng.uniform(0, 2)), (3.0, 3.5, rng.uniform(0.8, 2.2))),
        sites=sites,
        site_density=site_density,
    )
    habitus = np.array([rng.normal(1.0, 0.05), rng.normal(1.0, 0.06), rng.normal(1.0, 0.06)])
    return anatomy.moved(np.diag(habitus))
