"""Which operations hold no multiply-accumulates by convention: torch and thop count none either.

They are those that move data, work element by element, reduce, normalise, pool, interpolate, look
up, sort or draw. Any operation that is not known here may hold some.
"""

from typing import Any

import torch

MOVES_DATA = frozenset(
    "view _unsafe_view reshape expand permute transpose t clone detach copy_ alias slice select "
    "unsqueeze squeeze cat stack split split_with_sizes chunk unbind flatten constant_pad_nd "
    "empty empty_like zeros zeros_like ones ones_like full full_like new_zeros new_ones "
    "new_empty arange _to_copy contiguous lift_fresh unfold as_strided index "
    "_local_scalar_dense narrow pad roll flip repeat scalar_tensor lift lift_fresh_copy "
    "unsafe_split unsafe_split_with_sizes unsafe_chunk _reshape_alias _pin_memory view_as_real "
    "view_as_complex diagonal movedim expand_copy view_copy permute_copy new_full "
    "new_empty_strided empty_strided eye linspace fill_ zero_ resize_ set_ item is_nonzero "
    "pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle rot90 unfold_copy "
    "im2col reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d "
    "replication_pad2d replication_pad3d _conj _neg_view real imag conj_physical _fw_primal "
    "to_dense _assert_async _assert_scalar _nested_view_from_buffer _nested_tensor_from_mask "
    "_nested_view_from_jagged _nested_get_values _nested_tensor_from_tensor_list values "
    "_nested_get_offsets to_padded_tensor _nested_from_padded "
    "_nested_from_padded_and_nested_example _cudnn_rnn_flatten_weight _pack_padded_sequence "
    "_pad_packed_sequence select_copy slice_copy t_copy unsqueeze_copy squeeze_copy tril triu "
    "tril_indices triu_indices broadcast_to select_scatter slice_scatter repeat_interleave "
    "_unsafe_index _unsafe_index_put _fused_sdp_choice equal".split()
)
"""Operations of aten that compute nothing."""

_PLAIN = frozenset(
    "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training "
    "_batch_norm_with_update _batch_norm_no_update cudnn_batch_norm miopen_batch_norm "
    "batch_norm_elemt batch_norm_stats native_layer_norm native_group_norm _fused_rms_norm "
    "linalg_vector_norm norm _weight_norm_interface renorm max_pool2d_with_indices "
    "max_pool3d_with_indices avg_pool2d avg_pool3d adaptive_max_pool2d adaptive_max_pool3d "
    "_adaptive_avg_pool2d _adaptive_avg_pool3d fractional_max_pool2d fractional_max_pool3d "
    "max_unpool2d max_unpool3d mkldnn_max_pool2d _softmax _log_softmax _safe_softmax "
    "_masked_softmax logsumexp upsample_nearest1d upsample_nearest2d upsample_nearest3d "
    "upsample_linear1d upsample_bilinear2d upsample_bicubic2d upsample_trilinear3d "
    "_upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d "
    "_upsample_bilinear2d_aa _upsample_bicubic2d_aa grid_sampler_2d grid_sampler_3d "
    "affine_grid_generator col2im glu prelu _prelu_kernel hardswish hardtanh hardsigmoid "
    "leaky_relu elu celu selu mish rrelu_with_noise threshold softplus softshrink "
    "log_sigmoid_forward _thnn_fused_lstm_cell _thnn_fused_gru_cell _transform_bias_rescale_qkv "
    "native_dropout bernoulli uniform normal random exponential randn rand randint randperm "
    "multinomial randn_like rand_like randint_like cauchy geometric log_normal cumsum cumprod "
    "cummax cummin _cummax_helper _cummin_helper logcumsumexp sort topk kthvalue median "
    "nanmedian mode argsort searchsorted bucketize histc bincount nonzero unique_dim _unique "
    "_unique2 unique_consecutive max min argmax argmin aminmax var_mean std_mean var std "
    "embedding _embedding_bag _embedding_bag_forward_only gather take index_select index_add "
    "index_copy index_fill index_put _index_put_impl scatter scatter_add scatter_reduce "
    "masked_select masked_scatter masked_fill put one_hot isin where trace cross "
    "_linalg_check_errors trapezoid diff diag_embed constant_pad_nd _ctc_loss nll_loss_forward "
    "nll_loss2d_forward mse_loss binary_cross_entropy smooth_l1_loss huber_loss _foreach_norm "
    "resolve_conj polar complex nms roi_align roi_pool ps_roi_align ps_roi_pool "
    "split_with_sizes_copy".split()
)
"""Operations that compute something, but no multiply-accumulates by convention."""

_TAGS = {torch.Tag.pointwise, *([torch.Tag.reduction] if hasattr(torch.Tag, "reduction") else [])}


def computes_no_macs(func: Any) -> bool:
    """Return whether an operation holds no multiply-accumulates by convention."""
    name = func._overloadpacket.__name__
    plain = name.removesuffix("_")
    if name in MOVES_DATA or plain in MOVES_DATA or name in _PLAIN or plain in _PLAIN:
        return True
    return bool(_TAGS & set(func.tags))
