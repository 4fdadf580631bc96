"""Peers: Torch-Pruning (``pip install torch-pruning``) and Model Optimizer's FastNAS."""

import itertools
from typing import Any

import torch
from torch import nn

from peers.ground import Ground
from peers.networks import Block, OptionA, ResNet
from refiner.core.progress import Silent
from refiner.core.randomness import seeded
from refiner.core.surgery import copied
from refiner.training.evaluation import evaluate
from refiner.training.loop import WeightTrainer

IMPORTANCES = ("taylor", "group", "magnitude")
SCOPES = ("global", "isomorphic")
STREAMS = ("kept", "pruned")
"""Whether the channels of the residual stream may go."""
ROUNDS, FRESH = 100, 5
"""Steps to 95 % of the channels, and steps between two gradients."""
BLOCK = 8
"""Its ``round_to`` where milliseconds are the budget."""
COMPARED = 3840
"""Pictures of the training that compares ways of pruning; no more than an epoch."""


def torch_pruning(at: Ground, share: int) -> tuple[nn.Module, dict[str, Any]]:
    """Prune in every way that Torch-Pruning offers, and return the best network.

    The three ways that keep most of the accuracy on the held pictures, with recalibrated norms,
    are trained for a few steps. The best of them after that is taken.
    """
    ways = list(
        itertools.product(
            IMPORTANCES, SCOPES, STREAMS if isinstance(at.model, ResNet) else ("pruned",)
        )
    )
    networks = {way: _pruned(at, share, *way) for way in ways}
    scores = {}
    for way, network in networks.items():
        at.recalibrate(network)
        scores[way] = at.accuracy(network, held=True)
    best = sorted(ways, key=lambda way: -scores[way])[:3]
    tuned = {way: _after_few_steps(at, networks[way]) for way in best}
    chosen = max(tuned, key=lambda way: tuned[way])
    return networks[chosen], {"way": " ".join(chosen)}


def _pruned(at: Ground, share: int, importance: str, scope: str, stream: str) -> nn.Module:
    """Prune step by step until the budget holds."""
    import torch_pruning as tp

    network = at.copy().to(memory_format=torch.contiguous_format)
    limit, macs = share / 100, at.macs(network)
    importances = {
        "taylor": tp.importance.GroupTaylorImportance(),
        "group": tp.importance.GroupMagnitudeImportance(p=2),
        "magnitude": tp.importance.GroupMagnitudeImportance(p=2, group_reduction="first"),
    }
    fixed = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if stream == "kept":
        # It takes F.pad for an operation that leaves the numbers of channels as they are.
        fixed += [network.conv1, *(m.conv2 for m in network.modules() if isinstance(m, Block))]
    else:
        _with_projections(network, at.example)
    pruner = tp.pruner.BasePruner(
        network, at.example, importance=importances[importance], global_pruning=True,
        isomorphic=scope == "isomorphic", pruning_ratio=0.95, max_pruning_ratio=0.95,
        iterative_steps=ROUNDS, ignored_layers=fixed,
        round_to=BLOCK if at.resource == "latency" else None,
    )  # fmt: skip
    batches = at.batches(4)
    for step in range(ROUNDS):
        # Milliseconds, which take longer to measure, never fall further below the MACs than this.
        if at.macs(network) <= 1.15 * limit * macs and at.share(network) <= limit:
            break
        if importance == "taylor" and step % FRESH == 0:
            network.zero_grad()
            for batch in batches:
                at.task.loss(network, batch).backward()
        pruner.step()
    network.zero_grad()
    return network.to(memory_format=torch.channels_last)


def _with_projections(network: nn.Module, example: torch.Tensor) -> None:
    """Write each shortcut of option A as the pointwise conv that does the same."""
    channels: dict[nn.Module, int] = {}
    hooks = [
        module.register_forward_hook(lambda m, x, _: channels.update({m: x[0].shape[1]}))
        for module in network.modules()
        if isinstance(module, OptionA)
    ]
    network(example)
    for hook in hooks:
        hook.remove()
    for block in [module for module in network.modules() if isinstance(module, Block)]:
        if isinstance(block.shortcut, OptionA):
            before, added = channels[block.shortcut], block.shortcut.added
            conv = nn.Conv2d(before, before + added, 1, 2, bias=False).to(example.device)
            nn.init.zeros_(conv.weight)
            with torch.no_grad():
                conv.weight[added // 2 : added // 2 + before, :, 0, 0] = torch.eye(before)
            block.shortcut = conv


def _after_few_steps(at: Ground, network: nn.Module) -> float:
    """Return the accuracy on the held pictures that a copy has after a few training steps."""
    trained = copied(network)
    trainer = WeightTrainer(trained, at.with_teacher(), at.devices, at.config(1), 1)
    loader = at.parts.train
    batches = at.batches(min(len(loader), COMPARED // loader.batch_size))
    with seeded(at.seed):
        trainer.epoch(batches, 0, Silent())
    return at.accuracy(trained, held=True)


def fastnas(at: Ground, share: int) -> tuple[nn.Module, dict[str, Any]]:
    """Prune with FastNAS, of nvidia-modelopt 0.40 or later, which scores on all held pictures."""
    import modelopt.torch.prune as mtp

    network = at.copy().to(memory_format=torch.contiguous_format)  # it refuses another
    divisor = 4
    with seeded(at.seed):
        pruned, _ = mtp.prune(
            model=network,
            mode=[("fastnas", {
                "nn.Conv2d": {"*": {"channel_divisor": divisor}},
                "nn.BatchNorm2d": {"*": {"feature_divisor": divisor}},
            })],
            constraints={"flops": f"{share}%"},
            dummy_input=at.example,
            config={
                "data_loader": at.parts.train, "collect_func": lambda batch: batch[0],
                "max_iter_data_loader": 16, "verbose": False,
                "score_func": lambda model: evaluate(model, at.parts.held, at.task, at.devices),
            },
        )  # fmt: skip
    at.recalibrate(pruned)
    return pruned.to(memory_format=torch.channels_last), {}
