"""The fingerprint: equal for what answers alike, different for what does not, the same in every process."""

import functools
import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any

import pytest
import torch
from networks import Viewing, classifier, exported, frozen, images, scripted
from torch import Tensor, nn
from torch.nn import functional

import dosimeter as dm
from dosimeter.models.preprocessing import PREPROCESSINGS, Preprocessing

SCALE = 1.0
Change = Callable[[Tensor], Tensor]


def helper(logits: Tensor) -> Tensor:
    return logits * SCALE


@dataclass
class Settings:
    scale: float = 1.0


class Then(nn.Module):
    """A network and what is done to its logits."""

    def __init__(self, after: Any = None, **settings: Any) -> None:
        super().__init__()
        self.network, self.after = Viewing(), after
        for name, value in settings.items():
            setattr(self, name, value)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits if self.after is None else self.after(logits)


class Other(Then):
    def forward(self, images: Tensor) -> Tensor:
        return -super().forward(images)


def scaled(by: float) -> Change:
    return lambda logits: logits * by


def hooked(by: float) -> nn.Module:
    network = Then()
    network.register_forward_hook(lambda module, inputs, output: output * by)
    return network


def rebound(change: Change) -> nn.Module:
    network = Then()
    network.forward = lambda images: change(network.network(images))  # type: ignore[method-assign]
    return network


def hidden(value: float) -> nn.Module:
    network = Then()
    network.register_buffer("offset", torch.tensor([value]), persistent=False)
    return network


def pooled(**options: Any) -> nn.Module:
    head = nn.Linear(3 * 17 * 17, 2)
    nn.init.constant_(head.weight, 0.01)
    nn.init.zeros_(head.bias)
    return nn.Sequential(nn.AvgPool2d(2, padding=1, **options), nn.Flatten(), head)


def attending(n_heads: int) -> nn.Module:
    attention = nn.MultiheadAttention(8, n_heads)
    for parameter in attention.parameters():
        nn.init.constant_(parameter, 0.1)
    return attention


class Scripted(nn.Module):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.network, self.scale = nn.Flatten(), scale

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)[:, :2] * self.scale


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "plain": Then,
    "another method": Other,
    "relu": lambda: Then(torch.relu),
    "tanh": lambda: Then(torch.tanh),
    "a module": lambda: Then(nn.ReLU()),
    "functional relu": lambda: Then(functional.relu),
    "functional gelu": lambda: Then(functional.gelu),
    "a lambda": lambda: Then(lambda logits: logits * 2),
    "a lambda with another number": lambda: Then(lambda logits: logits * 3),
    "a closure": lambda: Then(scaled(2.0)),
    "a closure with another number": lambda: Then(scaled(3.0)),
    "a partial": lambda: Then(functools.partial(torch.mul, other=2)),
    "a partial with another number": lambda: Then(functools.partial(torch.mul, other=3)),
    "a default": lambda: Then(lambda logits, by=2: logits * by),
    "another default": lambda: Then(lambda logits, by=3: logits * by),
    "a setting": lambda: Then(scale=2.0),
    "another setting": lambda: Then(scale=3.0),
    "settings": lambda: Then(settings=Settings(2.0)),
    "other settings": lambda: Then(settings=Settings(3.0)),
    "a tensor": lambda: Then(shift=torch.ones(2)),
    "another shape": lambda: Then(shift=torch.ones(2, 1)),
    "another type": lambda: Then(shift=torch.ones(2).int()),
    "a hook": lambda: hooked(2.0),
    "another hook": lambda: hooked(3.0),
    "a forward of its own": lambda: rebound(torch.relu),
    "another forward of its own": lambda: rebound(torch.tanh),
    "a buffer that is not saved": lambda: hidden(1.0),
    "another such buffer": lambda: hidden(2.0),
    "padding counted": lambda: pooled(),
    "padding not counted": lambda: pooled(count_include_pad=False),
    "one attention head": lambda: attending(1),
    "two attention heads": lambda: attending(2),
    "scripted": lambda: scripted(Scripted(2.0)),
    "scripted with another number": lambda: scripted(Scripted(3.0)),
    "frozen": lambda: frozen(Scripted(2.0)),
    "frozen with another number": lambda: frozen(Scripted(3.0)),
    "exported": lambda: exported(Then(torch.relu)),
    "exported otherwise": lambda: exported(Then(torch.tanh)),
    "fx": lambda: torch.fx.symbolic_trace(Then(torch.relu)),
    "fx otherwise": lambda: torch.fx.symbolic_trace(Then(torch.tanh)),
}


