"""Model and example input to a ``torch.fx.GraphModule`` with shapes, believed once it has run.

What is traced through takes the mode with it: each module is traced in eval and in train mode, and
where the two graphs differ in a flag alone (``F.dropout(x, training=self.training)``), the flag is read
from the module when the graph runs. fx alone would freeze it.

The leaves of a trace are (1) every conv and norm, whatever its class, (2) every submodule without a
conv, so that dropout, drop-path and attention keep their own train and eval behaviour, and (3) every
submodule whose forward cannot be traced, or whose traced form behaves differently from the original
in eval or in train mode; those are found by trying.
"""

import copy
import inspect
import operator
from typing import Any

from torch import fx, nn
from torch.utils import _pytree as pytree

from refiner.errors import ModelError, one_line
from refiner.inputs import call_arguments, to_device_of
from refiner.layers import holds_conv, is_conv, is_norm
from refiner.modes import mode
from refiner.trace_check import Recorder, Run, as_found, fresh, reference_runs, run_original, same


def trace(model: nn.Module, example_input: Any) -> fx.GraphModule:
    """Trace ``model`` and check that the trace does what the model does.

    Every node of the returned graph carries ``meta["shape"]``, the shape of its output as a tuple of
    ints (None where the output is no tensor), and ``meta["holds_tensor"]``. The module tree below
    the graph module, and so each name of a parameter or buffer, is that of the model.

    Args:
        model: any module; it is copied, never changed.
        example_input: a tensor, a tuple of positional or a mapping of keyword arguments. Arguments
            of ``forward`` that it does not name are bound to their defaults.

    Raises:
        ModelError: the model rejects the example input, cannot be copied, or its own forward (the
            root's, not that of a submodule) cannot be traced.
    """
    try:
        work = copy.deepcopy(model)
    except Exception as error:
        raise ModelError(f"the model cannot be copied: {one_line(error)}") from error
    example = to_device_of(work, example_input)
    with mode(work, training=False):
        traced = _faithful_trace(work, example)
    traced.training = work.training
    return traced


def _faithful_trace(work: nn.Module, example: Any) -> fx.GraphModule:
    """Trace a model in eval mode, with as many leaves as it takes to repeat the original."""
    runs = reference_runs(work, example)
    leaves: set[str] = set()
    while True:
        tracer = _Tracer(example, frozenset(leaves))
        graph = _trace_once(tracer, work, leaves)
        if graph is None:
            continue
        _read_mode_when_run(graph, work, example, leaves)
        traced = _graph_module(work, graph)
        differences = (_first_fault(work, traced, tracer, run) for run in runs)
        culprit = next((path for path in differences if path is not None), None)
        if culprit is None:
            return traced
        _add_leaf(leaves, culprit, work, "its traced form behaves differently")


class _Tracer(fx.Tracer):
    """fx's tracer with refiner's leaves; it remembers where it failed and what it traced through."""

    def __init__(self, example: Any, leaves: frozenset[str]) -> None:
        super().__init__(param_shapes_constant=True)
        self.example = example
        self.leaves = leaves
        self.failed: str | None = None
        self.traced_through: list[tuple[str, Any]] = []
        """(module path, its output with nodes for proxies), in the order in which calls ended."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return is_conv(m) or is_norm(m) or module_qualified_name in self.leaves or not holds_conv(m)

    def call_module(
        self, m: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        path = self.path_of_module(m)
        leaf = self.is_leaf_module(m, path)
        try:
            output = super().call_module(m, forward, args, kwargs)
        except Exception:
            if self.failed is None:
                self.failed = path
            raise
        if not leaf:
            nodes = pytree.tree_map(lambda v: v.node if isinstance(v, fx.Proxy) else v, output)
            self.traced_through.append((path, nodes))
        return output

    def create_args_for_root(
        self,
        root_fn: Any,
        is_module: bool,  # noqa: ARG002
        concrete_args: Any = None,  # noqa: ARG002
    ) -> tuple[Any, list[Any]]:
        """Make placeholders for what the example input names; defaults stay what they are."""
        positional, keyword = _bind(self.root, self.example)
        proxies = [
            self.create_proxy("placeholder", name, (), {}) for name in (*positional, *keyword)
        ]

        def forward(root: nn.Module, *given: fx.Proxy) -> Any:
            count = len(positional)
            return root_fn(root, *given[:count], **dict(zip(keyword, given[count:], strict=True)))

        return forward, [self.root, *proxies]


def _bind(model: nn.Module, example: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the positional and the keyword arguments of ``forward``, by parameter name, in order."""
    args, kwargs = call_arguments(example)
    signature = inspect.signature(type(model).forward)
    try:
        bound = signature.bind(model, *args, **kwargs)
    except TypeError as error:
        raise ModelError(
            f"the example input does not fit {type(model).__name__}.forward: {error}"
        ) from error
    names = list(signature.parameters)
    variadic = any(p.kind is p.VAR_POSITIONAL for p in signature.parameters.values())
    positional = {
        f"arg_{i}" if variadic or i >= len(names) else names[i]: value
        for i, value in enumerate(bound.args)
        if i > 0
    }
    return positional, bound.kwargs


