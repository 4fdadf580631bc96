"""What the modules of a tree refer to apart from their children: attributes, closures, hooks.

A deep copy keeps functions, lambdas and weak references as they are. So a module that reaches its
model through one of them still reaches the original when it is copied.
"""

import functools
import sys
import types
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn

_HOOKS = {
    "_forward_hooks": "a forward hook of",
    "_forward_pre_hooks": "a forward pre-hook of",
    "_backward_hooks": "a backward hook of",
    "_backward_pre_hooks": "a backward pre-hook of",
}
_TABLES = ("_modules", "_parameters", "_buffers")
_MOST_GLOBALS = 2
"""Most steps from a function to a global function that it calls."""
_CONTAINERS = (list, tuple, set, frozenset, deque)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A value that a module of a tree refers to."""

    path: str
    """Where it hangs, for people: ``Net.blocks[0]``, ``a forward hook of conv1``."""
    via: str
    """What holds it that no deep copy copies, such as ``a lambda``; empty if all is copied."""
    value: object
    names: frozenset[str] = frozenset()
    """Names that the code of the function uses, where a function holds it."""
    steps: int = 0
    """Global names on the way."""


def references(root: nn.Module) -> Iterator[Reference]:
    """Yield what the modules of a tree refer to, each value once, with the way to it.

    Parameters, buffers and children are not listed: they are the tree itself.
    """
    tree = {id(module): name for name, module in root.named_modules()}
    waiting = deque[Reference]()
    for name, module in root.named_modules():
        for attribute, value in vars(module).items():
            if attribute in _HOOKS and isinstance(value, dict):
                here = f"{_HOOKS[attribute]} {name or type(root).__name__}"
                waiting += [Reference(path=here, via="", value=hook) for hook in value.values()]
            elif attribute not in _TABLES and not _is_plain(value):
                path = ".".join(filter(None, (type(root).__name__, name, attribute)))
                waiting.append(Reference(path=path, via="", value=value))
    seen: dict[tuple[int, bool], object] = {}
    while waiting:
        each = waiting.popleft()
        key = id(each.value), bool(each.via)
        if key in seen or _is_plain(each.value):
            continue
        seen[key] = each.value  # keeps its id taken
        yield each
        if id(each.value) not in tree:
            waiting += _inside(each)


def _is_plain(value: object) -> bool:
    kinds = (str, bytes, int, float, complex, type(None), type, types.ModuleType, torch.dtype)
    return isinstance(value, kinds)


def _inside(outer: Reference) -> Iterator[Reference]:
    """Yield what a value refers to directly."""
    value = outer.value

    def inner(held: object, step: str = "") -> Reference:
        return replace(outer, path=outer.path + step, value=held)

    if isinstance(value, types.FunctionType):
        yield from _inside_function(outer, value)
    elif isinstance(value, types.MethodType):
        yield inner(value.__self__)
        yield inner(value.__func__)
    elif isinstance(value, functools.partial):
        for held in (value.func, *value.args, *value.keywords.values()):
            yield inner(held)
    elif isinstance(value, weakref.ref):
        yield replace(outer, via=outer.via or "a weak reference", value=value())
    elif isinstance(value, nn.Module):  # outside of the tree, since it hangs in an attribute
        for name, held in (*value._parameters.items(), *value._buffers.items()):
            yield inner(held, f".{name}")
        for name, held in (*value._modules.items(), *vars(value).items()):
            if name not in _TABLES:
                yield inner(held, f".{name}")
    elif isinstance(value, dict):
        yield from (inner(held, f"[{key!r}]") for key, held in value.items())
    elif isinstance(value, _CONTAINERS):
        yield from (inner(held, f"[{i}]") for i, held in enumerate(value))
    elif not isinstance(value, torch.Tensor) and not _is_foreign(value):
        yield from (inner(held, f".{name}") for name, held in attributes(value))


def _inside_function(outer: Reference, function: types.FunctionType) -> Iterator[Reference]:
    """Yield what a function holds, and the modules, functions and containers that it names."""
    name = function.__name__
    kind = "a lambda" if name == "<lambda>" else f"the function {name}"
    names = frozenset(_names(function.__code__))
    here = replace(outer, via=outer.via or kind, names=names)
    yield from (replace(here, value=held) for held in _enclosed(function))
    if outer.steps < _MOST_GLOBALS:
        wanted = (nn.Module, torch.Tensor, types.FunctionType, dict, *_CONTAINERS)
        for held in map(function.__globals__.get, names):
            if isinstance(held, wanted):
                yield replace(here, value=held, steps=outer.steps + 1)


def _names(code: types.CodeType) -> Iterator[str]:
    """Yield the names of attributes and globals that some code uses, functions in it included."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _enclosed(function: types.FunctionType) -> list[object]:
    """Return what a function holds: enclosed variables, defaults and attributes."""
    held: list[object] = []
    for cell in function.__closure__ or ():
        try:
            held.append(cell.cell_contents)
        except ValueError:  # not assigned yet
            continue
    defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    return [*held, *defaults, *vars(function).values()]


def _is_foreign(value: object) -> bool:
    """Return whether an object is one of Python's or torch's own, which hold no model."""
    package = type(value).__module__.partition(".")[0]
    known = isinstance(value, functools._lru_cache_wrapper)
    return not known and (package == "torch" or package in sys.stdlib_module_names - {"__main__"})


def attributes(value: object) -> Iterable[tuple[str, object]]:
    """Return the names and values of an object's attributes, those in slots included."""
    found = dict(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            try:
                found.setdefault(name, object.__getattribute__(value, name))
            except AttributeError:  # not set, or its name is mangled
                continue
    return found.items()
