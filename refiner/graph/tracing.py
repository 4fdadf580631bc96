"""Trace a model: record it on an example input as a ``torch.fx.GraphModule`` with shapes.

The model runs in eval and in train mode, and each run is recorded (see ``recording.py``). A leaf is
a module whose call is one node: every conv and norm of any class, and every submodule without a
conv, but for those that may be gates of linear layers. So dropout, drop-path and attention keep
their own behaviour in train and eval mode. Everything else is recorded operation by operation. A
branch that depends on data is recorded as the example input took it. The graph has to reproduce the
recorded outputs before it is used.
"""

import contextlib
from collections.abc import Mapping

import torch
from torch import fx, nn
from torch.fx.node import Argument

from refiner.core.errors import ModelError, one_line
from refiner.core.escapes import check_escapes
from refiner.core.inputs import ExampleInput, bind, fresh, to_device_of
from refiner.core.layers import holds_conv, is_conv, is_norm, squeezes
from refiner.core.surgery import copied
from refiner.core.thawing import thaw
from refiner.core.types import Output
from refiner.graph.model_kinds import check_kind
from refiner.graph.outside import Outside
from refiner.graph.recomputed import mark_recomputed
from refiner.graph.recording import Recorder
from refiner.graph.trace_check import (
    Run,
    check_repeats,
    checked_output,
    reference_runs,
    repeatable,
    run_original,
    same,
)
from refiner.graph.traced_model import TracedModel

_CONSTANT = "_constant"


def trace(model: nn.Module, example_input: ExampleInput) -> fx.GraphModule:
    """Record a run of ``model`` on an example input, and check that the graph does the same.

    The returned module holds a graph for each mode and runs that of its current mode. ``graph`` is
    the graph of eval mode. ``meta["train_graph"]`` is that of train mode, or None if the model
    fails there on this input. ``recording.py`` lists the metadata of the nodes. The module tree,
    and so the name of each parameter and buffer, is that of the model.

    Args:
        model: any module; it is copied, never changed. It may be on the meta device.
        example_input: a tensor, a tuple of positional or a mapping of keyword arguments. Other
            arguments of ``forward`` keep their defaults.

    Raises:
        ModelError: the model cannot be copied, rejects the example input, or gives other outputs
            when it runs again under the same seed.
    """
    traced = trace_model(model, example_input)
    traced.confirm()
    return traced.graph_module


def trace_model(model: nn.Module, example_input: ExampleInput) -> TracedModel:
    """Return the graph of ``model`` with the runs that it was recorded from.

    The graph has reproduced the recorded outputs. The caller still has to check them with a run
    without recording: call :meth:`TracedModel.confirm` or ``probe.irreplaceable``.

    Args:
        model: any module; it is copied, never changed.
        example_input: as for :func:`trace`.

    Raises:
        ModelError: as for :func:`trace`.
    """
    check_kind(model)
    work = copied(model)
    thaw(work)
    outside = Outside(model, work)
    names = {id(module) for module in work.modules()}
    recorders: dict[bool, Recorder] = {}

    def check_modules() -> None:
        grown = [name for name, module in work.named_modules() if id(module) not in names]
        if grown:
            raise ModelError(
                f"{type(work).__name__} makes the module {grown[0]} when it is called. Run it once "
                "before you give it to refiner, so that all its modules exist."
            )

    def recorded(work: nn.Module, example: ExampleInput, training: bool) -> Output:
        try:
            recorders[training], output = _record(work, example, training, outside)
        except Exception:
            output = run_original(work, example, training)  # the model's own error, if it is one
            if not training:
                check_modules()
                raise
        return output

    try:
        runs = reference_runs(work, to_device_of(work, example_input), recorded)
    except ModelError:
        check_escapes(model, work)  # a run may fill a container that both share
        raise
    check_escapes(model, work)
    outside.check()
    check_modules()
    for run in runs:
        if run.training and True in recorders:
            mark_recomputed(recorders[True].graph, work, run.example)
    traced = _with_graphs(work, recorders)
    on_meta = any(parameter.is_meta for parameter in work.parameters())
    if not on_meta:  # there, no value could be compared
        for run in runs:
            if not run.training or traced.meta["train_graph"] is not None:
                _check_replay(work, traced, run)
    return TracedModel(source=model, work=work, graph_module=traced, runs=runs, confirmed=on_meta)


