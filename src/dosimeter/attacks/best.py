"""What attacks share that search a ball."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dosimeter.attacks.base import Candidate, Problem


@dataclass
class Best:
    """The best iterate of each image so far: an adversarial one, or else the one with the largest loss.

    Attributes:
        candidate: images (batch, 3, H, W) and whether each is adversarial.
        losses: (batch,), of the candidate's images.
        fill: of the adversarial iterates the one with the largest loss is kept, not the first.
    """

    candidate: Candidate
    losses: Tensor
    fill: bool

    @classmethod
    def of(cls, problem: Problem) -> "Best":
        """Begin with the images themselves, which count for nothing."""
        n, device = len(problem), problem.images.device
        found = torch.zeros(n, dtype=torch.bool, device=device)
        losses = torch.full((n,), -torch.inf, device=device)
        return cls(Candidate(problem.images.clone(), found), losses, problem.fill)

    @property
    def open(self) -> Tensor:
        """Places of the images that are not adversarial yet."""
        return (~self.candidate.found).nonzero()[:, 0]

    def note(self, places: Tensor, images: Tensor, losses: Tensor, fooled: Tensor) -> Tensor:
        """Keep those of `images`, which stand at `places`, that are better than what was; return which are done.

        Once an image is adversarial it stays so. It is done then, unless the ball is to be filled.
        """
        known, higher = self.candidate.found[places], losses > self.losses[places]
        better = (fooled & ~known) | (higher & (fooled == known))
        if not self.fill:
            better &= ~known
        which = places[better]
        self.candidate.images[which] = images[better].detach()
        self.losses[which] = losses[better].detach()
        self.candidate.found[which] = fooled[better]
        return torch.zeros_like(fooled) if self.fill else fooled
