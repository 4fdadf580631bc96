"""``refine slots`` and ``refine apply``: nothing is trained."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

import refiner
from refiner.architecture import Architecture, with_model
from refiner.budget import parse_budgets
from refiner.cost import slot_costs
from refiner.data import load_data
from refiner.devices import Devices
from refiner.drawing import network_svg
from refiner.errors import ArchitectureError, ConfigError, RunError, one_line
from refiner.files import write_text
from refiner.inputs import describe, first_sample, from_json, to_json
from refiner.latency import Latency, LatencyTable, latency_table
from refiner.loaders import example_of
from refiner.models import ModelSpec, default_input_size, input_channels
from refiner.pareto import front_from_json, pick
from refiner.report import change
from refiner.result import cost_report, write_result
from refiner.run_folder import RunFolder, check_free
from refiner.search_run import kept_network
from refiner.space import SearchSpace, offered_space, space_of

from .options import absolute, candidate_list, check_new_file, model_arguments
from .screen import print_report, print_table


def show_slots(
    source: str,
    *,
    slots: str,
    candidates: str | None,
    allow_larger: bool,
    input_size: str | None,
    data: str | None,
    model_arg: Sequence[str],
    graph: Path | None,
    latency: bool,
    as_json: bool,
) -> None:
    """Print the slots of a model, their candidates with costs, the frozen convs and the skip edges.

    With ``latency`` the model and the candidates are timed, on the device that a run would take.
    """
    if graph is not None:
        check_new_file(graph)
    model = ModelSpec(source=source, arguments=model_arguments(model_arg)).build()
    example = _example_input(model, input_size, data)
    space = _space(model, example, slots, candidates, allow_larger)
    if graph is not None:
        write_text(graph, network_svg(refiner.trace(model, example), space))
    one = first_sample(example)
    whole = refiner.measure_cost(model, one)
    table = latency_table(space, model, one, devices=Devices.choose()) if latency else None
    costs = slot_costs(space)
    least = whole.macs - sum(c[0].macs - min(x.macs for x in c) for c in costs)
    most = whole.macs - sum(c[0].macs - max(x.macs for x in c) for c in costs)
    in_slots = sum(c[0].macs for c in costs)
    shares = {}
    for each in ("conv", "all"):
        other = space if each == slots else _offered(model, example, each, candidates, allow_larger)
        shares[each] = sum(c[0].macs for c in slot_costs(other)) / whole.macs
    if as_json:
        document = {
            "model": source, "input": describe(example), "macs": whole.macs,
            "params": whole.params, "least_macs": least, "most_macs": most,
            "macs_in_slots": in_slots, "share_in_slots": shares, "architectures": space.size,
            "slots": _slot_documents(space, table), "frozen": [asdict(f) for f in space.frozen],
            "skips": [asdict(s) for s in space.skips],
        }  # fmt: skip
        if table is not None:
            document |= {"latency": {**asdict(table.conditions), **_latency_document(table.model)}}
        print(json.dumps(document))
        return
    _print_slots(space, f"slots of {source} on an input of {describe(example)}", table)
    if space.frozen:
        rows = [(f.name, f.reason) for f in space.frozen]
        print_table("frozen convs", ("conv", "reason"), rows, left=2)
    if space.skips:
        skips = [(s.fork, s.join, ", ".join(s.convs)) for s in space.skips]
        print_table("skip edges, which stay", ("from", "to", "projection"), skips, left=3)
    if table is not None:
        print(
            f"the model takes {table.model} {table.conditions}; ± is the median distance of a round from "
            "the median"
        )
    print(
        f"{len(space.slots)} slots, {space.size:,} architectures, the slots hold "
        f"{100 * in_slots / whole.macs:.0f} % of {whole.macs:,} MACs; a search can reach from {least:,} to "
        f"{most:,}"
    )
    print(
        f"MACs in reach: {100 * shares['conv']:.0f} % with --slots conv, {100 * shares['all']:.0f} % with "
        "--slots all"
    )


def _space(
    model: Any, example: Any, slots: str, candidates: str | None, allow_larger: bool
) -> SearchSpace:
    return refiner.search_space(
        model,
        example,
        granularity=slots,  # type: ignore[arg-type]
        candidates=candidate_list(candidates),
        allow_larger=allow_larger,
    )


def _offered(
    model: Any, example: Any, slots: str, candidates: str | None, allow_larger: bool
) -> SearchSpace:
    """Return what :func:`_space` returns, and an empty space where no conv can change."""
    return offered_space(
        model,
        example,
        granularity=slots,  # type: ignore[arg-type]
        candidates=candidate_list(candidates),
        allow_larger=allow_larger,
    )


def _print_slots(space: SearchSpace, title: str, table: LatencyTable | None) -> None:
    """Print a row a candidate; the first of a slot tells where it is and what it was."""
    rows = []
    for slot, names, options in zip(space.slots, space.candidates, slot_costs(space), strict=True):
        sizes = (slot.sites[0].in_shape[1:], slot.sites[-1].out_shape[1:])
        shape = " -> ".join(dict.fromkeys("x".join(map(str, size)) for size in sizes))
        for i, (name, option) in enumerate(zip(names, options, strict=True)):
            where = (slot.name, shape, f"0 {slot}") if i == 0 else ("", "", f"{i} {name}")
            less = change(options[0].macs, option.macs) if i else ""
            took = []
            if table is not None:
                time = table.slots[slot.name][name]
                took = [f"{time.median:.3f} ± {time.noise:.3f}"]
            rows.append((*where, f"{option.macs:,}", less, *took, f"{option.params:,}"))
    ms = [] if table is None else ["ms"]
    head = ("slot", "shape", "operation", "MACs", "change", *ms, "parameters")
    print_table(title, head, rows, left=3)


def _latency_document(latency: Latency) -> dict[str, float]:
    return {"latency_ms": latency.median, "latency_noise_ms": latency.noise}


def _slot_documents(space: SearchSpace, table: LatencyTable | None) -> list[dict[str, Any]]:
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
                    "macs": cost.macs,
                    "params": cost.params,
                    **({} if table is None else _latency_document(table.slots[slot.name][name])),
                }
                for name, cost in zip(names, costs, strict=True)
            ],
        }
        for slot, names, costs in zip(space.slots, space.candidates, slot_costs(space), strict=True)
    ]


def apply_architecture(
    source: str,
    text: str,
    *,
    slots: str,
    candidates: str | None,
    allow_larger: bool,
    input_size: str | None,
    data: str | None,
    model_arg: Sequence[str],
    pretrained: bool,
    weights: str | None,
    seed: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Rewrite a model to a vector or an architecture.json; report, and write it out if asked."""
    if out is not None:
        check_free(out)
    spec = ModelSpec(
        source=absolute(source), arguments=model_arguments(model_arg), pretrained=pretrained,
        weights=weights, seed=seed,
    )  # fmt: skip
    given = Architecture.load(text) if text.endswith(".json") else None
    if given is not None and (slots != "conv" or candidates is not None or allow_larger):
        raise ConfigError(
            f"{text} holds its slots and candidates. Leave --slots, --candidates and --allow-larger out."
        )
    made = given.model or {} if given is not None else {}
    spec = replace(spec, classes=(made.get("spec") or {}).get("classes"))
    model = spec.build()
    if input_size is None and data is None and "example_input" in made:
        example = from_json(made["example_input"])
    else:
        example = _example_input(model, input_size, data)
    if given is not None:
        space, vector = space_of(given, model, example), given.vector
    else:
        space, vector = _space(model, example, slots, candidates, allow_larger), _vector(text)
    _rewrite(spec, model, space, vector, example, out=out, as_json=as_json)


