"""How many models of timm and torchvision can be refined, and exactly so.

    python benchmarks/coverage.py trace  --out coverage     # all of timm on the meta device
    python benchmarks/coverage.py refine --out coverage     # real tensors, every check below
    python benchmarks/coverage.py table  --out coverage     # the tables for README.md

`trace`: the model is traced, its slots are found, and each of its convs must be a slot or frozen with a
reason. `refine` takes the smallest model of each of timm's modules (as `trace` measured them) and every
torchvision model for classification, segmentation, detection and video: the supernet's zero vector gives
the original to the bit in eval and in train mode (same seed), the rewritten zero vector too and with
the same names of parameters, a random admissible vector runs forward and backward with finite
gradients, and the rewritten model is exported in each format. A model without a slot is exported as it
is. Images are 96x96 where a torchvision model takes any size, and 128x128 for detection: what is compared does
not depend on it. Lines are added to OUT/*.jsonl, a line a model; a model that is there is not run again, so the
command goes on where it was broken off. `--shard 0/2` does every second model. The largest need 14 GiB:
set a limit (`ulimit -v`), and a model that goes over it is an error in the table, not the machine's end.
"""

import argparse
import json
import resource
import signal
import statistics
import tempfile
import time
import traceback
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

import refiner
from refiner.core.contents import tensors_in
from refiner.core.errors import ModelError
from refiner.core.inputs import call
from refiner.core.layers import is_conv
from refiner.core.models import ModelSpec
from refiner.core.randomness import seeded
from refiner.core.surgery import copied
from refiner.cost.costs import measure_cost, slot_costs
from refiner.exports.exporting import export
from refiner.exports.writers import GENERAL
from refiner.graph.trace_check import fresh, repeatable, same

SECONDS = 300
"""For each step of one model."""


class TookTooLongError(Exception):
    """A step of one model took more than SECONDS."""


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TookTooLongError(f"more than {seconds} s")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def unaccounted(model: nn.Module, slots: Any, frozen: Any) -> list[str]:
    held = {name for slot in slots for name in slot.modules} | {f.name for f in frozen}
    return [name for name, module in model.named_modules() if is_conv(module) and name not in held]


def trace_one(name: str) -> dict[str, Any]:
    import timm

    try:
        with torch.device("meta"):
            model = timm.create_model(name)
    except Exception:  # its constructor computes with numbers
        model = timm.create_model(name).to("meta")
    example = torch.empty(2, *model.default_cfg["input_size"], device="meta")
    start = time.perf_counter()
    traced = refiner.trace(model, example)
    table = refiner.find_slots(traced)
    return {
        "seconds": time.perf_counter() - start,
        "module": model.__class__.__module__.rpartition(".")[2],
        "params": sum(p.numel() for p in model.parameters()),
        "convs": sum(is_conv(m) for m in model.modules()),
        "slots": len(table.slots),
        "frozen": len(table.frozen),
        "skips": len(table.skips),
        "nodes": len(traced.graph.nodes),
        "trains": traced.meta["train_graph"] is not None,
        "unaccounted": unaccounted(model, table.slots, table.frozen),
    }


def torchvision_models() -> dict[str, str]:
    """Return the kind of each model: classification, segmentation, detection or video."""
    from torchvision import models

    kinds = {
        "classification": models,
        "segmentation": models.segmentation,
        "detection": models.detection,
        "video": models.video,
    }
    return {
        name: kind for kind, module in kinds.items() for name in models.list_models(module=module)
    }


def build(name: str) -> tuple[nn.Module, Any]:
    """Return a model with random weights and an example input of two samples."""
    origin, _, short = name.partition(":")
    with seeded(0):
        if origin == "timm":
            import timm

            model = timm.create_model(short)
            return model, torch.randn(2, *model.default_cfg["input_size"])
        kind = torchvision_models()[short]
        resizes = kind == "detection" and not short.startswith("ssd")
        arguments = {"min_size": 128, "max_size": 128} if resizes else {}
        model = ModelSpec(source=f"torchvision:{short}", arguments=arguments).build()
        if kind == "detection":
            return model, _detection_example()
        if kind == "video":
            if short.startswith("swin3d"):  # takes any size
                return model, torch.randn(2, 3, 8, 96, 96)
            side = 112 if short.endswith("_18") else 224  # r3d, mc3 and r2plus1d
            return model, torch.randn(2, 3, 16, side, side)
        fixed = {"inception_v3": 299, "googlenet": 224}  # their auxiliary heads
        side = fixed.get(short, 224 if short.startswith(("vit", "maxvit")) else 96)
        return model, torch.randn(2, 3, side, side)


