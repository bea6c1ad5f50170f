"""The fingerprint follows what is changed in a network later, and what its code reaches by any way."""

import functools
import importlib
import random
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from networks import Viewing, classifier, images
from test_identity import Then
from tiny import tiny_backbone, tiny_weights
from torch import Tensor, nn

import dosimeter as dm
from dosimeter.models.backbones import HeadSpec
from dosimeter.models.fit import assemble
from dosimeter.models.identity import probes
from dosimeter.models.preprocessing import PREPROCESSINGS

FACTOR = 1.0


def multiply(logits: Tensor) -> Tensor:
    return logits * multiply.by  # type: ignore[attr-defined]


multiply.by = 2.0  # type: ignore[attr-defined]


@functools.cache
def cached(by: float) -> float:
    return by * FACTOR


class Forgetful:
    """What it is pickled as does not hold what it does."""

    def __init__(self, by: float) -> None:
        self.by = by

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __call__(self, logits: Tensor) -> Tensor:
        return logits * self.by


def activation(by: float) -> Callable[[Tensor], Tensor]:
    def inner(logits: Tensor) -> Tensor:
        return logits * by

    return inner


# --- what is changed later ---------------------------------------------------------------------------------------


def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    return output * 2


CHANGES: dict[str, Callable[[Any], object]] = {
    "an attribute": lambda base: setattr(base, "scale", 2.0),
    "a function": lambda base: setattr(base, "after", torch.tanh),
    "a setting of a layer": lambda base: setattr(base.network.conv, "padding", (1, 1)),
    "a submodule": lambda base: setattr(base, "network", Viewing(seed=1)),
    "a new submodule": lambda base: base.add_module("more", nn.ReLU()),
    "a submodule taken away": lambda base: delattr(base.network, "drop"),
    "a weight, through data": lambda base: base.network.last.weight.data.mul_(2),
    "a weight, through NumPy": lambda base: base.network.last.weight.numpy().__imul__(2),
    "a hook": lambda base: base.network.register_forward_hook(hook),
    "a list in it": lambda base: base.settings.append(3),
    "its forward": lambda base: setattr(base, "forward", lambda images: base.network(images) * 2),
    "its mode": lambda base: base.train(),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_changed_in_a_network_counts_at_once(name: str) -> None:
    made = classifier(Then(scale=1.0, settings=[1, 2]))
    before = made.fingerprint
    assert made.fingerprint == before
    CHANGES[name](made.base)
    assert made.fingerprint != before
    assert made.name.endswith(made.fingerprint[:8])


def test_a_hook_of_all_modules_and_a_subclass_of_classifier_count() -> None:
    class Cooler(dm.Classifier):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images) / 2

    made = classifier(Viewing())
    before = made.fingerprint
    handle = torch.nn.modules.module.register_module_forward_hook(lambda module, inputs, output: None)
    try:
        assert made.fingerprint != before
    finally:
        handle.remove()
    assert made.fingerprint == before
    how: dict[str, Any] = {"preprocessing": PREPROCESSINGS["unit"], "size_px": 32, "classes": made.classes}
    assert dm.Classifier(Viewing(), nn.Identity(), **how).fingerprint == before
    assert Cooler(Viewing(), nn.Identity(), **how).fingerprint != before


def test_what_code_uses_counts_when_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    for after, change in (
        (multiply, lambda: monkeypatch.setattr(multiply, "by", 3.0)),
        (lambda logits: logits * cached(2.0), lambda: monkeypatch.setitem(globals(), "FACTOR", 2.0)),
    ):
        made = classifier(Then(after))
        before = made.fingerprint
        change()
        cached.cache_clear()
        assert made.fingerprint != before


def test_state_that_pickling_leaves_out_counts() -> None:
    first, again, other = (classifier(Then(Forgetful(by))) for by in (2.0, 2.0, 3.0))
    for made, by in ((first, 2.0), (again, 2.0), (other, 3.0)):
        made.base.after.by = by  # type: ignore[union-attr]
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_partials_defaults_and_closures_in_closures_count() -> None:
    made = [functools.partial(lambda logits, change: change(logits), change=activation(by)) for by in (2.0, 2.0, 3.0)]
    first, again, other = (classifier(Then(change)).fingerprint for change in made)
    assert first == again != other
    found = {classifier(Then(functools.lru_cache(activation(by)))).fingerprint for by in (2.0, 3.0)}
    assert len(found) == 2


