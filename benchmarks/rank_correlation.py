"""How well supernets rank architectures, with (RP) and without (R) a warm-up on random paths.

Some architectures of one small network are trained alone, and scored by supernets of several seeds.
Kendall's tau (b, which allows for ties) between the two is taken at two moments: where RP's warm-up
ends, so that its controller starts, and R's has been at work for as long; and at the end. Beside it stand
MACs as a ranking, which cost nothing, and how many operations other than the original the vector that
each search ends with holds (section 4.1.2: more with RP). R and RP train for equally many epochs.
Intervals are bootstraps, 95 %: tau's resamples architectures and the supernets' seeds.

    python benchmarks/rank_correlation.py --data folder:DIR --out results

DIR holds train/CLASS/*.jpg, CIFAR-10's. Each finished training is a line of OUT/results.jsonl; the same
command goes on after the last one, and --minutes stops it in between.

The proxy. ResNet-8, which is ResNet-20 with one block a stage: 6 slots, 16 to 32 channels, 16x16 pixels, and the
paper's candidates. Uniformly drawn architectures of a deeper network lie too close together to be ranked by
trainings as short as these; so the slots are few, and the architectures are spread evenly between the
original and pools alone. The script prints the spread of the accuracies against what another seed does to
them; below 5 do not trust tau. One training each gave 2.4 and five 4.7, so each has seven seeds. Supernets score on
validation images of their own, so that the two accuracies share no luck with images. It tells whether a supernet finds what matters much; not
whether it orders architectures that differ by less than the noise, as those that a search ends with do, and
nothing of large networks or long trainings.
"""

import argparse
import copy
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from refiner.recipes import resnet20
from scipy.stats import kendalltau
from torch import nn

import refiner
from refiner.core.randomness import seeded
from refiner.data.loaders import mixed
from refiner.search.policy_gradient import ControllerStrategy
from refiner.search.search import Search
from refiner.space.architecture import Vector
from refiner.training.devices import Devices
from refiner.training.evaluation import evaluate, recalibrate
from refiner.training.loop import train
from refiner.training.task import checked_task

CHANNELS, UNITS, PIXELS = (16, 24, 32), 1, 16
CANDIDATES = ("conv3x3", "depthwise3x3", "maxpool3x3", "avgpool3x3")
BATCH_SIZE, LEARNING_RATE = 32, 0.05
UPDATES, SAMPLES = 5, 5
"""Controller steps an epoch, and architectures for each."""
RESAMPLES = 1000
"""Of a bootstrap."""
_FREE = ("data", "out", "seeds", "alone_seeds", "minutes")
"""What may be another when a run goes on."""


