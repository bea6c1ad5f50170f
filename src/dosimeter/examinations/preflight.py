"""Pre-flight: what an attack will meet when it asks a classifier, measured before the sweep.

Numbers only, each with the count of images behind it; `analysis.evaluation` says what they mean. A gradient that is
not there is a finding; a classifier that does not answer at all is an error.
"""

from functools import cached_property

import torch
from torch import Tensor

from dosimeter.attacks.base import tied
from dosimeter.attacks.doses import perturb
from dosimeter.attacks.losses import check_loss, margin
from dosimeter.attacks.threat import ANYTHING, Threat
from dosimeter.cohorts.base import Cohort
from dosimeter.errors import DosimeterError
from dosimeter.examinations.answers import ROUNDING, Asked, apart, ask, batching, draw, one_by_one, outputs, randomness
from dosimeter.examinations.gradients import (
    N_REPEATED,
    Climbed,
    Facts,
    Subject,
    climb,
    declared,
    differences,
    gradients_there,
    one_level,
    repeated_gradient,
    still,
    unbounded,
)
from dosimeter.models.base import LEARNING, Classifier
from dosimeter.surroundings import plain_torch

NEAR = 1e-4  # of the image range: far less than the noise of any image, far more than rounding

VERSION = 5
"""Raised whenever more is measured, or otherwise, so that what a run has kept is not taken for it."""


@plain_torch()
def examine(
    classifier: Classifier,
    cohort: Cohort,
    *,
    loss: str = "margin",
    channels: str = "tied",
    declared_accuracy: float | None = None,
    n_images: int = 32,
    seed: int = 0,
    threat: Threat = ANYTHING,
    common: "Common | None" = None,
) -> Facts:
    """Return what can be known of a classifier before it is attacked, as JSON types.

    Args:
        classifier: what is examined.
        cohort: its test images; a few are drawn.
        loss, channels: of the attack that will follow, as `FGSM`.
        declared_accuracy: the user's own figure for the cohort, in [0, 1].
        n_images: drawn from the cohort; images that cannot be read are passed over.
        seed: of the draw and of random directions.
        threat: what the attack that will follow may do: its gradients are examined as it meets them, towards its target
            and within its mask. What is asked of the classifier alone, whether it answers alike, whether its gradient
            is that of its answers and leads anywhere at all, is asked without.
        common: of the same images, asked before with another loss: what no loss changes is not asked again.

    Raises:
        DosimeterError: no image can be read, the classifier does not answer images with logits, or `OneLogit` or
            `Finding` stands behind probabilities.
    """
    check_loss(loss, channels)
    if classifier.findings is not None:
        raise DosimeterError(
            "findings are examined one at a time: give classifier.deciding(NAME) and cohort.of_finding(NAME), NAME one "
            f"of {', '.join(classifier.classes)}."
        )
    if n_images < 1:
        raise DosimeterError(f"n_images must be 1 or more, got {n_images}. 32 show most of what goes wrong.")
    if declared_accuracy is not None and not 0 <= declared_accuracy <= 1:
        raise DosimeterError(f"declared_accuracy must be a share from 0 to 1, got {declared_accuracy}.")
    common = common or Common(classifier, cohort, n_images, seed)
    subject = common.subject._replace(loss=loss, channels=channels)
    labels, logits = subject.labels, common.asked.logits
    attacked, places = subject.under(threat)
    anywhere = common.climbed(loss, channels)
    climbed = climb(attacked, loss, channels) if threat.limits else anywhere
    met = subject.met(subject.images, labels) if classifier.rejects else logits
    right = logits.argmax(dim=1) == labels
    return {
        "cohort": cohort.name,
        "protocol": classifier.card.get("protocol", ""),
        "model": classifier.card.get("model", "classifier"),
        "classifier": classifier.name,
        "seed": seed,
        "loss": loss,
        "channels": channels,
        "n": len(labels),
        **common.facts,
        "accuracy": {
            "n": len(labels),
            "n_cohort": len(cohort),
            "correct": int(right.sum()),
            "majority": int(labels.bincount().max()),
            "n_answers": len(logits.argmax(dim=1).unique()),
            "declared": declared_accuracy,
        },
        "graph": {"n": len(attacked.images), "error": climbed.error, "access": classifier.access},
        "identity": _identity(met[places], climbed),
        "gradient": gradients_there(climbed, right[places], channels, threat.mask),
        "declared": declared(classifier),
        "step": one_level(attacked, climbed),
        "unbounded": unbounded(subject, anywhere, right),
    }


