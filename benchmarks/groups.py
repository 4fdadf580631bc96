"""How much of a network channel groups reach.

    python benchmarks/groups.py efficientnet_b0 regnety_008 torchvision:mobilenet_v3_small

Each model has random weights and sees one image of 128x128. A row shows the number of slots and of groups,
the share of the MACs between the first and the last conv of groups, the share in all slots, and the
most that a search saves.
"""

import argparse
import warnings

import torch

import refiner
from refiner.core.models import ModelSpec
from refiner.core.randomness import seeded
from refiner.cost.costs import measure_cost, slot_costs


def row(name: str) -> str:
    source = name if ":" in name else f"timm:{name}"
    with seeded(0):
        model = ModelSpec(source=source).build()
        example = torch.randn(1, 3, 128, 128)
    space = refiner.search_space(model, example, granularity="group")
    whole = measure_cost(model, example, cross_check=False).macs
    groups = [slot for slot in space.slots if slot.is_group]
    in_groups = sum(slot.macs for slot in groups)
    saved = sum(row[0].macs - min(cost.macs for cost in row) for row in slot_costs(space))
    shares = [f"{100 * macs / whole:.0f} %" for macs in (in_groups, space.slot_macs, saved)]
    return f"| {name} | {len(space.slots)} | {len(groups)} | {' | '.join(shares)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+")
    warnings.simplefilter("ignore")
    print("| model | slots | groups | MACs in groups | MACs in slots | most that a search saves |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name in parser.parse_args().models:
        print(row(name), flush=True)


if __name__ == "__main__":
    main()
