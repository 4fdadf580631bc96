"""NAR's strategy: the LSTM controller trained by REINFORCE (section 3.3 of the paper; ENAS).

The gradient is equation 1 of the paper with a moving-average baseline and an entropy bonus, as in
ENAS: of ``-mean((R - b) / s * log p) - w * mean(entropy)`` over the architectures of one ``tell``.
ENAS has no ``s``. Here it is the moving root mean square of ``R - b``, so that the entropy weight
means the same whether rewards differ by tenths or, as near the end of a search, by thousandths.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from refiner.core.randomness import derive_seed
from refiner.cost.feasible import FeasibleSet
from refiner.search.controller import Controller, Samples
from refiner.search.scores import Scores
from refiner.search.strategy import Choices
from refiner.space.architecture import Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerConfig:
    """Settings of the controller's training. The paper is silent; ENAS's values are named: those
    of the published ``scripts/cifar10_macro_search.sh`` and of ``src/cifar10/main.py`` that it
    calls.

    The defaults were chosen on ``benchmarks/controller_vs_random.py`` at 750 and 3,000 samples, on
    other seeds than those reported.
    """

    learning_rate: float = 0.02
    """Adam's; ENAS takes 0.001 (0.0035 in its micro search), for some 100 times as many samples."""
    beta1: float = 0.9
    """Adam's decay of the gradient; ENAS takes 0 (``src/utils.py``)."""
    epsilon: float = 1e-8
    """Adam's; ENAS takes 1e-3 (``src/utils.py``), for gradients in units of the reward."""
    decay: float = 0.95
    """Of the moving averages of the reward and of its scale; ENAS takes 0.99."""
    entropy_weight: float = 0.2
    """In units of the reward's scale; ENAS takes 0.0001 in units of the reward itself."""
    hidden_size: int = 64
    temperature: float = 2.0
    """ENAS takes none, which is 1."""
    tanh_constant: float = 2.5
    """ENAS takes 1.5 (1.1 in its micro search)."""


