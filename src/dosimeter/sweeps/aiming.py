"""Aiming: from cases to the paths on which an attack pushes them."""

from collections.abc import Sequence

from torch import Tensor, nn

from dosimeter.attacks.base import Attack, BudgetAttack, DirectionAttack, Problem
from dosimeter.sweeps.answers import Target
from dosimeter.sweeps.paths import Path, Ray
from dosimeter.sweeps.plan import Setting
from dosimeter.sweeps.search import search


def aim(targets: Sequence[Target], attack: Attack, problem: Problem, setting: Setting) -> list[Target]:
    """Return `targets` with the path on which `attack` pushes each, `problem` being theirs."""
    n = len(targets)
    zeros: list[bool] = [False] * n
    logits: list[Tensor | None] = [None] * n
    paths: Sequence[Path]
    if isinstance(attack, DirectionAttack):
        direction = attack.direction(problem)
        reach = [float("inf")] * n if direction.reach is None else direction.reach.tolist()
        hits = [None] * n if direction.found is None else direction.found.tolist()
        zeros = direction.grad_zero.tolist()
        if direction.logits is not None and not _answers_otherwise(problem.network):
            logits = list(direction.logits.float().cpu())
        signs = direction.sign.cpu()
        paths = [Ray(*each, setting.threat.levels) for each in zip(signs, reach, hits, strict=True)]
    else:
        assert isinstance(attack, BudgetAttack), attack
        paths = search(attack, problem, setting.epsilons, exhaustive=setting.threat.exhaustive)
    spent = zip(problem.cost.gradients.tolist(), problem.cost.queries.tolist(), strict=True)
    return [
        target._replace(path=path, grad_zero=zero, logits=answer, n_gradients=gradients, n_queries=queries)
        for target, path, zero, answer, (gradients, queries) in zip(targets, paths, zeros, logits, spent, strict=True)
    ]


def _answers_otherwise(network: nn.Module) -> bool:
    """Whether logits of an attack's gradient are none that the network answers: an alarm is folded, draws differ."""
    return getattr(network, "rejects", False) or getattr(network, "random", False)