def _detection_example() -> tuple[Any, Any]:
    targets = []
    for i in range(2):
        boxes = torch.tensor([[10.0, 10.0, 60.0, 70.0], [30.0, 20.0, 90.0, 100.0]]) + i
        targets.append(
            {
                "boxes": boxes,
                "labels": torch.tensor([1, 1]),
                "masks": torch.ones(2, 128, 128, dtype=torch.uint8),
                "keypoints": torch.tensor([[[20.0, 20.0, 1.0]] * 17] * 2),
            }
        )
    return [torch.rand(3, 128, 128) for _ in range(2)], targets


def run(model: nn.Module, example: Any, training: bool) -> Any:
    with repeatable(model, training):
        return _detached(call(model, fresh(example)))


def _detached(output: Any) -> Any:
    """Return an output without its graph, which would keep every activation of the run alive."""
    return pytree.tree_map(lambda v: v.detach() if isinstance(v, torch.Tensor) else v, output)


def finite_gradients(model: nn.Module, example: Any) -> bool:
    with seeded(1):
        outputs = tensors_in(call(model.train(), fresh(example)))
    loss = sum(o.float().mean() for o in outputs if o.is_floating_point() and o.requires_grad)
    assert isinstance(loss, torch.Tensor)
    loss.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return bool(gradients) and all(bool(torch.isfinite(g).all()) for g in gradients)


def in_reach(model: nn.Module, example: Any, space: refiner.SearchSpace) -> dict[str, Any]:
    """Return the number of slots, and which shares of the MACs of one sample they hold."""
    whole = measure_cost(model, example, cross_check=False).macs
    groups = [slot for slot in space.slots if slot.is_group]
    saved = sum(row[0].macs - min(cost.macs for cost in row) for row in slot_costs(space))
    return {
        "slots": len(space.slots),
        "groups": len(groups),
        "macs": whole,
        "in_groups": sum(slot.macs for slot in groups) / whole,
        "in_slots": space.slot_macs / whole,
        "saved": saved / whole,
    }


def refine_one(
    model: nn.Module,
    example: Any,
    folder: Path,
    granularity: Any = "conv",
    forms: Sequence[str] = GENERAL,
    exported: Any = None,
) -> dict[str, Any]:
    """Return what every check of a model gives; exports go into a folder.

    ``exported`` is the example input of the exports, where it is another.
    """
    record: dict[str, Any] = {
        "convs": sum(is_conv(m) for m in model.modules()),
        "params": sum(p.numel() for p in model.parameters()),
    }
    start = time.perf_counter()
    with time_limit(SECONDS):
        traced = refiner.trace(model, example)
        table = refiner.find_slots(traced)
    record["seconds"] = time.perf_counter() - start
    record["unaccounted"] = unaccounted(model, table.slots, table.frozen)
    modes = [False, True] if traced.meta["train_graph"] is not None else [False]
    original = {mode: run(model, example, mode) for mode in modes}
    record["trace"] = all(
        same(original[mode], _run_traced(traced, example, mode)) for mode in modes
    )
    record["modes"] = len(modes)
    del traced
    final = model
    with time_limit(SECONDS):
        try:
            space = refiner.search_space(model, example, granularity=granularity)
        except ModelError as error:
            record["no_slots"] = str(error)[:200]
            space = None
    if space is not None:
        record |= in_reach(model, example, space)
        zero = (0,) * len(space.slots)
        with time_limit(SECONDS):
            supernet = refiner.Supernet(model, space)
            supernet.select(zero)
            record["supernet_zero"] = all(
                same(original[mode], run(supernet, example, mode)) for mode in modes
            )
            del supernet
            plain = refiner.rewrite(model, space.architecture(zero))
            record["rewritten_zero"] = list(plain.state_dict()) == list(model.state_dict()) and all(
                same(original[mode], run(plain, example, mode)) for mode in modes
            )
            del plain
        generator = torch.Generator().manual_seed(0)
        vector = tuple(
            int(torch.randint(len(names), (), generator=generator)) for names in space.candidates
        )
        final = refiner.rewrite(model, space.architecture(vector))
        with time_limit(SECONDS):
            record["gradients"] = finite_gradients(copied(final), example)
    del model, original
    record["exports"] = {}
    given = example if exported is None else exported
    for form in forms:
        try:
            with time_limit(SECONDS):
                record["exports"][form] = export(final, folder / f"out.{form}", given, form)
        except Exception as error:
            record["exports"][form] = f"FAIL {reason(error)}"
    record["peak_mib"] = peak_mib()
    return record


def _run_traced(traced: nn.Module, example: Any, training: bool) -> Any:
    values = fresh(example)
    with repeatable(traced, training):
        return _detached(call(traced, values))


