"""The examples of CONTRIBUTING.md: they import what there is, and what they make keeps the contracts."""

import re
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torchvision
from torch import Tensor, nn

from dosimeter import registry
from dosimeter.testing import check_attack

PAGE = Path(__file__).parent.parent / "CONTRIBUTING.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
GIVEN = {  # what is imported of other packages is not told there
    "dataclass": dataclass,
    "partial": partial,
    "Path": Path,
    "Any": Any,
    "ClassVar": ClassVar,
    "np": np,
    "pd": pd,
    "OrderedDict": OrderedDict,
    "torchvision": torchvision,
    "Tensor": Tensor,
    "nn": nn,
}


def made(word: str) -> dict[str, Any]:
    """Return the names that the example with this word in it makes."""
    (example,) = (text for text in EXAMPLES if word in text)
    names = {"__name__": "example", **GIVEN}
    exec(compile(example, str(PAGE), "exec"), names)
    return names


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 5


@pytest.mark.parametrize(
    "word", ["class Flip:", "class Images(", "def stack_cohort(", "def _resnet18(", "class Flattened("]
)
def test_an_example_imports_what_there_is(word: str) -> None:
    assert made(word)


def test_the_attack_keeps_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.ADDED, ("attacks", "flip"), made("class Flip:")["ENTRY"])
    check_attack("flip")
