"""`fit`: a classifier from a cohort's split, by training a head on a frozen base."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import PIL
import torch

from dosimeter.cohorts.base import Cohort
from dosimeter.cohorts.split import Split
from dosimeter.models.backbones import Backbone, HeadSpec, build_base, build_head, get_backbone
from dosimeter.models.base import Classifier
from dosimeter.models.decisions import Classes, Findings
from dosimeter.models.features import FeatureStore
from dosimeter.models.training import Examples, FitOptions, train_head
from dosimeter.models.weights import Weights
from dosimeter.models.weights import load_weights as load_weights
from dosimeter.progress import Progress
from dosimeter.surroundings import plain_torch

TRAINING_VERSION = 2
"""Raised whenever the same inputs would give another head, so that an old one is not taken for it."""


@plain_torch()
def fit(
    model: str,
    split: Split,
    *,
    seed: int = 0,
    weights: Weights | None = None,
    head: HeadSpec | None = None,
    options: FitOptions = FitOptions(),  # noqa: B008 - frozen, so sharing the default is safe
    device: str = "cpu",
    features: Path | None = None,
    advance: Callable[[int], None] = lambda _: None,
    progress: Progress | None = None,
) -> Classifier:
    """Train a classifier on `split.train`, watching `split.test` after every epoch.

    The test images choose nothing: no early stopping, no best epoch. They are watched because the paper plots them.

    Args:
        model: a backbone's name.
        split: training and test cohorts, from `dosimeter.split`.
        seed: of the head's initial values, the order of batches and dropout.
        weights: of the frozen base; by default those that `load_weights` finds.
        head: another head than the paper's.
        options: epochs, batch, learning rate.
        device: "cpu", "cuda" or "mps".
        features: the cache folder of feature maps.
        advance: called with 1 after each image that went through the base.
        progress: told of both stages, features and training.

    Raises:
        WeightsUnavailable: no source has the base's weights.
    """
    backbone = get_backbone(model)
    weights = weights or load_weights(model)
    spec = head or backbone.head
    generator = torch.Generator().manual_seed(seed)
    decided = decided_by(split.train)
    classifier = assemble(backbone, weights, spec, classes=decided, generator=generator).to(device)
    shape = backbone.map_shape
    store = FeatureStore(classifier, base_sha256=weights.base_sha256, map_shape=shape, folder=features)
    progress = progress or Progress()
    where = f"{model} on {split.train.name} ({split.protocol}, seed {seed})"
    started = time.perf_counter()
    train, test = _examples(store, split, where, progress, advance)
    computed = time.perf_counter()
    progress.begin(f"{where}: training, {options.epochs} epochs", options.epochs * len(split.train))
    history = train_head(
        classifier.head,
        train,
        test,
        options=options,
        generator=generator,
        device=device,
        advance=progress.advance,
    )
    classifier.card = {
        "model": model,
        "cohort": split.train.name,
        "protocol": split.protocol,
        "seed": seed,
        "train_sha256": split.train.sha256,
        "test_sha256": split.test.sha256,
        "weights": weights.summary(),
        "preprocessing": classifier.preprocessing.name,
        "head": asdict(spec),
        "fit": asdict(options),
        "history": history,
        "test_accuracy": history[-1]["test_accuracy"],
        "torch": torch.__version__,
        "duration_s": {"features": computed - started, "training": time.perf_counter() - computed},
    }
    return classifier


def _examples(
    store: FeatureStore, split: Split, where: str, progress: Progress, advance: Callable[[int], None]
) -> tuple[Examples, Examples]:
    """Return the training and the test images as feature files and labels."""
    n_images = len(split.train) + len(split.test)
    progress.begin(f"{where}: features of {n_images} images", n_images)

    def seen(n: int) -> None:
        advance(n)
        progress.advance(n)

    train, test = (
        Examples(store.compute(cohort, advance=seen), labels_of(cohort)) for cohort in (split.train, split.test)
    )
    return train, test


def decided_by(cohort: Cohort) -> Classes | Findings:
    """Return what a classifier of a cohort decides: its findings, if it has any, else its classes."""
    return Findings(cohort.findings) if cohort.findings else Classes(cohort.classes)


def labels_of(cohort: Cohort) -> torch.Tensor:
    """Return what is right of each image: its class (n,), or of each finding (n, findings) 1, 0, or NaN: unknown."""
    return torch.from_numpy(cohort.known_findings if cohort.findings else cohort.labels)


@plain_torch()
def assemble(
    backbone: Backbone,
    weights: Weights,
    spec: HeadSpec,
    *,
    classes: Sequence[str] | Classes | Findings,
    generator: torch.Generator,
) -> Classifier:
    """Put an untrained head on a frozen base."""
    n_outputs = len(classes.names if isinstance(classes, Classes | Findings) else classes)
    return Classifier(
        build_base(backbone, weights.state, weights.layers).to(memory_format=torch.channels_last),
        build_head(backbone, spec, n_classes=n_outputs, generator=generator),
        preprocessing=weights.preprocessing,
        size_px=backbone.size_px,
        classes=classes,
        identity=f"{backbone.name} of {weights.layers}, {spec}",
        adopt=True,
        channels_last=True,
    )


def recipe(
    model: str, split: Split, seed: int, weights: Weights, spec: HeadSpec, options: FitOptions, device: str = "cpu"
) -> str:
    """Return a digest of everything that determines a trained head, so that a finished one is found again."""
    parts = (model, split.train.sha256, split.test.sha256, seed, weights.base_sha256, weights.preprocessing)
    versions = (TRAINING_VERSION, torch.__version__, PIL.__version__, device)
    return hashlib.sha256(repr((*parts, spec, options, versions)).encode()).hexdigest()
