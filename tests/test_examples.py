"""The examples in docstrings do what stands under them."""

import doctest
import importlib
from pathlib import Path

import pytest

import dosimeter

ROOT = Path(dosimeter.__file__).parent
WITH_EXAMPLES = sorted(
    ".".join(file.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")
    for file in ROOT.rglob("*.py")
    if ">>> " in file.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_of(name: str) -> None:
    said: list[str] = []
    documented = [found for found in doctest.DocTestFinder().find(importlib.import_module(name)) if found.examples]
    assert documented
    for found in documented:
        doctest.DocTestRunner().run(found, out=said.append)
    assert not said, "".join(said)
