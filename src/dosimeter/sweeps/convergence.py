"""Would more effort have broken more? The images that PGD left, attacked again with twice the steps and more starts."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from dosimeter.attacks.base import Problem
from dosimeter.attacks.pgd import PGD
from dosimeter.cohorts.base import Cohort
from dosimeter.models.base import Classifier
from dosimeter.models.native import Shrinking, native_image

N_EXAMINED = 16
"""Images at most: each takes all steps of both attacks."""

RESTARTS = 5


def examine_convergence(
    attack: PGD, classifier: Classifier, cohort: Cohort, frame: pd.DataFrame, *, seed: int, native: bool = False
) -> dict[str, Any] | None:
    """Return how many images that `attack` left break under more of it, at the epsilon that leaves about half.

    Args:
        cohort: the cases of the rows.
        frame: the rows of `attack` against `classifier`, float storage, as `responses.compact` gives them.
        seed: of the further starts.
        native: whether images were attacked at their own size.

    Returns:
        epsilon; n images; n_survivors of them at that epsilon; n_examined of these; n_doubled and n_restarts, how many
        of the examined break with twice the steps, and with `RESTARTS` starts. None if nothing survived at any epsilon.

    Source: Carlini et al. 2019 (arXiv 1902.06705), section 5.
    """
    rows = frame[frame["on_grid"] & (frame["status"] == "ok")]
    correct = rows.pivot_table(index="case_id", columns="epsilon", values="correct", observed=True) == 1
    share = correct.mean().drop(index=0.0)
    share = share[share > 0]
    if share.empty:
        return None
    epsilon = float(share.index.to_numpy()[(share - correct[0.0].mean() / 2).abs().argmin()])
    survivors = set(correct.index[correct[epsilon]])
    places = [place for place, record in enumerate(cohort.records) if record.case_id in survivors]
    chosen = np.linspace(0, len(places) - 1, min(N_EXAMINED, len(places))).round().astype(int)
    examined = [places[index] for index in chosen]
    harder = {"n_doubled": replace(attack, steps=2 * attack.steps), "n_restarts": replace(attack, restarts=RESTARTS)}
    parts = [[place] for place in examined] if native else [examined]
    broken = {
        name: sum(_broken(more, classifier, cohort, part, epsilon, seed, native=native) for part in parts)
        for name, more in harder.items()
    }
    facts = {"epsilon": epsilon, "n": len(correct), "n_survivors": len(survivors), "n_examined": len(examined)}
    return facts | broken


def _broken(
    attack: PGD,
    classifier: Classifier,
    cohort: Cohort,
    places: Sequence[int],
    epsilon: float,
    seed: int,
    *,
    native: bool,
) -> int:
    cases = [cohort[place] for place in places]
    ready = [native_image(case) if native else classifier.prepare(case) for case in cases]
    images = torch.stack(ready).to(classifier.device)
    network: nn.Module = classifier
    if native:
        network = Shrinking(classifier, size_px=classifier.size_px, bits=cases[0].bits)
    labels = torch.tensor([case.label for case in cases], device=classifier.device)
    problem = Problem(network, images, labels, seed=seed)
    return int(attack.perturb(problem, torch.full((len(places),), epsilon, device=images.device)).found.sum())