def _check_replay(work: nn.Module, traced: fx.GraphModule, run: Run) -> None:
    """Raise a ModelError unless the graph reproduces the output of the recorded run."""
    again: Output = None
    trouble = "gives other outputs"
    with repeatable(traced, run.training):
        positional, keyword = bind(work, fresh(run.example))
        try:
            again = traced(*positional.values(), *keyword.values())
        except Exception as error:
            trouble = f"fails ({one_line(error, 150)})"
    if not same(run.output, again):
        check_repeats(work, run)
        raise ModelError(
            f"{type(work).__name__} cannot be traced: its recorded run {trouble}. It may call a "
            "module with other parameters than its own, or keep state that is in no buffer."
        )


def reads_values(model: nn.Module, example: ExampleInput) -> bool:
    """Return whether the model, in eval mode, reads numbers that depend on its input.

    With other input values it may then run other operations than it ran here.
    """
    recorder, _ = _record(model, example, training=False)
    return recorder.reads_values()


def _with_graphs(work: nn.Module, recorders: Mapping[bool, Recorder]) -> fx.GraphModule:
    """Return a module that shares the tree of ``work`` and runs the recorded graph of its mode."""
    by_mode = {}
    for training, recorder in recorders.items():
        module = fx.GraphModule(nn.Module(), fx.Graph(), type(work).__name__)
        # Set before there are submodules, since one may be named graph.
        module.graph = recorder.graph
        for kind in ("_parameters", "_buffers", "_modules"):
            getattr(module, kind).update(getattr(work, kind))
        for name, value in recorder.constants.items():
            object.__setattr__(module, name, value)  # in no state dict
        by_mode[training] = module
    traced, train = by_mode[False], by_mode.get(True)
    traced.training = work.training
    traced.meta["train_graph"] = train.graph if train is not None else None
    if train is not None:
        vars(traced).update({k: v for k, v in vars(train).items() if k.startswith(_CONSTANT)})
    _replay_by_mode(type(traced))
    return traced


class _Replay(fx.Interpreter):
    """Runs a recorded graph; each leaf runs with its recorded gradient and autocast state."""

    def fetch_attr(self, target: str) -> object:
        holder: object = self.module
        for name in target.split("."):
            # A submodule may have the name of an attribute of GraphModule, so look there first.
            tables = [getattr(holder, t) for t in ("_modules", "_parameters", "_buffers")]
            table = next((t for t in tables if name in t), None)
            holder = getattr(holder, name) if table is None else table[name]
        return holder

    def map_nodes_to_values(self, args: Argument, n: fx.Node) -> Argument:
        # A graph keeps lists and dicts as types of its own, which cannot be written to.
        return _plain(super().map_nodes_to_values(args, n))

    def run_node(self, n: fx.Node) -> Output:
        with contextlib.ExitStack() as stack:
            if self.module.training and not n.meta.get("grad", True):
                stack.enter_context(torch.no_grad())
            for kind, dtype in n.meta.get("autocast", {}).items():
                stack.enter_context(torch.autocast(kind, dtype=dtype))
            return super().run_node(n)


def _plain(value: Argument) -> Argument:
    """Return a node's argument with Python's own lists and dicts."""
    if isinstance(value, fx.immutable_collections.immutable_list):
        return [_plain(item) for item in value]
    if isinstance(value, fx.immutable_collections.immutable_dict):
        return {key: _plain(item) for key, item in value.items()}
    if type(value) is tuple:
        return tuple(_plain(item) for item in value)
    return value


def _replay_by_mode(own: type[fx.GraphModule]) -> None:
    """Make the class of one GraphModule, which no other shares, run the graph of its mode."""

    def forward(self: fx.GraphModule, *args: object, **kwargs: object) -> Output:
        graph = (self.meta["train_graph"] if self.training else None) or self.graph
        names = [n.target for n in graph.nodes if n.op == "placeholder"]
        given = [*args, *(kwargs[name] for name in names[len(args) :] if name in kwargs)]
        return _Replay(self, graph=graph).run(*given)

    own.forward = forward


def _record(
    work: nn.Module, example: ExampleInput, training: bool, outside: Outside | None = None
) -> tuple[Recorder, Output]:
    """Return the recorder of one run, and the run's detached output."""
    opened: set[int] = set()

    def leaf(module: nn.Module) -> bool:
        if module is work or id(module) in opened:
            return False
        return is_conv(module) or is_norm(module) or not (holds_conv(module) or squeezes(module))

    prefix = f"{_CONSTANT}_{'train' if training else 'eval'}"
    while True:
        with repeatable(work, training):
            positional, keyword = bind(work, fresh(example))
            recorder = Recorder(work, leaf, {**positional, **keyword}, prefix, outside)
            with recorder:
                output = work(*positional.values(), **keyword)
        if recorder.opened <= opened:
            recorder.finish(output)
            return recorder, checked_output(work, output)
        opened |= recorder.opened  # modules that have no convs but call the model's
