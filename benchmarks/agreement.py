"""Do the attacks agree with their references? `python benchmarks/agreement.py` writes docs/agreement.md.

PGD and DeepFool against Foolbox's, APGD and FMN against adv-lib's: the same network, images, loss, planes and steps, on
one thread. adv-lib is no dependency, because its visdom does not build with current setuptools: with `setuptools<81`,
`pip install --no-build-isolation visdom adv-lib`. Without it its lines are left out.
"""

import argparse
import importlib
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import foolbox
import numpy as np
import torch
from as_markdown import table
from subjects import MODELS, cohort_names
from torch import Tensor

import dosimeter as dm
from dosimeter.analysis.names import model_name
from dosimeter.attacks.base import BudgetAttack, Direction, DirectionAttack, Problem
from dosimeter.attacks.known.apgd import APGD
from dosimeter.attacks.known.deepfool import DeepFool
from dosimeter.attacks.known.fmn import FMN
from dosimeter.attacks.known.pgd import PGD
from dosimeter.record.provenance import environment

EPSILONS = (0.0005, 0.001, 0.003)
LARGEST_DIFFERENCE = 1  # images, of those that withstand
MEDIAN_TOLERANCE = 0.05  # of a reference's median distance, by which ours may be larger
PGD_STEPS, PGD_STEP, APGD_STEPS, FMN_STEPS, DEEPFOOL_STEPS = 20, 0.1, 50, 50, 30

HEAD = f"""# Do the attacks agree with their references?

The same network, images, loss (cross-entropy for PGD and APGD), planes apart, the same number of steps, one thread;
images that are answered correctly. PGD: {PGD_STEPS} steps of {PGD_STEP} epsilon from the image. APGD: {APGD_STEPS}
steps. FMN: {FMN_STEPS} steps, L-infinity. DeepFool: at most {DEEPFOOL_STEPS} steps, L-infinity. Images that withstand
PGD and APGD may differ by {LARGEST_DIFFERENCE}; the median distance of FMN and DeepFool may be at most
{MEDIAN_TOLERANCE:.0%} above the reference's (below it the attack is stronger). Made by `python
benchmarks/agreement.py`.
"""


