"""Reads what hangs on a network: tensors, settings, structure and code, digested alike in every process.

What an installed package defines counts by its name and the package's version; what the user wrote by its bytecode,
with the attributes, defaults, closures, globals and imports that it uses; a scripted module by its archive, an exported
one by its graph. No address, file name or line number is part of it. What can be read neither way (an open session, a
lock's owner, a call of `eval`) is named.
"""

import copyreg
import functools
import hashlib
import importlib.util
import logging
import pickle
import sys
import threading
import types
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from dosimeter.models.origins import called, codes, imported, installed_as, loaded, made_in_python
from dosimeter.models.scripted import words_of

MACHINERY = frozenset(vars(nn.Module()))  # what every module has: tensors, children, hooks, flags
HOOKS = tuple(sorted(name for name in MACHINERY if name.endswith("_hooks") and "state_dict" not in name))

_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), range, slice)
_TORCH_VALUES = (torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size)
_BUILTIN = (types.BuiltinFunctionType, types.WrapperDescriptorType, types.MethodDescriptorType)
_OPERATORS = (torch._ops.OpOverload, torch._ops.OpOverloadPacket)
_OPERATORS_OF = {"aten", "prim", "prims", "quantized", "torchvision"}  # whose code torch's version names
_VALUES = (tuple, frozenset, types.CodeType)
_WRAPPERS = (staticmethod, classmethod, types.MethodType)
_HARMLESS = (type(threading.Lock()), type(threading.RLock()), logging.Logger)
_TENSORS = (Tensor, nn.Parameter, nn.Buffer)
_NOT_CODE = {
    *("__module__", "__dict__", "__weakref__", "__doc__", "__annotations__", "__annotate__", "__annotations_cache__"),
    *("__qualname__", "__firstlineno__", "__static_attributes__", "__abstractmethods__", "_abc_impl", "__parameters__"),
    *("__orig_bases__", "__dataclass_fields__", "__conditional_annotations__", "__classdictcell__"),
}
_BY_NAME = {"getattr", "vars", "attrgetter", "methodcaller", "__dict__", "__getattribute__"}  # reach what no code names
_BEYOND = {"eval", "exec", "globals", "__import__", "open", "input"}  # reach what nothing names
_BEYOND_AS_ATTRIBUTES = {"import_module", "environ", "getenv", "urlopen", "read_text", "read_bytes"}


class UnreadableError(Exception):
    """Something determines answers and cannot be read; the text says what it does."""


