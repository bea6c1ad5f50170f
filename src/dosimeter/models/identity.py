"""What a network is beside its tensors: code, settings and structure, digested alike in every process.

Two networks of equal weights differ by an activation, a stride, a function that they call. So the digest walks through
the modules and all that hangs on them. What an installed package defines counts by its name and the package's version;
what the user wrote by its bytecode, with the functions, defaults, closures and globals that it uses; a scripted module
by its archive, an exported one by its graph. No address, file name or line number is part of it. What can be read
neither way (an open session, a lock's owner) is named, and makes the digest unique: it never equals another's.
"""

import dis
import functools
import hashlib
import io
import logging
import pickletools
import re
import sys
import threading
import types
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from importlib import metadata
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, fx, nn

if TYPE_CHECKING:
    from dosimeter.models.base import Classifier

_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), range, slice)
_TORCH_VALUES = (torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size)
_BUILTIN = (types.BuiltinFunctionType, types.WrapperDescriptorType, types.MethodDescriptorType)
_OPERATORS = (torch._ops.OpOverload, torch._ops.OpOverloadPacket)
_VALUES = (tuple, frozenset, types.CodeType)
_WRAPPERS = (staticmethod, classmethod, types.MethodType)
_HARMLESS = (type(threading.Lock()), type(threading.RLock()), logging.Logger)
_MACHINERY = frozenset(vars(nn.Module()))  # what every module has: tensors, children, hooks, flags
_HOOKS = tuple(sorted(name for name in _MACHINERY if name.endswith("_hooks") and "state_dict" not in name))
_NOT_CODE = {
    *("__module__", "__dict__", "__weakref__", "__doc__", "__annotations__", "__annotate__", "__annotations_cache__"),
    *("__qualname__", "__firstlineno__", "__static_attributes__", "__abstractmethods__", "_abc_impl", "__parameters__"),
    *("__orig_bases__", "__dataclass_fields__", "__conditional_annotations__", "__classdictcell__"),
}
_SCRIPTED = re.compile(r"__torch__(?:\.\w+)+")
_MANGLED = re.compile(r"___torch_mangle_\d+\.?")
_WITHOUT_VERSION = {"torch", "dosimeter"}  # a cell's own identity says them


class Identity(NamedTuple):
    """A digest, and the parts that could not be read, each with its place; none if the digest is certain."""

    sha256: str
    unknown: tuple[str, ...]


def identify(classifier: "Classifier") -> Identity:
    """Return the identity of everything that determines a classifier's answers."""
    scribe = _Scribe(classifier.token)
    with torch.inference_mode(False), torch.no_grad():
        scribe.write(classifier.preprocessing, "preprocessing")
        scribe.write((classifier.size_px, classifier.classes), "")
        if classifier.identity is None:
            scribe.write(classifier.base, "base")
            scribe.write(classifier.head, "head")
        else:
            scribe.write(classifier.identity, "identity")
            for name, tensor in (*classifier.named_parameters(), *classifier.named_buffers()):
                scribe.write((name, tensor), name)
    return Identity(scribe.sha256, tuple(scribe.unknown))


def versions_of(network: nn.Module) -> tuple[object, ...]:
    """Return what changes whenever a network's tensors are written in place, or its mode is set: quick to compare."""
    tensors = (*network.parameters(), *network.buffers())
    written = tuple((id(tensor), 0 if tensor.is_inference() else tensor._version) for tensor in tensors)
    return written, tuple(part.training for part in network.modules())


