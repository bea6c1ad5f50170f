"""The peers' FGSM sweeps, called as their documentation shows.

Each builder imports its library, so that a missing one is an ImportError of that builder alone, and returns a function
(images (n, 3, H, W), labels (n,), epsilons) -> `Answers` that handles all n images as one batch.
"""

from collections.abc import Callable
from copy import deepcopy

import torch
from answers import Answers
from torch import Tensor, nn

from dosimeter.models.base import Classifier

Epsilons = tuple[float, ...]
Sweep = Callable[[Tensor, Tensor, Epsilons], Answers]


class AsLoaded(nn.Module):
    """A classifier's network as a model zoo hands it out: default layout, weights that ask for gradients.

    What the peers' documentation attacks. The weights are copies; values and answers are the same.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.preprocessing = classifier.preprocessing
        self.base = _unfrozen(classifier.base)
        self.head = _unfrozen(classifier.head)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, n_classes) for images (batch, 3, H, W) in [0, 1]."""
        logits: Tensor = self.head(self.base(self.preprocessing.apply(images)))
        return logits


def _unfrozen(network: nn.Module) -> nn.Module:
    return deepcopy(network).to(memory_format=torch.contiguous_format).requires_grad_(True)


def foolbox(network: nn.Module, *, size_px: int) -> Sweep:
    """Return Foolbox's sweep: it takes all epsilons in one call, and says which images were misclassified."""
    import foolbox as fb

    del size_px
    model = fb.PyTorchModel(network, bounds=(0, 1), device="cpu")
    attack = fb.attacks.LinfFastGradientAttack()

    def sweep(images: Tensor, labels: Tensor, epsilons: Epsilons) -> Answers:
        _, _, fooled = attack(model, images, labels, epsilons=list(epsilons))  # fooled: (K, n)
        return Answers(torch.where(fooled.T, 1 - labels[:, None], labels[:, None]), None)  # of two classes

    return sweep


def art(network: nn.Module, *, size_px: int) -> Sweep:
    """Return the sweep of the Adversarial Robustness Toolbox: one attack an epsilon, then `predict`."""
    from art.attacks.evasion import FastGradientMethod
    from art.estimators.classification import PyTorchClassifier

    classifier = PyTorchClassifier(
        model=network,
        loss=nn.CrossEntropyLoss(),
        input_shape=(3, size_px, size_px),
        nb_classes=2,
        clip_values=(0, 1),
        device_type="cpu",
    )

    def sweep(images: Tensor, labels: Tensor, epsilons: Epsilons) -> Answers:
        pixels, true = images.numpy(), labels.numpy()
        logits = []
        for epsilon in epsilons:
            adversarial = FastGradientMethod(estimator=classifier, eps=epsilon).generate(x=pixels, y=true)
            logits.append(torch.from_numpy(classifier.predict(adversarial)))
        return Answers.of(torch.stack(logits, dim=1))

    return sweep


def torchattacks(network: nn.Module, *, size_px: int) -> Sweep:
    """Return torchattacks' sweep: one attack an epsilon, then the network."""
    from torchattacks import FGSM

    del size_px

    def sweep(images: Tensor, labels: Tensor, epsilons: Epsilons) -> Answers:
        logits = []
        for epsilon in epsilons:
            adversarial = FGSM(network, eps=epsilon)(images, labels)
            with torch.no_grad():
                logits.append(network(adversarial))
        return Answers.of(torch.stack(logits, dim=1))

    return sweep


PEERS: dict[str, tuple[str, Callable[..., Sweep]]] = {
    "Foolbox": ("foolbox", foolbox),
    "ART": ("adversarial-robustness-toolbox", art),
    "torchattacks": ("torchattacks", torchattacks),
}
"""Each peer's package and its builder."""


def in_batches(sweep: Sweep, batch_size: int) -> Sweep:
    """Return `sweep` on `batch_size` images at a time."""

    def batched(images: Tensor, labels: Tensor, epsilons: Epsilons) -> Answers:
        pairs = zip(images.split(batch_size), labels.split(batch_size), strict=True)
        return Answers.joined([sweep(*pair, epsilons) for pair in pairs])

    return batched
