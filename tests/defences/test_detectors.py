"""Detectors: scores against scikit-learn, false alarms, who is on which side, and attacks that know them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from scipy.stats import betabinom, binom
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import KernelDensity as Reference
from sklearn.neighbors import NearestNeighbors
from tiny import convolutional_classifier, linear_classifier
from torch import Tensor, nn

import dosimeter as dm
from dosimeter.analysis.checks import make_curve
from dosimeter.attacks.base import Problem
from dosimeter.attacks.known.pgd import PGD
from dosimeter.defences import detectors
from dosimeter.defences.base import defend, pipeline, require_images
from dosimeter.defences.detectors import Alarm, Score, conformal, features_of, least_images, measure
from dosimeter.defences.known import kernel_density, supervised
from dosimeter.defences.known.bit_depth import Rounded
from dosimeter.defences.known.feature_squeezing import FeatureSqueezing
from dosimeter.defences.known.kernel_density import KernelDensity
from dosimeter.defences.known.lid import Dimensionality, Lid
from dosimeter.defences.known.mahalanobis import Mahalanobis
from dosimeter.defences.known.median import Median
from dosimeter.defences.known.supervised import Supervised
from dosimeter.defences.training import Training, nothing
from dosimeter.engines.base import TorchEngine
from dosimeter.engines.choose import build_engine
from dosimeter.errors import DosimeterError
from dosimeter.models.base import Classifier
from dosimeter.models.decisions import Findings
from dosimeter.models.parting import parted
from dosimeter.models.preprocessing import PREPROCESSINGS
from dosimeter.models.rings import Inside, Seen, excess_of
from dosimeter.record.table import compact

CLASSES = ("clear", "opacity")
SIZE_PX = 32
NAMES = ["mahalanobis", "kernel_density", "lid", "feature_squeezing", "supervised"]


def grey(n: int, seed: int = 0, size_px: int = SIZE_PX) -> Tensor:
    """Noise of a brightness of its own, (n, 3, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    level = 0.25 + 0.5 * torch.rand(n, 1, 1, 1, generator=generator)
    noise = 0.2 * torch.rand(n, 1, size_px, size_px, generator=generator)
    return (level + noise - 0.1).clamp(0, 1).expand(-1, 3, -1, -1).clone()


def cohort_of(images: Tensor, patients: Sequence[str] | None = None) -> dm.Cohort:
    labels = [place % 2 for place in range(len(images))]
    return dm.cohort_of(images.numpy(), labels, classes=CLASSES, patients=patients)


def training_of(classifier: Classifier, n: int, *, per_patient: int = 1) -> Training:
    patients = [f"patient {place // per_patient}" for place in range(n)]
    return Training(classifier, cohort_of(grey(n), patients))


# --- thresholds ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "least"), [(0.05, 19), (0.01, 99), (0.1, 9), (0.5, 1), (1 / 3, 2)])
def test_the_least_number_of_clean_images_is_known(rate: float, least: int) -> None:
    assert least_images(rate) == least
    scores = torch.arange(float(least))
    assert conformal(scores, rate) == scores.max()


def test_thresholds_are_the_conformal_quantile() -> None:
    scores = torch.randperm(99, generator=torch.Generator().manual_seed(0)).float()
    assert float(conformal(scores, 0.05)) == 94.0  # the 95th smallest of 0, 1, ...: ceil(100 * 0.95)
    assert float(conformal(scores[:50], 0.05)) == float(scores[:50].sort().values[48])  # ceil(51 * 0.95) = 49


def test_false_alarms_are_as_many_as_promised_over_a_thousand_draws() -> None:
    generator = torch.Generator().manual_seed(0)
    n, rate = 39, 0.05
    scores = torch.randn(1000, n + 1, generator=generator, dtype=torch.float64)
    alarms = sum(bool(row[-1] > conformal(row[:-1], rate)) for row in scores)
    low, high = binom.interval(0.999, 1000, 2 / 40)  # ceil(40 * 0.95) = 38: two of 40 places are above it
    assert low <= alarms <= high


def test_a_detectors_false_alarms_on_new_images_are_as_many_as_promised() -> None:
    bare = convolutional_classifier()
    defended = defend(bare, "mahalanobis:0.1", cohort_of(grey(200)), seed=3)
    with torch.no_grad():
        alarms = int((excess_of(defended(grey(600, seed=1))) > 0).sum())
    n_calibrated = 50
    place = int(np.ceil((n_calibrated + 1) * 0.9))
    low, high = betabinom.interval(0.999, 600, n_calibrated + 1 - place, place)
    assert low <= alarms <= high


def test_one_threshold_for_each_class_is_set_on_the_images_that_are_given_it() -> None:
    bare = convolutional_classifier()
    training = training_of(bare, 160)
    detector = Mahalanobis(rate=0.2, threshold="class")
    learned = detector.learn(bare, training, seed=0)
    parts = detector.parted(training, seed=0)
    own = {name: learned[name] for name in ("means", "whitening")}
    clean = measure(bare, detector.score(own), parts.calibrated, nothing)
    assert len(parts.calibrated) == 80
    for place in range(2):
        assert float(learned["threshold"][place]) == float(conformal(clean.scores[clean.predicted == place], 0.2))
    defended = detector.put(bare, learned, seed=0)
    with torch.no_grad():
        outputs = defended(grey(50, seed=2))
        seen = bare.seen(grey(50, seed=2))
        scores = detector.score(own)(grey(50, seed=2), seen, bare.seen)
    limits = learned["threshold"][seen.outputs.argmax(dim=1)]
    torch.testing.assert_close(excess_of(outputs), learned["kappa"] * (scores - limits), rtol=1e-3, atol=1e-3)


def test_a_unit_of_the_alarm_is_worth_as_much_as_one_of_the_margin() -> None:
    bare = convolutional_classifier()
    training = training_of(bare, 80)
    learned = Mahalanobis().learn(bare, training, seed=0)
    own = {name: learned[name] for name in ("means", "whitening")}
    clean = measure(bare, Mahalanobis().score(own), Mahalanobis().parted(training, seed=0).calibrated, nothing)
    assert float(learned["kappa"] * clean.scores.std()) == pytest.approx(float(clean.margins.std()), rel=1e-4)


# --- scores -------------------------------------------------------------------------------------------------


def fitted(detector: Any, n: int = 60) -> tuple[Classifier, Any, Any, Tensor, Tensor]:
    """Return classifier, what was fitted, its features, and the features and scores of new images."""
    bare = convolutional_classifier()
    training = training_of(bare, n)
    learned = detector.fit(bare, training, seed=0, advance=nothing)
    images = grey(20, seed=5)
    with torch.no_grad():
        seen = bare.seen(images)
        scores = detector.score(learned)(images, seen, bare.seen)
        new = seen.maps().mean(dim=(2, 3))
    return bare, learned, features_of(bare, training, nothing, name="test"), new, scores


def test_mahalanobis_distances_are_scikit_learns() -> None:
    _, _, features, new, scores = fitted(Mahalanobis())
    values, labels = features.values.double().numpy(), features.labels.numpy()
    means = np.stack([values[labels == place].mean(axis=0) for place in (0, 1)])
    reference = LedoitWolf(assume_centered=True).fit(values - means[labels])
    wanted = np.stack([reference.mahalanobis(new.double().numpy() - mean) for mean in means]).min(axis=0)
    np.testing.assert_allclose(scores.numpy(), wanted, rtol=1e-3)


def test_kernel_densities_are_scikit_learns() -> None:
    bare, learned, features, new, scores = fitted(KernelDensity())
    width = float(learned["bandwidth"])
    with torch.no_grad():
        predicted = bare(grey(20, seed=5)).argmax(dim=1).numpy()
    values, labels = features.values.numpy(), features.labels.numpy()
    wanted = np.empty(len(new))
    for place in (0, 1):
        reference = Reference(bandwidth=width).fit(values[labels == place])
        wanted[predicted == place] = -reference.score_samples(new.numpy())[predicted == place]
    np.testing.assert_allclose(scores.numpy(), wanted, rtol=1e-3, atol=1e-3)


def test_the_bandwidth_is_the_likeliest_for_images_of_other_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_density, "WIDTHS", [0.1, 0.3, 0.6, 1.0, 2.0])
    generator = torch.Generator().manual_seed(0)
    values, labels, groups = torch.randn(24, 3, generator=generator), torch.arange(24) % 2, torch.arange(24) // 4
    values[groups == 0] = values[0].clone()  # one patient's images are alike: they must not vote for a width of nothing
    features = detectors.Features(values, labels, groups)
    found = float(kernel_density.likeliest_bandwidth(features))

    def likelihood(width: float) -> float:
        held = []
        for place in range(24):
            others = (labels == labels[place]) & (groups != groups[place])
            held += [Reference(bandwidth=width).fit(values[others].numpy()).score(values[place : place + 1].numpy())]
        return float(np.mean(held))

    others = (labels[:, None] == labels) & (groups[:, None] != groups)
    typical = float(torch.cdist(values, values)[others].median())
    assert found == pytest.approx(max((width * typical for width in kernel_density.WIDTHS), key=likelihood), rel=1e-4)


