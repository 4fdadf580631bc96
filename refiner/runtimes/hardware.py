"""Names of the CPU and of GPUs, and the number of threads that torch uses for a while."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


def hardware_name(device: torch.device, threads: int) -> str:
    """Return the name of a GPU, or of the CPU with the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text("utf-8", "replace").splitlines() if cpus.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cpu = names[0] if names else platform.machine()
    return f"{cpu}, {threads} {'thread' if threads == 1 else 'threads'}"


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use so many threads inside."""
    before = torch.get_num_threads()
    if count != before:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count != before:
            torch.set_num_threads(before)
