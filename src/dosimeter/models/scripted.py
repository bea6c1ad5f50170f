"""Reads a TorchScript file for what it computes: the same words for the same program in every process."""

import io
import pickletools
import re
import zipfile
from collections.abc import Iterator

_SCRIPTED = re.compile(r"__torch__(?:\.\w+)+")
_MANGLED = re.compile(r"___torch_mangle_\d+\.?")


def words_of(content: bytes) -> Iterator[str | bytes]:
    """Yield what a TorchScript file holds, but for positions in source files and the numbers that torch adds to names.

    A class counts by its place among those that are met from the module on, and by its text.
    """
    order: dict[str, int] = {}

    def numbered(match: re.Match[str]) -> str:
        return f"<{order.setdefault(match[0], len(order))}>{_MANGLED.sub('', match[0])}"

    texts: dict[str, str] = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in sorted(archive.namelist()):
            path, entry = name.partition("/")[2], archive.read(name)
            if path.endswith(".py"):
                package = path.removeprefix("code/").removesuffix(".py").replace("/", ".")
                parts = re.split(r"(?m)^(?=(?:class|def) )", entry.decode())[1:]
                texts |= {f"{package}.{re.split(r'[ (]', part)[1]}": part for part in parts}
            elif path in ("data.pkl", "constants.pkl"):
                for opcode, argument, _ in pickletools.genops(entry):
                    words = str(argument).replace(" ", ".") if opcode.name == "GLOBAL" else str(argument)
                    yield from (opcode.name, _SCRIPTED.sub(numbered, words))
            elif path.startswith(("data/", "constants/")):
                yield from (path, entry)
    told = 0
    while told < len(order):  # each text may name further classes
        name = list(order)[told]
        attributes, _, methods = texts.get(name, "").partition("\n  def ")
        lines = sorted(attributes.splitlines())  # constants stand in a set's order
        yield _SCRIPTED.sub(numbered, "\n".join((*lines, methods)))
        told += 1
