"""What the pre-flight measures, on classifiers of which the answer is known."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import masked
import numpy as np
import pytest
import torch
from tiny import convolutional_classifier, linear_classifier
from torch import Tensor, nn

from dosimeter.attacks.slopes import slope
from dosimeter.attacks.threat import Threat
from dosimeter.cohorts.base import Cohort, Decoded
from dosimeter.errors import DosimeterError
from dosimeter.examinations.preflight import Common, examine
from dosimeter.models.base import Classifier
from dosimeter.models.preprocessing import PREPROCESSINGS

COHORT = masked.opacities(0, 12)


def wrapped(
    before: Callable[[Any], Any] = lambda images: images, after: Callable[[Any], Any] = lambda logits: logits
) -> Classifier:
    """A network behind a function of images, before a function of logits."""
    base = nn.Sequential(masked.Layer(before), convolutional_classifier())
    unit = PREPROCESSINGS["unit"]
    return Classifier(base, masked.Layer(after), preprocessing=unit, size_px=32, classes=masked.CLASSES)


class Flipped(torch.autograd.Function):
    """The identity, whose backward pass has the wrong sign."""

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        return images.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return -gradient


def test_the_facts_are_json_and_the_same_again() -> None:
    classifier = convolutional_classifier()
    facts = examine(classifier, COHORT, n_images=6, seed=3)
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts == examine(classifier, COHORT, n_images=6, seed=3)
    assert facts["n"] == 6
    assert all("n" in fact for fact in facts.values() if isinstance(fact, dict))


def test_what_no_loss_changes_is_measured_once_and_the_same() -> None:
    classifier = convolutional_classifier()
    common = Common(classifier, COHORT, n_images=6, seed=0)
    examine(classifier, COHORT, loss="keras_bce", channels="free", common=common)
    passes: list[int] = []
    hook = classifier.base.register_forward_hook(lambda *_: passes.append(1))
    alone, n_alone = examine(classifier, COHORT, n_images=6), len(passes)
    beside, n_beside = examine(classifier, COHORT, common=common), len(passes) - n_alone
    hook.remove()
    assert beside == alone
    assert n_beside < n_alone / 2


def test_the_classifier_is_untouched() -> None:
    classifier = convolutional_classifier()
    classifier.head.train()
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    modes = [module.training for module in classifier.modules()]
    examine(classifier, COHORT, n_images=4)
    assert modes == [module.training for module in classifier.modules()]
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in classifier.parameters())
    assert all(torch.equal(before[name], value) for name, value in classifier.state_dict().items())


def test_of_a_linear_classifier_everything_is_known() -> None:
    weight = torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(0))
    facts = examine(linear_classifier(weight, bias=-float(weight.sum()) * 0.42), COHORT, declared_accuracy=0.75)
    assert facts["graph"] == {"n": 12, "error": None, "access": "gradients"}
    assert facts["training"]["training"] == facts["randomness"]["changed"] == facts["batching"]["changed"] == 0
    assert facts["randomness"]["largest"] == facts["identity"]["largest"] == 0
    assert facts["outputs"] | {"saturated": 0} == {
        "n": 12, "not_finite": 0, "look": "logits", "saturated": 0, "constant": False,
    }  # fmt: skip
    assert facts["repeated_gradient"] == {"n": 8, "passes": 2, "changed": 0, "lowest": pytest.approx(1)}
    assert facts["still"] == {"n": 0, "moved": 0}
    assert facts["accuracy"]["declared"] == 0.75
    assert facts["accuracy"]["majority"] == 6
    assert facts["gradient"]["zero"] == facts["gradient"]["zero_pixels"] == 0
    assert facts["differences"]["n"] == 8
    assert facts["differences"]["n_random"] > 8
    assert not any(facts["differences"][name] for name in ("wrong", "off", "wrong_random", "off_random"))
    assert facts["step"]["median_ratio"] == pytest.approx(1, abs=1e-3)
    assert facts["unbounded"]["left"] == 0


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e6])
def test_slopes_do_not_depend_on_the_logits_scale(scale: float) -> None:
    weight = scale * torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(1))
    classifier, image = linear_classifier(weight, bias=5 * scale), torch.full((3, 8, 8), 0.5)
    signs = torch.ones_like(weight)
    found = slope(classifier, image, 0, weight, weight.sign(), scale=5 * scale, power=1)
    other = slope(classifier, image, 0, weight, signs, scale=5 * scale, power=2)
    assert found is not None
    assert other is not None
    assert found.done == pytest.approx(float(weight.abs().sum()), rel=1e-2)
    assert other.done == pytest.approx(float(weight.sum()), rel=0.1)
    wrong = slope(classifier, image, 0, -weight, -weight.sign(), scale=5 * scale, power=1)
    assert wrong is not None
    assert wrong.wrong
    assert wrong.off


def test_a_slope_needs_room_and_something_to_say() -> None:
    classifier, black = linear_classifier(torch.ones(3, 8, 8)), torch.zeros(3, 8, 8)
    assert slope(classifier, black, 0, torch.ones(3, 8, 8), torch.ones(3, 8, 8), scale=1.0, power=1) is None
    assert slope(classifier, black + 0.5, 0, black, black, scale=1.0, power=1) is None


# --- what is wrong with a classifier shows ----------------------------------------------------------------------


def test_a_saturated_head_has_no_gradient_of_the_clipped_loss_and_one_of_the_margin() -> None:
    classifier = masked.MASKED["saturated softmax"].build()
    clipped = examine(classifier, COHORT, loss="keras_bce", channels="free")
    assert clipped["outputs"]["saturated"] == clipped["gradient"]["zero"] == 12
    assert clipped["unbounded"]["left"] == clipped["unbounded"]["n"] == 12
    assert clipped["gradient"]["n_pixels"] == clipped["step"]["n"] == 0
    sound = examine(classifier, COHORT)
    assert sound["gradient"]["zero"] == sound["unbounded"]["left"] == 0


def test_a_layer_that_rounds_has_zero_gradients_and_one_that_detaches_none() -> None:
    assert examine(masked.MASKED["quantising input layer"].build(), COHORT)["gradient"]["zero"] == 12
    facts = examine(masked.MASKED["JPEG input layer"].build(), COHORT)
    assert facts["graph"]["error"] == "no gradient reaches the image"
    assert [facts[name]["n"] for name in ("gradient", "identity", "differences", "step", "unbounded")] == [0] * 5


def test_a_layer_that_torch_cannot_differentiate_is_no_gradient() -> None:
    facts = examine(wrapped(lambda images: torch.from_numpy(images.numpy())), COHORT)
    assert facts["graph"]["error"] == "no gradient reaches the image"


def test_gradients_that_are_not_finite_are_counted_image_by_image() -> None:
    n_black = sum(float(case.image.min()) == 0 for case in COHORT)  # there the root has an infinite derivative
    facts = examine(wrapped(torch.sqrt), COHORT)
    assert facts["gradient"]["not_finite"] == n_black == 3
    assert facts["gradient"]["n"] == 12
    assert facts["graph"]["error"] is None


def test_logits_that_are_not_finite_are_counted_and_the_facts_stay_json() -> None:
    facts = examine(wrapped(after=lambda logits: logits / (logits - logits)), COHORT)
    assert facts["outputs"]["not_finite"] == 12
    json.dumps(facts, allow_nan=False)


def test_training_mode_and_randomness() -> None:
    facts = examine(masked.MASKED["dropout left on"].build(), COHORT)
    assert facts["training"]["matter"] == 1
    assert facts["training"]["kinds"] == ["Dropout"]
    assert facts["randomness"]["largest"] > 0.01


def test_what_looks_at_the_whole_batch() -> None:
    facts = examine(wrapped(lambda images: images - images.mean(dim=0)), COHORT)
    assert facts["batching"]["largest"] > 1e-2
    assert facts["randomness"]["largest"] < 1e-5


@pytest.mark.parametrize(
    ("after", "look"),
    [
        (lambda logits: torch.softmax(logits, dim=1), "softmax"),
        (lambda logits: torch.sigmoid(logits) * torch.tensor([0.0, 1.0]), "sigmoid"),
        (torch.sigmoid, "sigmoid"),
        (lambda logits: 0.5 * torch.sigmoid(logits), "sigmoid"),
        (lambda logits: torch.log_softmax(logits, dim=1), "logits"),
        (lambda logits: logits.abs() / 1e4, "logits"),  # in [0, 1] for every image
    ],
)
def test_probabilities_are_recognised(after: Callable[[Tensor], Tensor], look: str) -> None:
    assert examine(wrapped(after=after), COHORT)["outputs"]["look"] == look


@pytest.mark.parametrize("n_classes", [3, 5])
def test_sigmoids_of_several_classes_are_recognised(n_classes: int) -> None:
    names = tuple("abcde"[:n_classes])
    weight = torch.randn(n_classes, 3 * 32 * 32, generator=torch.Generator().manual_seed(0)) / 30
    for then, look in ((torch.sigmoid, "sigmoid"), (lambda logits: logits, "logits")):
        base = nn.Sequential(nn.Flatten(), masked.Layer(lambda images: images @ weight.T), masked.Layer(then))
        made = Classifier(base, nn.Identity(), preprocessing=PREPROCESSINGS["unit"], size_px=32, classes=names)
        assert examine(made, COHORT, n_images=6)["outputs"]["look"] == look


def test_a_backward_pass_that_lies() -> None:
    facts = examine(wrapped(Flipped.apply), COHORT)
    assert facts["differences"]["wrong"] == facts["differences"]["off"] == facts["differences"]["n"] == 8
    assert facts["differences"]["wrong_random"] == facts["differences"]["n_random"] > 0
    assert facts["step"]["fallen"] == facts["step"]["n"] == 12


def test_a_classifier_that_behaves_otherwise_when_it_is_differentiated() -> None:
    def gentle(images: Tensor) -> Tensor:
        return images * 0.5 if torch.is_grad_enabled() else images

    assert examine(wrapped(gentle), COHORT)["identity"]["largest"] > 1e-2


def test_a_cropped_border_has_no_gradient() -> None:
    def cropped(images: Tensor) -> Tensor:
        return nn.functional.pad(images[:, :, 8:-8, 8:-8], (8, 8, 8, 8))

    facts = examine(wrapped(cropped), COHORT)
    assert facts["gradient"]["zero_pixels"] / facts["gradient"]["n_pixels"] == pytest.approx(0.75, abs=0.05)
    assert facts["gradient"]["zero"] == 0
    assert facts["still"] == {"n": 16, "moved": 0}


def flat(cohort: Cohort) -> Cohort:
    """The cohort's images in blocks of 2 x 2 pixels that are all alike."""

    def blocks(read: Callable[[], Decoded]) -> Decoded:
        image = read()
        return image._replace(image=image.image[:, ::2, ::2].repeat(2, axis=1).repeat(2, axis=2))

    records = [replace(record, read=lambda read=record.read: blocks(read)) for record in cohort.records]
    return replace(cohort, records=tuple(records))


