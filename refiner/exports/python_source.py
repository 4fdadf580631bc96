"""A model as one readable file of plain PyTorch and a safetensors file, which need torch alone.

The model is recorded (see recording.py) in eval mode, with the layers of ``torch.nn`` as leaves.
Every other operation is written out. The batch size stays open where two recordings of different
batch sizes differ in nothing else. Branches that depend on the data are as on the example input.
"""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from refiner.core.batches import batch_size, one_more
from refiner.core.errors import ModelError
from refiner.core.inputs import ExampleInput, bind, fresh
from refiner.core.preprocessing import Preprocessing
from refiner.exports.embedded import python_functions, python_head
from refiner.exports.python_layers import layer_arguments
from refiner.exports.python_writer import Writer
from refiner.graph.recording import Recorder
from refiner.graph.trace_check import repeatable

_HEAD = '''"""{title}

Plain PyTorch, made by refiner; it needs torch alone. It is the network in eval mode{batch}.

    from model import load

    model = load()  # reads model.safetensors beside this file
{inputs}"""

{imports}
'''
_INPUTS = """    scores = model(preprocess("picture.jpg"))

{inputs}
"""
_IMPORTS = """import json
from pathlib import Path

import torch
from torch import nn
"""
_LOAD = '''

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U8": torch.uint8, "BOOL": torch.bool,
}


def read_safetensors(path):
    """Return the tensors of a safetensors file: header length (8 bytes), JSON header, data."""
    data = Path(path).read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    tensors = {}
    for name, entry in json.loads(data[8:start]).items():
        if name == "__metadata__":
            continue
        first, last = entry["data_offsets"]
        dtype, shape = DTYPES[entry["dtype"]], entry["shape"]
        if first == last:
            tensors[name] = torch.empty(shape, dtype=dtype)
        else:
            part = bytearray(data[start + first : start + last])
            tensors[name] = torch.frombuffer(part, dtype=dtype).reshape(shape)
    return tensors


def load(path=Path(__file__).with_name("model.safetensors")):
    model = Model()
    model.load_state_dict(read_safetensors(path), assign=True)
    return model.eval()
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonSource:
    """A model as source text and weights."""

    code: str
    weights: dict[str, torch.Tensor]
    any_batch: bool
    """Whether the code takes any batch size."""


def python_source(
    model: nn.Module,
    example: ExampleInput,
    title: str,
    *,
    methods: bool = True,
    preprocessing: Preprocessing | None = None,
) -> PythonSource:
    """Return ``model``, in eval mode on the CPU, as plain PyTorch.

    Args:
        model: what to write.
        example: an example input.
        title: of the file.
        methods: write ``x.mean(1)`` for an operation of aten if tensors have a method of its name,
            and layers for the operations of batch norms. A few methods mean something else, which
            only a run shows.
        preprocessing: how pictures become inputs; it is written as a function ``preprocess``.

    Raises:
        ModelError: it holds or gives something that cannot be written down.
    """
    graph, constants = _recorded(model, example)
    size = batch_size(example)
    larger = one_more(example)
    counted = None
    if batch_size(larger) == size + 1:
        with contextlib.suppress(Exception):  # the model may take this batch size alone
            counted = _follow_the_batch(graph, _recorded(model, larger)[0], size)
    any_batch = counted is not None
    writer = Writer(model, constants, counted or {}, methods)
    body = writer.forward(graph)
    init = writer.init()
    batch = "" if any_batch else f", for a batch of {size}"
    code = _head(title, batch, preprocessing) + "\n" + init + "\n" + body + _LOAD
    if preprocessing is not None:
        code += "\n\n" + python_functions(preprocessing)
    return PythonSource(code=code, weights=writer.weights, any_batch=any_batch)


def _head(title: str, batch: str, preprocessing: Preprocessing | None) -> str:
    """Return the docstring and the imports."""
    if preprocessing is None:
        return _HEAD.format(title=title, batch=batch, inputs="", imports=_IMPORTS)
    inputs, imports = python_head(preprocessing)
    text = _HEAD.format(
        title=title, batch=batch, inputs=_INPUTS.format(inputs=inputs), imports=imports
    )
    return text.replace("import load\n", "import CLASSES, load, preprocess\n", 1).replace(
        "it needs torch alone", "it does not need refiner", 1
    )


def _recorded(model: nn.Module, example: ExampleInput) -> tuple[fx.Graph, dict[str, Any]]:
    layers = {id(m) for m in model.modules() if m is not model and layer_arguments(m) is not None}
    with repeatable(model, training=False):
        positional, keywords = bind(model, fresh(example))
        inputs = {**positional, **keywords}
        recorder = Recorder(model, lambda module: id(module) in layers, inputs)
        with recorder:
            output = model(*positional.values(), **keywords)
        return recorder.finish(_plain(output)), recorder.constants


def _plain(output: Any) -> Any:
    """Return an output with plain dicts and tuples for containers of other kinds."""
    if isinstance(output, torch.Tensor):
        return output
    if isinstance(output, Mapping):
        if all(isinstance(key, str) for key in output):
            return {key: _plain(value) for key, value in output.items()}
        raise ModelError("an output with keys that are not text cannot be written as plain PyTorch")
    if isinstance(output, list):
        return [_plain(value) for value in output]
    if isinstance(output, tuple):
        return tuple(_plain(value) for value in output)
    if output is None or isinstance(output, bool | int | float | str):
        return output
    raise ModelError(
        f"an output of type {type(output).__name__} cannot be written as plain PyTorch"
    )


def _follow_the_batch(
    graph: fx.Graph, other: fx.Graph, size: int
) -> dict[tuple[int, tuple[Any, ...]], int] | None:
    """Return the integers that follow the batch size, as multiples of it.

    Returns None if the graphs differ in anything else.

    An integer is named by the number of its node and its place in the node's arguments.
    """
    counted = {}
    if len(graph.nodes) != len(other.nodes):
        return None
    for i, (a, b) in enumerate(zip(graph.nodes, other.nodes, strict=True)):
        if (a.op, str(a.target)) != (b.op, str(b.target)):
            return None
        here, there = dict(_leaves((a.args, a.kwargs))), dict(_leaves((b.args, b.kwargs)))
        if here.keys() != there.keys():
            return None
        for place, value in here.items():
            new = there[place]
            if isinstance(value, fx.Node):
                continue
            if type(value) is int and type(new) is int and value != new:
                times = new - value
                if times * size != value:
                    return None
                counted[i, place] = times
            elif str(value) != str(new):
                return None
    return counted


def _leaves(value: Any, place: tuple[Any, ...] = ()) -> Iterable[tuple[tuple[Any, ...], Any]]:
    if isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _leaves(item, (*place, i))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, (*place, key))
    elif isinstance(value, slice):
        yield from _leaves([value.start, value.stop, value.step], place)
    else:
        yield place, value
