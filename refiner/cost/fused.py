"""The MACs of fused operations for which ``torch.utils.flop_counter`` has no formula.

Each counts as the matrix products that it stands for. Attention counts the whole product of
queries and keys, also under a causal or another mask, and with each query head where several share
one head of keys. A recurrent layer counts its two matrix products for each step, a deformable conv
the conv without the interpolation of its samples.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

Tensor = torch.Tensor


def _attention(_: Any, query: Tensor, key: Tensor, value: Tensor, *__: Any, **___: Any) -> int:
    """Queries (..., L, E), keys (..., S, E) and values (..., S, V)."""
    return math.prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1])


def _lengths(batch: Tensor) -> list[int]:
    """Return the length of each sequence of a batch N x L x E, which may be a nested tensor."""
    if batch.is_nested:
        return [len(each) for each in batch.unbind()]
    return [batch.shape[1]] * batch.shape[0]


def _multi_head(
    _: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim: int,
    _heads: int,
    _in_weight: Tensor,
    _in_bias: Tensor,
    out_weight: Tensor,
    *__: Any,
    **___: Any,
) -> int:
    """Three projections, attention, and the output's projection."""
    queries, keys = _lengths(query), _lengths(key)
    tokens = sum(queries) + sum(keys) + sum(_lengths(value))
    products = sum(q * k for q, k in zip(queries, keys, strict=True))
    return (
        tokens * embed_dim * embed_dim
        + 2 * products * embed_dim
        + sum(queries) * out_weight.numel()
    )


def _encoder_layer(
    output: Any, source: Tensor, embed_dim: int, heads: int, *rest: Any, **_: Any
) -> int:
    """Attention of ``source`` to itself, and two linear layers."""
    in_weight, in_bias, out_weight = rest[:3]
    attention = _multi_head(
        output, source, source, source, embed_dim, heads, in_weight, in_bias, out_weight
    )
    linear = rest[11].numel() + rest[13].numel()  # ffn_weight_1 and ffn_weight_2
    return attention + sum(_lengths(source)) * int(linear)


def _steps(sequence: Tensor, weights: Sequence[Tensor]) -> int:
    """Return the MACs of all matrices, once for each step of each sequence."""
    steps = math.prod(sequence.shape[:-1])
    return steps * sum(weight.numel() for weight in weights if weight.dim() > 1)


def _recurrent(_: Any, sequence: Tensor, weights: Sequence[Tensor], *__: Any, **___: Any) -> int:
    return _steps(sequence, weights)


def _recurrent_layer(_: Any, sequence: Tensor, *rest: Any, **__: Any) -> int:
    return _steps(sequence, rest[:2])


def _recurrent_on_mps(_: Any, sequence: Tensor, __: Any, weights: Any, *___: Any) -> int:
    return _steps(sequence, weights)


def _deformable(output: Tensor, _input: Tensor, weight: Tensor, *_: Any, **__: Any) -> int:
    return output.numel() * math.prod(weight.shape[1:])


def _matrix_vector(_: Any, matrix: Tensor, __: Tensor) -> int:
    return matrix.numel()


def _added_matrix_vector(_: Any, __: Tensor, matrix: Tensor, *___: Any, **____: Any) -> int:
    return matrix.numel()


def _matrices(_: Any, first: Tensor, second: Tensor, *__: Any, **___: Any) -> int:
    return first.numel() * second.shape[-1]


def _added_matrices(
    _: Any, __: Tensor, first: Tensor, second: Tensor, *___: Any, **____: Any
) -> int:
    return first.numel() * second.shape[-1]


def _grouped(output: Tensor, first: Tensor, second: Tensor, *_: Any, **__: Any) -> int:
    if first.dim() == second.dim() == 2:  # the groups split what is summed over
        return first.numel() * second.shape[-1]
    return output.numel() * first.shape[-1]


def _bilinear(_: Any, *given: Tensor | Sequence[int], **__: Any) -> int:
    """Three tensors, each with the dimensions that it gets, multiplied element by element."""
    shapes = []
    for tensor, added in zip(given[:3], given[3:6], strict=True):
        assert isinstance(tensor, Tensor)
        shape = list(tensor.shape)
        for axis in sorted(added):
            shape.insert(int(axis), 1)
        shapes.append(shape)
    return math.prod(torch.broadcast_shapes(*shapes))


def _distances(_: Any, first: Tensor, second: Tensor) -> int:
    """Points (..., P, E) and (..., R, E)."""
    return first.numel() * second.shape[-2]


_ATTENTION = (
    "_scaled_dot_product_flash_attention _scaled_dot_product_flash_attention_for_cpu "
    "_scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention "
    "_scaled_dot_product_fused_attention_overrideable _scaled_dot_product_attention_math_for_mps"
).split()

FUSED: Mapping[str, Callable[..., int]] = {
    **{f"aten.{name}": _attention for name in _ATTENTION},
    "aten._native_multi_head_attention": _multi_head,
    "aten._transformer_encoder_layer_fwd": _encoder_layer,
    "aten.mkldnn_rnn_layer": _recurrent_layer,
    "aten._cudnn_rnn": _recurrent,
    "aten.miopen_rnn": _recurrent,
    "aten._lstm_mps": _recurrent_on_mps,
    "torchvision.deform_conv2d": _deformable,
    "aten.mv": _matrix_vector,
    "aten.addmv": _added_matrix_vector,
    "aten.dot": _matrix_vector,
    "aten.vdot": _matrix_vector,
    "aten.addbmm": _added_matrices,
    "aten._addmm_activation": _added_matrices,
    "aten._int_mm": _matrices,
    "aten._grouped_mm": _grouped,
    "aten._trilinear": _bilinear,
    "aten._euclidean_dist": _distances,
}
"""By the operation's name: a function of its output and its arguments that returns MACs."""
