"""Networks of the user's own: what they may be, and that they stay as they were."""

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Lock
from typing import Any

import numpy as np
import pytest
import torch
from greys import cohort
from networks import Undifferentiable, Viewing, Wrapped, classifier, exported, frozen, images, scripted, sweep
from tiny import SIZE_PX
from torch import Tensor, nn

import dosimeter as dm
from dosimeter.examinations.preflight import examine
from dosimeter.models.preprocessing import PREPROCESSINGS

# --- the user's network stays the user's --------------------------------------------------------------------------


def test_the_users_network_is_left_as_it_was_and_can_be_trained() -> None:
    network = Viewing()
    network.last.bias.requires_grad_(False)
    network.norm.eval()
    flags = [parameter.requires_grad for parameter in network.parameters()]
    modes = [module.training for module in network.modules()]
    values = {name: value.clone() for name, value in network.state_dict().items()}
    made = classifier(network)
    sweep(made)
    examine(made, cohort(4))
    assert flags == [parameter.requires_grad for parameter in network.parameters()]
    assert modes == [module.training for module in network.modules()]
    assert network.conv.weight.is_contiguous()
    assert all(torch.equal(values[name], value) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    network.drop.p = 0.0
    before, name = made(images()), made.name
    optimizer = torch.optim.SGD([parameter for parameter in network.parameters() if parameter.requires_grad], lr=1)
    loss = nn.functional.cross_entropy(network(images()), torch.tensor([0, 1, 0]))
    loss.backward()
    optimizer.step()
    assert not torch.equal(network.conv.weight, values["conv.weight"])
    assert torch.equal(made(images()), before)
    assert made.name == name
    assert classifier(network).name != name


def test_a_part_that_base_and_head_share_stays_shared() -> None:
    shared = nn.Conv2d(3, 3, 3, padding=1)
    made = classifier(shared, nn.Sequential(shared, nn.Flatten(), nn.Linear(3 * SIZE_PX**2, 2)))
    assert made.head[0] is made.base is not shared  # type: ignore[index]


class Itself(nn.Module):
    """Its copy is no copy."""

    def __deepcopy__(self, memo: Any) -> "Itself":
        return self


def uncopyable(kind: str) -> tuple[nn.Module, nn.Module]:
    network = Viewing()
    if kind == "a lock":
        network.lock = Lock()  # type: ignore[assignment]
    elif kind == "a part that copies as itself":
        network.add_module("part", Itself())
    else:  # a tensor of the original in the copy
        bias = network.last.bias
        network.last.__deepcopy__ = lambda memo: copy.copy(network.last)  # type: ignore[attr-defined]
        assert network.last.bias is bias
    return network, nn.Identity()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("swapped", [True, False])
@pytest.mark.parametrize("kind", ["a lock", "a part that copies as itself", "a copy with the same tensors"])
def test_a_network_that_cannot_be_copied_is_refused_and_left_alone(kind: str, swapped: bool, training: bool) -> None:
    network, other = uncopyable(kind)
    network.train(training)
    pair = (other, network) if swapped else (network, other)
    if kind == "a copy with the same tensors":
        modules = type("Sharing", (nn.Sequential,), {"__deepcopy__": lambda self, memo: copy.copy(self)})
        pair = (modules(pair[0]), pair[1])
    before = [(module.training, module) for part in pair for module in part.modules()]
    with pytest.raises(dm.DosimeterError, match=r"networks that can be copied.*adopt=True") as error:
        classifier(*pair)
    assert "\n" not in str(error.value)
    assert before == [(module.training, module) for part in pair for module in part.modules()]
    assert all(parameter.requires_grad for part in pair for parameter in part.parameters())
    made = classifier(*pair, adopt=True)  # as the sentence says
    assert made.base is pair[0]
    assert not any(parameter.requires_grad for parameter in made.parameters())
    assert not any(module.training for module in made.modules())
    assert len(sweep(made)) == 8


# --- networks of many kinds ---------------------------------------------------------------------------------------


def traced(network: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made: nn.Module = torch.jit.trace(network.eval(), images())
        return made


def called_lazily(network: nn.Module) -> nn.Module:
    made = nn.Sequential(nn.LazyConv2d(4, 5, stride=4), nn.Flatten(), nn.LazyLinear(2))
    made(images())
    return made


def normed(network: nn.Module) -> nn.Module:
    """Keeps a tensor that was computed, with its gradient's history, which torch does not copy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = nn.Sequential(nn.utils.weight_norm(nn.Conv2d(3, 4, 5, stride=4)), nn.Flatten(), nn.Linear(196, 2))
    made(images())
    return made


KINDS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "as it is": lambda network: network,
    "scripted": scripted,
    "scripted and frozen": frozen,
    "traced": traced,
    "exported": exported,
    "exported, inside another": lambda network: nn.Sequential(nn.Identity(), exported(network)),
    "lazy, once called": called_lazily,
    "weight norm": normed,
    "fx": lambda network: torch.fx.symbolic_trace(network),
    "float64": lambda network: network.double(),
    "bfloat16": lambda network: network.to(torch.bfloat16),
}


@pytest.mark.parametrize("kind", KINDS)
def test_networks_of_many_kinds_are_swept_and_examined(kind: str) -> None:
    network = KINDS[kind](Viewing())
    made = classifier(network)
    rows = sweep(made)
    assert (rows["status"] == "ok").all()
    assert len(rows) == 8
    facts = examine(made, cohort(4))
    assert facts["graph"]["error"] is None
    assert facts["training"]["training"] == 0
    made.eval()
    if "lazy" not in kind and "norm" not in kind:
        expected = Viewing().eval()(images())
        tolerance = 0.05 if kind == "bfloat16" else 1e-4
        torch.testing.assert_close(made(images()).float(), expected, rtol=tolerance, atol=tolerance)


class Odd(Tensor):
    """A tensor whose own functions fail."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(func.__name__)


def as_kind(kind: type[Tensor], logits: Tensor) -> Tensor:
    with torch._C.DisableTorchFunctionSubclass():
        return logits.as_subclass(kind)


@pytest.mark.parametrize(
    "wrap",
    [lambda logits: as_kind(type("New", (Tensor,), {}), logits), lambda logits: as_kind(Odd, logits)],
    ids=["another type at each pass", "a type that fails"],
)
def test_logits_of_another_type_of_tensor_are_taken_as_numbers(wrap: Callable[[Tensor], Tensor]) -> None:
    plain = Wrapped(lambda logits: logits)
    other = Wrapped(wrap)
    other.load_state_dict(plain.state_dict())
    made = classifier(nn.Identity(), other)
    assert type(made(images())) is Tensor
    assert torch.equal(made(images()), classifier(nn.Identity(), plain)(images()))
    assert sweep(made)["logits"].map(tuple).equals(sweep(classifier(nn.Identity(), plain))["logits"].map(tuple))


def test_lazy_layers_that_were_never_called_are_refused() -> None:
    with pytest.raises(dm.DosimeterError, match="base must know the sizes of its layers, but has lazy ones"):
        classifier(nn.Sequential(nn.Flatten(), nn.LazyLinear(2)))


def test_tensors_without_numbers_are_refused() -> None:
    with pytest.raises(dm.DosimeterError, match="base must hold numbers, but its tensors are on the meta device"):
        classifier(Viewing().to("meta"))


def test_sparse_logits_are_refused() -> None:
    with pytest.raises(dm.DosimeterError, match=r"must return dense logits, got torch.sparse_coo"):
        sweep(classifier(Wrapped(Tensor.to_sparse)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_quantized_layers_answer_and_have_no_gradient() -> None:
    quantized = torch.ao.quantization.quantize_dynamic(Viewing().eval(), {nn.Linear}, dtype=torch.qint8)
    rows = sweep(classifier(quantized), attack="uniform_noise")
    assert (rows["status"] == "ok").all()
    with pytest.raises(dm.DosimeterError, match="the attack needs a gradient, and the classifier has none"):
        sweep(classifier(quantized))


def test_a_program_that_was_exported_for_one_batch_size_is_one_sentence() -> None:
    program = torch.export.export(Viewing().eval(), (images(2),)).module()
    with pytest.raises(dm.DosimeterError, match="the classifier failed on images of shape") as error:
        sweep(classifier(program))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("wrap", "key"),
    [
        (lambda logits: {"logits": logits, "maps": logits + 1}, "logits"),
        (lambda logits: (logits, logits + 1), 0),
        (lambda logits: torch.return_types.max((logits, logits)), "values"),
        (lambda logits: [{"a": logits}], (0, "a")),
    ],
)
def test_logits_are_taken_out_of_what_a_network_returns(wrap: Callable[[Tensor], Any], key: Any) -> None:
    keys = key if isinstance(key, tuple) else (key,)
    for base, head in (
        (Wrapped(wrap), nn.Sequential(*map(dm.Output, keys))),
        (nn.Identity(), nn.Sequential(Wrapped(wrap), *map(dm.Output, keys))),
    ):
        torch.testing.assert_close(classifier(base, head)(images()), Viewing().eval()(images()))
    with pytest.raises(dm.DosimeterError, match=r"must return logits of shape \(2, 2\).*dm\.Output\('KEY'\)"):
        sweep(classifier(Wrapped(wrap)))


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("logit", "has none of that name: a, b"),
        (2, "there are 2 outputs"),
        (None, "must be a name or a place, got None"),
    ],
)
def test_an_output_that_is_not_there_is_named(key: Any, message: str) -> None:
    with pytest.raises(dm.DosimeterError, match=message):
        dm.Output(key)({"a": images(), "b": images()} if isinstance(key, str) else (1, 2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base": lambda images: images}, "base must be a torch.nn.Module, got function"),
        ({"head": None}, "head must be a torch.nn.Module, got NoneType"),
        ({"size_px": 32.0}, "size_px must be a whole number"),
        ({"preprocessing": "unit"}, "preprocessing must be a Preprocessing, got str"),
        ({"classes": ("one",)}, "classes must name two or more"),
        ({"classes": tuple(map(str, range(32_768)))}, "classes must be at most 32767, got 32768"),
    ],
)
def test_arguments_are_checked(options: dict[str, Any], message: str) -> None:
    good = {"base": Viewing(), "head": nn.Identity(), "size_px": 32, "preprocessing": PREPROCESSINGS["unit"]}
    with pytest.raises(dm.DosimeterError, match=message):
        dm.Classifier(**{"classes": ("clear", "opacity"), **good, **options})


def test_what_fails_late_is_one_sentence() -> None:
    def later(logits: Tensor) -> Tensor:
        if len(logits) == 1:
            raise KeyError("a line\nand another")
        return logits

    with pytest.raises(dm.DosimeterError, match="the classifier failed on images of shape") as error:
        sweep(classifier(Wrapped(later)))
    assert "\n" not in str(error.value)


def test_a_backward_pass_that_fails_is_one_sentence() -> None:
    with pytest.raises(dm.DosimeterError, match="the gradient of the classifier cannot be computed") as error:
        sweep(classifier(Wrapped(Undifferentiable.apply)))
    assert "\n" not in str(error.value)


# --- what the caller has set --------------------------------------------------------------------------------------


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


AROUND: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "device": lambda: torch.device("meta"),
}


