"""Static quantisation of an ONNX file to 8-bit integers, by onnxruntime.

Weights get a scale for each output channel, activations one for each tensor, from their least and
largest values on calibration images. Operations are written between quantise and dequantise nodes
(QDQ), which onnxruntime, OpenVINO and TensorRT read.

Source: Jacob et al., Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference, 2018 (arXiv 1712.05877).
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from refiner.core.contents import tensors_in
from refiner.core.errors import ConfigError, ModelError, one_line
from refiner.core.files import new_partial, put_in_place
from refiner.core.inputs import ExampleInput
from refiner.exports.attempts import quiet


def quantize(file: Path, to: Path, inputs: Iterable[ExampleInput]) -> None:
    """Write an ONNX file with 8-bit weights and activations.

    Args:
        file: the model in float32.
        to: the new file.
        inputs: batches of the model's input, for calibration.

    Raises:
        ConfigError: ``inputs`` is empty.
        ModelError: the model cannot be quantised.
    """
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    names = [entry.name for entry in onnx.load(str(file)).graph.input]
    reader = _Reader(names, inputs)
    if reader.peek() is None:
        raise ConfigError("there are no images to calibrate on. Give some.")
    with tempfile.TemporaryDirectory() as folder, quiet():
        prepared, made = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        try:
            quant_pre_process(str(file), str(prepared), skip_symbolic_shape=True)
            quantization.quantize_static(
                str(prepared), str(made), reader, per_channel=True,
                quant_format=quantization.QuantFormat.QDQ,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
            )  # fmt: skip
        except Exception as error:
            raise ModelError(
                f"onnxruntime cannot quantise this model: {one_line(error)}"
            ) from error
        beside = new_partial(to)
        beside.write_bytes(made.read_bytes())
        put_in_place(beside, to)


class _Reader:
    """Gives calibration inputs one by one, as onnxruntime asks for them."""

    def __init__(self, names: list[str], inputs: Iterable[ExampleInput]) -> None:
        self._given: Iterator[Mapping[str, Any]] = (
            dict(zip(names, (tensor.cpu().numpy() for tensor in tensors_in(each)), strict=True))
            for each in inputs
        )
        self._next = next(self._given, None)

    def peek(self) -> Mapping[str, Any] | None:
        """Return the next input without taking it."""
        return self._next

    def get_next(self) -> Mapping[str, Any] | None:
        """Return the next input, None after the last."""
        taken, self._next = self._next, next(self._given, None)
        return taken
