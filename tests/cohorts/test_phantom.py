"""The phantom cohorts, and the geometry they are drawn with."""

from collections import defaultdict
from functools import cache

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dosimeter.cohorts import phantom, phantom_projection
from dosimeter.cohorts.phantom import phantom_cohort
from dosimeter.cohorts.phantom_anatomy import Ellipsoids, covered, draw_anatomy, rotation
from dosimeter.cohorts.phantom_projection import Grid, make_grid, path_through
from dosimeter.errors import DosimeterError

NAMES = ("phantom-xray", "phantom-ct")
N_READ = 22


@cache
def images(name: str) -> np.ndarray:
    """The first images of the cohort, (n, h, w), read once for all tests."""
    return np.concatenate([case.image for case in phantom_cohort(name, n_images=N_READ)])


@pytest.fixture(autouse=True)
def _rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here a phantom is rendered every time it is read."""
    monkeypatch.setattr(phantom, "_render", getattr(phantom._render, "__wrapped__"))  # noqa: B009


def flat_grid(pitch_cm: float = 0.1) -> Grid:
    return make_grid((0.0, 0.0), (pitch_cm, -pitch_cm), np.zeros((2, 1, 4)))


def tilted_ellipsoid() -> Ellipsoids:
    ball = Ellipsoids(np.array([[0.5, -1.0, 0.7]]), np.diag(1 / np.square([1.0, 2.0, 3.0]))[None])
    return ball.moved(rotation(20, -35, 50))


# The cohort


@pytest.mark.parametrize("name", NAMES)
def test_images_lie_on_the_8_bit_grid_and_use_its_range(name):
    case = phantom_cohort(name, n_images=2)[1]
    assert case.image.shape == (1, 224, 224)
    assert case.image.dtype == np.float32
    assert case.bits == 8
    for image in images(name):
        levels = np.rint(image * 255)
        np.testing.assert_array_equal(image, levels.astype(np.float32) / np.float32(255))
        assert 0 <= levels.min() <= 40
        assert 200 <= levels.max() <= 255
        assert image.std() > 0.1


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_bytes_in_any_order(name):
    before = images(name)
    phantom._patient.cache_clear()
    again = phantom_cohort(name, n_images=N_READ)
    for index in (N_READ - 1, 1, 0):
        assert again[index].image[0].tobytes() == before[index].tobytes()
    assert len({image.tobytes() for image in before}) == N_READ
    assert again.sha256 == phantom_cohort(name, n_images=N_READ).sha256


@pytest.mark.parametrize("name", NAMES)
def test_another_seed_gives_other_images(name):
    first, second = phantom_cohort(name, n_images=2), phantom_cohort(name, n_images=2, seed=1)
    assert first.sha256 != second.sha256
    assert not np.array_equal(images(name)[0], second[0].image[0])


def test_the_modalities_share_no_recipe():
    digests = [{record.sha256 for record in phantom_cohort(name).records} for name in NAMES]
    assert not digests[0] & digests[1]


@pytest.mark.parametrize("name", NAMES)
def test_patients_have_one_label_and_up_to_four_distinct_images(name):
    cohort = phantom_cohort(name)
    labels, recipes = defaultdict(set), defaultdict(list)
    for record in cohort.records:
        labels[record.patient_id].add(record.label)
        recipes[record.patient_id].append(record.sha256)
    assert all(len(found) == 1 for found in labels.values())
    assert {len(found) for found in recipes.values()} == {1, 2, 3, 4}
    assert len({record.sha256 for record in cohort.records}) == len(cohort)
    assert len({record.case_id for record in cohort.records}) == len(cohort)
    assert next(iter(labels)) == "phantom-0000"
    assert cohort.records[0].patient_id not in cohort.records[0].case_id


@pytest.mark.parametrize(("n_images", "expected"), [(None, 300), (2, 2), (7, 7), (41, 41)])
def test_length_and_balance(n_images, expected):
    cohort = phantom_cohort("phantom-ct", n_images=n_images)
    assert len(cohort) == expected
    assert cohort.classes == ("clear", "opacity")
    assert cohort.modality == "ct"
    for length in range(1, expected + 1):
        assert abs(2 * int(cohort.labels[:length].sum()) - length) <= 1


def test_a_shorter_cohort_is_the_beginning_of_a_longer_one():
    assert phantom_cohort("phantom-xray", n_images=11).records == phantom_cohort("phantom-xray").records[:11]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_images": 1}, "n_images must be from 2 to 100000, got 1"),
        ({"n_images": 0}, "n_images must be from 2 to 100000, got 0"),
        ({"n_images": 100_001}, "n_images must be from 2 to 100000, got 100001"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
    ],
)
def test_errors_name_argument_rule_and_value(options, message):
    with pytest.raises(DosimeterError, match=message):
        phantom_cohort("phantom-xray", **options)


def test_an_unknown_name_is_our_mistake():
    with pytest.raises(AssertionError):
        phantom_cohort("phantom-mri")


# What the pictures show


def test_a_radiograph_has_dark_lungs_a_bright_belly_and_the_heart_on_the_right_of_the_picture():
    mean = images("phantom-xray").mean(axis=0)
    lungs, belly = mean[90:120, 50:80].mean(), mean[205:, 80:144].mean()
    assert lungs + 0.3 < belly
    beside_spine = slice(120, 150)
    assert mean[beside_spine, 136:160].mean() > mean[beside_spine, 64:88].mean() + 0.05


def test_a_slice_has_black_air_dark_lungs_and_a_bright_mediastinum():
    mean = np.mean([case.image[0] for case in phantom_cohort("phantom-ct", n_images=16)], axis=0)
    right, middle, left = (
        mean[80:150, columns].mean() for columns in (slice(45, 75), slice(104, 120), slice(155, 180))
    )
    assert max(right, left) + 0.3 < middle


@pytest.mark.parametrize("name", NAMES)
def test_opacity_brightens_the_lungs_and_nothing_else(name):
    modality = phantom.MODALITIES[name]
    anatomy, bend = phantom._patient(modality, 0, 3)
    bent = make_grid((0.0, -2.0), (0.15, -0.15) if modality == "xray" else (0.15, 0.12), bend)

    def draw(opaque: bool) -> np.ndarray:
        rng = np.random.default_rng(0)
        if modality == "xray":
            return phantom._attenuation(anatomy, frozenset({"opacity"} if opaque else ()), bent, rng)
        return phantom._slice_hu(anatomy, opaque, float(anatomy.sites.centres[0, 2]), bent, rng)

    added = draw(True) - draw(False)
    assert added.min() > -0.5  # fluid over a vessel's edge
    assert np.mean(added != 0) < 0.5
    assert added.max() > (0.1 if modality == "xray" else 100)
    assert 0.005 < np.mean(added > added.max() / 4) < 0.3


@pytest.mark.parametrize("name", NAMES)
def test_a_linear_classifier_on_thumbnails_does_not_solve_it(name):
    cohort = phantom_cohort(name, n_images=N_READ)
    thumbnails = images(name).reshape(-1, 16, 14, 16, 14).mean(axis=(2, 4)).reshape(-1, 256)
    scores = cross_val_predict(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        thumbnails,
        cohort.labels,
        groups=[record.patient_id for record in cohort.records],
        cv=StratifiedGroupKFold(3, shuffle=True, random_state=0),
        method="decision_function",
    )
    assert roc_auc_score(cohort.labels, scores) < 0.9


# The anatomy


def test_every_patient_has_room_for_opacity_and_a_vessel_tree():
    for seed in range(12):
        anatomy = draw_anatomy(np.random.default_rng(seed))
        assert len(anatomy.sites.centres) == len(anatomy.site_density) >= 10
        assert 500 < len(anatomy.vessels.centres) < 12_000
        assert np.all((anatomy.site_density > 0) & (anatomy.site_density <= 1))
        assert np.all(anatomy.lungs.level(anatomy.sites.centres) < 1)
        assert np.all(anatomy.solids.level(anatomy.sites.centres) > 1)


# The geometry, against closed forms and brute force


def test_covered_is_the_length_of_a_union():
    rng = np.random.default_rng(0)
    ends = np.sort(rng.uniform(0, 10, (2, 6, 4, 5)), axis=0)
    ends[1, 2] = ends[0, 2]  # beams that miss an ellipsoid
    at = np.linspace(0, 10, 100_001)[:-1, None, None, None]
    within = (at >= ends[0]) & (at < ends[1])
    np.testing.assert_allclose(covered(*ends), within.any(axis=1).mean(axis=0) * 10, atol=1e-3)


def test_chords_of_a_tilted_ellipsoid_match_sampling():
    solid = tilted_ellipsoid()
    u, v = np.meshgrid(np.linspace(-3, 3, 9), np.linspace(-3, 3, 9))
    entry, leave = solid.chords(u, v)
    depth = np.linspace(-5, 5, 4001)
    for (row, column), x in np.ndenumerate(u):
        beam = np.stack([np.full_like(depth, x), depth, np.full_like(depth, v[row, column])], axis=1)
        inside = solid.level(beam) <= 1
        assert leave[0, row, column] - entry[0, row, column] == pytest.approx(inside.mean() * 10, abs=6e-3)


def test_section_of_a_tilted_ellipsoid_is_its_level_in_the_plane():
    solid = tilted_ellipsoid()
    u, v = np.meshgrid(np.linspace(-3, 3, 7), np.linspace(-3, 3, 7))
    points = np.stack([u.ravel(), v.ravel(), np.full(u.size, 0.9)], axis=1)
    np.testing.assert_allclose(solid.section(0.9).q(u, v).ravel(), solid.level(points), rtol=1e-9)


def test_the_path_through_an_ellipsoid_adds_up_to_its_volume():
    path = path_through(tilted_ellipsoid(), flat_grid(pitch_cm=0.1))
    assert path.sum() * 0.1**2 == pytest.approx(4 / 3 * np.pi * 1 * 2 * 3, rel=0.01)


def test_a_thin_vessel_about_keeps_its_volume_wherever_it_falls_between_pixels():
    for shift in (0.0, 0.03, 0.05):
        vessel = Ellipsoids(np.array([[shift, 0.0, shift]]), np.diag(1 / np.square([2.0, 0.04, 0.04]))[None])
        path = path_through(vessel, flat_grid(pitch_cm=0.1))
        assert path.sum() * 0.1**2 == pytest.approx(4 / 3 * np.pi * 2 * 0.04**2, rel=0.25)


def test_marrow_takes_from_the_middle_of_a_bone_only():
    ball = Ellipsoids(np.zeros((1, 3)), np.eye(3)[None])
    solid, hollow = (path_through(ball, flat_grid(pitch_cm=0.02), marrow=m) for m in (0.0, 0.5))
    assert solid.max() - hollow[112, 112] == pytest.approx(2 * 0.5 * phantom_projection.MARROW_LACK, rel=0.02)
    np.testing.assert_allclose(hollow[112, 112 + 30], solid[112, 112 + 30])
