"""Defence: an image is made smaller at random and put at a random place, often, and the answers are averaged."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from dosimeter.defences.base import Defence, Entry, Gradient
from dosimeter.defences.settings import Within, described, parse
from dosimeter.defences.votes import Draws, asked, log_mean
from dosimeter.models.base import Classifier
from dosimeter.models.rings import Inside, Ring, draws


class Resized(Ring):
    """The mean answer about an image at random sizes and places on black ground.

    Args:
        least: smallest side, as a share of the image's.
        n_draws, attack_draws: variants that are averaged for an answer, and for an attacker's gradient.
        n_classes: of the logits.
        findings: whether these are findings.
    """

    random = True

    def __init__(
        self, *, least: float, n_draws: int, attack_draws: int, n_classes: int, findings: bool, seed: int
    ) -> None:
        super().__init__()
        self.least, self.n_draws, self.attack_draws = least, n_draws, attack_draws
        self.n_classes, self.findings, self.seed = n_classes, findings, seed

    def forward(self, images: Tensor, inside: Inside) -> Tensor:
        """Return the logits (batch, n_classes) of mean probabilities."""
        n = self.attack_draws if torch.is_grad_enabled() else self.n_draws
        return torch.stack([self._mean(image, inside, n) for image in images])

    def _mean(self, image: Tensor, inside: Inside, n: int) -> Tensor:
        outputs = asked(image, inside, self.variants, n, draws(image, self.seed))
        return log_mean(outputs, self.n_classes, findings=self.findings)

    def variants(self, image: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """Return `n` variants (n, 3, H, W) of an image (3, H, W)."""
        return torch.stack([self._variant(image, generator) for _ in range(n)])

    def _variant(self, image: Tensor, generator: torch.Generator) -> Tensor:
        share, down, across = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
        sides = image.shape[1:]
        wanted = self.least + share * (1 - self.least)
        height, width = (min(side, round(wanted * side)) for side in sides)
        top, left = round(down * (sides[0] - height)), round(across * (sides[1] - width))
        smaller = interpolate(image[None], size=(height, width), mode="bilinear", antialias=True)[0]
        return pad(smaller, (left, sides[1] - width - left, top, sides[0] - height - top))


@dataclass(frozen=True)
class RandomResize(Defence):
    """Averages answers about an image at random sizes and places.

    Args:
        least: smallest side, as a share of the image's.
        draws, attack_draws: variants for an answer, and for a gradient.
    """

    least: Annotated[float, Within(0.1, 1)] = 0.9
    draws: Draws = 8
    attack_draws: Draws = 8
    gradient: ClassVar[Gradient] = "averaged"

    @property
    def answer_passes(self) -> float:
        """A pass for each variant."""
        return float(self.draws)

    @property
    def gradient_passes(self) -> float:
        """A gradient for each variant that it is averaged over."""
        return float(self.attack_draws)

    def put(self, classifier: Classifier, learned: Mapping[str, Tensor], *, seed: int) -> Classifier:
        """Return the classifier inside of the average."""
        del learned
        ring = Resized(
            least=self.least,
            n_draws=self.draws,
            attack_draws=self.attack_draws,
            n_classes=len(classifier.classes),
            findings=classifier.findings is not None,
            seed=seed,
        )
        return classifier.around(ring)


ENTRY = Entry(
    build=lambda setting: parse(RandomResize, setting, name="random_resize"),
    note=f"answers averaged over random sizes and places of the image; {described(RandomResize)}",
    title="random resize and pad",
    kind="vote",
    source="Xie et al. 2018 (arXiv 1711.01991), who take one draw",
    broken_by="Athalye et al. 2018 (arXiv 1802.00420)",
)