class ControllerStrategy:
    """Samples architectures from a controller and makes the well scored ones likelier."""

    feasible: FeasibleSet | None = None
    """What may be recommended; None where everything may."""

    def __init__(
        self,
        choices: Choices,
        *,
        seed: int = 0,
        config: ControllerConfig | None = None,
        feasible: FeasibleSet | None = None,
    ) -> None:
        config = config or ControllerConfig()
        generator = torch.Generator().manual_seed(derive_seed(seed, "controller"))
        controller = Controller(
            choices,
            hidden_size=config.hidden_size,
            temperature=config.temperature,
            tanh_constant=config.tanh_constant,
            generator=generator,
            feasible=feasible,
        )
        self.feasible = feasible
        self._begin(config, controller, generator)

    def _begin(
        self, config: ControllerConfig, controller: Controller, generator: torch.Generator
    ) -> None:
        self.config, self.controller, self.generator = config, controller, generator
        self.scores = Scores()
        self._begin_training()

    def _begin_training(self) -> None:
        """Forget what training keeps beside the controller."""
        self.optimizer = adam(self.controller.parameters(), self.config)
        self.baseline: float | None = None
        """Moving average of the reward."""
        self.square: float | None = None
        """Moving average of (reward - baseline) squared."""
        self.entropy = float("nan")
        self.gradients: dict[str, float] = {}
        """Norm of the last policy gradient of each domain."""

    def ask(self, count: int) -> list[Vector]:
        """Return ``count`` architectures drawn from the policy."""
        return self._draw(count)

    def _draw(self, count: int) -> list[Vector]:
        with torch.no_grad():
            drawn = self.controller.sample(count, self.generator).index_MS
        return [tuple(row) for row in drawn.tolist()]

    def tell(self, vectors: Sequence[Vector], scores: Sequence[float]) -> None:
        """Take one step of policy gradient; the architectures should be drawn by :meth:`ask`."""
        self.scores.add(vectors, scores)
        self._learn(vectors, scores)

    def _learn(self, vectors: Sequence[Vector], scores: Sequence[float]) -> None:
        """Take one step of policy gradient."""
        rewards = torch.tensor(scores, dtype=torch.float32)
        if self.baseline is None:
            self.baseline = float(rewards.mean())
        samples = self.controller.evaluate(torch.tensor(vectors))
        advantage = rewards - self.baseline
        decay = self.config.decay
        self.square = _moving(self.square, float((advantage * advantage).mean()), decay)
        scale = max(self.square**0.5, 1e-6)
        policy_loss = -(advantage / scale * samples.log_prob_M).mean()
        self.gradients = {
            domain: gradient_norm(policy_loss, parameters)
            for domain, parameters in self.domains().items()
        }
        loss = self.with_terms(policy_loss, samples)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.baseline = _moving(self.baseline, float(rewards.mean()), decay)
        self.entropy = float(samples.entropy_M.detach().mean()) / len(vectors[0])

    def domains(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters of the heads of each domain, whose gradients are watched (figure
        1)."""
        return {"operators": self.controller.head_parameters()}

    def with_terms(self, policy_loss: torch.Tensor, samples: Samples) -> torch.Tensor:
        """Return the loss that is descended: the policy's, and what is added to it."""
        return policy_loss - self.config.entropy_weight * samples.entropy_M.mean()

    def keep_to(self, feasible: FeasibleSet) -> None:
        """Draw architectures of this set from now on."""
        self.feasible = self.controller.feasible = feasible

    def recommend(self, count: int) -> list[Vector]:
        """Return by turns the likeliest architectures, the greedy one first, and the feasible ones
        that scored best."""
        best = self.scores.best(len(self.scores))
        best = [v for v in best if self.feasible is None or self.feasible.holds(v)][:count]
        pairs = itertools.zip_longest(self._likeliest(count), best)
        return list(dict.fromkeys(v for pair in pairs for v in pair if v is not None))[:count]

    def _likeliest(self, count: int) -> list[Vector]:
        """Return the greedy architecture and samples, by their likelihood."""
        vectors = {tuple(self.controller.greedy().tolist())}
        for _ in range(8):
            if len(vectors) >= count:
                break
            for vector in self._draw(count):
                if len(vectors) < count:
                    vectors.add(vector)
        ordered = sorted(vectors)
        with torch.no_grad():
            log_prob = self.controller.evaluate(torch.tensor(ordered)).log_prob_M.tolist()
        ranked = sorted(zip(log_prob, ordered, strict=True), key=lambda pair: (-pair[0], pair[1]))
        return [vector for _, vector in ranked]

    def metrics(self) -> dict[str, float]:
        """Return the entropy in nats a slot, the reward baseline, and a ``gradient_`` of each
        domain.

        That is the L2 norm of the gradient of the last tell's policy loss, nothing added to it,
        with respect to the parameters of the domain's heads (figure 1 of the paper).
        """
        if self.baseline is None:
            return {}
        gradients = {f"gradient_{domain}": norm for domain, norm in self.gradients.items()}
        return {"entropy": self.entropy, "baseline": self.baseline, **gradients}

    def state_dict(self) -> dict[str, Any]:
        """Return the controller, its optimizer, its generator, the baseline and the scores."""
        return {
            "controller": self.controller.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "baseline": self.baseline,
            "square": self.square,
            "entropy": self.entropy,
            "gradients": dict(self.gradients),
            "scores": self.scores.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a saved state."""
        self.controller.load_state_dict(state["controller"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.baseline, self.square = state["baseline"], state["square"]
        self.entropy, self.gradients = state["entropy"], dict(state["gradients"])
        self.scores.load_state_dict(state.get("scores", []))


def adam(parameters: Iterable[nn.Parameter], config: ControllerConfig) -> torch.optim.Adam:
    """Return the optimizer of a controller's parameters."""
    return torch.optim.Adam(
        parameters, lr=config.learning_rate, betas=(config.beta1, 0.999), eps=config.epsilon
    )


def gradient_norm(loss: torch.Tensor, parameters: Sequence[nn.Parameter]) -> float:
    """Return the L2 norm of the gradient of ``loss`` with respect to ``parameters``; the graph
    stays."""
    gradients = torch.autograd.grad(
        loss,
        parameters,
        retain_graph=True,
        materialize_grads=True,  # a macro space of one or two nodes has no skips
    )
    return float(torch.stack([g.square().sum() for g in gradients]).sum().sqrt())


def _moving(average: float | None, value: float, decay: float) -> float:
    return value if average is None else decay * average + (1 - decay) * value
