"""Fold batch norms into the convs before them: fewer operations, the same outputs in eval mode.

Runtimes do this themselves when they load an ONNX file. TorchScript and plain PyTorch do not.
"""

from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.fusion import fuse_conv_bn_eval

from refiner.core.errors import ModelError
from refiner.core.inputs import ExampleInput, call, to_device_of
from refiner.core.layers import CONV_TYPES
from refiner.core.surgery import copied, replace_modules
from refiner.exports.check import compare
from refiner.graph.tracing import trace

_TOLERANCE = 1e-3
"""A folded conv rounds its weights once, and sums in another order."""
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def fold_norms(model: nn.Module, example_input: ExampleInput) -> tuple[nn.Module, int]:
    """Return a copy of a model in eval mode with its batch norms folded, and their number.

    A norm is folded if it alone reads the output of a plain conv, and both run once. An identity,
    or the activation of timm's norms, takes its place.

    Args:
        model: any conv model; it is left as it is.
        example_input: the input on which it is traced and compared.

    Raises:
        ModelError: the model cannot be traced, or its outputs change.
    """
    folded = copied(model).eval()
    example = to_device_of(folded, example_input)
    modules = dict(folded.named_modules(remove_duplicate=False))
    replacements: dict[str, nn.Module] = {}
    pairs = _pairs(trace(folded, example), modules)
    for conv_name, norm_name in pairs:
        conv, norm = modules[conv_name], modules[norm_name]
        assert isinstance(conv, _ConvNd)
        assert isinstance(norm, _BatchNorm)
        replacements[conv_name] = fuse_conv_bn_eval(conv, norm)
        replacements[norm_name] = _after(norm)
    replace_modules(folded, replacements)
    try:
        compare(copied(model).eval(), lambda given: call(folded, given), example, _TOLERANCE)
    except AssertionError as error:
        raise ModelError("its outputs change when batch norms are folded") from error
    return folded, len(pairs)


def _pairs(traced: fx.GraphModule, modules: dict[str, nn.Module]) -> list[tuple[str, str]]:
    """Return the names of each conv and norm that can become one."""
    calls: dict[int, int] = {}
    for node in traced.graph.nodes:
        if node.op == "call_module":
            key = id(modules[str(node.target)])
            calls[key] = calls.get(key, 0) + 1
    pairs = []
    for node in traced.graph.nodes:
        users = list(node.users)
        if node.op != "call_module" or len(users) != 1 or users[0].op != "call_module":
            continue
        conv, norm = modules[str(node.target)], modules[str(users[0].target)]
        once = calls[id(conv)] == calls[id(norm)] == 1
        if once and _is_plain(conv) and _is_foldable(norm) and users[0].args == (node,):
            pairs.append((str(node.target), str(users[0].target)))
    return pairs


def _is_plain(conv: nn.Module) -> bool:
    return type(conv) in CONV_TYPES and "weight" in conv._parameters


def _is_foldable(norm: nn.Module) -> bool:
    """Return whether a norm is torch's batch norm, or timm's with an activation."""
    known = type(norm) in _NORMS or _activation(norm) is not None
    return known and isinstance(norm, _BatchNorm) and norm.running_mean is not None


def _activation(norm: nn.Module) -> nn.Module | None:
    if type(norm).__name__ != "BatchNormAct2d" or not type(norm).__module__.startswith("timm."):
        return None
    activation = norm.act
    assert isinstance(activation, nn.Module)
    return activation


def _after(norm: nn.Module) -> nn.Module:
    """Return what is left of a folded norm."""
    return _activation(norm) or nn.Identity()
