"""``refine slots``: what a search may change, and what each change costs; nothing is trained."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import refiner
from refiner.core.batches import first_sample
from refiner.core.contents import describe
from refiner.core.errors import ConfigError
from refiner.core.files import write_text
from refiner.core.models import ModelSpec
from refiner.core.types import JsonDict
from refiner.cost.costs import Cost, slot_costs
from refiner.cost.deployment import Deployment
from refiner.cost.latency import Latency
from refiner.cost.latency_table import LatencyTable
from refiner.cost.reach import choose_in, shares_in_reach
from refiner.cost.slot_latencies import latency_table
from refiner.graph.slots import GRANULARITIES, Granularity
from refiner.graph.tracing import trace_model
from refiner.runs.drawing import network_drawing
from refiner.runs.drawing_svg import drawing_svg
from refiner.runs.text import change
from refiner.space.admissible import Offer
from refiner.space.candidates import ORIGINAL, get_candidate
from refiner.space.keep_ratios import keep_ratio_of
from refiner.space.search_space import SearchSpace
from refiner.training.devices import Devices

from .example_input import example_input
from .paths import candidate_list, check_new_file, model_arguments
from .tables import print_table, say


def show_slots(
    source: str,
    *,
    slots: str,
    candidates: str | None,
    allow_larger: bool,
    channel_multiple: int,
    only: Sequence[str],
    skip: Sequence[str],
    input_size: str | None,
    data: str | None,
    model_arg: Sequence[str],
    graph: Path | None,
    latency: bool,
    latency_batch: int,
    runtime: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Print the slots of a model, candidates with costs, frozen convs and skip connections.

    With ``latency`` the model and the candidates are timed, on the device that a run would take.
    """
    if graph is not None:
        check_new_file(graph)
    if latency_batch < 1:
        raise ConfigError(f"--latency-batch is {latency_batch}. Give 1 or more.")
    model = ModelSpec(source=source, arguments=model_arguments(model_arg)).build()
    example = example_input(model, input_size, data)
    offer = Offer(
        candidates=candidate_list(candidates),
        allow_larger=allow_larger,
        channel_multiple=channel_multiple,
        only=tuple(only),
        skip=tuple(skip),
    )
    granularity = slots_option(slots)
    offer.check("group" if granularity == "auto" else granularity)
    traced = trace_model(model, example)
    space, why = choose_in(traced, example, slots=granularity, trained=False, offer=offer)
    if graph is not None:
        write_text(graph, drawing_svg(network_drawing(traced.graph_module, space)))
    one = first_sample(example)
    whole = refiner.measure_cost(model, one)
    table = None
    if latency:
        where = Deployment.choose(
            example,
            runtime=runtime,
            device=Devices.choose().device,
            threads=threads,
            batch=latency_batch,
        )
        table = latency_table(space, model, where)
    shares = shares_in_reach(traced, example, offer)
    if as_json:
        print(json.dumps(_document(source, describe(example), space, whole, table, shares)))
        return
    _print_space(space, f"Slots of {source} on an input of {describe(example)}", table)
    if graph is not None:
        print(f"{graph}: the network, drawn")
    if why:
        say(why)
    least, most, in_slots = _reach(space, whole)
    say(
        f"{len(space.slots)} slots, {space.size:,} architectures. The slots hold "
        f"{100 * in_slots / max(whole.macs, 1):.0f} % of {whole.macs:,} MACs. A search can reach "
        f"from {least:,} to {most:,} MACs."
    )
    for note in whole.notes:
        say(f"note: {note}")
    say(
        "MACs in reach: "
        + ", ".join(f"{100 * share:.0f} % with --slots {each}" for each, share in shares.items())
    )


def slots_option(text: str) -> Granularity | Literal["auto"]:
    """Return the value of ``--slots``.

    Raises:
        ConfigError: it names no granularity.
    """
    if text not in ("auto", *GRANULARITIES):
        raise ConfigError(
            f"unknown slots {text!r}. Choose one of: auto, {', '.join(GRANULARITIES)}."
        )
    return text  # type: ignore[return-value]


def _reach(space: SearchSpace, whole: Cost) -> tuple[int, int, int]:
    """Return the least and the most MACs that a search can reach, and those in the slots now."""
    costs = [[cost.macs for cost in row] for row in slot_costs(space)]
    least = whole.macs - sum(row[0] - min(row) for row in costs)
    most = whole.macs - sum(row[0] - max(row) for row in costs)
    return least, most, sum(row[0] for row in costs)