def test_dimensionality_is_that_of_the_nearest_neighbours() -> None:
    _, learned, _, new, scores = fitted(Lid(neighbours=10, references=40))
    assert len(learned["references"]) == 40
    nearest = NearestNeighbors(n_neighbors=10).fit(learned["references"].numpy())
    distances, _ = nearest.kneighbors(new.numpy())
    wanted = -1 / np.log(distances / distances[:, -1:]).mean(axis=1)
    np.testing.assert_allclose(scores.numpy(), wanted, rtol=1e-3)


@pytest.mark.parametrize("n_dimensions", [1, 3])
def test_dimensionality_is_the_number_of_dimensions_that_points_fill(n_dimensions: int) -> None:
    generator = torch.Generator().manual_seed(0)
    filled = torch.rand(4000, n_dimensions, generator=generator)
    points = torch.cat([filled, torch.zeros(4000, 5 - n_dimensions)], dim=1)
    centre = torch.cat([torch.full((1, n_dimensions), 0.5), torch.zeros(1, 5 - n_dimensions)], dim=1)
    found = Dimensionality(points, 400)(centre, Seen(torch.zeros(1, 2), lambda: centre), lambda _: pytest.fail("asked"))
    assert float(found) == pytest.approx(n_dimensions, rel=0.15)