class Reader:
    """Digests values. Each object is digested once; where it comes again, the place where it was met stands.

    Args:
        token: stands, with the object's address, for what cannot be read.

    Attributes:
        entries: digest of each attribute of modules, classes and functions' surroundings, by its place.
        unknown: a sentence for each thing that could not be read.
    """

    def __init__(self, token: str) -> None:
        self.entries: dict[str, str] = {}
        self.unknown: list[str] = []
        self._token = token
        self._digest = hashlib.sha256()
        self._met: dict[int, tuple[str, object]] = {}  # the object is kept, or its id would be given away
        self._n_met: dict[str, int] = {}  # at each place
        self._n_entries: dict[str, int] = {}
        self._taking: set[tuple[int, tuple[str, ...]]] = set()  # modules and the names that were looked up there

    def read(self, value: Any, place: str) -> None:
        """Digest `value` as an entry of its own, called after its place."""
        with self._entry(place):
            self.write(value, place)

    def read_module(self, module: nn.Module, *, without: frozenset[str]) -> None:
        """Digest a module and all that hangs on it, but for its attributes `without`."""
        with self._entry(""):
            self._module(module, "", without)

    @contextmanager
    def _entry(self, place: str) -> Iterator[None]:
        number = self._n_entries[place] = self._n_entries.get(place, 0) + 1
        outer, self._digest = self._digest, hashlib.sha256()
        try:
            yield
            self.entries[f"{place} {number}"] = self._digest.hexdigest()
        finally:
            self._digest = outer

    def _say(self, *words: object) -> None:
        for word in words:
            content = word if isinstance(word, bytes | memoryview) else str(word).encode("utf-8", "surrogatepass")
            self._digest.update(len(content).to_bytes(8, "big"))
            self._digest.update(content)

    def write(self, value: Any, place: str) -> None:
        """Add `value`, whatever it is, to the digest; `place` says where it hangs."""
        if (isinstance(value, _PLAIN) and type(value) in _PLAIN) or isinstance(value, _TORCH_VALUES):
            self._say(type(value).__name__, repr(value))
            return
        if not isinstance(value, _VALUES):  # whether two equal ones are one object is chance
            if id(value) in self._met:
                self._say("again", self._met[id(value)][0])
                return
            number = self._n_met[place] = self._n_met.get(place, 0) + 1
            self._met[id(value)] = f"{place} {number}", value
        try:
            self._write_new(value, place)
        except Exception as error:
            kind = f"is a {type(value).__module__}.{type(value).__qualname__}, which cannot be read"
            self._give_up(value, f"{place} {error if isinstance(error, UnreadableError) else kind}")

    def _give_up(self, value: Any, sentence: str) -> None:
        self.unknown.append(sentence)
        self._say("unknown", self._token, id(value))

    def _write_new(self, value: Any, place: str) -> None:
        if isinstance(value, Tensor):
            self._tensor(value, place)
        elif isinstance(value, torch.jit.ScriptModule | torch.jit.ScriptFunction):
            self._say(*words_of(value.save_to_buffer(_extra_files={})))
        elif isinstance(value, nn.Module):
            self._module(value, place)
        elif isinstance(value, np.ndarray) and value.dtype != object:
            self._say("array", value.dtype.str, value.shape, np.ascontiguousarray(value).tobytes())
        elif isinstance(value, Enum):
            self._say("enum", type(value).__qualname__, value.name)
        elif isinstance(value, _HARMLESS):
            self._say(type(value).__name__)
        elif isinstance(value, weakref.ref):
            self.write(value(), place)
        elif isinstance(value, Mapping | list | tuple | set | frozenset):
            self._container(value, place)
        elif not self._code(value, place):
            self._object(value, place)

    def _all(self, values: Iterable[Any], place: str) -> None:
        for value in values:
            self.write(value, place)

    # --- values -----------------------------------------------------------------------------------------

    def _tensor(self, tensor: Tensor, place: str) -> None:
        if type(tensor) not in _TENSORS:
            self.write(type(tensor), place)
        tensor = tensor.detach()
        self._say("tensor", tensor.dtype, tuple(tensor.shape))
        if tensor.is_quantized:
            self._say(tensor.qscheme(), repr(tensor.q_scale()), tensor.q_zero_point())
            tensor = tensor.int_repr()
        tensor = tensor.to_dense() if tensor.layout != torch.strided else tensor
        if not tensor.is_meta:
            flat = tensor.resolve_conj().resolve_neg().cpu().contiguous().flatten()
            self._say(flat.view(torch.uint8).numpy().data)

    def _container(self, value: Any, place: str) -> None:
        self._say("container", len(value))
        self.write(type(value), place)
        if isinstance(value, Mapping):
            for key, each in value.items():
                self.write(key, place)
                self.write(each, f"{place}[{key!r:.40}]")
        elif isinstance(value, set | frozenset):
            apart = [Reader(self._token) for _ in value]
            for reader, each in zip(apart, value, strict=True):
                reader.read(each, place)
                self.unknown += reader.unknown
            self._say(*sorted(str(sorted(reader.entries.items())) for reader in apart))
        else:
            self._all(value, place)
        if hasattr(value, "__dict__"):  # of the user's own kind of list
            self._attributes(value, place)

    def _object(self, value: Any, place: str) -> None:
        """Write class and state, both as pickling would take them and as they are: pickling may leave some out."""
        getattr(value, "__dict__", None)  # a partial makes its own when first asked, and is pickled otherwise then
        wrapped = getattr(value, "__wrapped__", None)
        if wrapped is not None:
            self.write(wrapped, f"{place}.__wrapped__")
        registered = copyreg.dispatch_table.get(type(value))
        try:
            parts = value.__reduce_ex__(4) if registered is None else registered(value)
        except Exception:  # what holds a session, a file, another thread
            if not all(made_in_python(kind) for kind in type(value).__mro__[:-1]):
                raise
            parts = (type(value),)
        if isinstance(parts, str):
            home = pickle.whichmodule(value, parts)  # type: ignore[attr-defined]
            if wrapped is None and (installed_as(home) is None or called(home, parts) is not value):
                raise UnreadableError(f"is {parts!r:.60}, which is pickled by its name alone")
            self._say("global", parts)
            return
        self._say("object")
        self.write(type(value), place)
        self._all((list(part) if isinstance(part, Iterator) else part for part in parts), place)
        self._attributes(value, place)

    def _attributes(self, value: Any, place: str) -> None:
        for name, each in sorted(getattr(value, "__dict__", {}).items()):
            self._say(name)
            self.write(each, f"{place}.{name}")

    # --- networks ---------------------------------------------------------------------------------------

    def _module(self, module: nn.Module, place: str, without: frozenset[str] = frozenset()) -> None:
        compiled = getattr(module, "_orig_mod", None)
        if compiled is not None and type(module).__module__.startswith("torch._dynamo"):
            module = compiled  # the same answers, but for rounding
        self._say("module", module.training)
        self.write(type(module), place)
        children = dict(module._modules)
        own = {name: value for name, value in vars(module).items() if name not in MACHINERY and name not in without}
        if isinstance(module, fx.GraphModule):
            self._say(module.code)
            self._all((node.target for node in module.graph.nodes if node.op == "call_function"), place)
            own = {name: value for name, value in own.items() if isinstance(value, Tensor)}
            children.pop("_guards_fn", None)  # an exported program's: refuses images, answers none
        for kind in (module._parameters, module._buffers, children, own):
            for name, value in sorted(kind.items()):
                self.read(value, f"{place}.{name}" if place else name)
        for hook in HOOKS:
            hooks = getattr(module, hook)
            for each in hooks.values() if isinstance(hooks, dict) else ():
                self.read(each, f"{place}, a hook,")

    # --- code -------------------------------------------------------------------------------------------

    def _code(self, value: Any, place: str) -> bool:
        """Write a function, class, package or something like them; False if it is none."""
        if isinstance(value, types.ModuleType):
            self._package(value, place)
        elif isinstance(value, _OPERATORS):
            name = str(value)
            if name.partition(".")[0].partition("::")[0] not in _OPERATORS_OF:
                raise UnreadableError(f"is the operator {name}, whose code cannot be read")
            self._say("operator", name)
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
            self._builtin(value, place)
        elif isinstance(value, property | functools.cached_property):
            names = ("fget", "fset", "func")
            self._say("property")
            self._all((getattr(value, name, None) for name in names), place)
        elif isinstance(value, types.MemberDescriptorType | types.GetSetDescriptorType):
            self._say("slot", value.__name__)
        else:
            return False
        return True

    def _package(self, module: types.ModuleType, place: str) -> None:
        """Write a module that is a value itself: of the user's own all that is in it, since any code may take it."""
        installed = installed_as(module.__name__)
        self._say("package", installed or module.__name__.rpartition(".")[2])
        if installed is None:
            for name, value in sorted(vars(module).items()):
                if not name.startswith("__"):
                    self._say(name)
                    self.write(value, f"{place}.{name}")

    def _builtin(self, value: Any, place: str) -> None:
        owner = getattr(value, "__self__", getattr(value, "__objclass__", None))
        kind = owner if isinstance(owner, types.ModuleType | type) else type(owner)
        home = getattr(value, "__module__", None) or getattr(kind, "__module__", None) or kind.__name__
        if installed_as(str(home)) is None:
            raise UnreadableError(f"is {value.__qualname__} of {home}, whose code cannot be read")
        self._say("builtin", value.__qualname__)
        self.write(None if isinstance(owner, types.ModuleType) else owner, place)

    def _class(self, kind: type, place: str) -> None:
        installed = installed_as(kind.__module__)
        self._say("class", installed or "", kind.__qualname__ if installed else kind.__name__)
        if installed:
            return
        self._all((type(kind), *kind.__bases__), place)
        for name, value in vars(kind).items():
            if name not in _NOT_CODE:
                self.read(value, f"{place}, {kind.__name__}.{name}")

    def _function(self, function: types.FunctionType, place: str) -> None:
        original = getattr(function, "_torchdynamo_orig_callable", None)
        if original is not None:
            self.write(original, place)  # the same answers, but for rounding
            return
        installed = installed_as(function.__globals__.get("__name__", ""))
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
        self._attributes(function, place)
        if not installed:
            self._used(function, place)

    def _used(self, function: types.FunctionType, place: str) -> None:
        """Write the globals that a function names and the modules that it imports.

        Of the user's own modules what it takes from them, by whatever chain of attributes.
        """
        parts = list(codes(function.__code__))
        names = dict.fromkeys(name for code in parts for name in code.co_names)
        spelled = (each for code in parts for each in code.co_consts if isinstance(each, str) and each.isidentifier())
        names |= dict.fromkeys(spelled)  # getattr(module, "name")
        for name in names.keys() & _BEYOND_AS_ATTRIBUTES:
            self._give_up(function, f"{place} uses {name}, behind which nothing can be read")
        for name in dict.fromkeys(name for code in parts for name in loaded(code)):
            if name not in function.__globals__:
                if name in _BEYOND:
                    self._give_up(function, f"{place} calls {name}, behind which nothing can be read")
                continue
            self._taken(function.__globals__[name], names, f"{place}, the global {name},")
        for name, level in (found for code in parts for found in imported(code)):
            full = importlib.util.resolve_name("." * level + name, function.__globals__.get("__package__") or None)
            for module in dict.fromkeys((full.partition(".")[0], full)):
                if module in sys.modules:
                    self._taken(sys.modules[module], names, f"{place}, the import {module},")
                elif installed_as(module) is None:
                    self._give_up(function, f"{place} imports {module}, which was not imported when it answered")

    def _taken(self, value: Any, names: Mapping[str, None], place: str) -> None:
        """Write a value; if it is a module of the user's own, those of its attributes that are among `names`."""
        if not isinstance(value, types.ModuleType) or installed_as(value.__name__) or names.keys() & _BY_NAME:
            self.read(value, place)
            return
        mark = id(value), tuple(names)
        if mark in self._taking:
            return
        self._taking.add(mark)
        self._say("package", value.__name__.rpartition(".")[2])
        found = [name for name in names if hasattr(value, name)]
        for name in found:
            self._taken(getattr(value, name), names, f"{place}.{name}")
        if not found:  # it is handed on as it is
            self.read(value, place)

    def _bytecode(self, code: types.CodeType, place: str) -> None:
        flags = (code.co_flags, code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)
        self._say("code", code.co_code, code.co_exceptiontable, *flags)
        names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        self._say(*(" ".join(each) for each in names), len(code.co_consts))
        self._all(code.co_consts, place)
