"""How far the numbers of two equal runs may differ, given the device and its settings."""

import torch

_OF_DTYPE = {
    torch.float64: 1e-8,
    torch.float32: 1e-4,
    torch.float16: 1e-2,
    torch.bfloat16: 5e-2,
}
_TF32 = 1e-2
"""Tolerance where float32 products are computed in TF32, which has ten bits of mantissa."""


def rerun_tolerance(tensor: torch.Tensor) -> float:
    """Return the largest difference between two runs, as a share of the tensor's largest number.

    A CPU repeats a run to the bit, so there it is 0. Other devices choose between algorithms and
    add in any order.
    """
    kind = tensor.dtype.to_real() if tensor.dtype.is_complex else tensor.dtype
    if tensor.device.type == "cpu" or kind not in _OF_DTYPE:
        return 0.0
    if kind == torch.float32 and tensor.device.type == "cuda" and _allows_tf32():
        return _TF32
    return _OF_DTYPE[kind]


def close(first: torch.Tensor, second: torch.Tensor, tolerance: float) -> bool:
    """Return whether two tensors of one shape are equal up to a share of the largest number.

    NaN equals NaN, and an infinity equals itself.
    """
    atol = 0.0
    if tolerance and first.numel():
        finite = first.detach().abs().nan_to_num(0.0, 0.0, 0.0)
        atol = tolerance * float(finite.max())
    return torch.allclose(first, second, rtol=0.0, atol=atol, equal_nan=True)


def _allows_tf32() -> bool:
    try:
        return torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32
    except RuntimeError:  # set through another of torch's interfaces, which this one refuses
        return True
