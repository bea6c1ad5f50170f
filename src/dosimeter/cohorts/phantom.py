"""`phantom_cohort`: chest X-rays and CT slices of a made-up thorax, for when there is no real image at hand.

The anatomy and its geometry are in `phantom_anatomy`; here it is imaged. A phantom is synthetic: it shows that
the software works, never how a classifier does on people.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache, partial
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from dosimeter.cohorts.base import Cohort, Decoded, Record, pseudonymise
from dosimeter.cohorts.phantom_anatomy import (
    CHAIN_DENSITY,
    Anatomy,
    Conics,
    Ellipsoids,
    Floats,
    Rng,
    draw_anatomy,
    rotation,
)
from dosimeter.cohorts.phantom_projection import (
    MU_CORTEX,
    MU_SOFT,
    SIZE_PX,
    Grid,
    blur_wide,
    draw_bend,
    finer,
    make_grid,
    path_through,
    splat,
    texture,
    union_path,
)
from dosimeter.errors import DosimeterError
from dosimeter.units import GREY_LEVELS_8BIT

Ints = npt.NDArray[np.int64]
Signs = frozenset[str]

CLASSES = ("clear", "opacity")
SIGNS = ("opacity", "effusion", "pacemaker")
"""What an image may show. A pacemaker is a device, not a disease: a finding that is easy to see."""
RECIPE_VERSION = 1
"""Raised whenever the same seed gives other pixels."""
MODALITIES = {"phantom-xray": "xray", "phantom-ct": "ct", "phantom-3": "xray", "phantom-findings": "xray"}
THREE_CLASSES = (*CLASSES, "effusion")
UNKNOWN_SHARE = 0.08
"""Of the labels of `phantom-findings`, those that nobody gave."""
DEFAULT_N_IMAGES = 300
MAX_IMAGES = 100_000
MAX_IMAGES_PER_PATIENT = 4

MU_FAT = 0.172  # linear attenuation as those of `phantom_projection`, 1 / cm
RIB_MARROW, BONE_MARROW = 0.68, 0.90
# CT numbers, HU.
HU_AIR, HU_FAT, HU_MUSCLE, HU_ORGAN, HU_CORTEX, HU_MARROW = -1000.0, -100.0, 45.0, 40.0, 650.0, 230.0
HU_AIRWAY, HU_FLUID = -960.0, 20.0
SLICE_CM = 0.3

MARKER = np.array([[1, 1, 0, 0, 0]] * 8 + [[1, 1, 1, 1, 1]] * 2, dtype=float)  # the lead letter L


def _attenuation(anatomy: Anatomy, signs: Signs, grid: Grid, rng: Rng) -> Floats:
    """Line integral of attenuation along y for every pixel, (h, w), without unit."""
    body = union_path(grid, 4, anatomy.skin, anatomy.limbs)
    lean = union_path(grid, 4, anatomy.muscle, anatomy.limbs)
    lung = finer(union_path(grid, 2, anatomy.solids, anatomy.lungs) - union_path(grid, 2, anatomy.solids), 2)
    tissue = rng.uniform(0.17, 0.30)  # the fraction of the lung that is not air
    total = finer(MU_FAT * (body - lean) + MU_SOFT * lean, 4) - MU_SOFT * lung
    total += MU_SOFT * tissue * lung * (1 + 0.05 * texture(rng, 1.2, 4.0))
    markings = rng.uniform(1.0, 1.8) * (1 - tissue) * MU_SOFT
    total += CHAIN_DENSITY * markings * path_through(anatomy.vessels, grid) * np.minimum(1, lung / 3)
    bone = rng.uniform(0.85, 1.15) * (MU_CORTEX - MU_SOFT)
    total += CHAIN_DENSITY * bone * path_through(anatomy.ribs, grid, marrow=RIB_MARROW)
    total += 0.4 * bone * path_through(anatomy.bones, grid, marrow=BONE_MARROW)
    total += 0.5 * bone * path_through(anatomy.limb_bones, grid)
    total -= CHAIN_DENSITY * MU_SOFT * path_through(anatomy.airways, grid)
    total -= rng.uniform(0, 0.7) * MU_SOFT * path_through(anatomy.gas, grid)
    if "opacity" in signs:
        total += MU_SOFT * _opacity_path(anatomy, lung, grid, rng)
    if "effusion" in signs:
        total += MU_SOFT * _effusion_path(lung, grid, rng)
    if "pacemaker" in signs:
        total += _pacemaker(grid, rng)
    return np.maximum(total, 0)


def _effusion_path(lung: Floats, grid: Grid, rng: Rng) -> Floats:
    """Centimetres of fluid that fill one lung from below, the more the nearer to its outer wall, (h, w)."""
    side = rng.choice([-1.0, 1.0])
    mine = lung * (side * grid.u > 0)
    rows = np.flatnonzero(mine.max(axis=1) > 1)
    bottom, top = (grid.v[rows[place], SIZE_PX // 2] for place in (-1, 0)) if len(rows) else (0.0, 1.0)
    level = bottom + rng.uniform(0.25, 0.5) * (top - bottom) + 0.25 * np.abs(grid.u)  # it climbs along the wall
    return np.asarray(0.85 * mine / (1 + np.exp((grid.v - level) / 0.3)))


def _pacemaker(grid: Grid, rng: Rng) -> Floats:
    """Attenuation of a device below the left collar bone with a lead to the heart, (h, w), without unit."""
    u, v = rng.uniform(6.5, 8.5), rng.uniform(5.0, 8.0)
    case = ((grid.u - u) / 2.4) ** 2 + ((grid.v - v) / 1.9) ** 2 < 1
    along = np.clip((v - grid.v) / rng.uniform(9, 12), 0, 1)
    lead = np.abs(grid.u - u * (1 - along) ** 2 - 0.8) < 0.13
    return np.asarray(2.5 * case + 0.9 * (lead & (along > 0) & (along < 1)))


def _opacity_path(anatomy: Anatomy, lung: Floats, grid: Grid, rng: Rng) -> Floats:
    """Centimetres of soft tissue that fill the sites of opacity, never more than the lung has room for.

    A lobule's density falls as 1 - q towards its edge; along a chord this adds up to 4 / 3 of (1 - q) ** 1.5.
    """
    weight = 4 / 3 * anatomy.sites.half_depth() * anatomy.site_density
    path = splat(anatomy.sites.projected(), grid, lambda q: (1 - q) ** 1.5, weight).total()
    path *= np.clip(1 + 0.35 * texture(rng, 1.3, 3.0, 6.0), 0.1, None)
    room = 0.6 * lung + 1e-6
    return np.asarray(room * (1 - np.exp(-0.6 * path / room)))


def _radiograph(anatomy: Anatomy, signs: Signs, bend: Floats, rng: Rng) -> Floats:
    """A frontal radiograph in [0, 1]: lungs dark, bones bright, the patient's left on the right."""
    turn = rotation(rng.normal(0, 2.0), rng.normal(0, 1.2), rng.normal(0, 2.5))
    posed = anatomy.moved(turn)
    pitch = rng.uniform(31, 38) / SIZE_PX
    grid = make_grid((rng.normal(0, 0.7), rng.normal(-2.6, 1.0)), (pitch, -pitch), bend)
    primary = np.exp(-_attenuation(posed, signs, grid, rng))
    heel = np.exp(rng.normal(0, 0.05) * grid.u / 10 + rng.normal(0, 0.05) * grid.v / 10)
    scatter = blur_wide(np.minimum(primary, 0.25), 4.5 / pitch)
    fluence = gaussian_filter(heel * (primary + rng.uniform(0.15, 0.5) * scatter), rng.uniform(0.45, 0.8))
    photons = 10 ** rng.uniform(4.6, 5.6)
    counts = rng.poisson(photons * fluence)
    return _developed(-np.log(np.maximum(counts, 1) / photons), rng)


