"""OpenVINO on a CPU, with its hint for latency."""

from collections.abc import Mapping

from refiner.runtimes.hardware import hardware_name
from refiner.runtimes.onnx_based import Array, Compiled, OnnxBased

_HINTS = {"no": "f32", "bf16": "bf16"}


class OpenVino(OnnxBased):
    """A compiled model and one inference request.

    Args:
        precision: ``no`` for float32, or ``bf16``.
        threads: of a pass.
    """

    name = "openvino"

    def __init__(self, precision: str, threads: int) -> None:
        import openvino

        super().__init__("OpenVINO")
        self.threads, self.precision = threads, precision
        self.version = str(openvino.get_version()).partition("-")[0]
        self.hardware = hardware_name(self.device, threads)
        self._core = openvino.Core()

    def compiled(self, program: bytes) -> Compiled:
        """Return the inputs of a newly compiled model, and what runs a request of it."""
        hints = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": str(self.threads),
            "INFERENCE_PRECISION_HINT": _HINTS[self.precision],
        }
        model = self._core.compile_model(self._core.read_model(program), "CPU", hints)
        request = model.create_infer_request()

        def run(inputs: Mapping[str, Array]) -> list[Array]:
            return list(request.infer(dict(inputs)).values())

        return [port.get_any_name() for port in model.inputs], run
