from dataclasses import replace
from pathlib import Path

import pytest
import torch
from models import TinyResNet, images
from torch import nn

from refiner.cost import slot_latencies
from refiner.cost.deployment import Deployment
from refiner.cost.latency import Conditions
from refiner.cost.latency_cache import LatencyCache, key_of, still_true
from refiner.cost.slot_latencies import latency_table
from refiner.runtimes.timing import Patience
from refiner.space.search_space import search_space

CONDITIONS = Conditions(runtime="eager 2", device="a CPU, 1 thread", batch=1, precision="no")
TIMES = {"original": [1.0, 1.5], "keep0.5": [0.5, 0.25]}
SHORT = Patience(repeats=2, most=2, warm_up=0)


def test_times_come_back_under_the_same_conditions_alone(tmp_path) -> None:
    cache = LatencyCache(CONDITIONS, tmp_path / "new")
    assert cache.get("a") is None
    cache.put("a", TIMES)
    cache.put("b", {"original": [2.0]})
    assert LatencyCache(CONDITIONS, tmp_path / "new").get("a") == TIMES
    assert cache.get("b") == {"original": [2.0]}
    other = LatencyCache(replace(CONDITIONS, batch=2), tmp_path / "new")
    assert other.get("a") is None
    assert len(list((tmp_path / "new").iterdir())) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        '{"a": 1}',
        '{"a": {"original": ["x"]}}',
        "{",
        '{"a": {"original": []}}',
        '{"a": {"original": [0.0]}}',
        '{"a": {"original": [1.0], "keep0.5": [1.0, 2.0]}}',
    ],
)
def test_a_damaged_file_holds_nothing_and_is_written_anew(tmp_path, text) -> None:
    LatencyCache(CONDITIONS, tmp_path).file.write_text(text)
    cache = LatencyCache(CONDITIONS, tmp_path)
    assert cache.get("a") is None
    cache.put("a", TIMES)
    assert cache.get("a") == TIMES


def test_a_folder_that_cannot_be_made_keeps_nothing(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    cache = LatencyCache(CONDITIONS, tmp_path / "file" / "below")
    cache.put("a", TIMES)
    assert cache.get("a") is None


def test_files_lie_in_the_users_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert LatencyCache(CONDITIONS).file.parent == tmp_path / "refiner" / "latency"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert LatencyCache(CONDITIONS).file.parent == Path.home() / ".cache" / "refiner" / "latency"


def test_code_of_the_users_own_is_not_kept() -> None:
    class Own(nn.ReLU):
        pass

    names = ("original", "keep0.5", "no_branch", "depthwise3x3")
    known = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())
    assert key_of("near", known, names) == key_of("near", known, names) is not None
    assert key_of("near", known, names) != key_of("other", known, names)
    assert key_of("near", known, names) != key_of("near", known, names[:2])
    assert key_of("near", nn.Sequential(Own()), names) is None


def test_kept_times_hold_while_the_original_takes_as_long() -> None:
    assert still_true([1.0, 1.0], [1.04, 1.04])
    assert not still_true([1.0, 1.0], [1.1, 1.1])
    assert not still_true([1.0, 1.0], [0.9, 0.9])


def test_a_second_table_times_only_originals(tmp_path, monkeypatch) -> None:
    model, x = TinyResNet(width=8), images(1)
    space = search_space(model, x, granularity="group")
    where = Deployment.choose(x, device=torch.device("cpu"))
    prepared: list[int] = []
    prepare = type(where.runtime).prepare

    def counted(runtime, network, example):
        prepared.append(1)
        return prepare(runtime, network, example)

    monkeypatch.setattr(type(where.runtime), "prepare", counted)
    counts = []
    for true in (True, True, False):
        monkeypatch.setattr(slot_latencies, "still_true", lambda *_, true=true: true)
        prepared.clear()
        cache = LatencyCache(where.conditions, tmp_path)
        table = latency_table(
            space, model, where, anchors=0, patience=SHORT, whole_patience=SHORT, cache=cache
        )
        counts.append(len(prepared))
        assert set(table.slots) == {"block1", "block2"}
    candidates = sum(map(len, space.candidates))
    assert counts == [candidates, 2, 2 + candidates]
