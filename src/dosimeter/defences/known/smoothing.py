"""Defence: randomised smoothing, a majority vote over noisy copies of an image, with certificates."""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from scipy.stats import beta, binom, norm
from torch import Tensor
from torch.nn.functional import one_hot

from dosimeter.defences.base import Defence, Entry, Gradient
from dosimeter.defences.settings import Within, described, parse
from dosimeter.defences.votes import Draws, asked, log_mean
from dosimeter.errors import DosimeterError
from dosimeter.models.base import Classifier
from dosimeter.models.rings import Inside, Ring, draws, with_alarm

ALPHA = 0.001
"""Chance that an answer given, or a certificate, is wrong of the vote of all noise. Source: Cohen et al. 2019."""

ESTIMATION = 1 << 40
"""Added to the seed for a certificate's own draws."""

Planes = Literal["free", "tied"]


class Smoothed(Ring):
    """The majority's class over noisy copies, and no answer where the majority may be chance.

    Args:
        sigma: deviation of the noise, in the image range. It is not clipped.
        n_draws, attack_draws: copies that vote, and that an attacker's gradient is averaged over.
        planes: whether the noise of an image's three planes is "tied", or of each its own.
        n_classes: of the logits.

    Source: Cohen et al. 2019 (arXiv 1902.02918), algorithms PREDICT and CERTIFY.
    """

    alarms = True
    random = True

    def __init__(
        self, *, sigma: float, n_draws: int, attack_draws: int, planes: Planes, n_classes: int, seed: int
    ) -> None:
        super().__init__()
        self.sigma, self.n_draws, self.attack_draws = sigma, n_draws, attack_draws
        self.planes, self.n_classes, self.seed = planes, n_classes, seed

    def forward(self, images: Tensor, inside: Inside) -> Tensor:
        """Return the logarithms of the classes' shares, and an alarm above the largest where there is no majority.

        An attacker gets the shares' soft forms, the mean probabilities, and the alarm that goes with these.
        """
        one = self._soft if torch.is_grad_enabled() else self._voted
        return torch.stack([one(image, inside) for image in images])

    def certify(self, images: Tensor, inside: Inside) -> Tensor:
        """Return the epsilon (batch,) within which the vote of all noise stays, 0 where nothing is proven.

        The class is chosen by the votes that answer, its share bounded from other draws (Clopper and Pearson, one-sided
        at ALPHA). The L2 radius is sigma Phi^-1(share). A change of epsilon in every value has the L2 norm epsilon
        sqrt(d), where d counts the values that vary freely: with the planes' noise of its own all 3 H W, and then
        whatever an attacker does to the planes is covered; with tied noise H W, and then only changes that are the same
        in all planes are, which is all that can be done to the file of a grey image.
        """
        return torch.stack([images.new_tensor(self._radius(image, inside)) for image in images])

    def copies(self, image: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """Return `n` noisy copies (n, 3, H, W) of an image (3, H, W)."""
        planes = 1 if self.planes == "tied" else len(image)
        noise = torch.randn(n, planes, *image.shape[1:], generator=generator)
        return image + self.sigma * noise.to(image)

    def _votes(self, image: Tensor, inside: Inside, seed: int) -> Tensor:
        """Return how many copies are given each class (n_classes,); one that is rejected inside gives none."""
        outputs = asked(image, inside, self.copies, self.n_draws, draws(image, seed))
        return one_hot(outputs.argmax(dim=1), outputs.shape[1]).sum(dim=0)[: self.n_classes]

    def _voted(self, image: Tensor, inside: Inside) -> Tensor:
        votes = self._votes(image, inside, self.seed)
        logits = ((votes + 0.5) / (self.n_draws + 0.5 * self.n_classes)).log()
        first, second = votes.topk(2).values.tolist()
        return self._answered(logits, math.log((first + 0.5) / (second + 0.5)), first + second)

    def _soft(self, image: Tensor, inside: Inside) -> Tensor:
        outputs = asked(image, inside, self.copies, self.attack_draws, draws(image, self.seed))
        logits = log_mean(outputs, self.n_classes, findings=False)
        first, second = logits.topk(2).values
        return self._answered(logits, first - second, self.n_draws)

    def _answered(self, logits: Tensor, lead: Tensor | float, n_votes: int) -> Tensor:
        """Return outputs (n_classes + 1,): the alarm is how much the first's lead is short of a majority."""
        short = logits.new_tensor(lead_needed(n_votes)) - lead
        return with_alarm(logits[None], short.reshape(1), self.n_classes)[0]

    def _radius(self, image: Tensor, inside: Inside) -> float:
        votes = self._votes(image, inside, self.seed)
        first, second = votes.topk(2).values.tolist()
        if first < majority(first + second):
            return 0.0
        again = int(self._votes(image, inside, self.seed + ESTIMATION)[votes.argmax()])
        share = float(beta.ppf(ALPHA, again, self.n_draws - again + 1)) if again else 0.0
        if share <= 0.5:
            return 0.0
        n_values = image[0].numel() * (1 if self.planes == "tied" else len(image))
        return self.sigma * float(norm.ppf(share)) / math.sqrt(n_values)


@functools.cache
def majority(n_votes: int) -> int:
    """Return how many of the votes for two classes the first needs, so that its lead is no chance.

    By a two-sided binomial test at ALPHA; `n_votes` + 1 where not even all of them are enough.
    """
    return int(binom.isf(ALPHA / 2, n_votes, 0.5)) + 1 if n_votes else 1


def lead_needed(n_votes: int) -> float:
    """Return what the logarithm of the first's votes over the second's, a half added to each, must exceed."""
    needed = majority(n_votes)
    return math.log(needed / max(n_votes - needed + 1, 0.25))


LEAST_DRAWS = next(n for n in range(1, 100) if majority(n) <= n)
"""Fewer votes are never a majority, however they are cast."""


@dataclass(frozen=True)
class Smoothing(Defence):
    """Votes over noisy copies, or abstains.

    Args:
        sigma: deviation of the noise, in the image range.
        draws, attack_draws: copies that vote, and that a gradient is averaged over.
        planes: whether the noise of the three planes is each its own, or the same, see `Smoothed.certify`.
    """

    sigma: Annotated[float, Within(0, 1, above=True, unit="of the image range")] = 0.1
    draws: Draws = 100
    attack_draws: Draws = 8
    planes: Planes = "free"
    gradient: ClassVar[Gradient] = "averaged"

    def __post_init__(self) -> None:
        if self.draws < LEAST_DRAWS:
            raise DosimeterError(
                f"defence smoothing: draws must be {LEAST_DRAWS} or more, got {self.draws}: with fewer no majority is "
                f"beyond chance at {ALPHA:g}, and every image is rejected. Write draws=100."
            )

    @property
    def answer_passes(self) -> float:
        """A pass for each copy that votes."""
        return float(self.draws)

    @property
    def gradient_passes(self) -> float:
        """A gradient for each copy that it is averaged over."""
        return float(self.attack_draws)

    def put(self, classifier: Classifier, learned: Mapping[str, Tensor], *, seed: int) -> Classifier:
        """Return the classifier inside of the vote.

        Raises:
            DosimeterError: it decides findings.
        """
        del learned
        if classifier.findings is not None:
            raise DosimeterError(
                "defence smoothing must have a classifier of classes, got one of findings. Take one of them, "
                "classifier.deciding(NAME)."
            )
        ring = Smoothed(
            sigma=self.sigma,
            n_draws=self.draws,
            attack_draws=self.attack_draws,
            planes=self.planes,
            n_classes=len(classifier.classes),
            seed=seed,
        )
        return classifier.around(ring)


ENTRY = Entry(
    build=lambda setting: parse(Smoothing, setting, name="smoothing"),
    note=f"a vote over noisy copies, which abstains, with certificates; {described(Smoothing)}",
    title="randomised smoothing",
    kind="vote",
    source="Cohen et al. 2019 (arXiv 1902.02918)",
)