def test_squeezing_is_the_largest_distance_of_probabilities() -> None:
    bare = convolutional_classifier()
    images = grey(6, seed=4)
    with torch.no_grad():
        found = FeatureSqueezing(bits=3).score({})(images, bare.seen(images), bare.seen)
        own, rounded, median = (
            torch.softmax(bare(each), 1) for each in (images, Rounded(3)(images), Median(3)(images))
        )
    wanted = torch.maximum((rounded - own).abs().sum(dim=1), (median - own).abs().sum(dim=1))
    torch.testing.assert_close(found, wanted)
    assert 0 <= float(found.min()) <= float(found.max()) <= 2


def test_the_supervised_head_tells_new_images_from_their_twins() -> None:
    bare = convolutional_classifier(scale=3.0)
    learned = Supervised(epsilon=0.1).fit(bare, training_of(bare, 60), seed=0, advance=nothing)
    score = Supervised().score(learned)
    images = grey(40, seed=6)
    attacked = PGD(steps=10).perturb(
        Problem(bare, images, torch.arange(40) % 2, fill=True), torch.full((40,), 0.1)
    ).images  # fmt: skip
    with torch.no_grad():
        clean, twins = (score(each, bare.seen(each), bare.seen) for each in (images, attacked))
    assert float((twins[:, None] > clean).float().mean()) > 0.9  # its AUROC


