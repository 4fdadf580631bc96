from collections.abc import Mapping

import pytest

from refiner.core.errors import ConfigError
from refiner.cost.budget import Budget, parse_budgets
from refiner.cost.budget_text import budget_texts
from refiner.runs.settings import Settings

SHARE = (Budget(resource="macs", amount=0.6, relative=True),)


@pytest.mark.parametrize(
    "given",
    [0.6, "macs=0.6", "macs=60%", "macs = 60 %", {"macs": 0.6}, {"macs": "60%"}, ["macs=0.6"]],
)
def test_a_share_of_the_macs_in_every_form(given) -> None:
    assert parse_budgets(given) == SHARE
    assert Settings.of({"budget": given}).budgets == SHARE


def test_several_budgets_in_a_mapping_and_in_a_list() -> None:
    wanted = parse_budgets("macs=60%,params=5e6,latency=2ms")
    assert [str(each) for each in wanted] == ["macs=60%", "params=5000000", "latency=2ms"]
    assert parse_budgets({"macs": 0.6, "params": 5e6, "latency": "2ms"}) == wanted
    assert parse_budgets(["macs=60%", "params=5000000", "latency=2 ms"]) == wanted
    assert parse_budgets({"latency": 0.8})[0] == parse_budgets("latency=80%")[0]
    assert budget_texts(None) == ()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("macs", "'macs' is not a budget"),
        ("macs=", "is not a budget"),
        ("macs=-5", "is not a budget"),
        ("macs=0%", "is not a budget"),
        ("macs=60%%", "is not a budget"),
        ("macs=5ms", "is not a budget"),
        ("macs=1e999", "is not a budget"),
        ("macs=160%", "binds nothing"),
        ("macs=60%,macs=1e9", "two budgets for macs"),
        ("60%", r"'60%' is not a budget. Did you mean macs=60%\?"),
        ("0.6", r"Did you mean macs=0.6\?"),
        ("flops=60%", r"no budget for 'flops'. Did you mean macs=60%\?"),
        ("mac=60%", r"Did you mean macs=60%\?"),
        ("MACs=60%", r"Did you mean macs=60%\?"),
        ("parms=5e6", r"Did you mean params=5e6\?"),
        ("latancy=2ms", r"Did you mean latency=2ms\?"),
        ("energy=2", "Choose one of: macs, params, latency"),
        ("macs=60", "'macs=60' has no unit. Give macs=60% for a share"),
        ("latency=5", "Give latency=5% for a share of the original's, or latency=5ms"),
        ("latency=500", "Give latency=500ms"),
        (60, "'macs=60' has no unit"),
        ({"macs": 60}, "'macs=60' has no unit"),
        ([60], 'Give a text such as macs=60%, a share such as 0.6, or several as {"macs"'),
        (True, "True is not a budget"),
        ({"flops": 0.6}, r"Did you mean macs=0.6\?"),
    ],
)
def test_what_is_no_budget_is_refused(given: str | float | Mapping[str, float], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Settings.of({"budget": given})