@functools.cache
def printed() -> dict[str, str]:
    """The same for all tests, made once."""
    return prints()


def prints() -> dict[str, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: classifier(make()).fingerprint for name, make in NETWORKS.items()}


def test_what_answers_otherwise_has_another_fingerprint_and_the_same_again_has_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = printed()
    assert len(set(first.values())) == len(NETWORKS)
    assert prints() == first
    assert "cannot be told from others" not in caplog.text


@pytest.mark.slow  # processes that load torch
def test_another_process_finds_the_same_fingerprints() -> None:
    ask = "import test_identity, json; print(json.dumps(test_identity.prints()))"
    environment = {"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(sys.path)}
    told = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True, env=environment)
    assert json.loads(told.stdout) == printed()


def test_a_global_and_a_helper_that_a_network_uses_count(monkeypatch: pytest.MonkeyPatch) -> None:
    before = classifier(Then(helper)).fingerprint
    monkeypatch.setitem(globals(), "SCALE", 2.0)
    assert classifier(Then(helper)).fingerprint != before
    monkeypatch.setitem(globals(), "SCALE", 1.0)
    assert classifier(Then(helper)).fingerprint == before


def test_a_global_that_only_shares_its_name_with_an_attribute_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    before = classifier(Then()).fingerprint
    monkeypatch.setitem(globals(), "network", Lock())
    assert classifier(Then()).fingerprint == before


@dataclass(frozen=True)
class Inverted(Preprocessing):
    def apply(self, images: Tensor) -> Tensor:
        return super().apply(1 - images)


def test_preprocessing_size_and_classes_count() -> None:
    def made(**options: Any) -> str:
        plain: dict[str, Any] = {"preprocessing": PREPROCESSINGS["unit"], "size_px": 32, "classes": ("a", "b")}
        return dm.Classifier(Viewing(), nn.Identity(), **plain | options).fingerprint

    inverted = Inverted("unit", 1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    found = {
        made(),
        made(preprocessing=PREPROCESSINGS["minus1to1"]),
        made(preprocessing=inverted),
        made(size_px=33),
        made(classes=("b", "a")),
        made(identity="one"),
        made(identity="two"),
    }
    assert len(found) == 7
    assert made() in found


def test_weights_written_later_change_it() -> None:
    made = classifier(Viewing())
    before, state = made.fingerprint, {name: value.clone() for name, value in made.state_dict().items()}
    made.load_state_dict({name: value + 1 for name, value in state.items()})
    assert made.fingerprint != before
    made.load_state_dict(state)
    assert made.fingerprint == before


def test_what_cannot_be_read_is_warned_of_and_never_taken_for_another(caplog: pytest.LogCaptureFixture) -> None:
    def made(**options: Any) -> dm.Classifier:
        return classifier(Then(session=memoryview(b"a session")), adopt=True, **options)

    first, second = made(), made()
    assert first.fingerprint == first.fingerprint != second.fingerprint
    assert "base.session is a builtins.memoryview, which cannot be read" in caplog.text
    assert "identity=NAME AND VERSION" in caplog.text
    caplog.clear()
    assert made(identity="server, version 2").fingerprint == made(identity="server, version 2").fingerprint
    assert "cannot be told from others" not in caplog.text


def test_a_network_of_one_answer_gives_that_answer_whatever_is_asked_of_its_identity() -> None:
    made = classifier(Then(torch.relu))
    before = made(images())
    assert made.name.startswith("classifier-")
    assert torch.equal(made(images()), before)
