"""Metrics of visibility against published values, closed forms and other libraries."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from greys import cohort
from scipy.ndimage import gaussian_filter
from tiny import convolutional_classifier

import dosimeter as dm
from dosimeter.attacks.threat import Threat
from dosimeter.errors import DosimeterError
from dosimeter.examinations.observer import observe
from dosimeter.study.config import load_config
from dosimeter.visibility.fidelity import MS_SSIM_LEAST_PX, fidelity, haarpsi
from dosimeter.visibility.gsdf import DISPLAYS, REFERENCE, SRGB, Display, jnd_index, jnd_span, luminance, srgb_jnd_index
from dosimeter.visibility.measure import Reference, grey
from dosimeter.visibility.noise import local_noise
from dosimeter.visibility.observer import CHANNELS, auc, detect, laguerre_gauss


@pytest.mark.parametrize(
    ("index", "published", "tolerance"),
    [(1, 0.0500, 1e-4), (2, 0.0547, 1e-4), (3, 0.0594, 1e-4), (4, 0.0643, 1e-4), (1023, 3993.4040, 0.5)],
)
def test_luminance_is_that_of_table_b1_of_ps3_14(index: int, published: float, tolerance: float) -> None:
    assert float(luminance(index)) == pytest.approx(published, abs=tolerance)


def test_the_inverse_is_that_of_annex_d_and_of_colour_science() -> None:
    assert float(jnd_index(12.0)) == pytest.approx(233.32, abs=0.02)  # PS3.14, annex D.2
    assert float(luminance(512)) == pytest.approx(130.0652840, abs=1e-5)  # colour 0.3.11's documentation
    assert float(jnd_index(130.065284012159790)) == pytest.approx(511.9964806, abs=1e-5)


def test_luminance_and_jnd_index_undo_each_other() -> None:
    indices = np.arange(1, 1024)
    assert np.abs(jnd_index(luminance(indices)) - indices).max() < 0.3
    assert np.abs(jnd_index(luminance(indices[10:1000])) - indices[10:1000]).max() < 0.05
    assert (np.diff(luminance(indices)) > 0).all()


def test_spans_of_the_displays_and_an_srgb_screen() -> None:
    spans = {name: jnd_span(display) for name, display in DISPLAYS.items()}
    assert spans == pytest.approx({"0.5-500": 659, "1-350": 582, "0.2-250": 581}, abs=1)
    assert jnd_span(Display(1, 350)) == spans[REFERENCE]
    ends = srgb_jnd_index([0.0, 1.0])
    assert ends == pytest.approx([float(jnd_index(value)) for value in SRGB])
    middle = 0.2 + 79.8 * ((0.5 + 0.055) / 1.055) ** 2.4
    assert float(srgb_jnd_index(0.5)) == pytest.approx(float(jnd_index(middle)), abs=0.01)


@pytest.mark.parametrize("sigma", [0.002, 0.01, 0.05])
def test_the_noise_of_gaussian_noise_on_a_ramp_is_its_sigma(sigma: float) -> None:
    ramp = np.linspace(0.3, 0.7, 256)[None] + np.linspace(-0.05, 0.05, 256)[:, None]
    noisy = ramp + sigma * np.random.default_rng(0).standard_normal((256, 256))
    assert local_noise(noisy) == pytest.approx(sigma, rel=0.03)


def test_noise_leaves_out_what_is_black_and_does_not_invent_any() -> None:
    noisy = 0.5 + 0.01 * np.random.default_rng(0).standard_normal((128, 128))
    noisy[:, 30:] = 0  # three quarters of it outside the body
    assert local_noise(noisy) == pytest.approx(0.01, rel=0.1)
    assert math.isnan(local_noise(np.full((32, 32), 0.5)))
    assert math.isnan(local_noise(np.zeros((32, 32))))


def textured(size: int, seed: int = 0) -> torch.Tensor:
    """A smooth image with structure, in [0, 1]: (size, size)."""
    blurred = gaussian_filter(np.random.default_rng(seed).standard_normal((size, size)), 3)
    low, high = blurred.min(), blurred.max()
    return torch.tensor((blurred - low) / (high - low), dtype=torch.float32)


@pytest.mark.parametrize("size", [64, 97, 224])
@pytest.mark.parametrize("sigma", [0.005, 0.05, 0.2])
def test_haarpsi_is_that_of_piq(size: int, sigma: float) -> None:
    piq = pytest.importorskip("piq")
    image = textured(size)
    other = (image + sigma * torch.randn(size, size, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    expected = float(piq.haarpsi(image[None, None], other[None, None], data_range=1.0, c=5.0, alpha=4.9))
    assert haarpsi(image, other) == pytest.approx(expected, abs=2e-4)
    assert haarpsi(image, other, c=30, alpha=4.2) == pytest.approx(
        float(piq.haarpsi(image[None, None], other[None, None], data_range=1.0)), abs=2e-4
    )


def test_fidelity_of_an_image_to_itself_is_one_and_too_small_is_none() -> None:
    image = textured(MS_SSIM_LEAST_PX)
    assert fidelity(image, image) == pytest.approx((1, 1, 1), abs=1e-5)
    assert haarpsi(torch.zeros(32, 32), torch.zeros(32, 32)) == 1
    small = textured(MS_SSIM_LEAST_PX - 1)
    found = fidelity(small, (small + 0.02).clamp(0, 1))
    assert found.ms_ssim is None
    assert 0.5 < found.ssim < 1
    noisy = (image + 0.05 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    worse = fidelity(image, noisy)
    assert all(value is not None and value < 0.99 for value in worse)


def test_measures_of_a_constant_amplitude_are_their_closed_forms() -> None:
    clean = (0.4 + 0.2 * textured(64)).expand(3, -1, -1)
    sign = torch.randint(0, 2, (1, 64, 64), generator=torch.Generator().manual_seed(0)) * 2 - 1
    seen = Reference(clean).seen(clean + 0.01 * sign, costly=False)
    span = jnd_span(DISPLAYS[REFERENCE])
    assert seen["rms"] == pytest.approx(0.01, rel=1e-4)
    assert seen["psnr"] == pytest.approx(40, abs=1e-3)
    for name in ("jnd_p50", "jnd_p95", "jnd_max"):
        assert seen[name] == pytest.approx(0.01 * span, rel=1e-3)
    assert seen["noise_ratio"] == pytest.approx(0.01 / local_noise(clean[0].numpy()), rel=1e-3)
    assert "ssim" not in seen
    assert Reference(clean).seen(clean, costly=True) == pytest.approx(
        {"rms": 0, "psnr": None, "ssim": 1, "ms_ssim": None, "haarpsi": 1, "noise_ratio": 0}
        | dict.fromkeys(("jnd_p50", "jnd_p95", "jnd_max", "jnd_srgb_p95"), 0)
    )


def test_psnr_is_that_of_torchmetrics_also_in_colour() -> None:
    from torchmetrics.functional.image import peak_signal_noise_ratio

    generator = torch.Generator().manual_seed(0)
    image, other = torch.rand(3, 32, 32, generator=generator), torch.rand(3, 32, 32, generator=generator)
    expected = float(peak_signal_noise_ratio(other, image, data_range=1.0))
    assert Reference(image).seen(other, costly=False)["psnr"] == pytest.approx(expected, abs=1e-4)
    assert torch.equal(grey(image[:1].expand(3, -1, -1)), image[0])
    assert grey(image)[0, 0] == pytest.approx(float(image[:, 0, 0] @ torch.tensor([0.2126, 0.7152, 0.0722])))


@pytest.mark.parametrize("name", sorted(CHANNELS))
def test_d_prime_of_a_signal_in_white_noise_is_its_closed_form(name: str) -> None:
    rng = np.random.default_rng(0)
    channels, sigma = CHANNELS[name](32), 0.05
    signal = channels @ rng.standard_normal(channels.shape[1])  # all of it passes the channels
    signal *= 0.1 / np.linalg.norm(signal)
    learned, others = sigma * rng.standard_normal((2, 4000, 32 * 32))
    found = detect(signal[None], learned, channels, others=others)
    assert found.holdout[0] == pytest.approx(np.linalg.norm(signal) / sigma, rel=0.06)  # the matched filter's
    assert found.resubstitution[0] == pytest.approx(np.linalg.norm(signal) / sigma, rel=0.06)
    assert float(auc(found.holdout)[0]) == pytest.approx(0.5 * (1 + math.erf(found.holdout[0] / 2)))


def test_few_backgrounds_flatter_an_observer_that_is_tried_on_them() -> None:
    rng = np.random.default_rng(0)
    signals, learned = 0.01 * rng.standard_normal((20, 256)), rng.standard_normal((30, 256))
    others = rng.standard_normal((2000, 256))
    found = detect(signals, learned, laguerre_gauss(16), others=others)
    assert (found.resubstitution > found.holdout).all()
    assert np.isnan(detect(signals, learned, laguerre_gauss(16)).holdout).all()


def test_channels_have_unit_norm_and_laguerre_gauss_ones_are_nearly_orthogonal() -> None:
    for build in CHANNELS.values():
        np.testing.assert_allclose(np.linalg.norm(build(32), axis=0), 1)
    low = laguerre_gauss(64, n=4, width_px=16)
    np.testing.assert_allclose(low.T @ low, np.eye(4), atol=1e-3)


def test_settings_say_where_the_costly_metrics_are_measured() -> None:
    assert load_config(None).costly_epsilons == (0.0007, 0.003, 0.009, 0.08)
    assert load_config(None, visibility="all", epsilons="0.1,0.2").costly_epsilons == (0.1, 0.2)
    assert load_config(None, visibility="none").costly_epsilons == ()
    chosen = load_config(None, visibility="4/255, 0.5", epsilons="4/255,0.1")
    assert chosen.costly_epsilons == (4 / 255,)
    assert chosen.digest() != load_config(None, visibility="none", epsilons="4/255,0.1").digest()
    with pytest.raises(DosimeterError, match="epsilon must be a number"):
        load_config(None, visibility="some")


def test_a_sweep_measures_on_its_grid_and_what_is_costly_where_it_is_asked() -> None:
    classifier, cases = convolutional_classifier(), cohort(3)
    epsilons = [0.001, 0.01, 0.05]
    frame = dm.sweep(classifier, cases, epsilons=epsilons, storages=["float", "png8"], visibility=[0.01]).frame
    grid = frame[frame.on_grid]
    assert grid[["rms", "noise_ratio", "jnd_p95", "jnd_srgb_p95"]].notna().all().all()
    assert frame.loc[~frame.on_grid, ["rms", "ssim", "jnd_p95"]].isna().all().all()
    assert (grid.ssim.notna() == (grid.epsilon == 0.01)).all()
    assert (grid.haarpsi.notna() == (grid.epsilon == 0.01)).all()
    floats = grid[(grid.storage == "float") & (grid.epsilon > 0)]
    np.testing.assert_allclose(floats.jnd_max, floats.linf * jnd_span(DISPLAYS[REFERENCE]), rtol=1e-5)
    np.testing.assert_allclose(floats.rms, floats.l2 / math.sqrt(3 * 32 * 32), rtol=1e-5)
    stored = grid[(grid.storage == "png8") & (grid.epsilon == 0.001)]
    assert (stored.jnd_max == 0).all()
    assert stored.psnr.isna().all()


def test_what_an_observer_detects_of_an_attack_is_linear_in_epsilon() -> None:
    found = observe(
        dm.FGSM(), convolutional_classifier(), cohort(6), [0.01, 0.02]
    )  # images in [0.3, 0.7]: never clipped
    assert {(each["epsilon"], each["channels"]) for each in found} == {
        (epsilon, name) for epsilon in (0.01, 0.02) for name in CHANNELS
    }
    for name in CHANNELS:
        small, large = (each for each in found if each["channels"] == name)
        assert (small["n_images"], small["n_patches"], small["patch_px"]) == (6, 6 * 16, 8)
        assert large["d_holdout"] == pytest.approx(2 * small["d_holdout"], rel=1e-3)
        assert large["d_image"] == pytest.approx(2 * small["d_image"], rel=1e-3)
        assert small["d_image"] > small["d_holdout"] > 0
    assert observe(dm.FGSM(), convolutional_classifier(), cohort(1), [0.01]) == []


def test_an_observer_looks_where_the_attacker_may_change_pixels() -> None:
    mask = torch.zeros(1, 32, 32, dtype=torch.bool)
    mask[:, :8, :8] = True  # one of 16 patches
    whole, part = (
        observe(dm.FGSM(), convolutional_classifier(), cohort(6), [0.01], threat=threat)
        for threat in (Threat(), Threat(mask=mask))
    )
    assert part[0]["d_image"] < whole[0]["d_image"]
    assert part[0]["d_holdout"] == 0  # the median patch is as it was


@pytest.mark.real
def test_metrics_of_two_real_x_rays_are_in_order(real_data: Path) -> None:
    from dosimeter.cohorts.base import Decoded
    from dosimeter.cohorts.images import to_grid

    cases = dm.load_cohort("xray-268", data=real_data, limit=10)
    for case in (cases[0], cases[1]):
        image = torch.tensor(to_grid(Decoded(case.image, case.bits), size_px=224)).expand(3, -1, -1)
        reference = Reference(image)
        sign = torch.randint(0, 2, (1, 224, 224), generator=torch.Generator().manual_seed(0)) * 2 - 1
        small, large = (reference.seen((image + eps * sign).clamp(0, 1), costly=True) for eps in (0.003, 0.08))
        assert 0.0005 < local_noise(grey(image).numpy()) < 0.05
        assert small["jnd_p95"] == pytest.approx(0.003 * jnd_span(DISPLAYS[REFERENCE]), rel=0.02)
        for name in ("psnr", "ssim", "ms_ssim", "haarpsi"):
            assert small[name] > large[name], name
        for name in ("rms", "noise_ratio", "jnd_p50", "jnd_p95", "jnd_srgb_p95"):
            assert small[name] < large[name], name
