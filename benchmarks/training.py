"""Training a head on cached feature maps against end-to-end epochs: `python benchmarks/training.py`.

End to end, every epoch sends every training image through the frozen base again, and every test image for the
validation: what Keras does with `base.trainable = False`. It is given prepared images in memory, frozen weights,
channels_last and inference mode for the base, which favours it. The cached epochs are those of `dosimeter.fit`, which
also evaluates the training images after each epoch.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from as_markdown import ranged, table
from subjects import MODELS, cohort_names
from timing import interleave, ratios, spread, timed
from torch import Tensor
from torch.nn.functional import cross_entropy

import dosimeter as dm
from dosimeter.models.backbones import get_backbone
from dosimeter.models.features import FeatureStore
from dosimeter.models.fit import assemble
from dosimeter.models.training import Examples, FitOptions, train_head

HEADER = (
    *("network", "images", "end to end, s / epoch", "cached, s / epoch", "times faster"),
    *("feature pass, s, once", "all epochs and the feature pass, times faster"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--limit", type=int, default=80, help="images, a fifth of them for validation")
    parser.add_argument("--epochs", type=int, default=FitOptions().epochs, help="on cached features")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    options = parser.parse_args()
    lines = [measure(model, options) for model in options.model]
    print(
        f"{options.limit} images of {cohort_names()[0]}, four fifths for training, one for validation; "
        f"{options.repeats} interleaved repeats of {options.epochs} cached epochs and one end to end; "
        f"{torch.get_num_threads()} threads. Both times are proportional to the number of images.\n"
    )
    print(table(HEADER, [_row(line) for line in lines]))
    if options.json:
        options.json.write_text(json.dumps(lines))


def measure(model: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return the seconds of an epoch both ways."""
    weights, backbone = dm.load_weights(model), get_backbone(model)
    halves = dm.split(dm.load_cohort(cohort_names()[0], limit=options.limit), "paper")
    sides = (halves.train, halves.test)

    def untrained() -> dm.Classifier:
        generator = torch.Generator().manual_seed(0)
        return assemble(backbone, weights, backbone.head, classes=halves.train.classes, generator=generator)

    classifier = untrained()
    images = [torch.stack([classifier.prepare(case) for case in side]) for side in sides]
    labels = [torch.from_numpy(side.labels) for side in sides]
    classifier.features(images[0][:1])  # warms up
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(classifier, base_sha256=weights.sha256, folder=Path(folder))
        pass_s, paths = timed(lambda: [store.compute(side) for side in sides])
        examples = [Examples(*pair) for pair in zip(paths, labels, strict=True)]
        parties: dict[str, Callable[[int], float]] = {
            "cached": lambda _: _cached(untrained(), examples, options.epochs),
            "end to end": lambda _: timed(partial(_epoch, untrained(), images, labels)).seconds,
        }
        note = partial(print, f"{model}:", file=sys.stderr, flush=True)
        runs = interleave(parties, repeats=options.repeats, note=note)
    cached, whole = ([run.result for run in runs[name]] for name in parties)
    study = options.epochs * spread(whole).median / (pass_s + options.epochs * spread(cached).median)
    facts = {"model": model, "n_images": sum(map(len, sides)), "pass_s": pass_s, "ratio_with_pass": study}
    return facts | {"cached_s": spread(cached), "end_to_end_s": spread(whole), "ratio": ratios(whole, cached)}


def _cached(classifier: dm.Classifier, examples: list[Examples], epochs: int) -> float:
    """Return the seconds of an epoch of `dosimeter.fit`'s own training."""
    options, generator = FitOptions(epochs=epochs), torch.Generator().manual_seed(0)
    train = partial(train_head, classifier.head, *examples, options=options, generator=generator, device="cpu")
    return timed(train).seconds / epochs


def _epoch(classifier: dm.Classifier, images: list[Tensor], labels: list[Tensor]) -> None:
    """Train on the first images and validate on the second, the base running on each."""
    head, options = classifier.head.requires_grad_(True).train(), FitOptions()
    optimizer = torch.optim.Adam(head.parameters(), lr=options.learning_rate, fused=True)
    for rows in torch.randperm(len(labels[0]), generator=torch.Generator().manual_seed(0)).split(options.batch_size):
        with torch.no_grad():
            maps = classifier.features(images[0][rows])
        optimizer.zero_grad()
        cross_entropy(head(maps), labels[0][rows]).backward()
        optimizer.step()
    head.eval()
    with torch.inference_mode():
        for batch, true in zip(images[1].split(options.batch_size), labels[1].split(options.batch_size), strict=True):
            cross_entropy(classifier(batch), true)


def _row(line: dict[str, Any]) -> list[str]:
    return [
        line["model"],
        str(line["n_images"]),
        ranged(line["end_to_end_s"]),
        ranged(line["cached_s"], 4),
        ranged(line["ratio"], 0),
        f"{line['pass_s']:.1f}",
        f"{line['ratio_with_pass']:.1f}",
    ]


if __name__ == "__main__":
    main()