def _developed(film: Floats, rng: Rng) -> Floats:
    """What the console makes of the detector's logarithm: sharpened, windowed on the chest, with a marker."""
    film = gaussian_filter(film, 0.35)
    film += rng.uniform(0.0, 0.7) * (film - blur_wide(film, 14))
    dark, bright = np.quantile(film[30:-12, 25:-25], (0.02, 0.97))
    low, high = dark - rng.uniform(0.1, 0.7), bright + rng.uniform(-0.2, 0.5)
    grey = np.clip((film - low) / (high - low), 0, 1) ** rng.uniform(0.75, 1.25)
    if rng.random() < 0.6:
        row, column = rng.integers(6, 22), rng.integers(190, 214)
        patch = grey[row : row + 10, column : column + 5]
        np.maximum(patch, MARKER * rng.uniform(0.85, 1), out=patch)
    return np.asarray(grey)


def _cover(solid: Ellipsoids, z_cm: float, grid: Grid) -> Floats:
    """How far each pixel lies inside the union's axial section, 0 to 1 with an edge of one pixel; (h, w)."""
    every = solid.section(z_cm)
    cut = every.level < 1
    if not cut.any():
        return np.zeros((SIZE_PX, SIZE_PX))
    conics = Conics(*(part[cut] for part in every))
    radius = np.linalg.det(conics.forms) ** -0.25
    depth = (1 - np.sqrt(conics.q(grid.u, grid.v))) * radius[:, None, None]
    return np.asarray(np.clip(depth.max(axis=0) / abs(grid.pitch[0]) + 0.5, 0, 1))