class Proxy:
    """The data, the network and its space, and what is run on them."""

    def __init__(self, data: str, images: int) -> None:
        loaded = refiner.load_data(data, batch_size=BATCH_SIZE, image_size=PIXELS, limit=images)
        self.train = loaded.train
        # Folders lie class by class, so every fourth image takes as much of each class.
        chosen = torch.arange(len(loaded.val.images)) % 4 == 0
        self.scoring, self.alone = _part(loaded.val, chosen), _part(loaded.val, ~chosen)
        self.classes = len(loaded.classes)
        self.example = torch.zeros(2, 3, PIXELS, PIXELS)
        self.space = refiner.search_space(self.model(0), self.example, candidates=CANDIDATES)
        self.task, self.devices = checked_task("classification"), Devices.choose("cpu")

    def model(self, seed: int) -> nn.Module:
        model = resnet20.build_model(self.classes, CHANNELS, UNITS, seed)
        return model.to(memory_format=torch.channels_last)  # a third of the time on a CPU

    def network(self, vector: Vector, seed: int) -> nn.Module:
        network = refiner.rewrite(self.model(seed), self.space.architecture(vector), seed=seed)
        return network.to(memory_format=torch.channels_last)

    def macs(self, vector: Vector) -> int:
        return refiner.measure_cost(self.network(vector, 0), self.example[:1]).macs

    def architectures(self, count: int) -> list[Vector]:
        """Return vectors from the original to pools alone, evenly; which pools, and the rest, is drawn."""
        generator = np.random.default_rng(0)
        slots, found = len(self.space.slots), [(0,) * len(self.space.slots)]
        pools = [i for i, name in enumerate(CANDIDATES) if "pool" in name]
        while len(found) < count:
            vector = np.zeros(slots, dtype=int)
            order = generator.permutation(slots)
            pooled, rest = np.split(order, [round(len(found) * slots / (count - 1))])
            vector[pooled] = generator.choice(pools, len(pooled))
            vector[rest[: generator.integers(len(rest) + 1)]] = CANDIDATES.index("depthwise3x3")
            if tuple(vector.tolist()) not in found:
                found.append(tuple(vector.tolist()))
        return found

    def train_alone(self, vector: Vector, seed: int, epochs: int) -> float:
        """Return the accuracy of an architecture that is trained by itself."""
        config = refiner.TrainConfig(epochs=epochs, lr_max=LEARNING_RATE, schedule="cosine")
        return train(
            self.network(vector, seed), self.train, self.alone, self.task,
            devices=self.devices, config=config, seed=seed,
        ).score  # fmt: skip

    def search(
        self, vectors: Sequence[Vector], seed: int, warmup: int, moment: int, epochs: int
    ) -> dict[str, Any]:
        """Return the scores of ``vectors`` after ``moment`` epochs and in the end, and the search's own."""
        supernet = refiner.Supernet(self.model(seed), self.space, seed=seed)
        search = Search(
            supernet, ControllerStrategy(self.space.candidates, seed=seed), self.task,
            self.train, self.scoring, mixed(self.scoring),
            devices=self.devices, seed=seed,
            config=refiner.SearchConfig(
                epochs=epochs - warmup, warmup_epochs=warmup,
                trials=(epochs - warmup) * UPDATES * SAMPLES, samples=SAMPLES,
                recalibration_batches=4,
                weights=refiner.TrainConfig(lr_max=LEARNING_RATE, schedule="cosine"),
            ),
        )  # fmt: skip
        scores: dict[str, list[float]] = {}

        def score(moment: str) -> None:
            with seeded(seed):
                batches = [x for _, x in zip(range(16), self.train)]
                scores[moment] = []
                for vector in vectors:
                    supernet.select(vector)
                    recalibrate(supernet.model, batches, self.task, self.devices)
                    scores[moment].append(
                        evaluate(supernet.model, self.scoring, self.task, self.devices)
                    )

        def after(record: dict[str, Any]) -> None:
            if record["epoch"] == moment:
                score("middle")

        found = search.run(on_epoch=after)
        score("end")
        return {"vector": found.best.vector, **scores}


def _part(loader: Any, chosen: torch.Tensor) -> Any:
    part = copy.copy(loader)
    part.images, part.labels = loader.images[chosen], loader.labels[chosen]
    return part


def tau(one: Sequence[float], other: Sequence[float]) -> float:
    return float(kendalltau(one, other).statistic)


def interval(values: Sequence[float]) -> str:
    low, high = np.nanquantile(values, (0.025, 0.975))
    return f"{low:+.2f} to {high:+.2f}"


def bootstrap_taus(alone_A: np.ndarray, scores_SA: np.ndarray) -> np.ndarray:
    """Return the mean tau over supernets S, RESAMPLES times, each of resampled A and S."""
    generator = np.random.default_rng(0)  # R and RP draw the same, so their difference is paired
    supernets, count = scores_SA.shape
    taus = []
    for _ in range(RESAMPLES):
        a = generator.integers(count, size=count)
        s = generator.integers(supernets, size=supernets)
        taus.append(np.mean([tau(alone_A[a], scores_SA[i, a]) for i in s]))
    return np.array(taus)


