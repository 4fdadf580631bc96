"""Controller against random search on a synthetic additive reward.

16 slots of 4 candidates, utilities drawn from a normal distribution of standard deviation 0.01, so
that architectures differ by about 0.04; a score adds noise of standard deviation 0.03, which is that
of an accuracy of 0.7 measured on 256 images: sqrt(0.7 * 0.3 / 256) = 0.029. Either strategy may ask
for 3,000 scores, 10 at a time. Regret is the best utility there is minus the utility of the first
architecture that the strategy recommends.
"""

import argparse
import statistics

import torch

from refiner.search.policy_gradient import ControllerConfig, ControllerStrategy
from refiner.search.random_search import RandomStrategy

SLOTS, CANDIDATES, NOISE, SPREAD = 16, 4, 0.03, 0.01


def regret(kind: str, seed: int, samples: int, config: ControllerConfig) -> float:
    choices = [[f"op{i}" for i in range(CANDIDATES)]] * SLOTS
    generator = torch.Generator().manual_seed(1000 + seed)
    utility = SPREAD * torch.randn(SLOTS, CANDIDATES, generator=generator)

    def value(vector: tuple[int, ...]) -> float:
        return float(utility[torch.arange(SLOTS), torch.tensor(vector)].sum())

    strategy = (
        ControllerStrategy(choices, seed=seed, config=config)
        if kind == "controller"
        else RandomStrategy(choices, seed=seed)
    )
    for _ in range(samples // 10):
        vectors = strategy.ask(10)
        noise = NOISE * torch.randn(10, generator=generator)
        strategy.tell(vectors, [0.7 + value(v) + float(e) for v, e in zip(vectors, noise)])
    return float(utility.max(dim=1).values.sum()) - value(strategy.recommend(1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=100, help="0 to 9 were used to tune")
    parser.add_argument("--samples", type=int, default=3000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    medians = {}
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    for kind in ("random", "controller"):
        regrets = [regret(kind, s, args.samples, ControllerConfig()) for s in seeds]
        medians[kind] = statistics.median(regrets)
        print(
            f"{kind:10s} median regret {medians[kind]:.4f}  "
            f"(least {min(regrets):.4f}, most {max(regrets):.4f}, {args.seeds} seeds)"
        )
    print(f"controller / random = {medians['controller'] / medians['random']:.3f}")


if __name__ == "__main__":
    main()