def todo(step: str, out: Path) -> list[str]:
    import timm

    if step == "trace":
        return list(timm.list_models())
    smallest: dict[str, tuple[int, str]] = {}
    for record in read(out / "trace"):
        if "params" in record:
            entry = record["params"], record["name"]
            smallest[record["module"]] = min(smallest.get(record["module"], entry), entry)
    names = [f"timm:{name}" for _, name in sorted(smallest.values())]
    return names + [f"torchvision:{name}" for name in sorted(torchvision_models(), key=_parameters)]


def _parameters(name: str) -> int:
    from torchvision.models import get_model_weights

    weights: Any = get_model_weights(name)
    return int(next(iter(weights)).meta["num_params"])


def read(stem: Path) -> list[dict[str, Any]]:
    files = sorted(stem.parent.glob(f"{stem.name}*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def work(step: str, out: Path, shard: str) -> None:
    index, count = map(int, shard.split("/"))
    done = {record["name"] for record in read(out / step)}
    with (out / f"{step}{index}.jsonl").open("a") as file:
        for name in todo(step, out)[index::count]:
            if name in done:
                continue
            record: dict[str, Any] = {"name": name}
            try:
                if step == "trace":
                    record |= trace_one(name)
                else:
                    with tempfile.TemporaryDirectory() as folder:
                        model, example = build(name)
                        # Detectors want their targets in train mode alone.
                        images = example[:1] if isinstance(example, tuple) else None
                        record |= refine_one(model, example, Path(folder), exported=images)
            except Exception as error:
                record["error"] = reason(error)
                record["traceback"] = traceback.format_exc()[-1500:]
            file.write(json.dumps(record) + "\n")
            file.flush()
            print(name, record.get("error", "ok"), flush=True)


def table(out: Path) -> None:
    traced = read(out / "trace")
    whole = [r for r in traced if "error" not in r]
    holding = [r for r in whole if r["convs"]]
    fine = [r for r in holding if not r["unaccounted"]]
    times = sorted((r["seconds"], r["name"]) for r in whole)
    print(f"timm on meta: {len(traced)} models, {len(whole)} traced, {len(holding)} hold a conv, in "
          f"{len(fine)} of them every conv is a slot or frozen; {sum(r['slots'] > 0 for r in whole)} "
          f"have slots")  # fmt: skip
    if times:
        median = statistics.median(t for t, _ in times)
        print(f"seconds to trace and find slots: median {median:.2f}, worst {times[-1]}")
    for record in traced:
        if "error" in record or record["unaccounted"]:
            print("  ", record["name"], record.get("error") or record["unaccounted"])
    groups = defaultdict(list)
    for record in read(out / "refine"):
        groups[record["name"].partition(":")[0]].append(record)
    print("| | " + " | ".join(groups) + " |\n| --- |" + " --- |" * len(groups))
    rows = {
        "models": lambda _: True,
        "traced, equal in each mode": lambda r: r.get("trace"),
        "every conv accounted for": lambda r: "trace" in r and not r["unaccounted"],
        "with slots": lambda r: "slots" in r,
        "supernet's zero vector equal to the bit": lambda r: r.get("supernet_zero"),
        "rewritten zero vector equal, names too": lambda r: r.get("rewritten_zero"),
        "random vector: finite gradients": lambda r: r.get("gradients"),
    }
    for form in GENERAL:
        rows[f"exported: {form}"] = lambda r, form=form: (
            not r.get("exports", {}).get(form, "FAIL").startswith("FAIL")
        )
    for title, holds in rows.items():
        counts = " | ".join(str(sum(bool(holds(r)) for r in group)) for group in groups.values())
        print(f"| {title} | {counts} |")
    for record in (r for group in groups.values() for r in group):
        problems = [record["error"]] if "error" in record else []
        for key in ("trace", "supernet_zero", "rewritten_zero", "gradients"):
            problems += [key] if record.get(key) is False else []
        problems += [f"{k}: {v}" for k, v in record.get("exports", {}).items() if v[:4] == "FAIL"]
        if problems:
            print(f"- {record['name']}: {'; '.join(problems)}")
    refined = [r for group in groups.values() for r in group if "seconds" in r]
    if refined:
        worst = max((r["seconds"], r["name"]) for r in refined)
        print(f"real tensors: worst trace and slots {worst}, peak memory of the process "
              f"{max(r.get('peak_mib', 0) for r in refined)} MiB")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=("trace", "refine", "table"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shard", default="0/1", help="I/N: every N-th model, from the I-th")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    arguments.out.mkdir(exist_ok=True)
    if arguments.step == "table":
        table(arguments.out)
    else:
        work(arguments.step, arguments.out, arguments.shard)


if __name__ == "__main__":
    main()
