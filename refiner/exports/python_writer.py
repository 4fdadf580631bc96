"""Write a recorded graph as the source of one class of plain PyTorch."""

import keyword
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from refiner.core.errors import ModelError
from refiner.exports.python_layers import batch_norm, layer_arguments, merged_dimensions

_OPERATORS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "matmul": "@"}


@dataclass(slots=True)
class Writer:
    """Writes the class, from a graph; names are given as they are met."""

    model: nn.Module
    constants: Mapping[str, Any]
    counted: Mapping[tuple[int, tuple[Any, ...]], int]
    methods: bool
    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=dict)
    """Line of __init__ that makes an attribute, by the attribute's name."""
    names: dict[str, str] = field(default_factory=dict)
    """Attribute by the path of the module or tensor in the model."""
    variables: dict[fx.Node, str] = field(default_factory=dict)
    first: str = ""
    """The first input that is a tensor."""
    uses_device: bool = False
    uses_batch: bool = False

    def init(self) -> str:
        """Return the class up to the end of ``__init__``."""
        lines = ["class Model(nn.Module):", "    def __init__(self):", "        super().__init__()"]
        return "\n".join(lines + [f"        {line}" for line in self.made.values()]) + "\n"

    def forward(self, graph: fx.Graph) -> str:
        """Return ``forward``. A variable's name is taken again once nothing reads it."""
        nodes = _needed(graph)
        last = {source: i for i, node in nodes.items() for source in node.all_input_nodes}
        lines: list[str] = []
        free: list[str] = []
        part, used = "", 0
        for i, node in nodes.items():
            if node.op == "placeholder":
                self.variables[node] = str(node.target)
                if node.meta["shape"] is not None and not self.first:
                    self.first = str(node.target)
                continue
            if node.op == "get_attr":  # written where it is read, if it is
                continue
            if node.op == "output":
                lines.append(f"return {self._text(node.args[0], i, (0, 0))}")
                continue
            path = str(node.meta["path"])
            path = path.rpartition(".")[0] if node.op == "call_module" else path
            here = ".".join(path.split(".")[:2])
            if here != part:
                part = here
                lines += ["", f"# {part}"] if part else [""]
            text = self._call(node, i)
            dying = [
                self.variables[source]
                for source in dict.fromkeys(node.all_input_nodes)
                if last[source] == i and source.op != "get_attr"
            ]
            if node not in last:  # what it writes into memory is all that counts
                lines.append(text)
                free += dying
                continue
            if not dying and not free:
                used += 1
                free.append(f"x{used}")
            name, *rest = dying if dying else [free.pop()]
            free += rest
            self.variables[node] = name
            if text != name:
                lines.append(f"{name} = {text}")
        inputs = [str(node.target) for node in nodes.values() if node.op == "placeholder"]
        setting = ["device = next(self.parameters()).device"] if self.uses_device else []
        setting += [f"n = {self.first}.shape[0]"] if self.uses_batch else []
        head = f"    def forward(self, {', '.join(inputs)}):"
        body = [f"        {line}" if line else "" for line in [*setting, *lines]]
        return "\n".join([head, *body]) + "\n"

    def _call(self, node: fx.Node, i: int) -> str:
        short = self._short(node) if self.methods else None
        if short is not None:
            return short
        args = [self._text(a, i, (0, k)) for k, a in enumerate(node.args)]
        kwargs = [f"{key}={self._text(v, i, (1, key))}" for key, v in node.kwargs.items()]
        joined = ", ".join([*args, *kwargs])
        if node.op == "call_module":
            return f"self.{self._layer(str(node.target))}({joined})"
        if node.target is operator.getitem:
            return f"{args[0]}[{args[1]}]"
        packet = getattr(node.target, "_overloadpacket", None)
        if packet is None:
            raise ModelError(f"{node.target} cannot be written as plain PyTorch")
        name = packet.__name__
        if name in _OPERATORS and len(args) == 2 and not kwargs:
            return f"{args[0]} {_OPERATORS[name]} {args[1]}"
        on_tensor = bool(node.args) and isinstance(node.args[0], fx.Node)
        if on_tensor and self.methods and name[0] != "_" and hasattr(torch.Tensor, name):
            return f"{args[0]}.{name}({', '.join([*args[1:], *kwargs])})"
        if name == "cat":
            return f"torch.cat({joined})"
        return f"torch.ops.{node.target}({joined})"

    def _text(self, value: Any, i: int, place: tuple[Any, ...]) -> str:
        if isinstance(value, fx.Node):
            return self._read(value)
        if (i, place) in self.counted:
            times, self.uses_batch = self.counted[i, place], True
            return "n" if times == 1 else f"{times} * n"
        if isinstance(value, list | tuple):
            items = [self._text(v, i, (*place, k)) for k, v in enumerate(value)]
            if isinstance(value, list):
                return f"[{', '.join(items)}]"
            return f"({', '.join(items)}{',' if len(items) == 1 else ''})"
        if isinstance(value, dict):
            items = [f"{k!r}: {self._text(v, i, (*place, k))}" for k, v in value.items()]
            return f"{{{', '.join(items)}}}"
        if isinstance(value, slice):
            parts = (value.start, value.stop, value.step)
            items = [self._text(v, i, (*place, k)) for k, v in enumerate(parts)]
            return f"slice({', '.join(items)})"
        if isinstance(value, torch.device):
            self.uses_device = True
            return "device"
        if isinstance(value, float) and value in (float("inf"), float("-inf")):
            return f'float("{value}")'
        if isinstance(value, float) and value != value:
            return 'float("nan")'
        return repr(value)

    def _short(self, node: fx.Node) -> str | None:
        """Return how an operation that a layer or a method stands for is written, if one does."""
        source = node.args[0] if node.args else None
        if not isinstance(source, fx.Node):
            return None
        if node.target is operator.getitem:
            return self._read(source) if batch_norm(self.model, source) else None
        found = batch_norm(self.model, node)
        if found is not None:
            return f"self.{self._layer(*found)}({self._read(source)})"
        merged = merged_dimensions(node)
        return f"{self._read(source)}.flatten{merged}" if merged else None

    def _read(self, node: fx.Node) -> str:
        return self._stored(str(node.target)) if node.op == "get_attr" else self.variables[node]

    def _layer(self, path: str, layer: nn.Module | None = None) -> str:
        """Return the attribute that holds the layer at ``path``, made as ``layer`` if that is
        given."""
        if path not in self.names:
            module = self.model.get_submodule(path)
            layer = module if layer is None else layer
            self.names[path] = name = self._new_name(path)
            arguments = layer_arguments(layer)
            assert arguments is not None
            text = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
            self.made[name] = f"self.{name} = nn.{type(layer).__name__}({text})"
            tensors = module.state_dict()
            for key in layer.state_dict():
                self.weights[f"{name}.{key}"] = tensors[key]
        return self.names[path]

    def _stored(self, path: str) -> str:
        if path not in self.names:
            tensor = self.constants.get(path)
            if tensor is None:
                owner, _, key = path.rpartition(".")
                tensor = getattr(self.model.get_submodule(owner), key)
            if not isinstance(tensor, torch.Tensor):
                raise ModelError(f"a {type(tensor).__name__} cannot be written as plain PyTorch")
            self.names[path] = name = self._new_name(path.removeprefix("_"))
            empty = f"torch.empty({list(tensor.shape)}, dtype={tensor.dtype})"
            if isinstance(tensor, nn.Parameter):
                self.made[name] = f"self.{name} = nn.Parameter({empty})"
            else:
                self.made[name] = f'self.register_buffer("{name}", {empty})'
            self.weights[name] = tensor.detach()
        return f"self.{self.names[path]}"

    def _new_name(self, path: str) -> str:
        name = re.sub(r"\W", "_", path)
        if name[:1].isdigit() or keyword.iskeyword(name) or hasattr(nn.Module, name):
            name = f"layer_{name}"
        while name in self.made:
            name += "_"
        return name


def _needed(graph: fx.Graph) -> dict[int, fx.Node]:
    """Return the nodes that the output needs, or that write into memory, by their number."""
    needed: dict[int, fx.Node] = {}
    wanted: set[fx.Node] = set()
    for i, node in reversed(list(enumerate(graph.nodes))):
        schema = getattr(node.target, "_schema", None)
        writes = node.op == "call_module" or (schema is not None and schema.is_mutable)
        if node in wanted or writes or node.op in ("placeholder", "output"):
            needed[i] = node
            wanted.update(node.all_input_nodes)
    return dict(reversed(needed.items()))
