"""Looking for the smallest epsilon of a grid at which an attack of one ball succeeds, image by image.

Balls are nested: what is adversarial within epsilon is so within any larger one. So each image needs only its first
success, and bisection over the grid finds it in a few searches, most of which end at once because they succeed. What
this takes for granted, that an attack which fails in a ball fails in smaller ones, `exhaustive` does not: it searches
every ball, so that an attack that is weaker in a larger ball shows as such.

The first success tells the accuracy, and is the image of every larger ball. That is not what a file or an eye meets
there: an attacker who may go farther does. So a problem whose balls are to be filled is searched exhaustively, and each
ball has an image of its own.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from dosimeter.attacks.base import BudgetAttack, Problem
from dosimeter.attacks.doses import check
from dosimeter.sweeps.paths import Finds


def search(
    attack: BudgetAttack, problem: Problem, epsilons: Sequence[float], *, exhaustive: bool = False
) -> list[Finds]:
    """Return what `attack` finds for each image of `problem`, and check that it kept its ball.

    Args:
        attack: if it has `levels`, its images lie on that lattice, and none is made between those it found.
        epsilons: the grid, ascending from 0. An image that is misclassified at 0 is not attacked.
        exhaustive: search every ball. A problem with `fill` always is searched so.
    """
    continuous = problem.levels is None and getattr(attack, "levels", None) is None
    finds = [Finds(continuous=continuous, nested=not problem.fill) for _ in range(len(problem))]
    wrong = problem.fooled(problem.ask(problem.images)).cpu()
    for place in range(len(problem)):
        finds[place].put(0.0, problem.images[place].cpu(), hit=bool(wrong[place]))
    right = (~wrong).nonzero()[:, 0]
    low, high = torch.zeros(len(problem), dtype=torch.long), torch.full((len(problem),), len(epsilons))

    def look(places: Tensor, chosen: Tensor) -> None:
        """Search for the images at `places` the balls of the grid's places `chosen`."""
        doses = torch.tensor([epsilons[index] for index in chosen.tolist()], dtype=torch.float32)
        part = problem.take(places)
        images, found = attack.perturb(part, doses.to(problem.images.device))
        for place, index, start, image, hit in zip(
            places.tolist(), chosen.tolist(), part.images.cpu(), images.cpu(), found.tolist(), strict=True
        ):
            check(start, image, epsilon=epsilons[index], attack=attack.name)
            finds[place].put(epsilons[index], image, hit=hit)
            (high if hit else low)[place] = index

    if exhaustive or problem.fill:
        for index in range(1, len(epsilons)):
            if len(right):
                look(right, torch.full_like(right, index))
        return finds
    while len(active := right[(high - low)[right] > 1]):
        look(active, (low + high)[active] // 2)
    return finds