def pick_architecture(
    folder: Path, budgets: Sequence[str], *, out: Path | None, as_json: bool
) -> None:
    """Rewrite a run's model to the best architecture of its front within budgets."""
    if out is not None:
        check_free(out)
    run = RunFolder.open(folder)
    points, original = front_from_json(run.read_json("pareto.json"))
    limits = {}
    for budget in parse_budgets(budgets):
        if budget.resource not in original:
            raise ConfigError(
                f"the front of {folder} tells no {budget.resource}. Pick by {' or '.join(original)}."
            )
        limits[budget.resource] = budget.most(original[budget.resource])
    found = pick(points, limits)
    given = Architecture.load(folder / "architecture.json")
    made = given.model or {}
    if "spec" not in made or "example_input" not in made:
        raise RunError(
            f"{folder} does not tell how its model was made, since Python code made it. Its "
            f"pareto.json has the vector {','.join(map(str, found.vector))}: use refiner.rewrite there."
        )
    spec = ModelSpec(**made["spec"])
    model, example = spec.build(), from_json(made["example_input"])
    space = space_of(given, model, example)
    notes, network = [], None
    if found.latency is not None:
        notes = [f"latency {found.latency:.2f} ms, predicted from the run's latency.json"]
    if run.config().get("settings", {}).get("distill") is not None:
        network = kept_network(run, model, space, found.vector)
        notes += [
            "its weights are those that the search left; tune it with `refine train --weights`"
        ]
    _rewrite(
        spec, model, space, found.vector, example,
        out=out, as_json=as_json, network=network, notes=notes,
    )  # fmt: skip


