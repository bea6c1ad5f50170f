"""What speaks against a classifier, said before it is swept: what `preflight` measures, on a few images."""

from collections.abc import Iterator

from dosimeter.cohorts.base import Cohort
from dosimeter.examinations.answers import ROUNDING, ask, draw, outputs, randomness
from dosimeter.examinations.gradients import Climbed, Facts, Subject, climb
from dosimeter.models.base import Classifier

N_IMAGES = 4
PASSES = 3


def doubts(classifier: Classifier, cohort: Cohort, *, seed: int = 0) -> list[str]:
    """Return a sentence for everything that speaks against what a sweep of `cohort` will find.

    Raises:
        DosimeterError: no image can be read, or `OneLogit` or `Finding` stands behind probabilities: each image would
            count as positive.
    """
    if classifier.findings is not None:
        of_each = [doubts(classifier.deciding(name), cohort.of_finding(name), seed=seed) for name in cohort.findings]
        return list(dict.fromkeys(sentence for sentences in of_each for sentence in sentences))
    images, labels = draw(classifier, cohort, N_IMAGES, seed)
    subject = Subject(classifier, images, labels, "margin", "free", seed)
    asked = ask(subject)
    return [
        *_of_outputs(outputs(asked)),
        *_of_passes(randomness(subject, asked.logits, passes=PASSES)),
        *_of_gradients(climb(subject, "margin", "free")),
    ]


def _of_outputs(fact: Facts) -> Iterator[str]:
    if fact["not_finite"]:
        yield f"The classifier's outputs are not finite for {fact['not_finite']} of {fact['n']} images."
    if fact["look"] != "logits":
        yield (
            f"The classifier's outputs look like probabilities of a {fact['look']}, not like logits: near 0 and 1 they "
            "hardly have a gradient, and attacks then seem weaker than they are. Hand over what goes into the "
            f"{fact['look']}."
        )


def _of_passes(fact: Facts) -> Iterator[str]:
    if fact["largest"] > ROUNDING:
        yield (
            f"The classifier's answers change between {fact['passes']} passes of the same images: logits by up to "
            f"{fact['largest']:.2g} of their size, the prediction of {fact['changed']} of {fact['n']}. Switch the "
            "randomness off; attacks on random answers say little."
        )


def _of_gradients(climbed: Climbed) -> Iterator[str]:
    n = len(climbed.finite)
    if climbed.error:
        yield (
            "No gradient of the classifier reaches the image, so that only black-box attacks can be tried: "
            f"{climbed.error}."
        )
        return
    if not_finite := int((~climbed.finite).sum()):
        yield f"The classifier's gradient is not finite for {not_finite} of {n} images: attacks fail there."
    if zero := int((climbed.finite & ~climbed.movable).sum()):
        yield (
            f"The gradient of the classifier's margin is exactly zero for {zero} of {n} images: attacks that follow it "
            "do not move them, which is no robustness."
        )
