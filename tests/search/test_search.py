import copy
import itertools
from dataclasses import replace

import pytest
import torch
from models import HeadTask, TinyResNet, batches, images
from torch.utils.data import DataLoader, TensorDataset

import refiner.search.search as search_module
from refiner.core.errors import DataError, TrainingError
from refiner.cost.feasible import FeasibleSet
from refiner.data.tensor_loader import TensorLoader
from refiner.search.search import Search, SearchConfig
from refiner.search.strategies import make_strategy
from refiner.space.search_space import search_space
from refiner.space.supernet import Supernet
from refiner.training.devices import Devices
from refiner.training.loop import TrainConfig
from refiner.training.task import Classification
from refiner.training.usage import Usage

CONFIG = SearchConfig(
    epochs=3, warmup_epochs=2, trials=18, samples=3, top_k=3, weights=TrainConfig(lr_max=0.05)
)


def make(strategy="controller", config=CONFIG, seed=0, data=None, task=None) -> Search:
    torch.manual_seed(7)
    model, task = TinyResNet(), task or Classification()
    space = search_space(model, images())
    return Search(
        Supernet(model, space, seed=seed), make_strategy(strategy, space.candidates, seed), task,
        data or batches(4), batches(3, seed=1), devices=Devices.choose("cpu"), config=config, seed=seed,
    )  # fmt: skip


@pytest.mark.parametrize("strategy", ["controller", "random"])
def test_a_search_repeats_and_resumes_to_the_bit(strategy: str, tmp_path) -> None:
    records: list[list[dict]] = [[], [], []]
    whole = make(strategy)

    def keep(record: dict) -> None:
        records[0].append(record)
        if record["epoch"] in (1, 3):
            torch.save(whole.state_dict(), tmp_path / f"{record['epoch']}.pt")

    expected = whole.run(on_epoch=keep)
    again = make(strategy)
    assert again.run(on_epoch=records[1].append) == expected
    assert records[1] == records[0]
    for epoch in (1, 3):
        resumed, seen = make(strategy), []
        resumed.load_state_dict(torch.load(tmp_path / f"{epoch}.pt", weights_only=True))
        assert resumed.run(on_epoch=seen.append) == expected
        assert seen == records[0][epoch:]
        weights = resumed.supernet.state_dict()
        assert all(torch.equal(v, weights[k]) for k, v in whole.supernet.state_dict().items())


def test_the_usage_by_hand(tmp_path) -> None:
    search = make()
    result = search.run()
    trained = 5 * 4 * 8  # epochs, batches, images
    scored = (
        3 * 2 * 3 * (2 + 1) * 8
    )  # epochs, updates, samples, batches for the norms and the score
    finals = len(result.top_k) * (2 + 3) * 8
    assert search.usage == Usage(forward=trained + scored + finals, backward=trained)
    torch.save(search.state_dict(), tmp_path / "state.pt")
    other = make()
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert other.usage == search.usage
    assert not search.supernet.model._forward_pre_hooks


def test_architectures_of_other_costs_are_scored_along() -> None:
    zero, one, two, four = (0, 0, 0, 0), (1, 0, 0, 0), (1, 1, 0, 0), (1, 1, 1, 1)
    search = make("random", config=replace(CONFIG, epochs=0, top_k=1))
    search.cost = lambda vector: float(vector.count(0))
    search.scores.add([zero, one, one, two, four], [0.9, 0.5, 0.7, 0.05, 0.1])
    result = search.run()
    assert {f.vector for f in result.top_k} >= {four, one, zero}  # two is dear and bad
    assert two not in {f.vector for f in result.top_k}
    assert len(result.top_k) <= 4
    assert result.best.score == max(f.score for f in result.top_k)


def test_phases_follow_the_config() -> None:
    records: list[dict] = []
    result = make().run(on_epoch=records.append)
    assert [r["phase"] for r in records] == ["warm-up"] * 2 + ["search"] * 3
    assert all(len(r["updates"]) == 2 for r in records[2:])
    assert all(
        len(t["vectors"]) == len(t["scores"]) == 3 for r in records[2:] for t in r["updates"]
    )
    assert all(0 <= s <= 1 for r in records[2:] for t in r["updates"] for s in t["scores"])
    assert [f.score for f in result.top_k] == sorted((f.score for f in result.top_k), reverse=True)
    assert result.best == result.top_k[0]


