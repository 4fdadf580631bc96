"""Run a model repeatably in both modes, and compare the outputs of two runs."""

import contextlib
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.utils import _pytree as pytree

from refiner.core.batches import batch_size, doubled
from refiner.core.contents import PLAIN_TYPES, contents, describe
from refiner.core.errors import ModelError, one_line
from refiner.core.inputs import ExampleInput, call, fresh
from refiner.core.modes import mode
from refiner.core.randomness import seeded
from refiner.core.tolerance import close, rerun_tolerance
from refiner.core.types import Output
from refiner.graph.input_advice import advice_on_input

_SEED = 0


@contextmanager
def repeatable(module: nn.Module, training: bool) -> Iterator[None]:
    """Make runs inside repeatable: set the mode and the seed, and restore buffers and mode after.

    Gradients are on in train mode only, as in training, since some operations depend on that.
    """
    tables = [(child._buffers, dict(child._buffers)) for child in module.modules()]
    values = [(buffer, buffer.clone()) for buffer in module.buffers() if not buffer.is_inference()]
    try:
        with mode(module, training), torch.set_grad_enabled(training), seeded(_SEED):
            yield
    finally:
        for table, before in tables:  # a forward may assign another tensor to a buffer
            table.clear()
            table.update(before)
        with torch.no_grad():
            for buffer, value in values:
                # An expanded buffer refuses; nothing can have written to it either.
                with contextlib.suppress(RuntimeError):
                    buffer.copy_(value)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the original."""

    example: ExampleInput
    training: bool
    """Whether it ran in train mode."""
    output: Output


def run_original(work: nn.Module, example: ExampleInput, training: bool) -> Output:
    """Return the model's output for an example input in one mode; all runs share one seed.

    Raises:
        ModelError: the model fails, or returns an iterator.
    """
    with repeatable(work, training):
        try:
            output = call(work, fresh(example))
        except Exception as error:
            name = "train" if training else "eval"
            advice = (
                advice_on_input(work, example) or "Give an input that fits, or correct the model."
            )
            raise ModelError(
                f"{type(work).__name__} fails on an input of shape {describe(example)} in {name} "
                f"mode: {one_line(error)}{location_of(error)}. {advice}"
            ) from error
    return checked_output(work, output)


def checked_output(work: nn.Module, output: Output) -> Output:
    """Return a model's output with its tensors detached.

    Raises:
        ModelError: the output is an iterator, which computes nothing until it is read.
    """
    if isinstance(output, Iterator):
        raise ModelError(
            f"{type(work).__name__} returns a {type(output).__name__}, which has not run yet. "
            "Return a list or a tuple."
        )
    return pytree.tree_map(lambda v: v.detach() if isinstance(v, torch.Tensor) else v, output)


def reference_runs(
    work: nn.Module,
    example: ExampleInput,
    run: Callable[[nn.Module, ExampleInput, bool], Output] = run_original,
) -> tuple[Run, ...]:
    """Run the original in eval and in train mode.

    A norm over a single value cannot train, so a batch of one is doubled where train mode needs
    it. A model may still fail in train mode, for example because it wants targets. Then the run in
    eval mode is the only one.

    Args:
        work: the model.
        example: an example input on the model's device.
        run: returns the output of one run, given the model, an input and whether it trains.

    Raises:
        ModelError: the model fails in eval mode.
    """
    evaluated = Run(example, False, run(work, example, False))
    examples = [example]
    if batch_size(example) == 1:
        examples.append(doubled(example))
    for given in examples:
        with contextlib.suppress(ModelError):
            return evaluated, Run(given, True, run(work, given, True))
    return (evaluated,)


def location_of(error: Exception) -> str:
    """Return where in the model's own code an error arose, as in `` (net.py, line 12)``."""
    torch_home = str(Path(torch.__file__).parent)
    here = str(Path(__file__).parents[1])
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not f.filename.startswith((torch_home, here))]
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""


def check_repeats(work: nn.Module, run: Run) -> None:
    """Run the model twice, and check that each module gives the same outputs again.

    Raises:
        ModelError: a module gives other outputs; the message names the first one.
    """

    def outputs() -> list[tuple[str, Output]]:
        seen: list[tuple[str, Output]] = []
        hooks = [
            module.register_forward_hook(lambda _m, _i, out, n=name: seen.append((n, fresh(out))))
            for name, module in work.named_modules()
        ]
        try:
            run_original(work, run.example, run.training)
        finally:
            for hook in hooks:
                hook.remove()
        return seen

    for (name, first), (_, second) in zip(outputs(), outputs(), strict=False):
        if not same(first, second):
            what = (
                f"module {name} ({type(work.get_submodule(name)).__name__})" if name else "itself"
            )
            raise ModelError(
                f"{type(work).__name__} cannot be refined: {what} gives other outputs when it runs "
                "again on the same input with the same seed. Keep state between calls in buffers "
                "only, and draw random numbers from the global generators only."
            )


def same(first: Output, second: Output) -> bool:
    """Return whether two outputs hold equal tensors (NaN equals NaN) in equal structures.

    On a CPU they are equal to the bit, elsewhere up to the rounding of the device.
    Tensors on the meta device have no values, so only their shapes and types count.
    """
    if pytree.tree_structure(first) != pytree.tree_structure(second):
        return False
    ours, theirs = list(contents(first)), list(contents(second))
    return len(ours) == len(theirs) and all(
        steps == others and _same_part(a, b)
        for (steps, a), (others, b) in zip(ours, theirs, strict=True)
    )


def _same_part(first: Output, second: Output) -> bool:
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return (
            first.shape == second.shape
            and first.dtype == second.dtype
            and (first.is_meta or close(first, second, rerun_tolerance(first)))
        )
    if isinstance(first, PLAIN_TYPES):
        both_nan = first != first and second != second
        return type(first) is type(second) and (first == second or both_nan)
    return type(first) is type(second)
