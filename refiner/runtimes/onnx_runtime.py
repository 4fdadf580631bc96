"""onnxruntime, which fuses norms and activations into convs and lays channels out in blocks."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from refiner.core.errors import ConfigError, ModelError, one_line
from refiner.core.inputs import ExampleInput
from refiner.runtimes.hardware import hardware_name
from refiner.runtimes.onnx_program import onnx_program
from refiner.runtimes.runtime import Pass

TENSORRT = "TensorrtExecutionProvider"
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxRuntime:
    """An inference session with onnxruntime's defaults, in float32.

    Args:
        device: a GPU is used by the provider for CUDA.
        threads: of a session.
        provider: the execution provider; by default that of the device.
    """

    precision = "no"

    def __init__(self, device: torch.device, threads: int, provider: str | None = None) -> None:
        import onnxruntime

        self.threads, self.version = threads, str(onnxruntime.__version__)
        self.provider = provider or _PROVIDERS.get(device.type, "CPUExecutionProvider")
        self.name = "tensorrt" if provider == TENSORRT else "onnxruntime"
        if self.provider not in onnxruntime.get_available_providers():
            raise ConfigError(
                f"this onnxruntime has no {self.provider}. Install it: pip install onnxruntime-gpu."
            )
        self.hardware = hardware_name(device, threads)
        self.device = torch.device("cpu")  # a session returns when its pass has ended

    def prepare(self, network: nn.Module, example: ExampleInput) -> Pass:
        """Return a pass of a new session."""
        return self.session(*onnx_program(network, example))

    def program(self, file: Path) -> Callable[[list[torch.Tensor]], list[torch.Tensor]]:
        """Return what runs an ONNX file on tensors, in the order of its inputs."""
        session = self._session(str(file))
        names = [entry.name for entry in session.get_inputs()]

        def run(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
            arrays = [tensor.cpu().numpy() for tensor in tensors]
            return [
                torch.from_numpy(a)
                for a in session.run(None, dict(zip(names, arrays, strict=True)))
            ]

        return run

    def session(self, program: bytes, inputs: Mapping[str, torch.Tensor]) -> Pass:
        """Return a pass of a new session of an ONNX program; it may leave inputs out."""
        session = self._session(program)
        names = {entry.name for entry in session.get_inputs()}
        given = {name: tensor.cpu().numpy() for name, tensor in inputs.items() if name in names}
        if given.keys() != names:
            raise ModelError("the inputs of the ONNX program are not those of the model.")
        one = partial(session.run, None, given)
        try:
            one()
        except Exception as error:
            raise ModelError(f"onnxruntime cannot run this model: {one_line(error)}") from error
        return one

    def _session(self, program: bytes | str) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.log_severity_level = 4
        # Threads of a session that has just run would take time from the next one.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            session = onnxruntime.InferenceSession(program, options, providers=[self.provider])
        except Exception as error:
            raise ModelError(f"onnxruntime cannot hold this model: {one_line(error)}") from error
        if session.get_providers()[0] != self.provider:  # its libraries may be missing
            raise ModelError(f"onnxruntime cannot use its {self.provider} here")
        return session

    def running(self) -> AbstractContextManager[None]:
        """Return an empty context."""
        return nullcontext()