def _depth(solid: Ellipsoids, z_cm: float, grid: Grid, thickness_cm: float = 0.0) -> Floats:
    """How deep each pixel lies in many small ellipsoids, (h, w): 0 outside, 1 at a centre, less for thin ones."""
    conics = solid.section(z_cm, thickness_cm)
    return splat(conics, grid, lambda q: 1 - q, np.ones(len(conics.level))).highest()


def _paint(hu: Floats, cover: Floats, value: float | Floats) -> None:
    """Lay a material over the slice, in place."""
    hu += cover * (value - hu)


def _slice_hu(anatomy: Anatomy, opaque: bool, z_cm: float, grid: Grid, rng: Rng) -> Floats:
    """CT numbers of the axial slice at height z, (h, w), HU, without noise."""
    hu = np.full((SIZE_PX, SIZE_PX), HU_AIR)
    _paint(hu, _cover(anatomy.skin, z_cm, grid), HU_FAT)
    _paint(hu, _cover(anatomy.muscle, z_cm, grid), HU_MUSCLE + 12 * texture(rng, 2.0, 5.0))
    solid = _cover(anatomy.solids, z_cm, grid)
    lung = _cover(anatomy.lungs, z_cm, grid) * (1 - solid)
    _paint(hu, solid, HU_ORGAN + 10 * texture(rng, 4.0))
    gravity = np.clip((grid.v + 2) / 11, 0, 1) ** 3 * rng.uniform(0, 160)
    air = rng.normal(-855, 25) + 22 * texture(rng, 1.0, 2.5, 8.0) + gravity
    _paint(hu, lung, air)
    if opaque:
        fill = _opacity_fill(anatomy, z_cm, grid, rng)
        _paint(hu, lung * fill, HU_FLUID)
    _paint(hu, np.minimum(1, 2 * _depth(anatomy.vessels, z_cm, grid, SLICE_CM)) * lung, HU_ORGAN)
    for bones, marrow in ((anatomy.ribs, RIB_MARROW), (anatomy.bones, BONE_MARROW)):
        depth = _depth(bones, z_cm, grid)
        wall = np.clip(0.5 + 6 * (1 - marrow**2 - depth), 0, 1)
        _paint(hu, np.minimum(1, 2 * depth), HU_MARROW + wall * (HU_CORTEX - HU_MARROW))
    _paint(hu, np.minimum(1, 2 * _depth(anatomy.airways, z_cm, grid)), HU_AIRWAY)
    return hu


