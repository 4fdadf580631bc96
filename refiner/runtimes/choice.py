"""The runtimes by name, and the one that is taken by default."""

import contextlib
import importlib.util
from collections.abc import Callable

import torch

from refiner.core.errors import ConfigError
from refiner.runtimes.compiled import Compiled
from refiner.runtimes.eager import Eager
from refiner.runtimes.onnx_runtime import TENSORRT, OnnxRuntime
from refiner.runtimes.open_vino import OpenVino
from refiner.runtimes.runtime import Runtime

_MAKERS: dict[str, Callable[[torch.device, str, int], Runtime]] = {
    "eager": Eager,
    "compile": Compiled,
    "onnxruntime": lambda device, _, threads: OnnxRuntime(device, threads),
    "tensorrt": lambda device, _, threads: OnnxRuntime(device, threads, provider=TENSORRT),
    "openvino": lambda _, precision, threads: OpenVino(precision, threads),
}
RUNTIMES = ("auto", *_MAKERS)
"""Names that users choose from."""
_PACKAGES = {"onnxruntime": "onnxruntime", "tensorrt": "onnxruntime", "openvino": "openvino"}
"""What has to be installed beside torch."""


def make_runtime(
    name: str, device: torch.device, precision: str = "no", threads: int | None = None
) -> Runtime:
    """Return a runtime.

    Args:
        name: one of ``RUNTIMES``; ``auto`` is onnxruntime on a CPU, and eager elsewhere.
        device: where passes run.
        precision: ``no`` for float32, or ``bf16`` where the runtime has it.
        threads: most CPU threads of a pass; by default as many as torch uses.

    Raises:
        ConfigError: an unknown name, fewer than one thread, or something is not installed.
    """
    check_runtime(name)
    if threads is not None and threads < 1:
        raise ConfigError(f"threads is {threads}. Give 1 or more.")
    if name == "auto":
        name = "onnxruntime" if device.type == "cpu" else "eager"
    return _MAKERS[name](device, precision, threads or torch.get_num_threads())


def check_runtime(name: str) -> None:
    """Raise a ConfigError unless a runtime is known and its package is installed."""
    if name not in RUNTIMES:
        raise ConfigError(f"unknown runtime {name!r}. Choose one of: {', '.join(RUNTIMES)}.")
    package = _PACKAGES.get(name)
    if package is not None and importlib.util.find_spec(package) is None:
        raise ConfigError(
            f"the runtime {name} needs the package {package}. Install it: pip install {package}."
        )


def runtimes_here(device: torch.device) -> list[str]:
    """Return the names of the runtimes that can be made for a device."""
    names = []
    for name in _MAKERS:
        with contextlib.suppress(ConfigError):
            make_runtime(name, device)
            names.append(name)
    return names
