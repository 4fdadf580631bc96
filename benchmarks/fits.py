"""How well candidates are fitted: the error on the images of the fit and on others, time, and memory.

    python benchmarks/fits.py FILE.py:resnet56 --images DIR --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225

DIR holds pictures, also in folders. The first ``--held-out`` of them, in a random order, are kept away from the
distillation; the errors "held out" are measured on them, whatever the distillation says itself. The error is the
squared error over the variance of the conv's output. For channel pruning it is the share of the variance that the
pruned conv's output leaves unexplained, as the norm behind it rescales each channel.
"""

import argparse
import random
import resource
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

import refiner
from refiner.core.models import ModelSpec
from refiner.core.progress import Silent
from refiner.data.tensor_loader import TensorLoader
from refiner.distill.candidate_fit import relative_error
from refiner.distill.distillation import DistillConfig, Fitted, fit_candidates
from refiner.distill.group_fitting import has_batch_norm
from refiner.space.candidates import Candidate, ChannelPruning, get_candidate
from refiner.space.channel_pruning import inner_channels_of
from refiner.space.supernet import Supernet
from refiner.training.devices import Devices
from refiner.training.task import Classification
from refiner.training.usage import Usage

_LEAST = 1e-3
"""Least variance of a channel, in units of the mean over the channels."""
Errors = dict[str, dict[str, float]]


def pictures(folder: Path, count: int, size: int) -> torch.Tensor:
    """Return pictures, their middle square scaled to ``size``, in a random order."""
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    random.Random(0).shuffle(files)
    found = []
    for file in files[:count]:
        image = Image.open(file).convert("RGB")
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        box = (left, top, left + side, top + side)
        found.append(np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box)))
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).contiguous()


def kept_by(original: nn.Module, pruned: nn.Module) -> torch.Tensor:
    """Return which output channels of a conv a pruned copy of it has."""
    rows, few = (conv.weight.detach().flatten(1) for conv in (original, pruned))
    return torch.cdist(few, rows).argmin(1)


def unexplained(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the share of the variance of each channel that no multiple of the output explains."""
    a, b = (t.transpose(0, 1).flatten(1).double() for t in (output, y))
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    variance = b.square().mean(1)
    rest = variance - (a * b).mean(1).square() / a.square().mean(1).clamp(min=1e-30)
    return (rest / variance.clamp(min=_LEAST * variance.mean())).mean()


@torch.no_grad()
def measured(supernet: Supernet, batches: list[torch.Tensor]) -> Errors:
    """Return the errors of all candidates on other images; prunings at the conv that reads them."""
    supernet.eval().select((0,) * len(supernet.candidates))
    found: dict[str, dict[str, list[float]]] = {}
    hooks = []

    def listen(site, first, pruned_here, names):
        conv, centred = supernet.mixed(site.conv), has_batch_norm(supernet, site)

        def hook(_module, inputs, y):
            x, row = inputs[0], found.setdefault(site.conv, {})
            for k, name in enumerate(names[1:], 1):
                operation, candidate = conv.operations[k], get_candidate(name)
                if isinstance(candidate, Candidate):
                    error = relative_error(operation(x), y, centred=centred)
                elif pruned_here and isinstance(candidate, ChannelPruning):
                    makers = supernet.mixed(first).operations
                    error = unexplained(operation(x[:, kept_by(makers[0], makers[k])]), y)
                else:
                    continue
                row.setdefault(name, []).append(float(error))

        hooks.append(conv.register_forward_hook(hook))

    for slot, names in zip(supernet.space.slots, supernet.candidates):
        makers = {sites[-1]: slot.sites[sites[0]].conv for sites in inner_channels_of(slot)}
        for i, site in enumerate(slot.sites):
            listen(site, makers.get(i), i in makers, names)
    for x in batches:
        supernet.model(x)
    for hook in hooks:
        hook.remove()
    return {c: {n: statistics.mean(v) for n, v in row.items()} for c, row in found.items()}


def table(fitted: Fitted, errors: Errors) -> None:
    """Print the means over the convs of the errors of each candidate."""
    print("| candidate | convs | in sample | held out, by the fit | other images |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name in dict.fromkeys(n for row in errors.values() for n in row):
        rows = [c for c in errors if name in errors[c]]
        known = [
            [each[c][name] for c in rows if name in each[c]]  # some are fitted by steps alone
            for each in (fitted.fit_errors, fitted.errors, errors)
        ]
        means = [f"{statistics.mean(each):.4f}" if each else "" for each in known]
        print(f"| {name} | {len(rows)} | {' | '.join(means)} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="as `refine` takes it")
    parser.add_argument("--weights")
    parser.add_argument("--images", type=Path, help="none: random pixels")
    parser.add_argument("--limit", type=int, default=7000, help="images, those held out included")
    parser.add_argument("--held-out", type=int, default=1000)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--mean", default="0.5,0.5,0.5")
    parser.add_argument("--std", default="0.5,0.5,0.5")
    parser.add_argument("--slots", default="auto")
    parser.add_argument("--candidates", help="names, parted by commas")
    parser.add_argument("--steps", type=int, default=DistillConfig().steps)
    parser.add_argument("--rows", type=int, default=DistillConfig().rows_per_feature)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--widest", action="store_true", help="errors of the widest convs alone")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = ModelSpec(source=args.model, weights=args.weights).build().eval()
    shape = (args.limit, 3, args.size, args.size)
    images = (
        pictures(args.images, args.limit, args.size) if args.images
        else torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    )  # fmt: skip
    mean, std = (torch.tensor([float(v) for v in t.split(",")]) for t in (args.mean, args.std))
    fit, held = images[args.held_out :], images[: args.held_out]
    loader = TensorLoader(
        fit, torch.zeros(len(fit), dtype=torch.long), batch_size=args.batch_size, mean=mean,
        std=std, train=True, pad=args.size // 8, flip=True,
    )  # fmt: skip
    space = refiner.search_space(
        model, torch.zeros(1, *shape[1:]), granularity=args.slots,
        candidates=args.candidates and args.candidates.split(","),
    )  # fmt: skip
    supernet = Supernet(model, space)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    fitted = fit_candidates(
        supernet, loader, Classification(), devices=Devices.choose("cpu"), seed=args.seed,
        config=DistillConfig(steps=args.steps, rows_per_feature=args.rows), progress=Silent(),
        usage=Usage(),
    )  # fmt: skip
    took = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{len(space.slots)} slots; distilled in {took:.1f} s of one core; peak {peak / 2**20:.2f} GiB, {before / 2**20:.2f} before"
    )
    if not args.held_out:
        return
    pixels = (held.float() / 255 - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
    errors = measured(supernet, list(pixels.split(250)))
    if args.widest:
        sites = [site for slot in space.slots for site in slot.sites]
        most = max(site.spec.in_channels for site in sites if site.conv in errors)
        wide = {site.conv for site in sites if site.spec.in_channels == most}
        errors = {conv: row for conv, row in errors.items() if conv in wide}
    table(fitted, errors)


if __name__ == "__main__":
    main()