def _opacity_fill(anatomy: Anatomy, z_cm: float, grid: Grid, rng: Rng) -> Floats:
    """Fraction of soft tissue in the airspace at height z, 0 (air) to 1, (h, w)."""
    fill = splat(anatomy.sites.section(z_cm), grid, lambda q: 1 - q, anatomy.site_density).total()
    patchy = fill * (1 + 0.6 * texture(rng, 1.2, 3.0, 6.0)) - 0.12
    return np.asarray(1 - np.exp(-0.9 * np.maximum(patchy, 0)))


def _ct_slice(anatomy: Anatomy, signs: Signs, bend: Floats, rng: Rng) -> Floats:
    """An axial slice in a lung window, in [0, 1]: the front up, the patient's left on the right."""
    posed = anatomy.moved(rotation(0, 0, rng.normal(0, 2.0)))
    z_cm = rng.choice(anatomy.sites.centres[:, 2]) + rng.normal(0, 0.3)
    wide = rng.uniform(29, 36)
    pitch = (wide / SIZE_PX, wide * rng.uniform(0.72, 0.92) / SIZE_PX)
    grid = make_grid((rng.normal(0, 0.3), 0.8 + rng.normal(0, 0.3)), pitch, bend)
    hu = _slice_hu(posed, "opacity" in signs, z_cm, grid, rng)
    hu = gaussian_filter(hu, rng.uniform(0.35, 0.7))
    hu += rng.uniform(12, 55) * texture(rng, rng.uniform(0.5, 0.9))
    low, high = rng.normal(-1020, 40), rng.uniform(80, 300)
    return np.asarray(np.clip((hu - low) / (high - low), 0, 1))


def _stream(modality: str, seed: int, patient: int, number: int) -> Rng:
    """Random numbers of a patient (number 0) or of one of the patient's images (1 and up)."""
    key = (("xray", "ct").index(modality), patient, number)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


@lru_cache(maxsize=4)
def _patient(modality: str, seed: int, patient: int) -> tuple[Anatomy, Floats]:
    """The patient's anatomy and how it bends, kept while the patient's images are read."""
    rng = _stream(modality, seed, patient, 0)
    return draw_anatomy(rng), draw_bend(rng)


def _render(modality: str, seed: int, patient: int, image: int, signs: Signs) -> Decoded:
    """Draw one image from its recipe alone, so that no image depends on another."""
    anatomy, bend = _patient(modality, seed, patient)
    view = _radiograph if modality == "xray" else _ct_slice
    grey = view(anatomy, signs, bend, _stream(modality, seed, patient, 1 + image))
    levels = np.rint(grey * GREY_LEVELS_8BIT).astype(np.float32)
    return Decoded(levels[None] / np.float32(GREY_LEVELS_8BIT), bits=8)


def phantom_cohort(name: str, *, n_images: int | None = None, seed: int = 0) -> Cohort:
    """Make up a cohort of chest images, drawn when they are read.

    Use it to try the software, in tests and where no real image is at hand; never to judge a classifier.
    A patient has one label and one to four images (other pose, exposure, slice or window). The classes alternate,
    and a shorter cohort is the beginning of a longer one of the same seed.

    Args:
        name: "phantom-xray" or "phantom-ct", half of whose images have an opacity; "phantom-3", radiographs of three
            classes; "phantom-findings", radiographs of which each may have any of `SIGNS`, some labels being unknown.
        n_images: number of images, 2 or more; 300 by default.
        seed: 0 or more; the same seed gives the same pixels.

    Returns:
        A cohort of 8-bit grey images (1, 224, 224) with classes "clear" and "opacity", and of three "effusion"; or
        with findings, and the classes "no finding" and "any finding".

    Raises:
        DosimeterError: `n_images` or `seed` out of range.

    Example:
        >>> phantom_cohort("phantom-ct", n_images=4).counts
        {'clear': 2, 'opacity': 2}
    """
    assert name in MODALITIES, name
    kind = _KINDS[name]
    total = DEFAULT_N_IMAGES if n_images is None else n_images
    if not 2 <= total <= MAX_IMAGES:
        raise DosimeterError(f"n_images must be from 2 to {MAX_IMAGES}, got {total}. Try {DEFAULT_N_IMAGES}.")
    if seed < 0:
        raise DosimeterError(f"seed must be 0 or more, got {seed}. Try seed 0.")
    modality = MODALITIES[name]
    records = tuple(
        _record(kind, modality, seed, place, patient, image, label)
        for place, (patient, image, label) in enumerate(_appointments(total, seed, len(kind.shown)))
    )
    recipe = {"synthetic": True, "recipe_version": RECIPE_VERSION, "seed": seed, "n_images": total}
    return Cohort(name, kind.classes, records, modality=modality, provenance=recipe, findings=kind.findings)