def test_the_best_score_is_that_of_the_emitted_model() -> None:
    search = make()
    result = search.run()
    emitted = search.scorer.emit(result.best.vector).eval()
    with torch.no_grad():
        right = sum(int((emitted(x).argmax(1) == y).sum()) for x, y in batches(3, seed=1))
    assert result.best.score == pytest.approx(right / 24)


def test_without_a_warm_up_the_first_epoch_searches() -> None:
    records: list[dict] = []
    make(config=SearchConfig(epochs=1, warmup_epochs=0, trials=2, samples=2, top_k=1)).run(
        on_epoch=records.append
    )
    assert [r["phase"] for r in records] == ["search"]


def test_the_global_stream_is_left_alone() -> None:
    search = make()
    state = torch.get_rng_state()
    search.run()
    assert torch.equal(state, torch.get_rng_state())


def test_a_nan_stops_the_search() -> None:
    data = batches(2)
    data[1][0][:] = float("nan")
    with pytest.raises(TrainingError, match="epoch 1"):
        make(data=data).run()


def test_a_head_of_the_task_is_trained_along_and_resumes_to_the_bit() -> None:
    whole, part = make(task=HeadTask()), make(task=HeadTask())
    states: list[dict] = []
    expected = whole.run(on_epoch=lambda _: states.append(copy.deepcopy(whole.state_dict())))
    part.load_state_dict(states[2])
    assert part.run() == expected
    assert torch.equal(part.task.weight, whole.task.weight)
    assert not torch.equal(whole.task.weight, HeadTask().weight)
    emitted = part.supernet.emit(expected.best.vector)
    assert "weight" not in emitted.state_dict(), "the head is not part of the network"


def test_an_empty_validation_loader_is_refused_before_anything_is_trained() -> None:
    search = make()
    with pytest.raises(DataError, match="gives no batch"):
        Search(
            search.supernet, search.strategy, search.task, batches(1), [], devices=search.devices
        )  # fmt: skip


def test_a_score_that_is_not_finite_stops_before_the_strategy_learns_it() -> None:
    class Endless(Classification):
        def score(self, sums):
            return float("-inf")

    search = make(config=SearchConfig(epochs=1, warmup_epochs=0, trials=2, samples=2))
    search.scorer.task = Endless()
    with pytest.raises(TrainingError, match="score .accuracy. is -inf"):
        search.run()
    assert search.strategy.metrics() == {}


