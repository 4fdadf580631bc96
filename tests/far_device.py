"""A second device for machines that have none: ``far``, whose numbers lie in tensors on the CPU.

An operation on tensors of both devices fails, as it does on a GPU. So does a reduction over
processes of a tensor that is not on it, as with NCCL. Its results may be off by rounding, as those
of a GPU are. Torch keeps the device until the process ends, so use it in a process of its own.
"""

import torch
from torch.utils import _pytree as pytree
from torch.utils import backend_registration

backend_registration._setup_privateuseone_for_python_backend("far")
FAR = torch.device("far:0")
CPU = torch.device("cpu")
aten = torch.ops.aten
ROUNDING = 1e-6
"""Relative size of the error of each conv, which differs from call to call."""


class Far(torch.Tensor):
    """A tensor on the device, which holds one on the CPU."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(),
            dtype=inner.dtype, device=FAR,
        )  # fmt: skip

    def __init__(self, inner) -> None:
        self.inner = inner

    def __repr__(self) -> str:
        return f"Far({self.inner})"

    def tolist(self):
        return self.cpu().tolist()

    @property
    def data(self):
        return self.detach()

    @data.setter
    def data(self, other) -> None:
        assert isinstance(other, Far)
        self.inner = other.inner

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        here = [t for t in tensors if not isinstance(t, Far) and t.dim()]
        if here and func not in (aten.copy_.default, aten._to_copy.default, aten.index.Tensor):
            raise RuntimeError(f"{func}: tensors on {FAR} and on {here[0].device}")
        to_cpu = kwargs.get("device") is not None and torch.device(kwargs["device"]).type == "cpu"
        result = func(*_inner(args), **{**_inner(kwargs), **_on_cpu(kwargs)})
        if func is aten.convolution.default:
            result = result * (1 + ROUNDING * _random())
        if to_cpu:
            return result
        known = {id(t.inner): t for t in tensors if isinstance(t, Far)}  # written in place

        def wrapped(value):
            return known.get(id(value), Far(value)) if isinstance(value, torch.Tensor) else value

        return pytree.tree_map(wrapped, result)


_generator = torch.Generator().manual_seed(0)


def _random() -> float:
    return float(torch.rand((), generator=_generator))


def _inner(value):
    return pytree.tree_map(lambda v: v.inner if isinstance(v, Far) else v, value)


def _on_cpu(kwargs):
    return {"device": CPU} if kwargs.get("device") is not None else {}


def _empty(size, dtype=None, layout=None, device=None, pin_memory=None, memory_format=None):
    return Far(
        torch.empty(size, dtype=dtype, memory_format=memory_format or torch.contiguous_format)
    )


def _empty_strided(size, stride, dtype=None, layout=None, device=None, pin_memory=None):
    return Far(torch.empty_strided(size, stride, dtype=dtype))


def _copy_from(source, target, non_blocking=False):
    (target.inner if isinstance(target, Far) else target).copy_(
        source.inner if isinstance(source, Far) else source
    )
    return target


_library = torch.library.Library("aten", "IMPL")
_library.impl("empty.memory_format", _empty, "PrivateUse1")
_library.impl("empty_strided", _empty_strided, "PrivateUse1")
_library.impl("_copy_from", _copy_from, "PrivateUse1")


def strict_reductions() -> None:
    """Let ``torch.distributed.all_reduce`` refuse what is not on the device, as NCCL does."""
    reduce = torch.distributed.all_reduce

    def all_reduce(tensor, *args, **kwargs):
        if not isinstance(tensor, Far):
            raise RuntimeError(f"No backend type associated with device type {tensor.device.type}")
        return reduce(tensor.inner, *args, **kwargs)

    torch.distributed.all_reduce = all_reduce
