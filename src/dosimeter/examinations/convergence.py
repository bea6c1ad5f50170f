"""Would more effort have broken more? Images that a search left, attacked again with more steps and more starts."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import torch
from torch import nn

from dosimeter.attacks.base import BudgetAttack
from dosimeter.cohorts.base import Case, Cohort
from dosimeter.models.base import Classifier
from dosimeter.models.native import Shrinking, native_image
from dosimeter.sweeps.plan import Setting

N_EXAMINED = 16
"""Images at most: each takes all steps of both attacks."""


@runtime_checkable
class Escalating(BudgetAttack, Protocol):
    """A search that can say what more of it would be."""

    def harder(self) -> Mapping[str, BudgetAttack]:
        """Return it with twice the steps (`n_doubled`) and with more starts (`n_restarts`)."""


def examine_convergence(
    attack: Escalating, classifier: Classifier, cohort: Cohort, frame: pd.DataFrame, setting: Setting
) -> dict[str, Any] | None:
    """Return how many images that `attack` left break under more of it, at the epsilon that leaves about half.

    Args:
        cohort: the cases of the rows.
        frame: the rows of `attack` against `classifier`, float storage, as `record.compact.compact` gives them.
        setting: of the rows: what the attack may do to an image, and the seed of the further starts.

    Returns:
        epsilon; n images; n_survivors of them at that epsilon; n_examined of these; n_doubled and n_restarts, how many
        of the examined break with twice the steps, and with more starts. None if nothing survived at any epsilon.

    Source: Carlini et al. 2019 (arXiv 1902.06705), section 5.
    """
    rows = frame[frame["on_grid"] & (frame["status"] == "ok") & (frame["label"] != setting.threat.target)]
    if rows.empty:
        return None
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
    parts = [[place] for place in examined] if setting.threat.native else [examined]
    broken = {
        name: sum(_broken(more, classifier, [cohort[place] for place in part], epsilon, setting) for part in parts)
        for name, more in attack.harder().items()
    }
    facts = {"epsilon": epsilon, "n": len(correct), "n_survivors": len(survivors), "n_examined": len(examined)}
    return facts | broken


def _broken(
    attack: BudgetAttack, classifier: Classifier, cases: Sequence[Case], epsilon: float, setting: Setting
) -> int:
    ready = [native_image(case) if setting.threat.native else classifier.prepare(case) for case in cases]
    images = torch.stack(ready).to(classifier.device)
    network: nn.Module = classifier
    if setting.threat.native:
        network = Shrinking(classifier, grid=classifier.grid, bits=cases[0].bits)
    labels = torch.tensor([case.label for case in cases], device=classifier.device)
    problem = setting.problem(network, images, labels)
    return int(attack.perturb(problem, torch.full((len(cases),), epsilon, device=images.device)).found.sum())
