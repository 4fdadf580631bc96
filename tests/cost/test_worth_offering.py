from dataclasses import replace

from models import TinyResNet, images, latencies

from refiner.cost.budget import parse_budgets, within_budgets
from refiner.cost.worth_offering import worth_offering
from refiner.space.search_space import search_space

NAMES = ("keep0.875", "keep0.75", "keep0.625", "keep0.5", "keep0.25", "no_branch")


def offered(*times: float, stairs: bool = True) -> list[str]:
    """Return the candidates offered of prunings that take so many ms, where the original takes 10."""
    model, x = TinyResNet(width=16), images()
    space = search_space(model, x, granularity="group", candidates=NAMES)
    table = latencies(space, 100.0, lambda name, k: (10.0, *times)[k])
    kept = worth_offering(space, table, stairs=stairs)
    names = [[row[k] for k in ks] for row, ks in zip(space.candidates, kept, strict=True)]
    assert names[0] == names[1]
    return names[0]


def test_each_step_of_the_stairs_keeps_its_widest_candidate() -> None:
    assert offered(10.0, 8.0, 7.99, 6.0, 6.5, 1.0) == [
        "original",
        "keep0.75",
        "keep0.5",
        "no_branch",
    ]
    assert offered(9.0, 8.0, 7.0, 6.0, 5.0, 9.99) == ["original", *NAMES]


def test_without_stairs_only_slower_ones_go() -> None:
    assert offered(10.0, 40.0, 7.99, 6.0, 6.5, 1.0, stairs=False) == [
        "original", "keep0.875", "keep0.625", "keep0.5", "keep0.25", "no_branch",
    ]  # fmt: skip


def test_a_width_that_saves_parameters_alone_stays_where_these_are_a_budget() -> None:
    model, x = TinyResNet(width=16), images()
    space = search_space(model, x, granularity="group", candidates=NAMES)
    table = latencies(space, 100.0, lambda _, k: 10.0 if k < 2 else 5.0)
    table = replace(table, slots={slot: dict(row) for slot, row in table.slots.items()})

    def names(budget: str) -> tuple[str, ...]:
        return within_budgets(parse_budgets(budget), model, space, x, table)[0].candidates[0]

    assert names("latency=95%") == ("original", "keep0.75", "no_branch")
    assert names("latency=95%,params=95%") == ("original", *NAMES)