def _flat(model: nn.Module, example: Any) -> list[Any]:
    """Return fresh copies of the example's values in the order of the graph's placeholders."""
    positional, keyword = _bind(model, fresh(example))
    return [*positional.values(), *keyword.values()]


def _trace_once(tracer: _Tracer, work: nn.Module, leaves: set[str]) -> fx.Graph | None:
    """Return the graph, or None after adding the submodule that failed to ``leaves``."""
    try:
        return tracer.trace(work)
    except ModelError:
        raise
    except Exception as error:
        if tracer.failed is None:
            raise ModelError(
                f"{type(work).__name__}.forward cannot be traced: {one_line(error)}. "
                "Move the part that depends on the data into a submodule."
            ) from error
        _add_leaf(leaves, tracer.failed, work, one_line(error))
        return None


def _read_mode_when_run(graph: fx.Graph, work: nn.Module, example: Any, leaves: set[str]) -> None:
    """Replace the flags of an eval graph that follow ``self.training`` by reads of it.

    The graph is left as it is where train mode takes another course altogether.
    """
    try:
        with mode(work, training=True):
            other = _Tracer(example, frozenset(leaves)).trace(work)
    except Exception:
        return
    pairs = list(zip(graph.nodes, other.nodes, strict=False))
    if len(graph.nodes) != len(other.nodes) or any(
        (a.op, a.target, a.name) != (b.op, b.target, b.name) for a, b in pairs
    ):
        return
    for node, in_training in pairs:
        here: list[Any]
        here, structure = pytree.tree_flatten((tuple(node.args), dict(node.kwargs)))
        there = pytree.tree_leaves((tuple(in_training.args), dict(in_training.kwargs)))
        flags = [
            i
            for i, (a, b) in enumerate(zip(here, there, strict=False))
            if type(a) is bool and type(b) is bool and a is not b
        ]
        if not flags:
            continue
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        path = f"{stack[-1][0]}.training" if stack and stack[-1][0] else "training"
        with graph.inserting_before(node):
            training = graph.get_attr(path)
            inverse = graph.call_function(operator.not_, (training,))
        for i in flags:
            here[i] = inverse if here[i] is True else training
        node.args, node.kwargs = pytree.tree_unflatten(here, structure)
        if not inverse.users:
            graph.erase_node(inverse)


def _add_leaf(leaves: set[str], path: str, work: nn.Module, reason: str) -> None:
    if path == "" or path in leaves:
        raise ModelError(
            f"{type(work).__name__}.forward cannot be traced faithfully: {reason}. "
            "Move the part that depends on the data or on the mode into a submodule."
        )
    leaves.add(path)


def _graph_module(work: nn.Module, graph: fx.Graph) -> fx.GraphModule:
    """Return a GraphModule over ``work``'s own module tree, unused modules and buffers included."""
    traced = fx.GraphModule(work, graph, type(work).__name__)
    for kind in ("_parameters", "_buffers", "_modules"):
        table = getattr(traced, kind)
        extra = {name: value for name, value in table.items() if name not in getattr(work, kind)}
        table.clear()
        table.update(getattr(work, kind))
        table.update(extra)
    return traced


def _first_fault(work: nn.Module, traced: fx.GraphModule, tracer: _Tracer, run: Run) -> str | None:
    """Return None if the trace repeats the original, else the path of the submodule to blame.

    The path is empty where the root's own forward is to blame.
    """
    recorder = Recorder(traced)
    with as_found(traced, run.training):
        try:
            output = recorder.run(*_flat(work, run.example))
        except Exception:
            stack = recorder.running.meta.get("nn_module_stack") if recorder.running else None
            through = {path for path, _ in tracer.traced_through}
            return next((p for p, _ in reversed((stack or {}).values()) if p in through), "")
    if same(run.output, output):
        return None
    return _first_difference(work, traced, tracer, run)


def _first_difference(work: nn.Module, traced: fx.GraphModule, tracer: _Tracer, run: Run) -> str:
    """Return the first submodule to end its call with another value traced than untraced."""
    values: list[tuple[str, Any]] = []
    paths = {path for path, _ in tracer.traced_through}
    hooks = [
        module.register_forward_hook(
            lambda _m, _i, out, path=path: values.append((path, fresh(out)))
        )
        for path, module in work.named_modules()
        if path in paths
    ]
    try:
        run_original(work, run.example, run.training)
    finally:
        for hook in hooks:
            hook.remove()
    wanted = frozenset(
        leaf
        for _, nodes in tracer.traced_through
        for leaf in pytree.tree_leaves(nodes)
        if isinstance(leaf, fx.Node)
    )
    recorder = Recorder(traced, wanted)
    with as_found(traced, run.training):
        recorder.run(*_flat(work, run.example))
    for (path, expected), (traced_path, nodes) in zip(values, tracer.traced_through, strict=False):
        got = pytree.tree_map(
            lambda v: recorder.kept.get(v) if isinstance(v, fx.Node) else v, nodes
        )
        if path != traced_path or not same(expected, got):
            return traced_path
    return ""
