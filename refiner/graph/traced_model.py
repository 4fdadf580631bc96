"""A recorded model: its graph, and the outputs of the original in each mode.

Every later check compares with the recorded outputs, so the original runs once for all of them.
:meth:`TracedModel.confirm` checks that recording itself does not change the outputs.
"""

from dataclasses import dataclass, field
from typing import TypeAlias

from torch import fx, nn

from refiner.core.errors import ModelError
from refiner.graph.trace_check import Run, check_repeats, run_original, same

Shapes: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]
"""Of the input and of the output of a conv."""


@dataclass(slots=True, kw_only=True)
class TracedModel:
    """A model's graph, and the runs that it was recorded from."""

    source: nn.Module
    """The caller's model; it is never changed."""
    work: nn.Module
    """A copy of it for further runs."""
    graph_module: fx.GraphModule
    """The graph of each mode; see :func:`refiner.trace`."""
    runs: tuple[Run, ...]
    """The recorded run in eval mode and, if the model can run there, the one in train mode."""
    confirmed: bool = False
    """Whether a run without recording gave the recorded outputs."""
    replaceable: set[str] = field(default_factory=set)
    """Names of modules that can be replaced together, as a run has shown; see ``probe.py``."""
    read: set[str] = field(default_factory=set)
    """Names of modules whose hyperparameters the model reads, of those in ``replaceable``."""
    shapes: dict[str, Shapes] | None = None
    """Of each conv, for one sample, once they are known; see ``sample_shapes.py``."""

    def confirm(self) -> None:
        """Run the original without recording, if no such run has happened yet.

        Raises:
            ModelError: its outputs differ from the recorded ones.
        """
        if self.confirmed:
            return
        for run in self.runs:
            if not same(run.output, run_original(self.work, run.example, run.training)):
                check_repeats(self.work, run)
                raise ModelError(
                    f"{type(self.work).__name__} cannot be traced: its outputs change when it is "
                    "recorded. It may keep state that is in no buffer."
                )
        self.confirmed = True