def _rewrite(
    spec: ModelSpec,
    model: nn.Module,
    space: SearchSpace,
    vector: tuple[int, ...],
    example: Any,
    *,
    out: Path | None,
    as_json: bool,
    network: nn.Module | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Rewrite, unless it was done already, report the cost, and write it all out if asked."""
    architecture = space.architecture(vector)
    rewritten = network
    if rewritten is None:
        rewritten = refiner.rewrite(model, architecture, seed=spec.seed)
    one = first_sample(example)
    report = cost_report(model, rewritten, space, architecture, one, devices=Devices.choose("cpu"))
    report = replace(report, notes=(*notes, *report.notes))
    if out is not None:
        folder = RunFolder.create(out, {"provenance": {"spec": spec.to_json()}, "settings": {}})
        write_result(
            folder,
            model=rewritten,
            architecture=with_model(
                architecture, {"spec": spec.to_json(), "example_input": to_json(example)}
            ),
            report=report,
            example_input=example,
        )
    if as_json:
        print(json.dumps(report.to_json()))
    else:
        print_report(report)


def _vector(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.strip("[]() ").split(","))
    except ValueError:
        raise ArchitectureError(
            f"{text!r} is neither a file that ends in .json nor a vector such as 1,0,0,2."
        ) from None


def _example_input(model: nn.Module, size: str | None, data: str | None, seed: int = 0) -> Any:
    """Return two samples: of a data set, or random ones of the given or the model's own size."""
    if data is None:
        return _random_input(model, size)
    if size is not None:
        raise ConfigError("--input-size and --data both tell the input's size. Give one.")
    return example_of(load_data(data, channels=input_channels(model), seed=seed).train)


def _random_input(model: nn.Module, size: str | None) -> torch.Tensor:
    """Return two random samples of the given size, ``C,H,W`` say, or of the model's own input size."""
    shape: tuple[int, ...]
    if size is None:
        shape = default_input_size(model)
    else:
        try:
            shape = tuple(int(part) for part in size.split(","))
        except ValueError:
            raise ConfigError(f"--input-size {size!r} is not C,H,W, such as 3,224,224.") from None
        if min(shape) < 1:
            raise ConfigError(f"--input-size {size!r} has a size below 1. Write 3,224,224, say.")
    try:
        return torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    except RuntimeError as error:
        raise ConfigError(f"--input-size {size!r} is too large: {one_line(error, 100)}") from error