class _Scribe:
    """Writes values into a digest. Each object is written once; where it comes again, its number stands."""

    def __init__(self, token: str) -> None:
        self._token = token  # stands for what cannot be read
        self._digest = hashlib.sha256()
        self._seen: dict[int, tuple[int, object]] = {}  # the object is kept, or its id would be given away
        self.unknown: list[str] = []

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def _say(self, *words: object) -> None:
        for word in words:
            content = word if isinstance(word, bytes) else str(word).encode("utf-8", "surrogatepass")
            self._digest.update(len(content).to_bytes(8, "big") + content)

    def write(self, value: Any, place: str) -> None:
        """Write `value`, whatever it is; `place` says where it hangs, for the sentence if it cannot be read."""
        if (isinstance(value, _PLAIN) and type(value) in _PLAIN) or isinstance(value, _TORCH_VALUES):
            self._say(type(value).__name__, repr(value))
            return
        if not isinstance(value, _VALUES):  # whether two equal ones are one object is chance
            if id(value) in self._seen:
                self._say("again", self._seen[id(value)][0])
                return
            self._seen[id(value)] = len(self._seen), value
        try:
            self._write_new(value, place)
        except Exception:
            self._give_up(value, place)

    def _give_up(self, value: Any, place: str) -> None:
        self.unknown.append(f"{place} is a {type(value).__module__}.{type(value).__qualname__}, which cannot be read")
        self._say("unknown", self._token)

    def _write_new(self, value: Any, place: str) -> None:
        if isinstance(value, Tensor):
            self._tensor(value)
        elif isinstance(value, torch.jit.ScriptModule | torch.jit.ScriptFunction):
            self._archive(value.save_to_buffer(_extra_files={}))
        elif isinstance(value, nn.Module):
            self._module(value, place)
        elif isinstance(value, np.ndarray) and value.dtype != object:
            self._say("array", value.dtype.str, value.shape, np.ascontiguousarray(value).tobytes())
        elif isinstance(value, Enum):
            self._say("enum", type(value).__qualname__, value.name)
        elif isinstance(value, _HARMLESS):
            self._say(type(value).__name__)
        elif isinstance(value, Mapping | list | tuple | set | frozenset):
            self._container(value, place)
        elif not self._code(value, place):
            self._object(value, place)

    def _all(self, values: Iterable[Any], place: str) -> None:
        for value in values:
            self.write(value, place)

    # --- values -----------------------------------------------------------------------------------------

    def _tensor(self, tensor: Tensor) -> None:
        tensor = tensor.detach()
        self._say("tensor", tensor.dtype, tuple(tensor.shape))
        if tensor.is_quantized:
            self._say(tensor.qscheme(), repr(tensor.q_scale()), tensor.q_zero_point())
            tensor = tensor.int_repr()
        tensor = tensor.to_dense() if tensor.layout != torch.strided else tensor
        if not tensor.is_meta:
            flat = tensor.resolve_conj().resolve_neg().cpu().contiguous().flatten()
            self._say(flat.view(torch.uint8).numpy().tobytes())

    def _container(self, value: Any, place: str) -> None:
        self._say("container", len(value))
        self.write(type(value), place)
        if isinstance(value, Mapping):
            for key, each in value.items():
                self.write(key, place)
                self.write(each, f"{place}[{key!r:.40}]")
        elif isinstance(value, set | frozenset):
            apart = [_Scribe(self._token) for _ in value]
            for scribe, each in zip(apart, value, strict=True):
                scribe.write(each, place)
                self.unknown += scribe.unknown
            self._say(*sorted(scribe.sha256 for scribe in apart))
        else:
            self._all(value, place)

    def _object(self, value: Any, place: str) -> None:
        """Write what pickling would take: class and state; refused by what holds a session, a file, another thread."""
        try:
            parts = value.__reduce_ex__(4)
        except Exception:
            if type(value).__module__ == "builtins" or not hasattr(value, "__dict__"):
                raise
            parts = type(value), vars(value)
        if isinstance(parts, str):
            self._say("global", parts)
            return
        self._say("object")
        self.write(type(value), place)
        self._all((list(part) if isinstance(part, Iterator) else part for part in parts), place)

    # --- networks ---------------------------------------------------------------------------------------

    def _module(self, module: nn.Module, place: str) -> None:
        compiled = getattr(module, "_orig_mod", None)
        if compiled is not None and type(module).__module__.startswith("torch._dynamo"):
            module = compiled  # the same answers, but for rounding
        self._say("module", module.training)
        self.write(type(module), place)
        children = dict(module._modules)
        own = {name: value for name, value in vars(module).items() if name not in _MACHINERY}
        if isinstance(module, fx.GraphModule):
            self._say(module.code)
            self._all((node.target for node in module.graph.nodes if node.op == "call_function"), place)
            own = {name: value for name, value in own.items() if isinstance(value, Tensor)}
            children.pop("_guards_fn", None)  # an exported program's: refuses images, answers none
        for kind in (module._parameters, module._buffers, children, own):
            self._say(len(kind))
            for name, value in sorted(kind.items()):
                self._say(name)
                self.write(value, f"{place}.{name}")
        for hook in _HOOKS:
            hooks = getattr(module, hook)
            self._all(hooks.values() if isinstance(hooks, dict) else (), f"{place}, a hook,")

    def _archive(self, content: bytes) -> None:
        """Write a TorchScript file: all but positions in source files and the numbers that torch adds to names.

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
                        self._say(opcode.name, _SCRIPTED.sub(numbered, words))
                elif path.startswith(("data/", "constants/")):
                    self._say(path, entry)
        told = 0
        while told < len(order):  # each text may name further classes
            name = list(order)[told]
            attributes, _, methods = texts.get(name, "").partition("\n  def ")
            lines = sorted(attributes.splitlines())  # constants stand in a set's order
            self._say(_SCRIPTED.sub(numbered, "\n".join((*lines, methods))))
            told += 1

    # --- code -------------------------------------------------------------------------------------------

    def _code(self, value: Any, place: str) -> bool:
        """Write a function, class, package or something like them; False if it is none."""
        if isinstance(value, types.ModuleType):
            self._say("package", _installed(value.__name__) or value.__name__.rpartition(".")[2])
        elif isinstance(value, _OPERATORS):
            self._say("operator", value)
        elif isinstance(value, type):
            self._class(value, place)
        elif isinstance(value, types.FunctionType):
            self._function(value, place)
        elif isinstance(value, types.CodeType):
            self._bytecode(value, place)
        elif isinstance(value, _WRAPPERS):
            self._say(type(value).__name__)
            self._all((value.__func__, getattr(value, "__self__", None)), place)
        elif isinstance(value, _BUILTIN):
            self._say("builtin", value.__qualname__)
            owner = getattr(value, "__self__", None)
            self.write(None if isinstance(owner, types.ModuleType | type) else owner, place)
        elif isinstance(value, property | functools.cached_property):
            names = ("fget", "fset", "func")
            self._say("property")
            self._all((getattr(value, name, None) for name in names), place)
        elif isinstance(value, types.MemberDescriptorType | types.GetSetDescriptorType):
            self._say("slot", value.__name__)
        else:
            return False
        return True

    def _class(self, kind: type, place: str) -> None:
        installed = _installed(kind.__module__)
        self._say("class", installed or "", kind.__qualname__ if installed else kind.__name__)
        if installed:
            return
        self._all(kind.__bases__, place)
        for name, value in vars(kind).items():
            if name not in _NOT_CODE:
                self._say(name)
                self.write(value, f"{place}, {kind.__name__}.{name}")

    def _function(self, function: types.FunctionType, place: str) -> None:
        installed = _installed(function.__globals__.get("__name__", ""))
        name = function.__code__.co_qualname
        self._say("function", installed or "", name if installed else "")
        if installed and "<" not in name:
            return
        self._all((function.__code__, function.__defaults__, function.__kwdefaults__), place)
        for cell in function.__closure__ or ():
            try:
                self.write(cell.cell_contents, f"{place}, the closure of {name},")
            except ValueError:
                self._say("empty")
        if not installed:
            self._used(function, place)

    def _used(self, function: types.FunctionType, place: str) -> None:
        """Write the globals that a function names, and of the user's own modules what it takes from them."""
        loaded = dict.fromkeys(_names(function.__code__, "LOAD_GLOBAL", "LOAD_NAME"))
        attributes = dict.fromkeys(_names(function.__code__, "LOAD_ATTR", "LOAD_METHOD"))
        for name in loaded:
            if name not in function.__globals__:
                continue
            value = function.__globals__[name]
            self._say(name)
            self.write(value, f"{place}, the global {name},")
            if isinstance(value, types.ModuleType) and not _installed(value.__name__):
                for attribute in attributes:
                    if hasattr(value, attribute):
                        self._say(attribute)
                        self.write(getattr(value, attribute), f"{place}, {name}.{attribute}")

    def _bytecode(self, code: types.CodeType, place: str) -> None:
        flags = (code.co_flags, code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)
        self._say("code", code.co_code, code.co_exceptiontable, *flags)
        names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        self._say(*(" ".join(each) for each in names), len(code.co_consts))
        self._all(code.co_consts, place)


def _names(code: types.CodeType, *instructions: str) -> Iterator[str]:
    yield from (each.argval for each in dis.get_instructions(code) if each.opname in instructions)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant, *instructions)


@functools.cache
def _installed(module: str) -> str | None:
    """Return package and version of what a module of an installed package is defined by; None for the user's code."""
    top = module.partition(".")[0]
    if top == "__main__":  # of a notebook it is a file of an installed package
        return None
    if top in sys.stdlib_module_names or top in _WITHOUT_VERSION:
        return top
    package = sys.modules.get(top)
    places = [getattr(package, "__file__", None) or "", *map(str, getattr(package, "__path__", ()))]
    if not any(re.search(r"[\\/](site|dist)-packages[\\/]", place) for place in places):
        return None
    version = getattr(package, "__version__", None)
    if not isinstance(version, str):
        try:
            version = metadata.version(top)
        except metadata.PackageNotFoundError:
            return None
    return f"{top} {version.partition('+')[0]}"
