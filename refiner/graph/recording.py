"""Record one run of a model as a ``torch.fx`` graph.

Nothing is traced symbolically. The model runs on real (or meta) tensors, and each operation is
written down. So a forward may contain branches on data, loops, ``len``, keyword calls, scripted
functions, containers and objects of its own: the graph is that of the run. The call of a leaf
module is one node, and so is every other operation of aten. Each node carries

- ``meta["shape"]``: the shape of its output as a tuple of ints, None if the output is not a tensor;
- ``meta["holds_tensor"]``: whether its output contains a tensor;
- ``meta["path"]``: the name of the module whose forward ran it;
- ``meta["after"]``: the nodes that wrote to the memory of its inputs before it;
- ``meta["convolves"]``: whether a convolution ran outside of a conv module;
- ``meta["grad"]``: whether gradients were on;
- ``meta["learns"]``: set where a conv learns although they were off (see ``recomputed.py``);
- ``meta["autocast"]``: the autocast dtype by device type.
"""

import re
import sys
from collections.abc import Callable, Mapping
from typing import Self, cast

import torch
from torch import fx, nn
from torch._ops import OpOverload
from torch.fx.node import Argument
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakTensorKeyDictionary

from refiner.core.contents import PLAIN_TYPES, tensors_in
from refiner.core.layers import is_conv
from refiner.core.types import Output
from refiner.graph.dispatch import (
    Steps,
    autocast_state,
    convolves,
    memory_of,
    parts_of,
    reads_number,
    written,
)
from refiner.graph.outside import Outside