class Clock:
    """A clock that each look moves on by a second."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 1
        return self.now


@pytest.mark.parametrize(("timeout", "updates"), [(0.5, [1]), (4.0, [2]), (6.0, [2, 1])])
def test_no_trial_begins_after_the_timeout(timeout: float, updates: list[int], monkeypatch) -> None:
    monkeypatch.setattr(search_module, "time", Clock())
    search, records = make(config=replace(CONFIG, timeout=timeout)), []
    result = search.run(on_epoch=records.append)
    assert [len(r["updates"]) for r in records[2:]] == updates
    assert search.trials == 3 * sum(updates)
    assert result.best in result.top_k


def test_a_search_that_goes_on_counts_the_seconds_from_before() -> None:
    states: list[dict] = []
    first = make(config=replace(CONFIG, timeout=1000.0))
    first.run(on_epoch=lambda _: states.append(copy.deepcopy(first.state_dict())))
    assert 0 < states[2]["seconds"] < states[3]["seconds"] < 1000
    resumed, records = make(config=replace(CONFIG, timeout=1000.0)), []
    resumed.load_state_dict({**states[2], "seconds": 1000.0})
    resumed.run(on_epoch=records.append)
    assert records == []
    assert resumed.trials == 6
    finished = make(config=replace(CONFIG, timeout=1000.0))
    finished.load_state_dict(first.state_dict())
    assert finished.run(on_epoch=records.append) == first.result
    assert records == []


def test_trials_that_do_not_divide_are_all_evaluated() -> None:
    records: list[dict] = []
    search = make(config=replace(CONFIG, trials=8))
    search.run(on_epoch=records.append)
    sizes = [[len(u["scores"]) for u in record["updates"]] for record in records[2:]]
    assert sizes == [[3], [3], [2]]
    assert search.trials == 8


def test_with_a_teacher_rewards_are_agreement_and_the_top_k_are_ranked_by_it() -> None:
    torch.manual_seed(7)
    model = TinyResNet().eval()
    space = search_space(model, images())
    config = SearchConfig(
        epochs=1, warmup_epochs=0, trials=6, samples=3, top_k=3, train_weights=False
    )
    search = Search(
        Supernet(model, space), make_strategy("milp", space.candidates, 0), Classification(),
        batches(4), batches(3, seed=1), devices=Devices.choose("cpu"), teacher=model, config=config,
    )  # fmt: skip
    records: list[dict] = []
    result = search.run(on_epoch=records.append)
    updates = records[0]["updates"]
    scores = [s for update in updates for s in update["scores"]]
    assert all(s <= 1e-6 for s in scores)
    assert updates[0]["vectors"][0] == [0, 0, 0, 0]  # milp begins with it
    assert all(0 <= f.score <= 1 for f in result.top_k)
    agreement = [f.agreement for f in result.top_k]
    assert agreement == sorted(agreement, reverse=True)
    assert result.best == result.top_k[0]
    norms = scored = 2 * 3 * 8  # updates, samples, images of a batch
    zero = 2 * 8  # the original's norms on the same batches
    finals = (len(result.top_k) * (2 + 3) + 3) * 8  # the teacher sees each batch once
    asked = 2 * 8  # the teacher, once for each batch
    passes = max(map(len, space.candidates))  # with the candidates of each index
    effects = passes * (2 + 1) * 8  # batches for the norms and the effects, images
    assert search.usage.forward == zero + 2 * norms + scored + finals + asked + effects
    assert search.usage.backward == 8


def test_scores_of_another_kind_are_not_gone_on_with() -> None:
    accuracies = make("milp", config=replace(CONFIG, warmup_epochs=0, train_weights=False))
    state = accuracies.state_dict()
    model = TinyResNet().eval()
    space = search_space(model, images())
    search = Search(
        Supernet(model, space), make_strategy("milp", space.candidates, 0), Classification(),
        batches(4), batches(3, seed=1), devices=Devices.choose("cpu"), teacher=model,
        config=accuracies.config,
    )  # fmt: skip
    assert (accuracies.scorer.reward.metric, search.scorer.reward.metric) == (
        "accuracy",
        "agreement",
    )
    with pytest.raises(ValueError, match="its scores are not agreement"):
        search.load_state_dict(state)


def test_scores_of_weights_that_stay_compare_over_the_epochs() -> None:
    data = TensorLoader(
        images(count=64),
        torch.arange(64) % 10,
        batch_size=8,
        train=True,
        mean=torch.zeros(3),
        std=torch.ones(3),
    )

    def scores(train_weights: bool) -> set[float]:
        torch.manual_seed(7)
        model = TinyResNet().eval()
        space = search_space(model, images())
        strategy = make_strategy("random", space.candidates, 0)
        strategy.ask = lambda count: [(1, 2, 3, 0)] * count
        search = Search(
            Supernet(model, space), strategy, Classification(), data, batches(1, seed=1),
            devices=Devices.choose("cpu"), teacher=model,
            config=SearchConfig(
                epochs=3, warmup_epochs=0, trials=6, samples=2, top_k=1, train_weights=train_weights
            ),
        )  # fmt: skip
        records: list[dict] = []
        search.run(on_epoch=records.append)
        return {s for r in records for update in r["updates"] for s in update["scores"]}

    assert len(scores(train_weights=False)) == 1
    assert len(scores(train_weights=True)) == 3


def test_each_epoch_has_an_order_of_its_own(monkeypatch) -> None:
    images_of, labels = (torch.cat(each) for each in zip(*batches(8)))
    data = DataLoader(TensorDataset(images_of, labels), 8, shuffle=True)
    search, seen = make("random", data=data), []
    epoch = search.trainer.epoch

    def noted(loader, *args, **options):
        seen.append([y.tolist() for _, y in loader])
        return epoch(loader, *args, **options)

    monkeypatch.setattr(search.trainer, "epoch", noted)
    search.run()
    assert len(seen) == 5
    assert all(a != b for a, b in itertools.combinations(seen, 2))


def test_scores_go_through_the_validation_batches_in_turn() -> None:
    search, seen = make("random", config=replace(CONFIG, epochs=2, trials=12, score_batches=2)), []
    numbers = {id(batch[0]): i for i, batch in enumerate(search.val_loader)}

    def noted(_vector, norm_batches, val_batches) -> float:
        assert len(norm_batches) == 2
        seen.append([numbers[id(batch[0])] for batch in val_batches])
        return 0.5

    search.scorer.reward_of = noted
    search.run()
    # Two epochs of two updates, each of three architectures on two of the three batches.
    assert seen == [[0, 1]] * 3 + [[2, 0]] * 3 + [[1, 2]] * 3 + [[0, 1]] * 3


def test_a_ladder_gives_as_many_architectures_for_the_front_as_asked() -> None:
    search, counts = make("milp", config=replace(CONFIG, epochs=0, top_k=1, front=2)), []
    search.strategy.ladder = lambda count: counts.append(count) or [(1, 0, 0, 0), (1, 1, 1, 1)]
    assert len(search.run().top_k) == 1, "without costs there is no front"
    search.cost, search.result = sum, None
    result = search.run()
    assert counts == [2]
    assert {each.vector for each in result.top_k} > {(1, 0, 0, 0), (1, 1, 1, 1)}


def test_a_distilled_search_comes_back_with_its_norms_and_ranking() -> None:
    def distilled() -> Search:
        torch.manual_seed(7)
        model = TinyResNet().eval()
        space = search_space(model, images())
        config = SearchConfig(
            epochs=1, warmup_epochs=0, trials=4, samples=2, top_k=2, train_weights=False
        )
        return Search(
            Supernet(model, space), make_strategy("random", space.candidates, 0), Classification(),
            batches(4), batches(3, seed=1), devices=Devices.choose("cpu"), teacher=model, config=config,
        )  # fmt: skip

    first, second = distilled(), distilled()
    expected = first.run()
    second.load_state_dict(first.state_dict())
    assert second.run() == expected
    assert all(each.agreement is not None for each in expected.top_k)
    assert set(second.scorer.norms) == {each.vector for each in expected.top_k}
    for vector, norms in first.scorer.norms.items():
        assert all(torch.equal(second.scorer.norms[vector][k], v) for k, v in norms.items())


def test_a_loader_with_a_generator_of_its_own_is_ordered_by_the_seed_and_left_alone() -> None:
    generators = [torch.Generator().manual_seed(5) for _ in range(2)]
    pixels, labels = (torch.cat(each) for each in zip(*batches(4)))
    data = DataLoader(TensorDataset(pixels, labels), 8, shuffle=True, generator=generators[0])
    score_data = DataLoader(TensorDataset(pixels, labels), 8, shuffle=True, generator=generators[1])
    states = [each.get_state() for each in generators]

    def run(seed: int):
        search, records = make("random", data=data, seed=seed), []
        search = Search(
            search.supernet, search.strategy, Classification(), data, batches(3, seed=1), score_data,
            devices=search.devices, config=CONFIG, seed=seed,
        )  # fmt: skip
        return search.run(on_epoch=records.append), records

    assert run(0) == run(0) != run(1)
    assert all(torch.equal(g.get_state(), state) for g, state in zip(generators, states))


def test_the_warm_up_and_the_front_keep_to_the_budget() -> None:
    search, paths, ends = make("random", config=replace(CONFIG, epochs=0, top_k=1)), [], []
    # The originals cost 10 each, all else costs 1: three of the four slots have to change.
    costs = [[[10], *[[1]] * (len(names) - 1)] for names in search.supernet.candidates]
    search.feasible = FeasibleSet(costs, [0], [13], least_used=0.0)
    search.cost = lambda vector: float(search.feasible.cost(vector)[0])
    select = search.supernet.select
    search.supernet.select = lambda vector: paths.append(vector) or select(vector)
    search.scores.add([(0, 0, 0, 0), (1, 1, 1, 0), (1, 1, 1, 1)], [0.9, 0.5, 0.1])
    result = search.run(on_finish=lambda: ends.append(search.result))
    assert len(paths) >= 2 * 4, "two epochs of four steps"
    assert all(search.feasible.holds(path) for path in paths[:8])
    assert {each.vector for each in result.top_k} >= {(1, 1, 1, 0), (1, 1, 1, 1)}
    assert (0, 0, 0, 0) not in {each.vector for each in result.top_k}
    assert ends == [result]
