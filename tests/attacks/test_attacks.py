import math

import foolbox
import numpy as np
import pytest
import torch
from tiny import SIZE_PX, convolutional_classifier, linear_classifier

from dosimeter.attacks.base import AttackError, Problem
from dosimeter.attacks.doses import check, measure, perturb
from dosimeter.attacks.known.fgsm import FGSM
from dosimeter.attacks.losses import KERAS_EPSILON, LOSSES, cross_entropy, keras_bce, margin
from dosimeter.attacks.presets import PRESETS
from dosimeter.errors import DosimeterError
from dosimeter.storage.base import get_storage
from dosimeter.sweeps.paths import Ray

ATTACKS = [FGSM(loss=loss, channels=channels) for loss in LOSSES if loss != "dlr" for channels in ("tied", "free")]


def images(n: int = 5, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randint(0, 256, (n, 3, SIZE_PX, SIZE_PX), generator=generator)
    return levels / 255


LABELS = torch.tensor([0, 1, 1, 0, 1])


# --- losses -----------------------------------------------------------------------------------------------------


def test_losses_against_hand_computed_values() -> None:
    logits, labels = torch.tensor([[1.0, 3.0], [1.0, 3.0]]), torch.tensor([0, 1])
    assert margin(logits, labels).tolist() == [2.0, -2.0]
    p = 1 / (1 + math.exp(-2.0))
    torch.testing.assert_close(cross_entropy(logits, labels), torch.tensor([-math.log(1 - p), -math.log(p)]))
    torch.testing.assert_close(keras_bce(logits, labels), cross_entropy(logits, labels))


def test_margin_takes_the_best_other_class() -> None:
    assert margin(torch.tensor([[5.0, 1.0, 3.0]]), torch.tensor([0])).tolist() == [-2.0]


def test_keras_bce_is_flat_where_softmax_saturates_and_margin_is_not() -> None:
    logits = torch.tensor([[0.0, 30.0]], requires_grad=True)
    for loss, flat in ((keras_bce, True), (margin, False)):
        (gradient,) = torch.autograd.grad(loss(logits, torch.tensor([1])).sum(), logits)
        assert bool((gradient == 0).all()) is flat
    one_ulp_below_one = 2**-23  # 1 - 1e-7 in float32 is 1 - 2**-23
    worst = -(math.log(KERAS_EPSILON) + math.log(one_ulp_below_one)) / 2
    assert keras_bce(logits, torch.tensor([0])).item() == pytest.approx(worst, rel=1e-6)


# --- FGSM -------------------------------------------------------------------------------------------------------


def test_linear_margin_falls_by_epsilon_times_the_l1_norm() -> None:
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(3, 8, 8, generator=generator)
    classifier = linear_classifier(weight)
    x, y, epsilon = torch.full((1, 3, 8, 8), 0.5), torch.tensor([1]), 0.01
    before = margin(classifier(x), y)
    for channels, norm in (("free", weight.abs().sum()), ("tied", weight.sum(dim=0).abs().sum())):
        direction = FGSM(channels=channels).direction(Problem(classifier, x, y))
        after = margin(classifier(perturb(x, direction.sign, epsilon)), y)
        torch.testing.assert_close(after - before, epsilon * norm[None], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("epsilon", [0.0, 1e-4, 0.003, 0.09])
def test_equals_foolbox(epsilon: float) -> None:
    classifier, x = convolutional_classifier(), images()
    reference = foolbox.PyTorchModel(classifier, bounds=(0, 1))
    _, expected, _ = foolbox.attacks.LinfFastGradientAttack(random_start=False)(
        reference, x, LABELS, epsilons=[epsilon]
    )
    direction = FGSM(loss="cross_entropy", channels="free").direction(Problem(classifier, x, LABELS))
    assert (perturb(x, direction.sign, epsilon) - expected[0]).abs().max() <= 1e-6


@pytest.mark.parametrize("scale", [0.1, 1.0])
def test_margin_and_cross_entropy_have_the_same_sign_where_the_latter_is_not_zero(scale: float) -> None:
    classifier, x = convolutional_classifier(scale=scale), images()
    by_margin = FGSM("margin", "free").direction(Problem(classifier, x, LABELS)).sign
    by_entropy = FGSM("cross_entropy", "free").direction(Problem(classifier, x, LABELS)).sign
    there = by_entropy != 0
    assert there.float().mean() > 0.8  # strides leave the last rows and columns out
    assert torch.equal(by_margin[there], by_entropy[there])


def test_where_softmax_rounds_to_one_only_margin_keeps_the_direction() -> None:
    logits = torch.tensor([[0.0, 20.0]], requires_grad=True)
    (entropy,) = torch.autograd.grad(cross_entropy(logits, torch.tensor([1])).sum(), logits)
    (by_margin,) = torch.autograd.grad(margin(logits, torch.tensor([1])).sum(), logits)
    assert entropy[0, 0] > 0
    assert entropy[0, 1] == 0  # the true logit's part is lost
    assert by_margin.tolist() == [[1.0, -1.0]]


def test_saturated_head_hides_its_gradient_from_keras_bce_only() -> None:
    classifier, x = convolutional_classifier(scale=1e4), images()
    labels = classifier(x).argmax(dim=1)
    hidden = FGSM("keras_bce", "free").direction(Problem(classifier, x, labels))
    assert hidden.grad_zero.all()
    assert not hidden.sign.any()
    assert not FGSM("margin", "free").direction(Problem(classifier, x, labels)).grad_zero.any()


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
class TestContract:
    """What every attack keeps."""

    def test_a_batch_equals_its_singles(self, attack: FGSM) -> None:
        classifier, x = convolutional_classifier(), images()
        batch = attack.direction(Problem(classifier, x, LABELS))
        for i in range(len(x)):
            single = attack.direction(Problem(classifier, x[i : i + 1], LABELS[i : i + 1]))
            assert (single.sign[0] != batch.sign[i]).float().mean() < 1e-3  # a sign at zero may turn on the last bit

    def test_same_input_same_result(self, attack: FGSM) -> None:
        classifier, x = convolutional_classifier(), images()
        first, second = (attack.direction(Problem(classifier, x, LABELS)) for _ in range(2))
        assert torch.equal(first.sign, second.sign)

    def test_epsilon_zero_is_the_identity_and_others_keep_ball_and_bounds(self, attack: FGSM) -> None:
        classifier, x = convolutional_classifier(), images()
        sign = attack.direction(Problem(classifier, x, LABELS)).sign
        assert torch.equal(perturb(x, sign, 0.0), x)
        for epsilon in (1e-4, 0.01, 0.5, 1.0):
            check(x, perturb(x, sign, epsilon), epsilon=epsilon, attack=attack.name)

    def test_the_classifier_is_untouched(self, attack: FGSM) -> None:
        classifier, x = convolutional_classifier(), images()
        before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
        attack.direction(Problem(classifier, x, LABELS))
        assert not any(module.training for module in classifier.modules())
        assert all(parameter.grad is None and not parameter.requires_grad for parameter in classifier.parameters())
        assert all(torch.equal(before[name], tensor) for name, tensor in classifier.state_dict().items())
        assert not x.requires_grad


def test_tied_channels_keep_a_grey_image_grey_and_free_ones_colour_it() -> None:
    classifier = convolutional_classifier()
    grey = images()[:, :1].expand(-1, 3, -1, -1).contiguous()
    planes = {c: FGSM(channels=c).direction(Problem(classifier, grey, LABELS)).sign for c in ("tied", "free")}
    assert torch.equal(planes["tied"][:, 0], planes["tied"][:, 1])
    assert not torch.equal(planes["free"][:, 0], planes["free"][:, 1])


def test_a_gradient_that_is_not_finite_is_an_error() -> None:
    classifier = linear_classifier(torch.full((3, 8, 8), torch.inf))
    with pytest.raises(FloatingPointError, match="not finite"):
        FGSM().direction(Problem(classifier, torch.rand(1, 3, 8, 8), torch.tensor([1])))


@pytest.mark.parametrize(("arguments", "message"), [({"loss": "margn"}, "margin"), ({"channels": "loose"}, "'tied'")])
def test_unknown_options_are_named(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(DosimeterError, match=message):
        FGSM(**arguments)  # type: ignore[arg-type]


def test_presets_are_the_study_s() -> None:
    assert PRESETS["paper"].attack == FGSM("keras_bce", "free")
    assert PRESETS["paper"].storages == ("float",)
    assert PRESETS["sound"].attack == FGSM("margin", "tied")
    assert PRESETS["sound"].storages == ("float", "png8")


# --- dose and storage -------------------------------------------------------------------------------------------


def test_dose_by_hand() -> None:
    image, sign = torch.tensor([[[0.0, 0.5, 1.0]]]), torch.tensor([[[-1.0, 1.0, 1.0]]])
    adversarial = perturb(image, sign, 0.25)
    assert adversarial.tolist() == [[[0.0, 0.75, 1.0]]]
    dose = measure(image, adversarial, outside=Ray(sign).outside(image, 0.25))
    assert dose == (0.25, 0.25, pytest.approx(2 / 3))


def test_check_names_the_attack_that_left_its_ball() -> None:
    image = torch.zeros(3, 4, 4)
    with pytest.raises(AttackError, match="cheat left its ball"):
        check(image, image + 0.5, epsilon=0.1, attack="cheat")
    with pytest.raises(AttackError, match="left the image range"):
        check(image, image - 0.1, epsilon=0.1, attack="cheat")


@pytest.mark.parametrize(("epsilon", "levels"), [(0.0019, 0), (0.002, 1), (0.0058, 1), (0.006, 2), (0.09, 23)])
def test_png8_rounds_the_dose_to_whole_grey_levels(epsilon: float, levels: int) -> None:
    store = get_storage("png8").store
    image = torch.arange(64, 192).reshape(1, 8, 16).expand(3, -1, -1) / 255
    stored = store(perturb(image, torch.ones_like(image), epsilon).numpy())
    assert np.array_equal(stored * 255, (image * 255 + levels).numpy().round())
    assert np.array_equal(store(image.numpy()), image.numpy())  # an 8-bit image survives storage bit by bit
