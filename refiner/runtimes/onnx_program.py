"""A network as an ONNX program for one input size, made to be timed and thrown away."""

import tempfile
from pathlib import Path

import torch
from torch import nn

from refiner.core.contents import tensors_in
from refiner.core.errors import ModelError, one_line
from refiner.core.inputs import ExampleInput, bind, to_device_of
from refiner.core.surgery import copied
from refiner.exports.attempts import quiet


def onnx_program(
    network: nn.Module, example: ExampleInput
) -> tuple[bytes, dict[str, torch.Tensor]]:
    """Return the program of a network in eval mode, and its inputs by name.

    It is recorded by TorchScript, which takes a fraction of the time of ``torch.export``, or by
    that where TorchScript cannot.

    Raises:
        ModelError: neither can.
    """
    positional, kwargs = bind(
        network, to_device_of(nn.Identity(), example)
    )  # exporters order them so, too
    args = tuple(positional.values())
    inputs = {f"input_{i}": tensor for i, tensor in enumerate(tensors_in((args, kwargs)))}
    errors = []
    with tempfile.TemporaryDirectory() as folder, quiet():
        file = Path(folder) / "network.onnx"
        for by_export in (False, True):
            work = copied(network).cpu().eval()  # a trace leaves what models keep in another form
            try:
                if by_export:
                    work(*args, **kwargs)  # models may keep what they compute at first, as anchors
                    recorded = torch.export.export(work, args, kwargs, strict=False)
                    torch.onnx.export(
                        recorded, (), file, dynamo=True, input_names=list(inputs),
                        external_data=False,
                    )  # fmt: skip
                else:
                    given = (*args, kwargs) if kwargs else args
                    torch.onnx.export(work, given, file, dynamo=False, input_names=list(inputs))
            except Exception as error:
                errors.append(one_line(error, 150))
                continue
            return file.read_bytes(), inputs
    raise ModelError(f"ONNX cannot hold this model: {'; '.join(errors)}.")