class _Kind(NamedTuple):
    """What the images of a phantom cohort show, in turn.

    Attributes:
        shown: the signs of each kind of image, with what its recipe calls them.
        findings: those whose labels are given one by one; none: a label is the place in `shown`.
    """

    classes: tuple[str, ...]
    shown: tuple[tuple[str, Signs], ...]
    findings: tuple[str, ...] = ()


def _of_classes(*names: str) -> _Kind:
    return _Kind(names, tuple((name, frozenset({name} & {*SIGNS})) for name in names))


def _of_findings(*names: str) -> _Kind:
    every = [frozenset(chosen) for n in range(len(names) + 1) for chosen in combinations(names, n)]
    order = sorted(every, key=lambda signs: (len(signs) % 2, sorted(signs)))  # so that short cohorts have some of each
    return _Kind(("no finding", "any finding"), tuple(("+".join(sorted(signs)), signs) for signs in order), names)


_TWO = _of_classes(*CLASSES)
_KINDS = {"phantom-xray": _TWO, "phantom-ct": _TWO, "phantom-3": _of_classes(*THREE_CLASSES),
          "phantom-findings": _of_findings(*SIGNS)}  # fmt: skip


def _appointments(n_images: int, seed: int, n_kinds: int) -> list[tuple[int, int, int]]:
    """(patient, image of the patient, kind) of every image: kinds alternate, patients are numbered in turn."""
    rng = np.random.default_rng(seed)
    queues: dict[int, list[tuple[int, int, int]]] = {label: [] for label in range(n_kinds)}
    plan: list[tuple[int, int, int]] = []
    n_patients = 0
    for place in range(n_images):
        label = place % n_kinds
        if not queues[label]:
            n_visits = int(rng.integers(1, MAX_IMAGES_PER_PATIENT + 1))
            queues[label] = [(n_patients, image, label) for image in range(n_visits)]
            n_patients += 1
        plan.append(queues[label].pop(0))
    return plan


def _record(kind: _Kind, modality: str, seed: int, place: int, patient: int, image: int, label: int) -> Record:
    what, signs = kind.shown[label]
    recipe = f"phantom {RECIPE_VERSION} {modality} seed={seed} patient={patient} image={image} {what}"
    sha256 = hashlib.sha256(recipe.encode()).hexdigest()
    return Record(
        case_id=pseudonymise(place, sha256),
        label=int(bool(signs)) if kind.findings else label,
        sha256=sha256,
        read=partial(_render, modality, seed, patient, image, signs),
        patient_id=f"phantom-{patient:04d}",
        source="phantom",
        name=f"phantom-{modality}/{patient:04d}-{image}",
        findings=_known(kind.findings, signs, int(sha256[:8], 16)),
    )


def _known(findings: Sequence[str], signs: Signs, seed: int) -> tuple[int | None, ...]:
    """Return the labels of an image that has these signs; some nobody gave."""
    given = np.random.default_rng(seed).random(len(findings)) >= UNKNOWN_SHARE
    return tuple(int(name in signs) if told else None for name, told in zip(findings, given, strict=True))
