"""What a model observer detects of the perturbations of one attack, from the images themselves."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dosimeter.attacks.base import DirectionAttack
from dosimeter.attacks.doses import perturb
from dosimeter.attacks.threat import ANYTHING, Threat
from dosimeter.cohorts.base import Cohort
from dosimeter.errors import DosimeterError
from dosimeter.models.base import Classifier
from dosimeter.visibility.measure import grey
from dosimeter.visibility.observer import CHANNELS, FloatArray, auc, detect

N_OBSERVED = 16
"""Images at most: each takes a gradient."""

PATCH_PX, LEAST_PATCH_PX = 32, 8


def observe(
    attack: DirectionAttack,
    classifier: Classifier,
    cohort: Cohort,
    epsilons: Sequence[float],
    *,
    threat: Threat = ANYTHING,
) -> list[dict[str, Any]]:
    """Return how well channelised Hotelling observers detect the perturbations of `attack`, patch by patch.

    Each patch of a perturbation is a signal that the observer knows; backgrounds are the patches of the unperturbed
    images. It learns from one half of the images and is tried on the other half's backgrounds (hold-out), both ways
    round; resubstitution tries it on those that it learned from.

    Args:
        cohort: the test images; up to `N_OBSERVED` are taken, evenly.
        epsilons: doses; images are floats.
        threat: what the attacker may do; images of the class that others should be given are left out.

    Returns:
        One entry per (epsilon, channels): n_images, n_patches, patch_px; d_holdout and d_resubstitution, medians over
        patches; auc, of d_holdout; d_image, the root of the sum of an image's squared hold-out d', patches taken as
        independent, median over images; auc_image. Nothing if there are fewer than two images or they are too small.
    """
    patch_px = min(PATCH_PX, min(classifier.grid.shape) // 4)
    pairs = _directions(attack, classifier, cohort, threat) if epsilons and patch_px >= LEAST_PATCH_PX else []
    if len(pairs) < 2:
        return []
    halves = [np.concatenate([_patches(grey(image), patch_px) for image, _ in pairs[start::2]]) for start in (0, 1)]
    found = []
    for epsilon in epsilons:
        signals = [_signals(half, epsilon, patch_px) for half in (pairs[::2], pairs[1::2])]
        for name, channels in CHANNELS.items():
            filters = channels(patch_px)
            tried = [detect(signals[1 - own], halves[own], filters, others=halves[1 - own]) for own in (0, 1)]
            unseen = [each.holdout for each in tried]
            holdout = float(np.median(np.concatenate(unseen)))
            whole = float(np.median(_whole(np.concatenate(unseen), len(pairs))))
            known = float(np.median(np.concatenate([each.resubstitution for each in tried])))
            found.append(
                {
                    "epsilon": epsilon,
                    "channels": name,
                    "n_images": len(pairs),
                    "n_patches": sum(map(len, signals)),
                    "patch_px": patch_px,
                    "d_holdout": holdout,
                    "d_resubstitution": known,
                    "auc": float(auc(holdout)),
                    "d_image": whole,
                    "auc_image": float(auc(whole)),
                }
            )
    return found


def _whole(d_prime: FloatArray, n_images: int) -> FloatArray:
    """Return d' of whole images (n_images,) whose patches (images and patches,) are looked at independently."""
    whole: FloatArray = np.sqrt(np.square(d_prime.reshape(n_images, -1)).sum(axis=1))
    return whole


def _signals(pairs: Sequence[tuple[Tensor, Tensor]], epsilon: float, patch_px: int) -> FloatArray:
    """Return the perturbations (patches, pixels) of images at `epsilon`, as they are left after clipping."""
    changes = [grey(perturb(image, sign, epsilon)) - grey(image) for image, sign in pairs]
    return np.concatenate([_patches(change, patch_px) for change in changes])


def _directions(
    attack: DirectionAttack, classifier: Classifier, cohort: Cohort, threat: Threat
) -> list[tuple[Tensor, Tensor]]:
    """Return images (3, H, W) and directions; images that cannot be read or have no finite gradient are left out."""
    places = np.linspace(0, len(cohort) - 1, min(N_OBSERVED, len(cohort))).round().astype(int)
    pairs = []
    for place in places:
        try:
            case = cohort[int(place)]
            if case.label == threat.target:
                continue
            image = classifier.prepare(case)
            labels = torch.tensor([case.label], device=classifier.device)
            problem = threat.problem(classifier, image[None].to(classifier.device), labels)
            pairs.append((image, attack.direction(problem).sign[0].cpu()))
        except (DosimeterError, OSError, ValueError, FloatingPointError):
            continue  # the sweep has a row that says so
    return pairs


def _patches(plane: Tensor, size_px: int) -> FloatArray:
    """Return the patches (n, size_px ** 2) that tile `plane` (H, W)."""
    n_rows, n_columns = (side // size_px for side in plane.shape)
    cut = plane[: n_rows * size_px, : n_columns * size_px].double().numpy()
    tiles = cut.reshape(n_rows, size_px, n_columns, size_px).transpose(0, 2, 1, 3)
    patches: FloatArray = tiles.reshape(-1, size_px**2)
    return patches