class Common:
    """What is asked of a classifier about the same images alike, whatever loss an attack climbs: each once.

    Args:
        classifier: what is asked.
        cohort: whose images are drawn; those that cannot be read are passed over.
        n_images: that are drawn.
        seed: of the draw and of random directions.
    """

    def __init__(self, classifier: Classifier, cohort: Cohort, n_images: int, seed: int) -> None:
        images, labels = draw(classifier, cohort, n_images, seed)
        self.subject = Subject(classifier, images, labels, "margin", "free", seed)

    @cached_property
    def asked(self) -> Asked:
        """What the classifier answers."""
        return ask(self.subject)

    @cached_property
    def margins(self) -> Climbed:
        """The gradients of the margin, with an image's planes apart."""
        return climb(self.subject, "margin", "free")

    def climbed(self, loss: str, channels: str) -> Climbed:
        """Return the gradients of a loss, as an attack takes them that may do anything."""
        if loss != "margin":
            return climb(self.subject, loss, channels)
        if channels == "free":
            return self.margins
        return self.margins._replace(gradient=tied(self.margins.gradient))

    @cached_property
    def facts(self) -> Facts:
        """What is found of answers, and of the gradient of the margin."""
        subject, logits, few = self.subject, self.asked.logits, self.margins.first(N_REPEATED)
        alone = one_by_one(subject)
        return {
            "training": _training(subject, logits),
            "randomness": randomness(subject, logits, alone),
            "batching": batching(logits, alone),
            "outputs": outputs(self.asked),
            "repeated_gradient": repeated_gradient(subject, few),
            "differences": differences(subject, logits, few),
            "still": still(subject, logits),
            "neighbours": _neighbours(subject, logits, few),
        }


# --- answers ------------------------------------------------------------------------------------------------


def _training(subject: Subject, logits: Tensor) -> Facts:
    """Return the modules that are in training mode, how many of them learn or drop there, and what the mode changes.

    matter: dropouts and batch normalisations; differ: images of `n_asked` that are answered otherwise, by more than
    rounding, when every module is in evaluation mode.
    """
    everything = list(subject.classifier.modules())
    modules = [module for module in everything if module.training]
    alive = [module for module in modules if isinstance(module, LEARNING)]
    kinds = sorted({type(module).__name__ for module in alive or modules})
    facts = {"n": len(everything), "training": len(modules), "matter": len(alive), "kinds": kinds}
    if not modules:
        return {**facts, "n_asked": 0, "differ": 0}
    try:
        for module in modules:
            module.training = False
        evaluated = subject.logits(subject.images[:N_REPEATED])
    finally:
        for module in modules:
            module.training = True
    apart = (evaluated - logits[:N_REPEATED]).norm(dim=1)
    differ = ~(apart <= ROUNDING * logits[:N_REPEATED].norm(dim=1))  # also where one of them is not a number
    return {**facts, "n_asked": len(evaluated), "differ": int(differ.sum())}


def _identity(logits: Tensor, climbed: Climbed) -> Facts:
    """Return whether an attack of epsilon 0 meets the classifier that answers."""
    return apart(logits[climbed.finite], climbed.logits[climbed.finite])


def _neighbours(subject: Subject, logits: Tensor, climbed: Climbed) -> Facts:
    """Return whether an image is answered as what is all but the same: its pixels moved by `NEAR`.

    jumps: images whose margin moves by more than ten times what its gradient allows, and by more than a tenth of the
    logits' distance; changed: those with another prediction.
    """
    images, labels = subject.images[:N_REPEATED], subject.labels[:N_REPEATED]
    generator = torch.Generator().manual_seed(subject.seed)
    signs = torch.randint(0, 2, images.shape, generator=generator) * 2.0 - 1
    near = subject.met(perturb(images, signs, NEAR), labels)
    here = subject.met(images, labels) if subject.classifier.rejects else logits[:N_REPEATED]
    moved = (margin(near, labels) - margin(here, labels)).abs()
    allowed = 10 * NEAR * climbed.gradient.abs().flatten(1).sum(dim=1)
    jumps = (moved > allowed) & (moved > 0.1 * (here.amax(dim=1) - here.amin(dim=1)))
    changed = jumps & (near.argmax(dim=1) != here.argmax(dim=1))
    return {"n": len(here), "jumps": int(jumps.sum()), "changed": int(changed.sum()), "by": NEAR}
