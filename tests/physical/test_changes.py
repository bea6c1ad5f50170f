"""Physical changes against closed forms: variance, spectra, transfer functions, geometry."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from dosimeter.errors import DosimeterError
from dosimeter.physical.base import Change, PhysicalError, Random, changed
from dosimeter.physical.constants import Constants, declared
from dosimeter.physical.foreign import physical_change
from dosimeter.physical.geometry import moved
from dosimeter.physical.projection import MU_WATER_PER_MM, N_VIEWS, back_project, project
from dosimeter.physical.registry import entry, grid_of, names
from dosimeter.testing import ContractBroken, check_change

OURS = names()
SIZE = 48
CONSTANTS = Constants()


def thorax(n: int = 3, size: int = SIZE) -> Tensor:
    """Grey images (n, 3, H, W) with edges, a slope and a disc each, of 8-bit levels."""
    generator = torch.Generator().manual_seed(5)
    steps = torch.linspace(-1, 1, size)
    disc = ((steps[:, None] - 0.3) ** 2 + steps[None] ** 2 < 0.09).float()
    base = 0.35 + 0.33 * steps[None] * torch.ones(size, 1) + 0.25 * disc
    noise = 0.02 * torch.randn(n, 1, size, size, generator=generator)
    return ((base + noise).clamp(0.02, 0.98) * 255).round().div(255).expand(n, 3, size, size).contiguous()


def made(name: str, images: Tensor, severity: float, *, seed: int = 0, **constants: float) -> Tensor:
    found = entry(name)
    change = found.build(declared(constants))
    return changed(change, images, severity, identity=found.identity, seed=seed)


def test_there_are_the_kinds_of_both_modalities():
    radiography = "dose_fraction scatter exposure overexposure grid_lines collimation marker"
    both = "gamma window_centre window_width mtf_blur motion rotation shift scale flip resampling jpeg jpeg2000"
    ct = "mas_fraction mas_fraction_quick kernel streaks cupping"
    for wanted, modalities in ((radiography, {"xray"}), (both, {"xray", "ct"}), (ct, {"ct"})):
        assert {name: set(entry(name).modalities) for name in wanted.split()} == dict.fromkeys(
            wanted.split(), modalities
        )
    ranks = [entry(name).rank for name in OURS]
    assert len(set(ranks)) == len(ranks)


@pytest.mark.parametrize("name", OURS)
def test_every_change_keeps_the_contract(name: str):
    """Identity, range, size, greys, repeatability, batch and singles, and severities that are each farther."""
    found, images = entry(name), thorax()
    assert found.build(CONSTANTS).name == name
    assert torch.equal(made(name, images, found.identity), images)
    grid = grid_of(name, found, ())
    before, moved_by = images.clone(), []
    for severity in grid[1:]:
        each = made(name, images, severity)
        assert each.shape == images.shape
        assert 0 <= float(each.min()) <= float(each.max()) <= 1
        assert torch.equal(each[:, 0], each[:, 2])
        assert torch.equal(each, made(name, images, severity))
        singles = torch.cat([made(name, image[None], severity) for image in images])
        assert float((singles - each).abs().max()) < 1e-5
        moved_by.append(float((each - images).square().mean().sqrt()))
    assert torch.equal(images, before), "changed the images that it was given"
    assert min(moved_by) > 0
    assert not found.ordered or moved_by == sorted(moved_by), f"{name} is not farther at a higher severity: {moved_by}"


@pytest.mark.parametrize("name", OURS)
def test_a_colour_image_keeps_its_planes_apart(name: str):
    found = entry(name)
    images = torch.stack([thorax(1)[0, 0], thorax(1)[0, 0].flip(0), 0.5 * thorax(1)[0, 0]])[None]
    each = made(name, images, found.severities[1])
    assert each.shape == images.shape
    assert not torch.equal(each[:, 0], each[:, 2])


def test_random_numbers_belong_to_the_image_its_severity_and_the_seed():
    images = thorax(2, size=160)
    one = made("dose_fraction", images, 0.25)
    assert not torch.equal(one, made("dose_fraction", images, 0.25, seed=1))
    noise = (one - images)[:, 0]
    other = (made("dose_fraction", images, 0.1) - images)[:, 0]
    for first, second in ((noise[0], noise[1]), (noise[0], other[0])):
        assert abs(float(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1])) < 0.1


# --- dose ---------------------------------------------------------------------------------------------------

QUANTA, DECADES, ELECTRONIC = 900.0, 1.5, 8.0


def dosed(grey: Tensor, f: float, *, quanta: float = QUANTA, seed: int = 0, blur_px: float = 0.0) -> Tensor:
    how = {"quanta": quanta, "exposure_decades": DECADES, "electronic": ELECTRONIC, "detector_blur_px": blur_px}
    return made("dose_fraction", grey, f, seed=seed, **how)


def quanta_shown(images: Tensor) -> Tensor:
    return QUANTA * 10 ** (-DECADES * images.double())


@pytest.mark.parametrize("f", [0.5, 0.25])
def test_a_flat_field_has_the_mean_and_the_missing_variance_of_its_dose(f: float):
    grey = torch.full((1, 1, 512, 512), 0.4)
    counted = f * quanta_shown(dosed(grey, f))
    n = QUANTA * 10 ** (-DECADES * 0.4)
    assert float(counted.mean()) == pytest.approx(f * n, rel=0.02)
    assert float(counted.var()) == pytest.approx(f * (1 - f) * n + (1 - f**2) * ELECTRONIC**2, rel=0.02)


def test_a_wedge_has_the_variance_of_each_of_its_steps():
    levels = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5])
    wedge = levels.repeat_interleave(128)[None, None, None].expand(1, 1, 1024, -1).contiguous()
    counted = 0.5 * quanta_shown(dosed(wedge, 0.5))[0, 0].view(1024, 5, 128)
    n = QUANTA * 10 ** (-DECADES * levels.double())
    expected = 0.25 * n + 0.75 * ELECTRONIC**2
    assert torch.allclose(counted.mean(dim=(0, 2)), 0.5 * n, rtol=0.02)
    found = torch.stack([counted[:, step].var() for step in range(5)])
    assert torch.allclose(found, expected, rtol=0.02)


def test_half_the_dose_twice_is_a_quarter():
    grey = torch.full((1, 1, 512, 512), 0.3)
    once = quanta_shown(dosed(grey, 0.25)).var()
    twice = quanta_shown(dosed(dosed(grey, 0.5), 0.5, quanta=QUANTA / 2, seed=1)).var()
    assert float(twice) == pytest.approx(float(once), rel=0.03)


def test_the_noise_has_the_power_spectrum_of_the_detector():
    grey, blur = torch.full((1, 1, 512, 512), 0.3), 1.0
    counted = quanta_shown(dosed(grey, 0.5, blur_px=blur))[0, 0]
    power = torch.fft.rfft2(counted - counted.mean()).abs().square()
    v, u = torch.fft.fftfreq(512)[:, None], torch.fft.rfftfreq(512)[None]
    radius = (u**2 + v**2).sqrt()
    rings = [(radius >= low) & (radius < low + 0.03) for low in np.arange(0.03, 0.30, 0.03)]
    found = torch.stack([power[ring].mean() for ring in rings])
    expected = torch.stack([torch.exp(-4 * (math.pi * blur * radius[ring]) ** 2).mean() for ring in rings]).double()
    ratio = found / found[0] / (expected / expected[0])
    assert float((ratio - 1).abs().max()) < 0.10
    plain = quanta_shown(dosed(grey, 0.5))[0, 0]
    assert float(counted.var()) == pytest.approx(float(plain.var()), rel=0.02)  # the pixel's variance is kept


def test_scatter_keeps_a_flat_field_bright_and_adds_its_own_noise():
    grey, s = torch.full((1, 1, 512, 512), 0.3), 0.5
    how = {"quanta": QUANTA, "exposure_decades": DECADES, "detector_blur_px": 0.0}
    counted = quanta_shown(made("scatter", grey, s, **how))
    n = QUANTA * 10 ** (-DECADES * 0.3)
    assert float(counted.mean()) == pytest.approx(n, rel=0.02)
    assert float(counted.var()) == pytest.approx((1 - s) ** 2 * s / (1 - s) * n, rel=0.02)


def test_exposure_shifts_grey_by_its_logarithm_and_overexposure_cuts_what_saturates():
    images = thorax(1)
    shift = math.log10(0.5) / CONSTANTS.exposure_decades
    assert torch.allclose(made("exposure", images, 0.5), (images - shift).clamp(0, 1), atol=1e-6)
    cut = made("overexposure", images, 4.0)
    saturated = math.log10(4.0 / CONSTANTS.headroom) / CONSTANTS.exposure_decades
    assert torch.allclose(cut, images.clamp(min=saturated), atol=1e-5)


# --- sharpness ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "severity", "response"), [
    ("mtf_blur", 1.5, lambda u: math.exp(-2 * (math.pi * 1.5 * u) ** 2)),
    ("motion", 5.0, lambda u: math.sin(math.pi * 5 * u) / (math.pi * 5 * u)),
])  # fmt: skip
def test_a_blur_keeps_of_each_frequency_what_its_transfer_function_says(name: str, severity: float, response):
    size = 128
    along = torch.arange(size) + 0.5
    for cycles in (3, 8, 15):
        u = cycles / (2 * size)
        wave = torch.cos(2 * math.pi * u * along)
        images = (0.5 + 0.3 * wave)[None, None, :, None].expand(1, 1, size, size).contiguous()
        found = (made(name, images, severity) - 0.5)[0, 0, :, 0] @ wave / (wave @ wave)
        assert float(found) == pytest.approx(0.3 * response(u), abs=2e-4)


def test_motion_leaves_what_lies_across_it():
    images = thorax(1)
    stripes = images[:, :, :1].expand_as(images).contiguous()
    assert torch.allclose(made("motion", stripes, 7.0), stripes, atol=1e-5)


# --- geometry -----------------------------------------------------------------------------------------------


def test_quarter_turns_shifts_of_whole_pixels_and_flips_are_exact():
    images = thorax(1, size=40)
    assert torch.allclose(moved(images, degrees=90), torch.rot90(images, 1, (2, 3)), atol=1e-5)
    assert torch.allclose(moved(images, right=0.05)[..., 2:], images[..., :-2], atol=1e-5)
    assert torch.allclose(moved(images, down=0.1)[..., 4:, :], images[..., :-4, :], atol=1e-5)
    assert torch.equal(made("flip", images, 1.0), images.flip(3))
    assert torch.allclose(moved(moved(images, times=1.25), times=0.8)[..., 10:30, 10:30], images[..., 10:30, 10:30],
                          atol=0.15)  # fmt: skip


def test_a_rotation_is_one_of_lengths_and_not_of_the_images_shape():
    wide = torch.zeros(1, 1, 40, 80)
    wide[..., 18:22, 38:58] = 1.0  # a bar from the middle to the right
    turned = moved(wide, degrees=30)
    weight = turned[0, 0]
    down, right = torch.meshgrid(torch.arange(40) - 19.5, torch.arange(80) - 39.5, indexing="ij")
    x, y = float((weight * right).sum() / weight.sum()), float((weight * down).sum() / weight.sum())
    assert math.degrees(math.atan2(-y, x)) == pytest.approx(30, abs=1.5)
    assert math.hypot(x, y) == pytest.approx(8, abs=0.3)


def test_collimation_marker_and_grid_lines_are_where_they_should_be():
    images = thorax(1, size=100)
    bordered = made("collimation", images, 10.0)
    assert float(bordered[..., :10, :].max()) == float(bordered[..., -10:].max()) == 0
    assert torch.equal(bordered[..., 10:90, 10:90], images[..., 10:90, 10:90])
    marked = made("marker", images, 12.0) - images
    rows = torch.nonzero(marked[0, 0].sum(dim=1))[:, 0]
    assert 10 <= int(rows.max() - rows.min()) + 1 <= 14
    assert int(rows.max()) < 50
    assert float(marked[..., 50:].max()) == 0
    lines = made("grid_lines", images, 10.0) - images
    assert float(lines[0, 0, 0, 40:44].sum()) == pytest.approx(0, abs=1e-5)
    assert float(lines.max()) == pytest.approx(10 / 255, abs=1e-4)


# --- CT -----------------------------------------------------------------------------------------------------


def test_a_disc_is_projected_as_its_chords_and_comes_back():
    side, radius, pixel_mm = 128, 40, 2.0
    steps = torch.arange(side) - (side - 1) / 2
    disc = ((steps[:, None] ** 2 + steps[None] ** 2) <= radius**2).float()[None, None] * MU_WATER_PER_MM
    rays = project(disc, pixel_mm=pixel_mm)
    chords = 2 * (radius**2 - steps**2).clamp(min=0).sqrt() * pixel_mm * MU_WATER_PER_MM
    inner = steps.abs() < 30
    assert torch.allclose(rays[0].mean(dim=0)[inner], chords[inner], rtol=0.02)
    back = back_project(rays, pixel_mm=pixel_mm)[0, 0]
    assert float(back[44:84, 44:84].mean()) == pytest.approx(MU_WATER_PER_MM, rel=0.02)


def test_the_noise_of_a_water_disc_has_the_spectrum_of_the_ramp_and_the_variance_of_its_mas():
    """Riederer 1978: the power spectrum rises as the frequency; Kak & Slaney: it goes as (1 / f - 1) / quanta."""
    side = 128
    how = {"window_centre_hu": 0.0, "window_width_hu": 400.0, "field_mm": 300.0, "ct_quanta": 1e8}
    steps = torch.arange(side) - (side - 1) / 2
    water = ((steps[:, None] ** 2 + steps[None] ** 2) <= 55**2).float()[None, None] * 0.5
    inside = (slice(None), slice(None), slice(40, 88), slice(40, 88))
    parts, variance = [], {}
    for f in (0.5, 0.25):
        noise = torch.cat([made("mas_fraction", water, f, seed=seed, **how)[inside] - 0.5 for seed in range(6)])
        variance[f] = float(noise.var())
        parts.append(torch.fft.rfft2(noise[:, 0]).abs().square().mean(dim=0))
    assert variance[0.25] / variance[0.5] == pytest.approx(3.0, rel=0.05)  # (1 / .25 - 1) / (1 / .5 - 1)
    power = parts[0] / parts[0].sum() + parts[1] / parts[1].sum()
    radius = (torch.fft.fftfreq(48)[:, None] ** 2 + torch.fft.rfftfreq(48)[None] ** 2).sqrt()
    rings = [(radius >= low) & (radius < low + 0.05) for low in (0.05, 0.10, 0.15, 0.20)]
    found = torch.stack([power[ring].mean() for ring in rings])
    ramp = torch.stack([radius[ring].mean() for ring in rings])
    assert float((found / found.mean() / (ramp / ramp.mean()) - 1).abs().max()) < 0.25
    assert N_VIEWS == 180


def test_the_quick_form_has_the_variance_that_is_declared():
    flat = torch.full((1, 1, 256, 256), 0.5)
    noise = made("mas_fraction_quick", flat, 0.25, ct_noise_hu=10.0, window_width_hu=1000.0) - 0.5
    assert float(noise.std()) == pytest.approx(0.01 * math.sqrt(3), rel=0.02)


def test_cupping_is_deepest_in_the_middle_and_streaks_reach_their_height():
    flat = torch.full((1, 1, 65, 65), 0.5)
    cup = made("cupping", flat, 75.0, window_width_hu=1500.0) - 0.5
    assert float(cup[0, 0, 32, 32]) == pytest.approx(-0.05, abs=1e-5)
    assert float(cup[0, 0, 0, 0]) == 0
    streaked = made("streaks", flat, 150.0, window_width_hu=1500.0)
    bands = (streaked - 0.5)[streaked < 1].abs()
    assert float(torch.quantile(bands, 0.98)) == pytest.approx(0.1, rel=0.25)


# --- what is refused ----------------------------------------------------------------------------------------


class Foreign(Change):
    def __init__(self, made_of) -> None:
        object.__setattr__(self, "name", "foreign")
        object.__setattr__(self, "_made_of", made_of)

    def change(self, images: Tensor, severity: float, random: Random) -> Tensor:
        return self._made_of(images)


@pytest.mark.parametrize(("made_of", "said"), [
    (lambda images: images * 3, r"must stay in \[0, 1\].*Clip or scale"),
    (lambda images: images * float("nan"), r"must stay in \[0, 1\]"),
    (lambda images: images[..., 1:], "must keep the size of images.*Crop or pad"),
    (lambda images: images.numpy(), "must return a tensor, got ndarray"),
    (lambda images: 1 / 0, "failed at 1 on images of shape.*ZeroDivisionError"),
])  # fmt: skip
def test_a_change_that_breaks_its_contract_is_named_in_a_sentence(made_of, said: str):
    with pytest.raises(PhysicalError, match=said):
        changed(Foreign(made_of), thorax(), 1.0, identity=0.0)


def test_severities_are_kept_to_their_bounds_and_to_one_side():
    dose, turned = entry("dose_fraction"), entry("rotation")
    assert grid_of("dose_fraction", dose, (0.25, 0.5)) == (1.0, 0.5, 0.25)
    assert grid_of("rotation", turned, (-5, -1)) == (0.0, -1, -5)
    for name, found, asked, said in (
        ("dose_fraction", dose, (2.0,), "must be from 0.02 to 1 of the dose, got 2, because"),
        ("dose_fraction", dose, (float("nan"),), "must be from 0.02"),
        ("rotation", turned, (-1, 1), "must all lie on one side of 0 degrees"),
        ("rotation", turned, (0,), "must name more than 0 degrees"),
        ("jpeg", entry("jpeg"), (75.5,), "must be a whole number, got 75.5"),
    ):
        with pytest.raises(DosimeterError, match=said):
            grid_of(name, found, asked)


@pytest.mark.parametrize(("values", "said"), [
    ({"quantum": 3}, "constant 'quantum' is not known. Did you mean 'quanta'"),
    ({"quanta": -3}, "constant quanta must not be negative"),
    ({"quanta": 0}, "constant quanta must be above 0"),
    ({"quanta": "many"}, "constant quanta must be a finite number"),
    ({"quanta": float("nan")}, "constant quanta must be a finite number"),
])  # fmt: skip
def test_constants_are_numbers_in_their_range(values, said: str):
    with pytest.raises(DosimeterError, match=said):
        declared(values)


# --- several, tries, and anybody's --------------------------------------------------------------------------


def test_changes_one_after_another_are_each_at_its_next_severity():
    found, images = entry("window_centre+gamma"), thorax()
    assert (found.unit, found.severities, found.modalities) == ("steps", (0, 1, 2, 3, 4), ("xray", "ct"))
    assert "window_centre 2, 5, 10, 20; gamma 1.1, 1.25, 1.5, 2" in found.note
    expected = made("gamma", made("window_centre", images, 10.0), 1.5)
    assert torch.allclose(made("window_centre+gamma", images, 3.0), expected, atol=1e-6)
    assert torch.equal(made("dose_fraction+motion", images, 2.0), made("dose_fraction+motion", images, 2.0))
    assert entry("dose_fraction+motion").constants == entry("dose_fraction").constants
    with pytest.raises(DosimeterError, match="must be of one modality"):
        entry("dose_fraction+cupping")
    with pytest.raises(DosimeterError, match="change 'motions' is not known"):
        entry("dose_fraction+motions")


def test_placements_keep_to_their_bounds_and_are_each_image_s_own():
    spot = torch.zeros(2, 1, 101, 101)
    spot[:, :, 20, 50] = 1.0  # 30 pixels above the middle
    spot[1, :, 20, 51] = 0.5
    places = []
    for draw in range(1, 11):
        placed = made("placement", spot, float(draw))
        for image in placed[:, 0]:
            row, column = divmod(int(image.argmax()), 101)
            places.append((row - 20, column - 50))
    assert len(set(places)) > 10
    assert max(abs(down) for down, _ in places) <= 4  # 3 % of 101, and what a turn by 5 degrees lowers
    assert max(abs(right) for _, right in places) <= 6  # 3 %, and 30 sin 5 degrees
    everywhere = {made("placement_grid", spot, float(k)).argmax().item() for k in range(27)}
    assert len(everywhere) > 15


def test_anybody_s_callable_is_a_change_with_a_unit(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dosimeter.registry.ADDED", {})
    seen = []

    def grainy(image: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
        seen.append(image.shape)
        return np.clip(image + severity * rng.normal(size=image.shape), 0, 1)

    assert physical_change(grainy, name="grainy", unit="of the range", severities=(0, 0.1, 0.2)) == "grainy"
    images = thorax()
    one = made("grainy", images, 0.1)
    assert set(seen) == {(SIZE, SIZE, 1)}
    assert torch.equal(one, made("grainy", images, 0.1))
    assert not torch.equal(one, made("grainy", images, 0.1, seed=1))
    assert not torch.equal(one[0] - images[0], one[1] - images[1])
    for broken, said in (
        ({"unit": ""}, "change 'mine' must declare the unit"),
        ({"name": "rotation"}, "name must be a new one"),
        ({"transform": 3}, "transform must be a callable"),
        ({"severities": ()}, "must have two severities or more"),
    ):
        asked = {"transform": grainy, "name": "mine", "unit": "x", "severities": (0, 1), **broken}
        with pytest.raises(DosimeterError, match=said):
            physical_change(asked.pop("transform"), **asked)
    physical_change(lambda image, severity: image * 3, name="loud", unit="times", severities=(1, 3))
    with pytest.raises(PhysicalError, match=r"the change loud must stay in \[0, 1\]"):
        made("loud", images, 3.0)


def test_the_battery_for_plug_ins_finds_what_is_broken(monkeypatch: pytest.MonkeyPatch):
    check_change("window_centre")
    check_change("dose_fraction+motion")
    monkeypatch.setattr("dosimeter.registry.ADDED", {})
    how = {"unit": "x", "severities": (0, 0.1, 0.2)}
    rng = np.random.default_rng(0)
    for transform, said in (
        (lambda image, severity: np.clip(image + severity * rng.normal(size=image.shape), 0, 1), "for the same seed"),
        (lambda image, severity: image * (0.5 + severity), "less at a farther severity"),
    ):
        physical_change(transform, name="broken", **how)
        with pytest.raises(ContractBroken, match=said):
            check_change("broken")
