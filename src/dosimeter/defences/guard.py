"""The guard against catastrophic overfitting: images that nothing is learned on, attacked after every epoch."""

import torch
from torch import Tensor

from dosimeter.defences.ascent import pgd
from dosimeter.defences.pools import Inputs
from dosimeter.defences.students import Student
from dosimeter.errors import DosimeterError
from dosimeter.models.training import answered, loss_of

STEPS = 5
"""Of the attack."""


class Guard:
    """Images of patients that nothing is learned on, attacked after every epoch: the best epoch is kept.

    Training against one step can, from one epoch to the next, end in weights that withstand that step alone. More steps
    then fool them, which this sees. Source: Wong et al. 2020 (arXiv 2001.03994), section 5.4.

    Args:
        epsilon: of the attack, whatever the epoch's is.
    """

    def __init__(self, inputs: Inputs, *, epsilon: float, batch: int, seed: int) -> None:
        self._inputs, self._epsilon, self._batch, self._seed = inputs, epsilon, batch, seed
        self._best: tuple[tuple[float, float], dict[str, Tensor]] | None = None
        self.accuracies: list[float] = []

    def check(self, student: Student) -> None:
        """Look at the student, and remember it if it is the best so far: most right under attack, then least loss."""
        noise = torch.Generator().manual_seed(self._seed)  # the same attack after every epoch
        right = loss = n = 0.0
        for _, images, labels in self._inputs.batches(self._batch):
            moved = pgd(student, images, labels, epsilon=self._epsilon, steps=STEPS, noise=noise)
            with torch.no_grad():
                logits = student(moved)
            correct, known = answered(logits, labels)
            right, n = right + float(correct.sum()), n + float(known.sum())
            loss += float(loss_of(logits, labels, "sum"))
        self.accuracies.append(right / max(n, 1.0))
        if self._best is None or (right, -loss) > self._best[0]:
            self._best = (right, -loss), student.learned()

    def restore(self, student: Student) -> None:
        """Take the student back to its best epoch."""
        assert self._best is not None, "it was checked"
        student.recall(self._best[1])


def held_back(training: Inputs, share: float, *, seed: int, name: str) -> tuple[list[int], list[int]]:
    """Return places to learn on and places held back, about `share` of the images, whole patients.

    Raises:
        DosimeterError: there is one patient only.
    """
    groups = training.groups.unique()
    if len(groups) < 2:
        raise DosimeterError(
            f"defence {name} holds back patients' images as a guard, and there is one patient. Write {name}:guard=0."
        )
    order = groups[torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed))].tolist()
    sizes = torch.bincount(training.groups)
    wanted, held = share * len(training), set[int]()
    for group in order[:-1]:
        if held and sum(int(sizes[each]) for each in held) >= wanted:
            break
        held.add(group)
    places = range(len(training))
    kept = [place for place in places if int(training.groups[place]) not in held]
    return kept, [place for place in places if int(training.groups[place]) in held]
