"""Why a conv cannot be a slot: each frozen conv has a reason that a person can read."""

from collections.abc import Iterable, Mapping

from torch import fx, nn

from refiner.core.layers import CONV_TYPES, is_conv
from refiner.graph.conv_spec import conv_spec, is_plain_conv
from refiner.graph.skips import Flow, SkipConnection, kernel_volume

NO_GRADIENT = "its parameters take no gradient"
ALIAS = "shared with another name"
OWN_PADDING = "computes its own padding"
STEM = "stem: reads the model's input"
"""Reasons that other modules ask for."""


def frozen_reasons(
    flow: Flow, skips: Iterable[SkipConnection], spatial_only: bool
) -> dict[str, str]:
    """Return why each conv that cannot be a slot is frozen, by the conv's name.

    Args:
        flow: data flow in one mode.
        skips: the skip connections there; their convs are frozen.
        spatial_only: freeze pointwise convs as well.
    """
    projections = {name: skip for skip in skips for name in skip.convs}
    calls: dict[int, list[fx.Node]] = {}
    for node in flow.all_nodes:
        if node.op == "call_module":
            calls.setdefault(id(flow.module(node)), []).append(node)
    read_elsewhere = {
        str(node.target).rpartition(".")[0] for node in flow.all_nodes if node.op == "get_attr"
    }
    owners: dict[int, list[str]] = {}
    for name, module in flow.modules.items():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(name)
    called = {str(node.target): node for node in flow.convs}
    reasons = _other_convolutions(flow)
    for name, module in flow.modules.items():
        if not is_conv(module):
            continue
        node = called.get(name)
        if name in read_elsewhere:
            reason = "its weight is read outside its own call"
        elif node is None:
            reason = _not_called(flow, name, calls)
        elif len(calls[id(module)]) > 1:
            reason = "called more than once in a forward pass"
        elif tied := _tied(flow, name, owners):
            reason = f"shares its weight with {tied}"
        elif not flow.trains(name):
            reason = "not called in train mode"
        elif not flow.learns(name):
            reason = "called with gradients off"
        elif not any(p.requires_grad for p in module.parameters()):
            reason = NO_GRADIENT
        elif _has_hooks(module):
            reason = "has hooks, which a replacement would lose"
        elif name in projections:
            reason = f"projection on the skip connection to {projections[name].join}"
        else:
            reason = _unfit(flow, node, spatial_only)
        if reason:
            reasons[name] = reason
    return reasons


def pruned_stems(flow: Flow, reasons: Mapping[str, str]) -> set[str]:
    """Return the convs that would be slots if they did not read the model's input.

    None of them is replaced, but their output channels can be pruned.

    Args:
        flow: data flow in one mode.
        reasons: why convs are frozen.
    """
    stems = [node for node in flow.convs if reasons.get(str(node.target)) == STEM]
    return {str(node.target) for node in stems if not _unfit_conv(flow, node)}


def _has_hooks(module: nn.Module) -> bool:
    """Return whether a module has hooks other than those with which torch computes its weight."""
    before = [h for h in module._forward_pre_hooks.values() if not _computes_weight(h)]
    backward = (*module._backward_hooks.values(), *module._backward_pre_hooks.values())
    return bool(before or backward or module._forward_hooks)


def _computes_weight(hook: object) -> bool:
    return type(hook).__module__.startswith("torch.nn.utils")


def _tied(flow: Flow, name: str, owners: dict[int, list[str]]) -> str:
    """Return another module that holds a parameter of this one, or an empty string."""
    parameters = flow.modules[name].parameters(recurse=False)
    others = (owner for p in parameters for owner in owners[id(p)])
    return next((o for o in others if flow.modules[o] is not flow.modules[name]), "")


def _not_called(flow: Flow, name: str, calls: dict[int, list[fx.Node]]) -> str:
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        parent = flow.modules.get(".".join(parts[:end]))
        if parent is not None and id(parent) in calls:
            return f"inside {'.'.join(parts[:end])} ({type(parent).__name__}), a conv itself"
    if id(flow.modules[name]) in calls:
        if any(m is flow.modules[name] and n != name for n, m in flow.modules.items()):
            return ALIAS
        return "reads nothing that comes from the model's input"
    return "called in train mode alone" if flow.trains(name) else "not called on the example input"


def _other_convolutions(flow: Flow) -> dict[str, str]:
    """Return why each convolution outside of torch's conv modules is frozen, by its label."""
    reasons = {}
    for node in flow.all_nodes:
        if node.op == "call_module":
            convolving = _convolving(str(node.target), flow.module(node))
            if not convolving and node.meta.get("convolves"):
                convolving = {str(node.target): flow.module(node)}
            for name, module in convolving.items():
                reasons[name] = f"{type(module).__name__} convolves in its own way"
        elif node.meta.get("convolves"):
            owners = {
                str(a.target).rpartition(".")[0] for a in node.all_input_nodes if a.op == "get_attr"
            }
            if not any(is_conv(flow.modules[o]) for o in owners if o in flow.modules):
                outside = owners == {""} and not any(
                    str(a.target) in flow.parameters for a in node.all_input_nodes
                )
                reasons[flow.labels[node]] = "functional convolution" + (
                    ", whose weight belongs to no submodule (use nn.ModuleList for lists)"
                    if outside
                    else ""
                )
    return reasons


def _convolving(name: str, called: nn.Module) -> dict[str, nn.Module]:
    """Return the modules in a called one that are convs by their names, but not torch's.

    Each has a weight with spatial dimensions. Their operation may be any, such as a deformable conv
    from another library.
    """
    if is_conv(called):
        return {}
    return {
        f"{name}.{path}" if path else name: module
        for path, module in called.named_modules()
        if "conv" in type(module).__name__.lower()
        and not is_conv(module)
        and any(p.dim() > 2 for p in module.parameters(recurse=False))
    }


def _unfit(flow: Flow, node: fx.Node, spatial_only: bool) -> str:
    """Return why a conv, called once and on no skip connection, is not a slot; empty if it is."""
    conv = flow.module(node)
    if not isinstance(conv, CONV_TYPES):
        return "transposed conv"
    if not any(flow.reaches(c, node) for c in flow.convs if c is not node):
        return STEM
    if kernel_volume(conv) == 1 and spatial_only:
        return "pointwise conv: nothing spatial to replace"
    return _unfit_conv(flow, node)


def _unfit_conv(flow: Flow, node: fx.Node) -> str:
    """Return why a conv cannot be replaced by another of its shapes; empty if it can."""
    conv = flow.conv(node)
    if len(flow.inputs[node]) != 1 or node.kwargs or len(node.args) != 1:
        return "called with more than its input"
    in_shape, out_shape = flow.inputs[node][0].meta["shape"], node.meta["shape"]
    if in_shape is None or len(in_shape) != len(conv.kernel_size) + 2:
        return "its input has no batch dimension"
    spec = conv_spec(conv, in_shape, out_shape)
    if any(parameter.is_complex() for parameter in conv.parameters()):
        return "its numbers are complex"
    expected = (in_shape[0], spec.out_channels, *spec.output_size(in_shape[2:]))
    if out_shape != expected:
        return f"{type(conv).__name__} {OWN_PADDING}"
    if type(conv) not in CONV_TYPES and not is_plain_conv(conv, spec, in_shape):
        return f"{type(conv).__name__} computes more than a conv"
    return ""
