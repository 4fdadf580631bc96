"""onnxruntime, which fuses norms and activations into convs and lays channels out in blocks."""

from functools import partial

import torch

from refiner.core.errors import ConfigError, ModelError
from refiner.runtimes.hardware import hardware_name
from refiner.runtimes.onnx_based import Compiled, OnnxBased

TENSORRT = "TensorrtExecutionProvider"
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxRuntime(OnnxBased):
    """An inference session with onnxruntime's defaults, in float32.

    Args:
        device: a GPU is used by the provider for CUDA.
        threads: of a session.
        provider: the execution provider; by default that of the device.
    """

    precision = "no"

    def __init__(self, device: torch.device, threads: int, provider: str | None = None) -> None:
        import onnxruntime

        super().__init__("onnxruntime")
        self.threads, self.version = threads, str(onnxruntime.__version__)
        self.provider = provider or _PROVIDERS.get(device.type, "CPUExecutionProvider")
        self.name = "tensorrt" if provider == TENSORRT else "onnxruntime"
        if self.provider not in onnxruntime.get_available_providers():
            raise ConfigError(
                f"this onnxruntime has no {self.provider}. Install it: pip install onnxruntime-gpu."
            )
        self.hardware = hardware_name(device, threads)

    def compiled(self, program: bytes) -> Compiled:
        """Return the inputs of a new session, and what runs it."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.log_severity_level = 4
        # Threads of a session that has just run would take time from the next one.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        session = onnxruntime.InferenceSession(program, options, providers=[self.provider])
        if session.get_providers()[0] != self.provider:  # its libraries may be missing
            raise ModelError(f"onnxruntime cannot use its {self.provider} here")
        return [entry.name for entry in session.get_inputs()], partial(session.run, None)