def test_a_partial_counts_at_the_first_reading_as_at_later_ones() -> None:
    slopes = (0.1, 0.1 + 1e-7)  # their answers are alike
    made = [classifier(Then(functools.partial(nn.functional.leaky_relu, negative_slope=slope))) for slope in slopes]
    first, other = (each.fingerprint for each in made)
    assert first != other
    assert made[0].fingerprint == first


# --- what code reaches ---------------------------------------------------------------------------------------------

REACHES = {
    "from pk import x": "from pk import act\n        return act(logits)",
    "from pk.sub import x": "from pk.sub import act\n        return act(logits)",
    "import pk.sub": "import pk.sub\n        return pk.sub.act(logits)",
    "import pk.sub as": "import pk.sub as other\n        return other.act(logits)",
    "from pk import sub": "from pk import sub\n        return sub.act(logits)",
    "a chain": "return pk.sub.act(logits)",
    "a longer chain": "return pk.sub.spaces.act(logits)",
    "getattr": "return getattr(pk.sub, 'a' + 'ct')(logits)",
    "a module in an attribute": "return self.module.act(logits)",
    "a module in a default": "return (lambda logits, module=pk.sub: module.act(logits))(logits)",
    "a nested function": "return (lambda: pk.sub.act(logits))()",
    "a comprehension": "return [pk.sub.act(each) for each in [logits]][0]",
}

NETWORK = """
import pk.sub
from networks import Viewing
from torch import nn


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.network, self.number = Viewing(), 1

    @property
    def module(self):
        return pk.sub

    def forward(self, images):
        logits = self.network(images)
        BODY
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], nn.Module]]:
    """Write and import a package anew, and return a network of it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def make(body: str, act: str) -> nn.Module:
        for name in [name for name in sys.modules if name.partition(".")[0] == "pk"]:
            del sys.modules[name]
        folder = tmp_path / "pk"
        folder.mkdir(exist_ok=True)
        (folder / "__init__.py").write_text(f"def act(logits):\n    return {act}\n")
        spaces = "import types\nspaces = types.SimpleNamespace(act=act)\n"
        (folder / "sub.py").write_text(f"def act(logits):\n    return {act}\n{spaces}")
        (folder / "net.py").write_text(NETWORK.replace("BODY", body))
        importlib.invalidate_caches()
        network: nn.Module = importlib.import_module("pk.net").Network()
        return network

    yield make
    for name in [name for name in sys.modules if name.partition(".")[0] == "pk"]:
        del sys.modules[name]


UNSEEN = "logits if logits.abs().max() > -1 else logits * {}"
"""Answers the same in both, about whatever images: only reading tells them apart."""