@pytest.mark.parametrize("attack", ["fgsm", "square"])
@pytest.mark.parametrize("name", AROUND)
def test_a_sweep_is_the_same_whatever_the_caller_has_set(name: str, attack: str) -> None:
    network = Viewing()
    expected = sweep(classifier(network), attack=attack)
    with AROUND[name]():
        made = classifier(network)
        rows = sweep(made, attack=attack)
        facts = examine(made, cohort(4))
        dtype, grad = torch.get_default_dtype(), torch.is_grad_enabled()
    assert facts == examine(classifier(network), cohort(4))
    assert np.array_equal(np.stack(rows["logits"]), np.stack(expected["logits"]))
    assert (dtype, grad) == {
        "float64": (torch.float64, True),
        "bfloat16": (torch.bfloat16, True),
    }.get(name, (torch.float32, name not in ("no_grad", "inference_mode")))


@pytest.mark.parametrize("name", ["no_grad", "inference_mode", "float64"])
def test_a_network_made_where_the_caller_has_set_something_is_swept(name: str) -> None:
    with AROUND[name]():
        network = Viewing()
        rows = sweep(classifier(network))
    assert len(sweep(classifier(network))) == len(rows) == 8
    assert len(sweep(copy.deepcopy(classifier(network)))) == 8