class Recorder(TorchDispatchMode):
    """Writes down what runs inside its context.

    Args:
        root: the model that runs.
        leaf: returns whether the call of a module is one node.
        inputs: name and value of each input; they become the placeholders.
        prefix: prefix of the names of constants.
        outside: watches for tensors that are not the model's own.
    """

    def __init__(
        self,
        root: nn.Module,
        leaf: Callable[[nn.Module], bool],
        inputs: Mapping[str, object],
        prefix: str = "_constant",
        outside: Outside | None = None,
    ) -> None:
        super().__init__()
        self.graph = fx.Graph()
        self.constants: dict[str, object] = {}
        """Values from outside the run, by the name of the attribute that will hold each."""
        self.read: list[fx.Node] = []
        """Nodes whose output the model read as a number."""
        self.opened: set[int] = set()
        """``id`` of each leaf that called a conv of the model; a correct leaf calls none."""
        self._root, self._leaf, self._prefix = root, leaf, prefix
        self._outside = outside
        self._paths = {id(m): name for name, m in root.named_modules()}
        self._stored = {
            id(t): (name, t) for name, t in (*root.named_parameters(), *root.named_buffers())
        }
        self._stored_memory = {memory_of(t): (name, t) for name, t in self._stored.values()}
        self._nodes = WeakTensorKeyDictionary()
        self._born = WeakTensorKeyDictionary()
        """The leaf's node of each tensor that was made inside a leaf."""
        self._objects: dict[int, tuple[object, fx.Node]] = {}
        self._writers: dict[int, tuple[StorageWeakRef, fx.Node]] = {}
        self._order: dict[fx.Node, int] = {}
        self._calls: list[str] = [""]
        self._in_leaf: tuple[nn.Module, fx.Node] | None = None
        self._depth = 0
        self._after: set[fx.Node] = set()
        self._hooks: list[RemovableHandle] = []
        for name, value in inputs.items():
            node = self._annotated(self.graph.placeholder(re.sub(r"\W|^(?=\d)", "_", name)), value)
            self._make_known(node, value)

    def __enter__(self) -> Self:
        for module in self._root.modules():
            if not isinstance(module, torch.jit.ScriptModule):
                before = module.register_forward_pre_hook(
                    self._begin, with_kwargs=True, prepend=True
                )
                after = module.register_forward_hook(self._end, with_kwargs=True, always_call=True)
                self._hooks += [before, after]
        super().__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        for hook in self._hooks:
            hook.remove()
        super().__exit__(*exception)

    def finish(self, output: Output) -> fx.Graph:
        """Return the graph, completed with the output of the run."""
        self.graph.output(self._argument(output))
        return self.graph

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> Output:
        kwargs = kwargs or {}
        changed = written(func, args, kwargs)
        if reads_number(func):
            self._note_read(args)
        if self._in_leaf is not None:
            module, node = self._in_leaf
            output = self._run(func, args, kwargs)
            for tensor in tensors_in(output):
                if tensor not in self._nodes:
                    self._born[tensor] = node
            if convolves(func) and not is_conv(module):
                node.meta["convolves"] = True
        else:
            arguments = self._arguments(args, kwargs)
            after, self._after = self._after, set()
            output = self._run(func, args, kwargs)
            if not changed and not tensors_in(output):
                return output
            name = func._overloadpacket.__name__
            node = self.graph.create_node("call_function", func, *arguments, name=name)
            self._annotated(node, output)
            node.meta["after"] = after
            node.meta["convolves"] = convolves(func)
            self._make_known(node, output)
        for tensor in changed:
            self._writers[memory_of(tensor)] = (StorageWeakRef(tensor.untyped_storage()), node)
        return output

    def _note_read(self, args: tuple[object, ...]) -> None:
        if self._in_leaf is not None:
            self.read.append(self._in_leaf[1])
        else:
            self.read += [n for n in map(self._nodes.get, tensors_in(args)) if n is not None]

    def _run(self, func: OpOverload, args: tuple[object, ...], kwargs: dict[str, object]) -> Output:
        if self._outside is None:
            return func(*args, **kwargs)
        self._outside.reads((args, kwargs))
        output = func(*args, **kwargs)
        self._outside.makes(output)
        return output

    def reads_values(self) -> bool:
        """Return whether the run read numbers that depend on its inputs, as a branch does."""
        waiting, seen = list(self.read), set()
        while waiting:
            node = waiting.pop()
            if node.op == "placeholder":
                return True
            if node not in seen:
                seen.add(node)
                waiting += node.all_input_nodes
        return False

    def _begin(
        self, module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> None:
        path = self._paths.get(id(module), "")
        if self._in_leaf is not None:
            self._depth += self._in_leaf[0] is module
            if is_conv(module) and not is_conv(self._in_leaf[0]) and id(module) in self._paths:
                self.opened.add(id(self._in_leaf[0]))
        elif id(module) in self._paths and self._leaf(module):
            node = self.graph.create_node("call_module", path, *self._arguments(args, kwargs))
            node.meta.update(path=path, after=self._after, convolves=False)
            node.meta.update(grad=torch.is_grad_enabled(), autocast=autocast_state())
            self._order[node] = len(self._order)
            self._after = set()
            self._in_leaf, self._depth = (module, node), 1
        else:
            self._calls.append(path)

    def _end(self, module: nn.Module, _args: object, _kwargs: object, output: Output) -> None:
        if self._in_leaf is None:
            self._calls.pop()
        elif self._in_leaf[0] is module:
            self._depth -= 1
            if self._depth == 0:
                node = self._in_leaf[1]
                self._in_leaf = None
                if output is None and sys.exc_info()[0] is not None and not node.users:
                    self.graph.erase_node(node)  # it raised, and the model may catch that
                    return
                self._annotated(node, output)
                self._make_known(node, output)

    def _annotated(self, node: fx.Node, value: object) -> fx.Node:
        self._order.setdefault(node, len(self._order))
        node.meta["shape"] = tuple(value.shape) if isinstance(value, torch.Tensor) else None
        node.meta["holds_tensor"] = any(isinstance(p, torch.Tensor) for _, p in parts_of(value))
        node.meta.setdefault("path", self._calls[-1])
        node.meta.setdefault("after", set())
        node.meta.setdefault("convolves", False)
        node.meta.setdefault("grad", torch.is_grad_enabled())
        return node

    def _make_known(self, node: fx.Node, value: object) -> None:
        """Note that ``node`` gives ``value``, and add a node for each part of it."""
        at: dict[Steps, fx.Node] = {(): node}
        for steps, part in parts_of(value):
            for i in range(1, len(steps) + 1):
                if steps[:i] not in at:
                    access, key = steps[i - 1]
                    parent = at[steps[: i - 1]]
                    at[steps[:i]] = self.graph.call_function(access, (parent, key))
            self._annotated(at[steps], part)
            if isinstance(part, torch.Tensor):
                self._nodes[part] = at[steps]
            else:
                self._objects[id(part)] = (part, at[steps])
        for reached in at.values():
            if "shape" not in reached.meta:
                self._annotated(reached, None)
                reached.meta["holds_tensor"] = True

    def _arguments(
        self, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> tuple[tuple[Argument, ...], dict[str, Argument]]:
        """Return the arguments of a call as those of a node."""
        return tuple(map(self._argument, args)), {k: self._argument(v) for k, v in kwargs.items()}

    def _argument(self, value: object) -> Argument:
        """Return ``value`` as an argument of a node."""
        if isinstance(value, torch.Tensor):
            return self._tensor(value)
        if isinstance(value, torch.Size):
            return tuple(value)
        if isinstance(value, PLAIN_TYPES):
            return cast(Argument, value)  # fx keeps an Ellipsis, too
        if type(value) is list:
            return [self._argument(item) for item in value]
        if type(value) is tuple:
            return tuple(self._argument(item) for item in value)
        if type(value) is dict and all(isinstance(key, str) for key in value):
            return {key: self._argument(item) for key, item in value.items()}
        if isinstance(value, slice):
            return slice(*map(self._argument, (value.start, value.stop, value.step)))
        if id(value) in self._objects:
            return self._objects[id(value)][1]
        leaves, structure = pytree.tree_flatten(value)
        if len(leaves) != 1 or leaves[0] is not value:
            parts = [self._argument(leaf) for leaf in leaves]
            kept = self._constant(structure)
            return self._annotated(
                self.graph.call_function(pytree.tree_unflatten, (parts, kept)), value
            )
        for _, part in parts_of(value):
            if isinstance(part, torch.Tensor):
                self._tensor(part)  # makes the tensor known, though not how it is held
        return self._constant(value)

    def _tensor(self, tensor: torch.Tensor) -> fx.Node:
        """Return the node that gives ``tensor``."""
        memory = memory_of(tensor)
        writer = self._writers.get(memory)
        node: fx.Node | None = self._nodes.get(tensor)
        if writer is not None and not writer[0].expired():
            seen = node is not None and self._order[node] >= self._order[writer[1]]
            self._after |= set() if seen else {writer[1]}
        if node is not None:
            return node
        name, stored = self._stored.get(id(tensor), (None, None))
        if stored is None and memory in self._stored_memory:
            name, stored = self._stored_memory[memory]  # .data leaves no trace of its own
            if stored.shape != tensor.shape or stored.stride() != tensor.stride():
                name = None
        if name is not None:
            node = self._annotated(self.graph.get_attr(name), tensor)
        else:
            node = self._constant(tensor)
            self._annotated(node, tensor)
            source = self._born.get(tensor)
            if source is not None:
                self._after.add(source)
        self._nodes[tensor] = node
        return node

    def _constant(self, value: object) -> fx.Node:
        for name, known in self.constants.items():
            if known is value:
                return self.graph.get_attr(name)
        name = f"{self._prefix}_{len(self.constants)}"
        self.constants[name] = value
        node = self.graph.create_node("get_attr", name)  # the attribute is set afterwards
        return self._annotated(node, value)