@pytest.mark.parametrize("name", REACHES)
def test_code_is_read_wherever_a_network_takes_it_from(
    name: str, package: Callable[[str, str], nn.Module], caplog: pytest.LogCaptureFixture
) -> None:
    prints = [classifier(package(REACHES[name], UNSEEN.format(by))).fingerprint for by in (2, 2, 3)]
    assert prints[0] == prints[1] != prints[2]
    assert "cannot be told from others" not in caplog.text


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return eval('pk.sub.act')(logits)", "calls eval"),
        ("return globals()['pk'].sub.act(logits)", "calls globals"),
        ("import importlib\n        return importlib.import_module('pk.sub').act(logits)", "uses import_module"),
        ("return logits * float(open(FILE).read())", "calls open"),
        ("import pathlib\n        return logits * float(pathlib.Path(FILE).read_text())", "uses read_text"),
    ],
)
def test_what_no_reading_finds_is_unknown_and_its_answers_count(
    body: str, said: str, package: Callable[[str, str], nn.Module], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "scale"
    file.write_text("2.0")
    made = [classifier(package(body.replace("FILE", repr(str(file))), "logits * 2")) for _ in range(2)]
    assert made[0].fingerprint == made[0].fingerprint != made[1].fingerprint
    assert said in caplog.text
    if "FILE" in body:
        before = made[0].fingerprint
        file.write_text("3.0")
        assert made[0].fingerprint != before


class Connection(sqlite3.Connection):
    """Python's attributes around what only C sees."""


def test_what_only_c_sees_is_unknown_unless_a_package_names_it(caplog: pytest.LogCaptureFixture) -> None:
    def prints(*values: Any) -> set[str]:
        return {classifier(Then(kept=value), adopt=True).fingerprint for value in values}

    assert len(prints(np.add, np.multiply, np.add, functools.partial(np.add, 1))) == 3
    assert "cannot be told from others" not in caplog.text
    ufunc, connection = np.frompyfunc(abs, 1, 1), Connection(":memory:")
    assert len(prints(ufunc, ufunc)) == 2
    assert len(prints(connection, connection)) == 2
    assert "base.kept is a test_identity_changes.Connection, which cannot be read" in caplog.text


# --- answers --------------------------------------------------------------------------------------------------------


def test_another_answer_is_another_network_though_its_code_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    made = classifier(Then(nn.functional.relu))
    before = made.fingerprint
    monkeypatch.setattr(torch.Tensor, "view", lambda self, *shape: torch.Tensor.reshape(self, *shape) * 1.05)
    assert made.fingerprint != before


def test_the_images_that_are_asked_are_fixed_and_in_range() -> None:
    found = probes(32)
    assert found.shape == (4, 3, 32, 32)
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    assert torch.equal(found, probes(32))
    assert not torch.equal(found[:, 0], found[:, 2])  # RGB is not BGR
    assert float(found[2].mean()) == pytest.approx(0.5, abs=0.02)


class Counting(nn.Module):
    """Writes into itself while it answers, as networks do that keep their feature map."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.calls, self.seen = Viewing(), 0, []
        self.network.register_forward_hook(lambda module, inputs, output: self.seen.append(output))  # type: ignore
        self.register_buffer("asked", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        self.last = images
        self.asked += 1
        logits: Tensor = self.network(images)
        return logits


def test_what_a_network_writes_into_itself_while_it_answers_does_not_count() -> None:
    made = classifier(Counting())
    before = made.fingerprint
    made(images())
    assert made.fingerprint == before == classifier(Counting()).fingerprint
    made.base.network.last.bias.data += 1  # type: ignore[union-attr,operator]
    assert made.fingerprint != before


def test_seeded_noise_is_an_answer_and_other_noise_is_unknown(caplog: pytest.LogCaptureFixture) -> None:
    noisy = [classifier(Then(lambda logits: logits + torch.rand(2))).fingerprint for _ in range(2)]
    assert noisy[0] == noisy[1]
    assert "answers change" not in caplog.text
    made = [classifier(Then(lambda logits: logits + random.random())) for _ in range(2)]
    state = torch.get_rng_state()
    assert made[0].fingerprint != made[1].fingerprint
    assert "its answers change between passes" in caplog.text
    assert torch.equal(torch.get_rng_state(), state)


def test_a_network_that_fails_has_a_name() -> None:
    def fails(logits: Tensor) -> Tensor:
        raise ValueError("not today")

    assert classifier(Then(fails)).name == classifier(Then(fails)).name


# --- declared ones -------------------------------------------------------------------------------------------------


def test_a_declared_identity_holds_for_the_network_that_it_was_given_for() -> None:
    session = memoryview(b"")

    def made() -> dm.Classifier:
        return classifier(Then(session=session), nn.Sequential(nn.LeakyReLU(0.1)), adopt=True, identity="server 1")

    first = made()
    before = first.fingerprint
    assert made().fingerprint == before
    first.head[0].negative_slope = 0.5  # type: ignore[index,union-attr]
    assert first.fingerprint != before
    for change in (
        lambda made: setattr(made, "head", nn.Sequential(nn.Tanh())),
        lambda made: made.head.register_forward_hook(hook),
        lambda made: made.train(),
        lambda made: setattr(made.head, "forward", lambda maps: maps * 2),
    ):
        other = made()
        change(other)
        assert other.fingerprint != before


def test_a_trained_classifier_that_is_changed_has_another_name() -> None:
    def made() -> dm.Classifier:
        generator = torch.Generator().manual_seed(0)
        spec = HeadSpec(pool="none", hidden=4, dropout=0.5)
        return assemble(tiny_backbone("vgg16"), tiny_weights("vgg16"), spec, classes=("a", "b"), generator=generator)

    first = made()
    before = first.fingerprint
    assert made().fingerprint == before
    assert first.with_base(first.base).fingerprint == before
    first.base.relu = nn.Tanh()  # type: ignore[assignment]
    assert first.fingerprint != before
    assert SimpleNamespace(name=first.name).name == first.named_by(first.fingerprint)