def test_of_equal_pixels_a_maximum_takes_one_and_no_pixel_is_hidden() -> None:
    def largest(images: Tensor) -> Tensor:
        return nn.functional.interpolate(nn.functional.max_pool2d(images, 2), size=32)

    assert examine(wrapped(largest), flat(COHORT))["still"] == {"n": 16, "moved": 0}


def test_pixels_cut_off_from_the_gradient_move_the_margin() -> None:
    def cut(images: Tensor) -> Tensor:
        return torch.cat([images[..., :16].detach(), images[..., 16:]], dim=3)

    fact = examine(wrapped(cut), COHORT)["still"]
    assert fact["n"] == 16
    assert fact["moved"] > 10


def test_gradients_that_differ_between_passes() -> None:
    class Noisy(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, images: Tensor) -> Tensor:
            return images.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return gradient + gradient.std() * torch.randn_like(gradient)

    facts = examine(wrapped(Noisy.apply), COHORT)
    assert facts["repeated_gradient"]["changed"] == facts["repeated_gradient"]["n"] == 8
    assert facts["repeated_gradient"]["lowest"] == pytest.approx(0.5, abs=0.1)  # of signal and noise of equal size
    assert facts["randomness"]["largest"] < 1e-5


def test_modules_in_training_mode_matter_if_they_answer_otherwise() -> None:
    class Doubling(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images * (2 if self.training else 1)

    for module, n_differ in ((nn.Identity(), 0), (Doubling(), 8)):
        classifier = wrapped(module)
        own = classifier.base[0].function
        own.train()
        facts = examine(classifier, COHORT)["training"]
        assert (facts["training"], facts["matter"], facts["n_asked"], facts["differ"]) == (1, 0, 8, n_differ)
        assert own.training


def test_exact_images_that_are_recognised_jump_away_from_their_neighbours() -> None:
    known = {COHORT[place].image.tobytes() for place in range(12)}

    def by_heart(images: Tensor) -> Tensor:
        own = [image[:1].numpy().tobytes() in known for image in images.detach().contiguous()]
        return images + torch.tensor(own).float().view(-1, 1, 1, 1)

    assert examine(wrapped(by_heart), COHORT)["neighbours"]["jumps"] > 4
    assert examine(convolutional_classifier(), COHORT)["neighbours"] == {"n": 8, "jumps": 0, "changed": 0, "by": 1e-4}


def test_a_constant_is_known_as_one() -> None:
    facts = examine(wrapped(after=lambda logits: 0 * logits + torch.tensor([1.0, 0.0])), COHORT)
    assert facts["outputs"]["constant"]
    assert facts["accuracy"]["n_answers"] == 1
    assert not examine(convolutional_classifier(), COHORT)["outputs"]["constant"]


def test_a_slope_that_drowns_in_rounding_is_not_judged() -> None:
    weight = 1e-6 * torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(1))
    image, signs = torch.full((3, 8, 8), 0.5), weight.sign()
    for offset, there in ((0.0, True), (1e4, False)):

        def network(images: Tensor, offset: float = offset) -> Tensor:
            score = (images * weight).flatten(1).sum(dim=1)
            return torch.stack([torch.zeros_like(score) + offset, score + offset], dim=1)

        assert (slope(network, image, 0, weight, signs, scale=1e-6, power=1) is not None) == there


