"""What it costs to narrow the residual stream of a trained ResNet, beside this tool at the same MACs.

    python benchmarks/residual_stream.py --weights WEIGHTS --data DIR --depth 20 --widths 14,32,64 12,24,48

Channels of a stage go at every residual add of it. Those stay whose squared gradients over 1,024 pictures are the largest,
for labels that the network draws. Norms are recalibrated, and the network takes 200 steps without labels that match
the original's logits and blocks, as a refit does. Points lost are on 5,000 pictures that nothing else saw.
"""

import argparse
import itertools
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from peers.networks import OptionA, ResNet, cifar, trained_resnet
from torch import nn

import refiner
from refiner.core.randomness import seeded
from refiner.core.surgery import copied
from refiner.training.devices import Devices
from refiner.training.evaluation import evaluate, recalibrate
from refiner.training.task import Classification, softened_divergence

FULL = {1: 16, 2: 32, 3: 64}
STEPS, RATE = 200, 0.02


class Masked(nn.Module):
    """A layer whose output has some channels at zero, as if they were not there."""

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.layer = layer
        self.register_buffer("mask", torch.ones(1, width, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) * self.mask


def masked(model: ResNet) -> tuple[ResNet, dict[int, list[Masked]]]:
    """Return a copy with a mask at everything that writes to the stream, by stage."""
    network = copied(model)
    network.bn1 = Masked(network.bn1, FULL[1])
    masks = {1: [network.bn1], 2: [], 3: []}
    for stage, blocks in stages(network):
        for block in blocks:
            block.bn2 = Masked(block.bn2, FULL[stage])
            masks[stage].append(block.bn2)
            if isinstance(block.shortcut, OptionA):
                block.shortcut = Masked(block.shortcut, FULL[stage])
                masks[stage].append(block.shortcut)
    return network, masks


def stages(network: ResNet) -> list[tuple[int, list[nn.Module]]]:
    return [(stage, list(getattr(network, f"layer{stage}"))) for stage in FULL]


def blocks_of(network: ResNet) -> list[nn.Module]:
    return [block for _, blocks in stages(network) for block in blocks]


def share_left(depth: int, widths: dict[int, int]) -> float:
    """Return the share of the MACs of all convs that is left."""

    def macs(widths: dict[int, int]) -> int:
        total = 1024 * 9 * 3 * widths[1]
        for stage, pixels in ((1, 1024), (2, 256), (3, 64)):
            for block in range((depth - 2) // 6):
                before = widths[max(stage - (block == 0), 1)]
                total += pixels * 9 * FULL[stage] * (before + widths[stage])
        return total

    return macs(widths) / macs(FULL)


def importance(model: ResNet, images: torch.Tensor) -> dict[int, torch.Tensor]:
    """Return the diagonal of the Fisher information of each channel's mask."""
    network, masks = masked(model)
    generator = torch.Generator().manual_seed(0)
    flat = [mask for stage in masks.values() for mask in stage]
    found = {stage: torch.zeros(width) for stage, width in FULL.items()}
    for mask in flat:
        mask.mask.requires_grad_()
    for few in images.split(8):
        logits = network(few)
        labels = torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)
        loss = F.cross_entropy(logits, labels, reduction="sum")
        gradients = dict(zip(flat, torch.autograd.grad(loss, [m.mask for m in flat]), strict=True))
        for stage, own in masks.items():
            found[stage] += sum(gradients[mask].flatten() for mask in own).square()
    return found


def take_steps(network: ResNet, model: ResNet, loader: object) -> None:
    """Match logits and blocks of the original, on the channels that stay."""
    pairs: list[list[torch.Tensor]] = [[], []]
    hooks = [
        block.register_forward_hook(lambda _m, _i, output, kept=kept: kept.append(output))
        for kept, each in zip(pairs, (network, model), strict=True)
        for block in blocks_of(each)
    ]
    masks = [block.bn2.mask for block in blocks_of(network)]
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    network.train()
    batches = itertools.chain.from_iterable(itertools.repeat(loader))
    for images, _ in itertools.islice(batches, STEPS):
        for kept in pairs:
            kept.clear()
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                target = model(images)
            loss = softened_divergence(network(images), target)
        for ours, theirs, mask in zip(*pairs, masks, strict=True):
            theirs = theirs.float() * mask
            apart = (ours.float() - theirs).square().mean()
            loss = loss + apart / theirs.var() / len(masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()
    for hook in hooks:
        hook.remove()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, required=True, help="folder of the trained ResNets")
    parser.add_argument("--data", type=Path, required=True, help="folder of CIFAR-10")
    parser.add_argument("--depth", type=int, choices=(20, 56), default=20)
    parser.add_argument("--widths", nargs="+", default=["14,32,64"], help="of the stages, 16,32,64")
    args = parser.parse_args()
    devices, task = Devices.choose("cpu", "bf16"), Classification()
    with tempfile.TemporaryDirectory() as folder:
        parts = cifar(args.data, Path(folder) / "cifar.pt", epoch=8000, batch=64)
    model = trained_resnet(args.depth, args.weights)
    assert isinstance(model, ResNet)
    accuracy = evaluate(model, parts.test, task, devices)

    def lost(network: nn.Module) -> str:
        return f"{100 * (accuracy - evaluate(network, parts.test, task, devices)):.2f}"

    with seeded(0):
        batches = list(itertools.islice(iter(parts.train), 16))
    ranks = importance(model, torch.cat([images for images, _ in batches]))
    print("| widths | MACs left | masked | norms | steps | milp |", flush=True)
    for widths in (dict(zip(FULL, map(int, w.split(",")), strict=True)) for w in args.widths):
        network, masks = masked(model)
        for stage, own in masks.items():
            kept = ranks[stage].topk(widths[stage]).indices
            for mask in own:
                mask.mask.zero_()[:, kept] = 1.0
        cells = [
            str(tuple(widths.values())),
            f"{share_left(args.depth, widths):.1%}",
            lost(network),
        ]
        recalibrate(network, batches, task, devices)
        cells.append(lost(network))
        with seeded(0):
            take_steps(network, model, parts.train)
        cells.append(lost(network))
        result = refiner.refine(
            model, parts.train, parts.held, budget=f"macs={share_left(args.depth, widths):.1%}",
            distill=refiner.DistillConfig(), baselines=False, progress=False, precision="bf16",
        )  # fmt: skip
        print("|", " | ".join([*cells, lost(result.model)]), "|", flush=True)


if __name__ == "__main__":
    main()
