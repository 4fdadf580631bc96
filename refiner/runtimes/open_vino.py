"""OpenVINO on a CPU, with its hint for latency."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from refiner.core.errors import ModelError, one_line
from refiner.core.inputs import ExampleInput
from refiner.runtimes.hardware import hardware_name
from refiner.runtimes.onnx_program import onnx_program
from refiner.runtimes.runtime import Pass

_HINTS = {"no": "f32", "bf16": "bf16"}


class OpenVino:
    """A compiled model and one inference request.

    Args:
        precision: ``no`` for float32, or ``bf16``.
        threads: of a pass.
    """

    name = "openvino"

    def __init__(self, precision: str, threads: int) -> None:
        import openvino

        self.threads, self.precision = threads, precision
        self.version = str(openvino.get_version()).partition("-")[0]
        self.device = torch.device("cpu")
        self.hardware = hardware_name(self.device, threads)
        self._core = openvino.Core()

    def prepare(self, network: nn.Module, example: ExampleInput) -> Pass:
        """Return a pass of a newly compiled model."""
        return self.request(*onnx_program(network, example))

    def program(self, file: Path) -> Callable[[list[torch.Tensor]], list[torch.Tensor]]:
        """Return what runs an ONNX file on tensors, in the order of its inputs."""
        compiled = self._compiled(str(file))
        request = compiled.create_infer_request()

        def run(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
            outputs = request.infer([tensor.cpu().numpy() for tensor in tensors])
            return [torch.from_numpy(outputs[i].copy()) for i in range(len(outputs))]

        return run

    def request(self, program: bytes, inputs: Mapping[str, torch.Tensor]) -> Pass:
        """Return a pass of a request for an ONNX program."""
        compiled = self._compiled(program)
        names = {name for port in compiled.inputs for name in port.get_names()}
        given: dict[str, Any] = {
            name: tensor.cpu().numpy() for name, tensor in inputs.items() if name in names
        }
        one = partial(compiled.create_infer_request().infer, given)
        try:
            one()
        except Exception as error:
            raise ModelError(f"OpenVINO cannot run this model: {one_line(error)}") from error
        return one

    def _compiled(self, program: bytes | str) -> Any:
        hints = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": str(self.threads),
            "INFERENCE_PRECISION_HINT": _HINTS[self.precision],
        }
        try:
            return self._core.compile_model(self._core.read_model(program), "CPU", hints)
        except Exception as error:
            raise ModelError(f"OpenVINO cannot hold this model: {one_line(error)}") from error

    def running(self) -> AbstractContextManager[None]:
        """Return an empty context."""
        return nullcontext()