# --- bad input --------------------------------------------------------------------------------------------------


def unreadable(cohort: Cohort, places: range) -> Cohort:
    def read() -> Decoded:
        raise OSError("truncated")

    records = list(cohort.records)
    for place in places:
        records[place] = replace(records[place], read=read)
    return replace(cohort, records=tuple(records))


def test_unreadable_images_are_passed_over() -> None:
    facts = examine(convolutional_classifier(), unreadable(COHORT, range(10)))
    assert facts["n"] == 2
    assert facts["accuracy"]["n_cohort"] == 12
    with pytest.raises(DosimeterError, match="none of the 12 images of opacities can be read"):
        examine(convolutional_classifier(), unreadable(COHORT, range(12)))


@pytest.mark.parametrize(
    ("after", "message"),
    [
        (lambda logits: {"logits": logits}, r"must return logits of shape \(4, 2\).*got dict"),
        (lambda logits: logits[:, :1], r"got \(4, 1\).*behind a head of one logit"),
        (lambda logits: logits @ torch.ones(3), "failed on images of shape .* RuntimeError"),
        (lambda logits: logits.images, "failed on images"),
    ],
)
def test_a_classifier_that_does_not_answer_is_one_sentence(after: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(DosimeterError, match=message) as error:
        examine(wrapped(after=after), COHORT)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": "margn"}, "Did you mean 'margin'"),
        ({"channels": "loose"}, "'tied' or 'free'"),
        ({"n_images": 0}, "n_images must be 1 or more, got 0"),
        ({"declared_accuracy": 93}, "share from 0 to 1, got 93"),
    ],
)
def test_arguments_are_checked(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DosimeterError, match=message):
        examine(convolutional_classifier(), COHORT, **arguments)