def table(proxy: Proxy, vectors: Sequence[Vector], lines: list[dict[str, Any]]) -> None:
    """Print what the lines of results.jsonl say."""
    alone: dict[Vector, dict[int, float]] = defaultdict(dict)
    for line in lines:
        if line["kind"] == "alone":
            alone[tuple(line["vector"])][line["seed"]] = line["accuracy"]
    alone_A = np.array([statistics.mean(alone[v].values()) for v in vectors])
    each = len(alone[vectors[0]])
    macs_A = np.array([proxy.macs(v) for v in vectors])
    single = statistics.mean(statistics.variance(s.values()) for s in alone.values()) ** 0.5
    noise, spread = single / each**0.5, float(alone_A.std(ddof=1))
    scores = {
        (kind, moment): np.array([x[moment] for x in lines if x["kind"] == kind])
        for moment in ("middle", "end")
        for kind in ("R", "RP")
    }
    print("\n| architecture | MACs | alone | R, end | RP, end |\n| --- |" + " ---: |" * 4)
    for i in np.argsort(-alone_A):
        means = " | ".join(f"{scores[kind, 'end'][:, i].mean():.4f}" for kind in ("R", "RP"))
        print(f"| {','.join(map(str, vectors[i]))} | {macs_A[i]:,} | {alone_A[i]:.4f} | {means} |")
    print(
        f"\nAlone, mean of {each} seeds: {alone_A.min():.4f} to {alone_A.max():.4f}, standard deviation over architectures "
        f"{spread:.4f}; over the seeds of one {single:.4f}, so of such a mean {noise:.4f}. Ratio "
        f"{spread / noise:.1f}{'' if spread >= 5 * noise else ': below 5, do not trust the order'}.\n"
    )
    print("| ranking | moment | tau | 95 % | of each supernet |\n| --- | --- | ---: | --- | --- |")
    by_macs = bootstrap_taus(alone_A, macs_A[None])
    print(f"| MACs | | {tau(alone_A, macs_A):+.2f} | {interval(by_macs)} | |")
    drawn = {}
    for (kind, moment), scores_SA in scores.items():
        drawn[kind, moment] = bootstrap_taus(alone_A, scores_SA)
        each = [tau(alone_A, score_A) for score_A in scores_SA]
        listed = ", ".join(f"{t:+.2f}" for t in each)
        print(
            f"| {kind} | {moment} | {np.mean(each):+.2f} | {interval(drawn[kind, moment])} | {listed} |"
        )
    for moment in ("middle", "end"):
        difference = drawn["RP", moment] - drawn["R", moment]
        print(
            f"| RP less R | {moment} | {np.nanmean(difference):+.2f} | {interval(difference)} | |"
        )
    print(
        "\n| search | operations other than the original, mean | of each seed |\n| --- | ---: | --- |"
    )
    for kind in ("R", "RP"):
        counts = [sum(map(bool, x["vector"])) for x in lines if x["kind"] == kind]
        print(f"| {kind} | {statistics.mean(counts):.1f} | {', '.join(map(str, counts))} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="folder:DIR with train/CLASS/*.jpg")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--seeds", type=int, default=5, help="supernets of each kind")
    parser.add_argument(
        "--alone-seeds", type=int, default=7, help="trainings of each alone; 2 or more"
    )
    parser.add_argument("--architectures", type=int, default=24)
    parser.add_argument("--images", type=int, default=5000, help="to train on")
    parser.add_argument("--epochs", type=int, default=14, help="of a training alone")
    parser.add_argument("--search-epochs", type=int, default=20, help="of a supernet, in all")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin nothing after so many")
    args = parser.parse_args()
    until = time.monotonic() + 60 * args.minutes
    torch.set_num_threads(1)

    # More seeds may be added to a run; all else has to stay as it was.
    settings = {k: v for k, v in vars(args).items() if k not in _FREE}
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "results.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    if lines and lines[0] != settings:
        parser.error(f"{file} was made with {lines[0]}. Give the same, or another --out.")
    if not lines:
        lines = [settings]
        file.write_text(json.dumps(settings) + "\n")

    proxy = Proxy(args.data, args.images)
    vectors = proxy.architectures(args.architectures)
    jobs: list[tuple[str, int, Vector | None]] = [
        ("alone", s, v) for s in range(args.alone_seeds) for v in vectors
    ]
    jobs += [(kind, s, None) for s in range(args.seeds) for kind in ("R", "RP")]
    done = {_job(line) for line in lines[1:]}
    for number, (kind, seed, vector) in enumerate(jobs, start=1):
        if (kind, seed, vector) in done:
            continue
        if time.monotonic() > until:
            print(f"{number - 1} of {len(jobs)} trainings are done; run the same command to go on")
            return
        start = time.process_time()
        if vector is not None:
            accuracy = proxy.train_alone(vector, seed, args.epochs)
            result: dict[str, Any] = {"vector": vector, "accuracy": accuracy}
        else:
            moment = args.search_epochs // 2
            result = proxy.search(
                vectors, seed, moment if kind == "RP" else 0, moment, args.search_epochs
            )
        line = {"kind": kind, "seed": seed, **result, "seconds": time.process_time() - start}
        with file.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        lines.append(json.loads(json.dumps(line)))
        print(f"{number}/{len(jobs)} {kind} seed {seed}: {line['seconds']:.0f} s", flush=True)
    lines = [line for line in lines[1:] if _job(line) in jobs]
    minutes = sum(line["seconds"] for line in lines) / 60
    print(f"{settings}, {args.seeds} supernets of each kind: {minutes:.0f} minutes of one core")
    table(proxy, vectors, lines)


def _job(line: dict[str, Any]) -> tuple[str, int, Vector | None]:
    kind = line["kind"]
    return kind, line["seed"], tuple(line["vector"]) if kind == "alone" else None


if __name__ == "__main__":
    main()