def _document(
    source: str,
    shape: str,
    space: SearchSpace,
    whole: Cost,
    table: LatencyTable | None,
    shares: Mapping[Granularity, float],
) -> JsonDict:
    """Return all that is shown as JSON types."""
    least, most, in_slots = _reach(space, whole)
    document: JsonDict = {
        "model": source,
        "input": shape,
        "granularity": space.granularity,
        "macs": whole.macs,
        "params": whole.params,
        "uncounted": list(whole.uncounted),
        "missed": list(whole.missed),
        "notes": list(whole.notes),
        "least_macs": least,
        "most_macs": most,
        "macs_in_slots": in_slots,
        "share_in_slots": dict(shares),
        "architectures": space.size,
        "slots": _slot_documents(space, table),
        "frozen": [asdict(f) for f in space.frozen],
        "skips": [asdict(s) for s in space.skips],
    }
    if table is not None:
        document["latency"] = {**asdict(table.conditions), **_latency_document(table.model)}
    return document


def _print_space(space: SearchSpace, title: str, table: LatencyTable | None) -> None:
    """Print the slots, frozen convs, skip connections and, where it was timed, the model."""
    _print_slots(space, title, table)
    if space.frozen:
        rows = [(f.name, f.reason) for f in space.frozen]
        print_table("Frozen convs, which stay unchanged", ("conv", "reason"), rows, left=2)
    if space.skips:
        skips = [(s.fork, s.join, ", ".join(s.convs)) for s in space.skips]
        print_table(
            "Skip connections, which stay unchanged", ("from", "to", "projection"), skips, left=3
        )
    if table is not None:
        times = [[each.median for each in row] for row in table.rows(space)]
        fastest = table.model.median - sum(row[0] - min(row) for row in times)
        say(
            f"the model takes {table.model} {table.conditions}. ± is the median distance of a "
            f"round from the median. A search can reach {fastest:.2f} ms, as predicted from these."
        )


def _print_slots(space: SearchSpace, title: str, table: LatencyTable | None) -> None:
    """Print a row for each candidate; the first row of a slot names the slot and its original."""
    rows = []
    for slot, names, options in zip(space.slots, space.candidates, slot_costs(space), strict=True):
        sizes = (slot.sites[0].in_shape[1:], slot.sites[-1].out_shape[1:])
        shape = " -> ".join(dict.fromkeys("x".join(map(str, size)) for size in sizes))
        for i, (name, option) in enumerate(zip(names, options, strict=True)):
            where = [slot.name, shape, f"0 {slot}"] if i == 0 else ["", "", f"{i} {name}"]
            less = change(options[0].macs, option.macs) if i else ""
            took = []
            if table is not None:
                time = table.slots[slot.name][name]
                took = [f"{time.median:.3f} ± {time.noise:.3f}"]
                del where[1]  # the milliseconds take its room
            rows.append((*where, f"{option.macs:,}", less, *took, f"{option.params:,}"))
    places, ms = (["slot", "shape"], []) if table is None else (["slot"], ["ms"])
    head = (*places, "operation", "MACs", "change", *ms, "parameters")
    print_table(title, head, rows, left=len(places) + 1)
    offered = dict.fromkeys(name for names in space.candidates for name in names[1:])
    prunings = [name for name in offered if keep_ratio_of(name)]
    about = {"keep...": "channel pruning: keeps this share of the channels between the convs"}
    about = about if prunings else {}
    about |= {name: get_candidate(name).about for name in offered if name not in prunings}
    for name, text in about.items():
        print(f"  {name:<18} {text}" if text else f"  {name}")
    print()


def _latency_document(latency: Latency) -> dict[str, float]:
    return {"latency_ms": latency.median, "latency_noise_ms": latency.noise}


def _slot_documents(space: SearchSpace, table: LatencyTable | None) -> list[JsonDict]:
    return [
        {
            "name": slot.name,
            "original": str(slot),
            "convs": [site.conv for site in slot.sites],
            "in_shape": list(slot.sites[0].in_shape[1:]),
            "out_shape": list(slot.sites[-1].out_shape[1:]),
            "candidates": [
                {
                    "name": name,
                    "about": "" if name == ORIGINAL else get_candidate(name).about,
                    "macs": cost.macs,
                    "params": cost.params,
                    **({} if table is None else _latency_document(table.slots[slot.name][name])),
                }
                for name, cost in zip(names, costs, strict=True)
            ],
        }
        for slot, names, costs in zip(space.slots, space.candidates, slot_costs(space), strict=True)
    ]
