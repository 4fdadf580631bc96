import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refiner.core.errors import ConfigError
from refiner.core.options import options_of
from refiner.search.search_config import SearchConfig


@pytest.mark.parametrize(
    ("field", "value", "least"),
    [
        ("epochs", -1, "0"),
        ("warmup_epochs", -1, "0"),
        ("front", -1, "0"),
        ("trials", 0, "1"),
        ("samples", 0, "1"),
        ("top_k", -1, "1"),
        ("timeout", 0, "a number of seconds above 0"),
        ("timeout", math.nan, "a number of seconds above 0"),
    ],
)
def test_settings_out_of_range(field: str, value: float, least: str) -> None:
    with pytest.raises(ConfigError, match=f"{field} is {value}. Give {least}"):
        SearchConfig(**{field: value})


def test_a_warm_up_needs_weights_that_are_trained() -> None:
    with pytest.raises(ConfigError, match="Set warmup_epochs to 0"):
        SearchConfig(train_weights=False)


def test_the_defaults_are_five_updates_of_ten_architectures_an_epoch() -> None:
    config = SearchConfig()
    assert (config.updates, config.total_epochs) == (75, 20)
    assert [config.updates_before(epoch) for epoch in range(16)] == list(range(0, 76, 5))


def test_updates_that_do_not_divide_by_hand() -> None:
    config = SearchConfig(trials=23, epochs=3, samples=5)
    assert config.updates == 5
    assert [config.updates_before(epoch) for epoch in range(4)] == [0, 1, 3, 5]
    assert [config.trials_before(update) for update in range(6)] == [0, 5, 10, 15, 20, 23]


@given(trials=st.integers(1, 200), epochs=st.integers(0, 30), samples=st.integers(1, 30))
def test_all_trials_are_spread_evenly(trials: int, epochs: int, samples: int) -> None:
    config = SearchConfig(trials=trials, epochs=epochs, samples=samples)
    starts = [config.updates_before(epoch) for epoch in range(epochs + 1)]
    assert starts[0] == 0
    if epochs:
        assert config.trials_before(starts[-1]) == trials
        counts = [b - a for a, b in itertools.pairwise(starts)]
        assert max(counts) - min(counts) <= 1


def test_options_of_the_command() -> None:
    shown = {name: (o.panel, o.flag) for name, (_, o) in options_of(SearchConfig).items()}
    assert shown == {
        "trials": ("Search", None),
        "timeout": ("Search", None),
        "epochs": ("Paper", "--search-epochs"),
        "warmup_epochs": ("Paper", None),
        "samples": ("Paper", None),
    }