def test_images_are_drawn_from_all_of_the_cohort() -> None:
    sorted_by_class = COHORT.subset(np.argsort(COHORT.labels, kind="stable").tolist())
    facts = examine(convolutional_classifier(), sorted_by_class, n_images=6)
    assert facts["accuracy"]["majority"] < 6


def test_gradients_are_examined_as_the_attacker_meets_them() -> None:
    weight = torch.ones(3, 32, 32)
    weight[:, :, :16] = 0  # the left half changes nothing
    classifier = linear_classifier(weight, bias=-float(weight.sum()) * 0.42)
    left = torch.zeros(1, 32, 32, dtype=torch.bool)
    left[:, :, :16] = True
    n_target = sum(record.label == 1 for record in COHORT.records)

    free = examine(classifier, COHORT)
    assert (free["gradient"]["n"], free["gradient"]["zero"], free["gradient"]["zero_pixels"]) == (12, 0, 12 * 512)
    masked_left, masked_right = (examine(classifier, COHORT, threat=Threat(mask=mask)) for mask in (left, ~left))
    assert (masked_left["gradient"]["zero"], masked_left["step"]) == (12, {"n": 0})
    assert (masked_right["gradient"]["zero"], masked_right["gradient"]["zero_pixels"]) == (0, 0)
    assert masked_right["step"]["median_ratio"] == pytest.approx(1, rel=1e-3)
    assert masked_left["unbounded"] == free["unbounded"]  # asked of the classifier alone
    aimed = examine(classifier, COHORT, threat=Threat(target=1))
    assert aimed["gradient"]["n"] == 12 - n_target
    assert aimed["step"]["fallen"] == 0
    assert aimed["accuracy"] == free["accuracy"]
