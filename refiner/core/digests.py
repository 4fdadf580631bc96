"""Digests: short texts that are equal where models, tensors and nested values are."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from refiner.core.contents import Nested

_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")
_LENGTH = 16
"""Hexadecimal digits of a digest: 64 bits."""


class Digest:
    """Takes values one after the other; its text depends on all of them and on their order."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, value: Nested) -> None:
        """Take a tensor, an array, a plain value, or any nesting of them.

        Other objects count by the name of their class, and modules by nothing else.
        """
        if isinstance(value, torch.Tensor):
            self._add_tensor(value)
        elif isinstance(value, np.ndarray):
            self._add_text(f"array {value.dtype} {value.shape}")
            if value.dtype != object:
                self._hash.update(np.ascontiguousarray(value).view(np.uint8).tobytes())
        elif isinstance(value, Mapping):
            self._add_text(f"mapping {len(value)}")
            for key, item in value.items():
                self._add_text(str(key))
                self.add(item)
        elif isinstance(value, list | tuple):
            self._add_text(f"sequence {len(value)}")
            for item in value:
                self.add(item)
        elif isinstance(value, bytes):
            self._add_text(f"bytes {len(value)}")
            self._hash.update(value)
        elif value is None or isinstance(value, str | bool | int | float | complex | np.generic):
            self._add_text(f"{type(value).__name__} {value!r}")
        else:
            self._add_text(f"object {type(value).__qualname__}")
            if callable(getattr(value, "tobytes", None)):  # an image of Pillow's
                self.add(value.tobytes())

    def text(self) -> str:
        """Return the digest of what was taken so far."""
        return self._hash.hexdigest()[:_LENGTH]

    def _add_text(self, text: str) -> None:
        self._hash.update(text.encode("utf-8", "surrogatepass") + b"\0")

    def _add_tensor(self, value: torch.Tensor) -> None:
        lazy = nn.parameter.is_lazy(value)
        self._add_text(f"tensor {value.dtype} {() if lazy else tuple(value.shape)}")
        if lazy or value.is_meta:
            return
        value = value.detach()
        if value.layout is not torch.strided:
            value = value.to_dense()
        if value.is_quantized:
            value = value.dequantize()
        if value.is_complex():
            value = torch.view_as_real(value.resolve_conj())
        plain = value.cpu().contiguous().reshape(-1)
        self._hash.update(plain.view(torch.uint8).numpy().data)


def digest(*values: Nested) -> str:
    """Return the digest of values."""
    found = Digest()
    for value in values:
        found.add(value)
    return found.text()


def weights_digest(model: nn.Module) -> str:
    """Return the digest of a module's parameters and buffers, with their names."""
    found = Digest()
    named: Iterable[tuple[str, Any]] = [*model.named_parameters(), *model.named_buffers()]
    for name, tensor in named:
        found.add(name)
        found.add(tensor)
    return found.text()


def layers_digest(model: nn.Module) -> str:
    """Return the digest of a module's tree: names, classes, and what their ``repr`` shows."""
    found = Digest()
    for name, module in model.named_modules():
        shown = "" if type(module).extra_repr is nn.Module.extra_repr else module.extra_repr()
        found.add((name, type(module).__qualname__, _ADDRESS.sub("", shown)))
    return found.text()