class Subject(NamedTuple):
    """A network and images (n, 3, H, W) that it answers correctly, with their labels."""

    name: str
    network: dm.Classifier
    images: Tensor
    labels: Tensor

    @property
    def problem(self) -> Problem:
        return Problem(self.network, self.images, self.labels)

    @property
    def foolbox(self) -> foolbox.PyTorchModel:
        return foolbox.PyTorchModel(self.network, bounds=(0, 1), device="cpu")

    def withstand(self, images: Tensor) -> int:
        """Return how many of `images` are still answered correctly."""
        with torch.inference_mode():
            return int((self.network(images).argmax(dim=1) == self.labels).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cohort", nargs="+", default=cohort_names())
    parser.add_argument("--model", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--images", type=int, default=12, help="test images of each cohort, taken evenly")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "docs" / "agreement.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    here = environment("cpu")
    try:
        adv_lib = importlib.import_module("adv_lib.attacks")
    except ImportError:
        adv_lib = None
    subjects = [subject(cohort, model, options.images) for cohort in options.cohort for model in options.model]
    searches = [line for each in subjects for line in compare_searches(each, adv_lib)]
    distances = [line for each in subjects for line in compare_distances(each, adv_lib)]
    head = ["network", "attack", "reference"]
    counts = [*head, "epsilon", "n", "ours", "theirs", "s", "their s", ""]
    medians = [*head, "n", "our median", "their median", "ours / theirs, quartiles", "s", "their s", ""]
    made = f"{here['cpu']}, {here['cores']} cores, torch {here['torch']}, Foolbox {foolbox.__version__}"
    made += "" if adv_lib else "; adv-lib was not installed"
    parts = [HEAD, "## Images that withstand", table(counts, searches, text_columns=3)]
    parts += ["## How far the nearest adversarial image is", table(medians, distances, text_columns=3), f"{made}."]
    options.out.write_text("\n\n".join(part.strip() for part in parts) + "\n", encoding="utf-8")
    print(f"written: {options.out}")


def subject(cohort_name: str, model: str, n_images: int) -> Subject:
    """Train the head of `model` as the study does, and take test images that it answers correctly."""
    halves = dm.split(dm.load_cohort(cohort_name), "paper")
    network = dm.fit(model, halves)
    places = np.linspace(0, len(halves.test) - 1, n_images).round().astype(int).tolist()
    test = halves.test.subset(places)
    images, labels = torch.stack([network.prepare(case) for case in test]), torch.from_numpy(test.labels)
    with torch.inference_mode():
        right = network(images).argmax(dim=1) == labels
    return Subject(f"{model_name(model)}, {cohort_name}", network, images[right], labels[right])


def compare_searches(on: Subject, adv_lib: ModuleType | None) -> list[list[str]]:
    """Return a line for each search of a ball and each epsilon."""
    pgd = PGD(steps=PGD_STEPS, step_size=PGD_STEP, start="image", loss="cross_entropy", channels="free")
    apgd = APGD(steps=APGD_STEPS, loss="cross_entropy", channels="free")
    lines = []
    for epsilon in EPSILONS:
        lines.append(_search(on, "PGD", "Foolbox", epsilon, pgd, partial(foolbox_pgd, on, epsilon)))
        if adv_lib is not None:
            doses = torch.full_like(on.labels, epsilon, dtype=torch.float32)
            options = {"eps": doses, "norm": float("inf"), "loss_function": "ce", "n_iter": APGD_STEPS, "n_restarts": 1}
            theirs = partial(adv_lib.apgd, on.network, on.images, on.labels, **options)
            lines.append(_search(on, "APGD", "adv-lib", epsilon, apgd, theirs))
    return lines


def _search(
    on: Subject, name: str, library: str, epsilon: float, attack: BudgetAttack, theirs: Callable[[], Tensor]
) -> list[str]:
    doses = torch.full_like(on.labels, epsilon, dtype=torch.float32)
    ours, our_s = timed(lambda: attack.perturb(on.problem, doses).images)
    found, their_s = timed(theirs)
    counts = on.withstand(ours), on.withstand(found)
    agree = abs(counts[0] - counts[1]) <= LARGEST_DIFFERENCE
    numbers = [f"{epsilon:g}", *map(str, (len(doses), *counts)), f"{our_s:.0f}", f"{their_s:.0f}"]
    return [on.name, name, library, *numbers, verdict(agree)]


def compare_distances(on: Subject, adv_lib: ModuleType | None) -> list[list[str]]:
    """Return a line for each attack that looks for the nearest adversarial image."""
    deepfool = DeepFool(steps=DEEPFOOL_STEPS, channels="free")
    lines = [_distance(on, "DeepFool", "Foolbox", deepfool, partial(foolbox_deepfool, on))]
    if adv_lib is not None:
        fmn = FMN(steps=FMN_STEPS, channels="free")
        theirs = partial(adv_lib.fmn, on.network, on.images, on.labels, norm=float("inf"), steps=FMN_STEPS)
        lines.append(_distance(on, "FMN", "adv-lib", fmn, theirs))
    return lines


def _distance(
    on: Subject, name: str, library: str, attack: DirectionAttack, reference: Callable[[], Tensor]
) -> list[str]:
    direction, our_s = timed(lambda: attack.direction(on.problem))
    found, their_s = timed(reference)
    ours, theirs = distances_of(direction), distances_to(on, found)
    ratios = (ours / theirs).quantile(torch.tensor([0.25, 0.5, 0.75])).tolist()
    medians = float(ours.median()), float(theirs.median())
    agree = medians[0] <= (1 + MEDIAN_TOLERANCE) * medians[1]
    numbers = [str(len(ours)), *(f"{each:.3g}" for each in medians), ", ".join(f"{ratio:.3f}" for ratio in ratios)]
    return [on.name, name, library, *numbers, f"{our_s:.0f}", f"{their_s:.0f}", verdict(agree)]


def foolbox_pgd(on: Subject, epsilon: float) -> Tensor:
    """Return the images of Foolbox's PGD."""
    attack = foolbox.attacks.LinfPGD(steps=PGD_STEPS, rel_stepsize=PGD_STEP, random_start=False)
    images: Tensor = attack(on.foolbox, on.images, on.labels, epsilons=epsilon)[1]
    return images


def foolbox_deepfool(on: Subject) -> Tensor:
    """Return the images of Foolbox's DeepFool."""
    attack = foolbox.attacks.LinfDeepFoolAttack(steps=DEEPFOOL_STEPS, loss="logits")
    images: Tensor = attack(on.foolbox, on.images, on.labels, epsilons=None)[1]
    return images


def distances_of(direction: Direction) -> Tensor:
    assert direction.reach is not None
    assert direction.found is not None
    return torch.where(direction.found, direction.reach, torch.inf)


def distances_to(on: Subject, images: Tensor) -> Tensor:
    with torch.inference_mode():
        fooled = on.network(images).argmax(dim=1) != on.labels
    return torch.where(fooled, (images - on.images).flatten(1).abs().amax(dim=1), torch.inf)


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    return run(), time.perf_counter() - started


def verdict(agree: bool) -> str:
    return "agree" if agree else "**differ**"


if __name__ == "__main__":
    main()