# --- who is on which side -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in NAMES if name != "feature_squeezing"])
def test_no_patient_is_both_fitted_on_and_part_of_the_threshold(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is an adversarial twin of an image of the threshold."""
    sides: dict[str, set[int]] = {"fitted": set(), "calibrated": set(), "attacked": set()}
    bare = convolutional_classifier()
    images = grey(96)
    patients = [f"patient {place // 3}" for place in range(96)]
    cohort = cohort_of(images, patients)
    patient = {image.numpy().tobytes(): int(name.split()[1]) for image, name in zip(images, patients, strict=True)}
    detector = {each.name: each for each in (Mahalanobis(), KernelDensity(), Lid(), Supervised(steps=1, epochs=2))}[
        name
    ]

    def noted(side: str, of: Callable[..., Any]) -> Callable[..., Any]:
        def note(self: Any, first: Any, *more: Any, **named: Any) -> Any:
            given = first.images(range(len(first))) if side == "calibrated" else self.images(range(len(self)))
            sides[side] |= {patient[image.numpy().tobytes()] for image in given}
            return of(self, first, *more, **named)

        return note

    fit = type(detector).fit

    def fitting(self: Any, classifier: Classifier, training: Training, **named: Any) -> Any:
        sides["fitted"] |= {patient[image.numpy().tobytes()] for image in training.images(range(len(training)))}
        return fit(self, classifier, training, **named)

    def measuring(classifier: Classifier, score: Score, training: Training, advance: Any) -> Any:
        sides["calibrated"] |= {patient[image.numpy().tobytes()] for image in training.images(range(len(training)))}
        return measure(classifier, score, training, advance)

    def attacking(network: nn.Module, attacked: Tensor, *more: Any, **named: Any) -> Problem:
        sides["attacked"] |= {patient[image.numpy().tobytes()] for image in attacked}
        return Problem(network, attacked, *more, **named)

    monkeypatch.setattr(type(detector), "fit", fitting)
    monkeypatch.setattr(detectors, "measure", measuring)
    monkeypatch.setattr(supervised, "Problem", attacking)
    detector.apply(bare, Training(bare, cohort), seed=0)
    assert sides["fitted"] | sides["calibrated"] == set(range(32))
    assert not sides["fitted"] & sides["calibrated"]
    assert sides["attacked"] == (sides["fitted"] if name == "supervised" else set())


# --- attacks that know the detector -------------------------------------------------------------------------


class Projection(Score):
    """v.x: with a linear classifier the smallest epsilon that wins is a linear programme."""

    def __init__(self, direction: Tensor) -> None:
        super().__init__()
        self.register_buffer("direction", direction)

    def forward(self, images: Tensor, seen: Seen, inside: Inside) -> Tensor:
        return (images * self.direction).flatten(1).sum(dim=1)


def least_epsilon(image: Tensor, weight: Tensor, bias: float, direction: Tensor, threshold: float) -> float:
    """The least epsilon at which w.x + b falls to 0 while v.x is at most its threshold, all pixels in [0, 1]."""
    x, w, v = (each.flatten().double().numpy() for each in (image, weight, direction))
    n = len(x)
    objective = np.r_[np.zeros(n), 1.0]
    ones = np.ones((n, 1))
    rows = np.r_[np.c_[w[None], [[0.0]]], np.c_[v[None], [[0.0]]], np.c_[np.eye(n), -ones], np.c_[-np.eye(n), -ones]]
    limits = np.r_[-(w @ x + bias), threshold - v @ x, np.zeros(2 * n)]
    bounds = [(-value, 1 - value) for value in x] + [(0, None)]
    found = linprog(objective, A_ub=rows, b_ub=limits, bounds=bounds, method="highs")
    assert found.success
    return float(found.x[-1])


@pytest.mark.parametrize("slack", [0.02, 0.4])  # of the detector: it binds, or hardly does
def test_pgd_needs_of_a_linear_detector_what_the_closed_form_says(slack: float) -> None:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(3, 4, 4, generator=generator)
    direction = torch.randn(3, 4, 4, generator=generator) - 0.6 * weight  # who lowers w.x raises v.x
    image = 0.3 + 0.4 * torch.rand(3, 4, 4, generator=generator)
    bias = 1.0 - float((weight * image).sum())
    threshold = float((direction * image).sum()) + slack
    bare = linear_classifier(weight, bias)
    alarm = Alarm(Projection(direction), torch.tensor([threshold]), torch.tensor(1.0), n_classes=2)
    least = least_epsilon(image, weight, bias, direction, threshold)
    alone = 1.0 / float(weight.abs().sum())
    assert least >= alone - 1e-9
    assert (least > 1.2 * alone) == (slack == 0.02)
    problem = Problem(bare.around(alarm), image[None], torch.tensor([1]))
    attack = PGD(steps=150, step_size=0.05, channels="free")
    for share, wins in ((0.98, False), (1.06, True)):
        made = attack.perturb(problem, torch.tensor([share * least]))
        assert bool(made.found) == wins
        with torch.no_grad():
            outputs = bare.around(alarm)(made.images)
        assert (int(outputs.argmax()) == 0) == wins  # another class, and not rejected


def rows_of(classifier: Classifier, n: int = 6, attack: str = "pgd") -> Any:
    return dm.sweep(classifier, cohort_of(grey(n, seed=8)), attack, effort="quick", epsilons=[0.05, 0.2]).frame


def test_a_detector_that_rejects_everything_has_no_clean_answer() -> None:
    everything = Alarm(Projection(torch.zeros(3, 32, 32)), torch.tensor([-1.0]), torch.tensor(1.0), n_classes=2)
    rows = rows_of(convolutional_classifier().around(everything))
    assert rows["abstained"].all()
    assert not rows["correct"].any()


def test_a_rejection_is_neither_a_flip_nor_a_success() -> None:
    """The detector rejects whatever is darker than the image was: every adversarial image."""
    bare = linear_classifier(torch.ones(3, 32, 32), bias=-0.25 * 3 * 32 * 32)
    images = torch.full((6, 3, 32, 32), 0.3)
    cohort = dm.cohort_of(images.numpy(), [1] * 5 + [0], classes=CLASSES)
    darker = Alarm(Projection(-torch.ones(3, 32, 32)), torch.tensor([-0.299 * 3072]), torch.tensor(1.0), n_classes=2)
    result = dm.sweep(bare.around(darker), cohort, "fgsm", effort="quick", epsilons=[0.02, 0.1])
    rows = result.frame
    attacked = rows[(rows["label"] == 1) & (rows["epsilon"] == 0.1)]
    assert (attacked["predicted"] == 0).all()  # as without a detector
    assert attacked["abstained"].all()
    assert not attacked["correct"].any()
    assert rows["on_grid"].all()  # no flip to refine
    curve = make_curve(compact(rows[rows["label"] == 1]))
    assert curve is not None
    assert not curve.wrong.any()
    undefended = dm.sweep(bare, cohort, "fgsm", effort="quick", epsilons=[0.02, 0.1]).frame
    assert not undefended["on_grid"].all()


# --- what must not get lost ---------------------------------------------------------------------------------


def test_a_detector_stands_under_every_engine_and_form_of_a_classifier() -> None:
    defended = defend(convolutional_classifier(), "mahalanobis", cohort_of(grey(60)))
    images = grey(3, seed=9)
    wanted = TorchEngine(defended).logits(images)
    assert wanted.shape == (3, 3)
    for form in (defended.with_base(defended.base), defended.with_card(model="x")):
        assert form.rejects
        torch.testing.assert_close(TorchEngine(form).logits(images), wanted)


def test_a_detector_stands_under_a_fast_engine() -> None:
    pytest.importorskip("numba")
    torch.manual_seed(0)
    base = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2))
    head = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    bare = Classifier(base, head, preprocessing=PREPROCESSINGS["unit"], size_px=SIZE_PX, classes=CLASSES)
    defended = defend(bare, "mahalanobis", cohort_of(grey(40)))
    images = grey(2, seed=9)
    engine = build_engine("winograd", defended, threads=1)
    assert engine.network.rejects
    torch.testing.assert_close(engine.logits(images), TorchEngine(defended).logits(images), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_detector_learned_is_kept_and_names_the_classifier(name: str, tmp_path: Path) -> None:
    bare, training = convolutional_classifier(), cohort_of(grey(60))
    first = defend(bare, name, training, kept=tmp_path)
    (file,) = tmp_path.iterdir()
    written = file.stat().st_mtime_ns
    again = defend(bare, name, training, kept=tmp_path)
    assert file.stat().st_mtime_ns == written
    assert again.fingerprint == first.fingerprint
    assert again.card["defences"][0]["sha256"] == first.card["defences"][0]["sha256"]
    file.write_bytes(file.read_bytes()[:-1] + b"\1")  # another threshold, or what lies last
    assert defend(bare, name, training, kept=tmp_path).fingerprint == first.fingerprint
    (ring,) = first.rings
    ring.threshold += 1
    assert first.fingerprint != again.fingerprint


def test_two_detectors_reject_what_either_rejects() -> None:
    bare, training = convolutional_classifier(), cohort_of(grey(80))
    texts = ("mahalanobis:0.3", "lid:0.3")
    apart = [defend(bare, text, training) for text in texts]
    together = defend(bare, "+".join(texts), training)
    images = grey(60, seed=11)
    with torch.no_grad():
        one, other, both = (excess_of(each(images)) for each in (*apart, together))
    torch.testing.assert_close(both, torch.maximum(one, other), rtol=1e-3, atol=1e-3)


# --- networks in one piece ----------------------------------------------------------------------------------


def in_one_piece(network: nn.Module, classes: Any = CLASSES) -> Classifier:
    return Classifier(network, nn.Identity(), preprocessing=PREPROCESSINGS["unit"], size_px=SIZE_PX, classes=classes)


def test_a_network_in_one_piece_is_looked_at_before_its_last_layer() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2))
    whole = in_one_piece(network)
    images = grey(3)
    parts = parted(whole, why="a test")
    assert parts.features(images).shape == (3, 5)
    torch.testing.assert_close(parts(images), whole(images))
    assert whole.features(images).shape == (3, 2)
    defended = defend(whole, "mahalanobis", cohort_of(grey(60)))
    torch.testing.assert_close(defended(images)[:, :2], whole(images))


class Doubled(nn.Module):
    """Its linear layer is not its last."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(3, 2)

    def forward(self, images: Tensor) -> Tensor:
        return 2 * self.last(images.mean(dim=(2, 3)))


# --- bad input ----------------------------------------------------------------------------------------------


def refused(text: str, classifier: Classifier, n: int, said: str) -> None:
    with pytest.raises(DosimeterError, match=said) as caught:
        defend(classifier, text, cohort_of(grey(n)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "n", "said"),
    [
        ("mahalanobis", 37, "rate=0.05 must learn on 38 images or more, 19 of them .* got 37. Give more, or a higher"),
        ("mahalanobis:0.01", 100, "must learn on 198 images or more, 99 of them"),
        ("feature_squeezing", 18, "must learn on 19 images or more, 19 of them for the threshold, got 18"),
        ("mahalanobis:threshold=class", 40, "must have 19 images for the threshold of each class, got"),
        ("lid:neighbours=50", 60, "lid must have more references than neighbours, got 41 and 50"),
        ("mahalanobis:0.7", 60, "rate must be a number above 0 and at most 0.5 of clean images, got '0.7'"),
        ("feature_squeezing:size=4", 60, "size must be odd, got 4"),
        ("kernel_density:bits=3", 60, "has no setting 'bits'"),
    ],
)
def test_too_few_images_and_wrong_settings_are_one_sentence(text: str, n: int, said: str) -> None:
    refused(text, convolutional_classifier(), n, said)


def test_a_class_without_images_is_one_sentence() -> None:
    images = grey(60)
    alone = dm.cohort_of(images.numpy(), [1] * 60, classes=CLASSES)
    with pytest.raises(DosimeterError, match="must be fitted on two images of each class or more, got 0 of one"):
        defend(convolutional_classifier(), "mahalanobis", alone)


def test_what_a_detector_cannot_look_at_is_one_sentence() -> None:
    for text in ("mahalanobis", "feature_squeezing"):
        refused(
            text, in_one_piece(nn.Flatten(), Findings(("a", "b"))), 60, "must have a classifier of classes, got one"
        )
    refused("lid", in_one_piece(Doubled()), 60, "does not end in a linear layer. Bring base and head apart")
    refused("lid", in_one_piece(nn.AdaptiveAvgPool2d(1)), 60, "the network has no linear layer behind any")
    asked = dm.classifier(
        lambda images: [[-image.mean(), image.mean()] for image in images], size_px=SIZE_PX, classes=CLASSES
    )
    refused("kernel_density", asked, 60, "one that can only be asked for scores. Take feature_squeezing")
    assert defend(asked, "feature_squeezing", cohort_of(grey(60))).rejects


def test_too_few_images_are_refused_before_anything_is_trained() -> None:
    ((name, _, defence),) = pipeline("mahalanobis")
    with pytest.raises(DosimeterError, match=r"must learn on 38 images or more, 19 of them .* got 37"):
        require_images(defence, name, 37)
    require_images(defence, name, 38)
