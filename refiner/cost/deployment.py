"""Where a network will be deployed, as far as its milliseconds depend on it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from refiner.core.batches import of_size
from refiner.core.inputs import ExampleInput
from refiner.cost.latency import Conditions, Latency, conditions_of, network_latencies
from refiner.runtimes.choice import make_runtime
from refiner.runtimes.runtime import Runtime
from refiner.runtimes.timing import COPIES, Patience


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A runtime, and the batch that it gets."""

    runtime: Runtime
    batch: ExampleInput
    threads: int | None = None
    """Most CPU threads; None for as many as torch uses."""

    @classmethod
    def choose(
        cls,
        example: ExampleInput,
        *,
        runtime: str = "auto",
        device: torch.device,
        precision: str = "no",
        threads: int | None = None,
        batch: int = 1,
    ) -> "Deployment":
        """Return a deployment by the name of its runtime.

        Args:
            example: an example input; its samples are repeated where ``batch`` is larger.
            runtime: one of :data:`refiner.runtimes.choice.RUNTIMES`.
            device: where networks run.
            precision: ``no`` or ``bf16``.
            threads: most CPU threads; by default as many as torch uses.
            batch: samples of the timed batch.

        Raises:
            ConfigError: the runtime is not installed, or does not run on the device.
        """
        made = make_runtime(runtime, device, precision, threads)
        return cls(runtime=made, batch=of_size(example, batch), threads=threads)

    @property
    def conditions(self) -> Conditions:
        """What its latencies depend on."""
        return conditions_of(self.runtime, self.batch)

    def latencies(
        self,
        networks: Sequence[nn.Module],
        patience: Patience | None = None,
        copies: int = COPIES,
    ) -> list[Latency]:
        """Return the latency of a forward pass of each network, timed in turn.

        Raises:
            ModelError: the runtime cannot hold one of them.
        """
        return network_latencies(
            networks, self.batch, runtime=self.runtime, patience=patience, copies=copies
        )

    def beside(self, device: torch.device, precision: str = "no") -> "list[Deployment]":
        """Return this deployment, then those that every report shows: eager PyTorch and, on a CPU,
        onnxruntime.
        """
        names = ("eager", "onnxruntime") if device.type == "cpu" else ("eager",)
        others = [
            make_runtime(name, device, precision, self.threads)
            for name in names
            if name != self.runtime.name
        ]
        return [self, *(replace(self, runtime=runtime) for runtime in others)]
