"""Defence: a small network takes the noise out of an image before the classifier sees it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu

from dosimeter.attacks.base import Problem
from dosimeter.attacks.known.fgsm import FGSM
from dosimeter.defences.base import Defence, Entry
from dosimeter.defences.settings import Dose, Within, described, parse
from dosimeter.defences.training import Training, nothing
from dosimeter.models.base import Classifier

WIDTH = 16
LEARNING_RATE = 1e-3
BATCH = 8


class Denoiser(nn.Module):
    """A U-net of one step: what it takes away from a plane, each plane by itself. At first it takes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(1, WIDTH, 3, padding=1)
        self.coarse = nn.Conv2d(WIDTH, 2 * WIDTH, 3, stride=2, padding=1)
        self.between = nn.Conv2d(2 * WIDTH, WIDTH, 3, padding=1)
        self.joined = nn.Conv2d(2 * WIDTH, WIDTH, 3, padding=1)
        self.last = nn.Conv2d(WIDTH, 1, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        """Return cleaned images (batch, 3, H, W) in [0, 1]."""
        return self.raw(images).clamp(0, 1)

    def raw(self, images: Tensor) -> Tensor:
        """Return cleaned images that may leave the range a little."""
        planes = images.flatten(0, 1)[:, None]  # (batch * 3, 1, H, W)
        fine = relu(self.fine(planes))
        coarse = relu(self.between(relu(self.coarse(fine))))
        risen = interpolate(coarse, size=fine.shape[2:], mode="bilinear", align_corners=False)
        taken = self.last(relu(self.joined(torch.cat([fine, risen], dim=1))))
        cleaned: Tensor = images - taken[:, 0].view_as(images)
        return cleaned


@dataclass(frozen=True)
class Denoise(Defence):
    """A denoiser trained on training images and their twins: with noise, and with FGSM's step.

    Args:
        epsilon: largest change of the twins; each image's is drawn.
        epochs: passes over the training images.
    """

    epsilon: Dose = 0.01
    epochs: Annotated[int, Within(1, 10_000)] = 10

    def learn(
        self, classifier: Classifier, training: Training, *, seed: int, advance: Callable[[int], None] = nothing
    ) -> dict[str, Tensor]:
        """Return the network's tensors."""
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = Denoiser().to(classifier.device)
        optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
        for _ in range(self.epochs):
            for _, images, labels in training.batches(BATCH, generator=generator):
                twins = self._twins(classifier, images, labels, generator)
                with torch.enable_grad():
                    wanted = images.repeat(len(twins) // len(images), 1, 1, 1)
                    loss = (network.raw(twins) - wanted).square().mean() / self.epsilon**2
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                advance(len(images))
        return dict(network.state_dict())

    def put(self, classifier: Classifier, learned: Mapping[str, Tensor], *, seed: int) -> Classifier:
        """Return the classifier of cleaned images."""
        del seed
        network = Denoiser()
        network.load_state_dict(dict(learned))
        return classifier.behind(network.to(classifier.device))

    def passes(self, n_images: int) -> float:
        """Return a gradient, which counts three, of each image in each epoch."""
        return 3.0 * self.epochs * n_images

    def _twins(self, classifier: Classifier, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Return images as they are, with noise, and with FGSM's step (3 * batch, 3, H, W), planes alike."""
        dose = self.epsilon * torch.rand(len(images), 1, 1, 1, generator=generator).to(images)
        noise = torch.randn(len(images), 1, *images.shape[2:], generator=generator).to(images)
        twins = [images, images + dose * noise]
        if classifier.access == "gradients" and labels.ndim == 1:
            signs = FGSM().direction(Problem(classifier, images, labels)).sign
            twins.append(images + dose * signs)
        return torch.cat(twins).clamp(0, 1)


ENTRY = Entry(
    build=lambda setting: parse(Denoise, setting, name="denoiser"),
    note=f"a small network, trained on noisy and attacked training images, cleans each image; {described(Denoise)}",
    title="denoiser",
    kind="input",
    source="Liao et al. 2018 (arXiv 1712.02976), with the loss on pixels",
    broken_by="Athalye and Carlini 2018 (arXiv 1804.03286)",
)
