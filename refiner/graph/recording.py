"""Record one run of a model as a ``torch.fx`` graph.

Nothing is traced symbolically: the model runs on real (or meta) tensors, and what happens is written
down. So a forward may do what it likes (branches on data, loops, ``len``, keyword calls, scripted
functions, containers, objects of its own): its graph is that of the run. A call of a leaf module is one
node, every other operation of aten is one. Each node carries

- ``meta["shape"]``: the shape of its output as a tuple of ints, None where that is no tensor;
- ``meta["holds_tensor"]``: whether there is a tensor in its output;
- ``meta["path"]``: name of the module in whose forward it happened;
- ``meta["after"]``: nodes whose writes into the memory of its inputs it sees;
- ``meta["convolves"]``: whether a convolution ran that is not of a conv module;
- ``meta["grad"]``: whether gradients were on;
- ``meta["autocast"]``: what of torch's autocast was on, a dtype by device type.
"""

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from refiner.core.contents import PLAIN_TYPES, contents, tensors_in
from refiner.core.layers import is_conv

_READS = {torch.ops.aten._local_scalar_dense, torch.ops.aten.is_nonzero, torch.ops.aten.equal}


class Recorder(TorchDispatchMode):
    """Writes down what runs inside its context.

    Args:
        root: the model that runs.
        leaf: whether a module's call is one node.
        inputs: name and value of each input, which become the placeholders.
        prefix: of the names of constants.
    """

    def __init__(
        self,
        root: nn.Module,
        leaf: Callable[[nn.Module], bool],
        inputs: Mapping[str, Any],
        prefix: str = "_constant",
    ) -> None:
        super().__init__()
        self.graph = fx.Graph()
        self.constants: dict[str, Any] = {}
        """Values that came from outside the run, by the name of the attribute that holds each."""
        self.read: list[fx.Node] = []
        """Nodes of which the model asked for a number."""
        self.opened: set[int] = set()
        """Leaves that called a conv of the model, by ``id``: they should be none."""
        self._root, self._leaf, self._prefix = root, leaf, prefix
        self._paths = {id(m): name for name, m in root.named_modules()}
        self._stored = {
            id(t): (name, t) for name, t in (*root.named_parameters(), *root.named_buffers())
        }
        self._stored_memory = {_memory(t): (name, t) for name, t in self._stored.values()}
        self._nodes = WeakTensorKeyDictionary()
        self._born = WeakTensorKeyDictionary()
        """Tensors that a leaf made inside, and the leaf's node."""
        self._objects: dict[int, tuple[Any, fx.Node]] = {}
        self._writers: dict[int, tuple[StorageWeakRef, fx.Node]] = {}
        self._order: dict[fx.Node, int] = {}
        self._calls: list[str] = [""]
        self._in_leaf: tuple[nn.Module, fx.Node] | None = None
        self._depth = 0
        self._after: set[fx.Node] = set()
        self._hooks: list[Any] = []
        for name, value in inputs.items():
            node = self._annotated(self.graph.placeholder(re.sub(r"\W|^(?=\d)", "_", name)), value)
            self._make_known(node, value)

    def __enter__(self) -> Any:
        for module in self._root.modules():
            if not isinstance(module, torch.jit.ScriptModule):
                before = module.register_forward_pre_hook(
                    self._begin, with_kwargs=True, prepend=True
                )
                after = module.register_forward_hook(self._end, with_kwargs=True, always_call=True)
                self._hooks += [before, after]
        return super().__enter__()

    def __exit__(self, *exception: Any) -> None:
        for hook in self._hooks:
            hook.remove()
        super().__exit__(*exception)

    def finish(self, output: Any) -> fx.Graph:
        """Return the graph, which gives what the run gave."""
        self.graph.output(self._argument(output))
        return self.graph

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        written = _written(func, args, kwargs)
        if func._overloadpacket in _READS:
            self._note_read(args)
        if self._in_leaf is not None:
            module, node = self._in_leaf
            output = func(*args, **kwargs)
            for tensor in tensors_in(output):
                if tensor not in self._nodes:
                    self._born[tensor] = node
            if _convolves(func) and not is_conv(module):
                node.meta["convolves"] = True
        else:
            arguments = self._argument(args), self._argument(kwargs)
            after, self._after = self._after, set()
            output = func(*args, **kwargs)
            if not written and not tensors_in(output):
                return output
            name = func._overloadpacket.__name__
            node = self.graph.create_node("call_function", func, *arguments, name=name)
            self._annotated(node, output)
            node.meta["after"] = after
            node.meta["convolves"] = _convolves(func)
            self._make_known(node, output)
        for tensor in written:
            self._writers[_memory(tensor)] = (StorageWeakRef(tensor.untyped_storage()), node)
        return output

    def _note_read(self, args: tuple[Any, ...]) -> None:
        if self._in_leaf is not None:
            self.read.append(self._in_leaf[1])
        else:
            self.read += [n for n in map(self._nodes.get, tensors_in(args)) if n is not None]

    def reads_values(self) -> bool:
        """Return whether the run asked for numbers that follow from its inputs, as a branch does."""
        waiting, seen = list(self.read), set()
        while waiting:
            node = waiting.pop()
            if node.op == "placeholder":
                return True
            if node not in seen:
                seen.add(node)
                waiting += node.all_input_nodes
        return False

    def _begin(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        path = self._paths.get(id(module), "")
        if self._in_leaf is not None:
            self._depth += self._in_leaf[0] is module
            if is_conv(module) and not is_conv(self._in_leaf[0]) and id(module) in self._paths:
                self.opened.add(id(self._in_leaf[0]))
        elif id(module) in self._paths and self._leaf(module):
            arguments = self._argument(args), self._argument(kwargs)
            node = self.graph.create_node("call_module", path, *arguments)
            node.meta.update(path=path, after=self._after, convolves=False)
            node.meta.update(grad=torch.is_grad_enabled(), autocast=_autocast())
            self._order[node] = len(self._order)
            self._after = set()
            self._in_leaf, self._depth = (module, node), 1
        else:
            self._calls.append(path)

    def _end(
        self, module: nn.Module, _args: tuple[Any, ...], _kwargs: dict[str, Any], output: Any
    ) -> None:
        if self._in_leaf is None:
            self._calls.pop()
        elif self._in_leaf[0] is module:
            self._depth -= 1
            if self._depth == 0:
                node = self._in_leaf[1]
                self._in_leaf = None
                if output is None and sys.exc_info()[0] is not None and not node.users:
                    self.graph.erase_node(node)  # it raised, and the model may go on
                    return
                self._annotated(node, output)
                self._make_known(node, output)

    def _annotated(self, node: fx.Node, value: Any) -> fx.Node:
        self._order.setdefault(node, len(self._order))
        node.meta["shape"] = tuple(value.shape) if isinstance(value, torch.Tensor) else None
        node.meta["holds_tensor"] = any(isinstance(p, torch.Tensor) for _, p in _parts(value))
        node.meta.setdefault("path", self._calls[-1])
        node.meta.setdefault("after", set())
        node.meta.setdefault("convolves", False)
        node.meta.setdefault("grad", torch.is_grad_enabled())
        return node

    def _make_known(self, node: fx.Node, value: Any) -> None:
        """Note that ``node`` gives ``value``, and by which access each part of it."""
        at: dict[tuple[Any, ...], fx.Node] = {(): node}
        for steps, part in _parts(value):
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

    def _argument(self, value: Any) -> Any:
        """Return ``value`` as an argument of a node."""
        if isinstance(value, torch.Tensor):
            return self._tensor(value)
        if isinstance(value, torch.Size):
            return tuple(value)
        if isinstance(value, PLAIN_TYPES):
            return value
        if type(value) in (list, tuple):
            return type(value)(self._argument(item) for item in value)
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
        for _, part in _parts(value):
            if isinstance(part, torch.Tensor):
                self._tensor(part)  # what it holds is seen, if not how
        return self._constant(value)

    def _tensor(self, tensor: torch.Tensor) -> fx.Node:
        """Return the node that gives ``tensor``."""
        memory = _memory(tensor)
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

    def _constant(self, value: Any) -> fx.Node:
        for name, known in self.constants.items():
            if known is value:
                return self.graph.get_attr(name)
        name = f"{self._prefix}_{len(self.constants)}"
        self.constants[name] = value
        node = self.graph.create_node("get_attr", name)  # the attribute is set afterwards
        return self._annotated(node, value)


def _autocast() -> dict[str, torch.dtype]:
    return {
        kind: torch.get_autocast_dtype(kind)
        for kind in ("cpu", "cuda")
        if torch.is_autocast_enabled(kind)
    }


def _memory(tensor: torch.Tensor) -> int:
    """Return a number for the memory that a tensor lives in."""
    try:
        number: int = tensor.untyped_storage()._cdata
    except NotImplementedError:  # sparse tensors have none
        return id(tensor)
    return number


def _convolves(func: Any) -> bool:
    return bool(func._overloadpacket is torch.ops.aten.convolution)


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
    """Return the tensors among the arguments that an operation writes into."""
    schema = func._schema
    if not schema.is_mutable:
        return []
    written = []
    for i, argument in enumerate(schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[i] if i < len(args) else kwargs.get(argument.name)
            written += tensors_in(value)
    return written


def _parts(value: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield the tensors and the model's own objects inside a value, each with the steps to it."""
    for steps, part in contents(value):
        plain = isinstance(part, PLAIN_TYPES) or callable(part)
        if not plain and all(isinstance(key, PLAIN_TYPES) for _, key in steps):
            yield steps, part
