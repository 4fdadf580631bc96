"""ENAS's strategy, which section 3.2 of the paper argues against: one controller for both domains.

It is trained as strategy_controller.py trains NAR's, and watches the gradient of each domain, which
is what figure 1 shows.
"""

from dataclasses import dataclass

import torch
from torch import nn

from refiner.core.randomness import derive_seed
from refiner.enas.joint_controller import DOMAINS, JointController, JointSamples
from refiner.enas.macro import MacroSpace
from refiner.search.controller import Samples
from refiner.search.policy_gradient import ControllerConfig, ControllerStrategy


@dataclass(frozen=True, slots=True, kw_only=True)
class JointConfig(ControllerConfig):
    """Settings of the joint controller's training: the controller's, and ENAS's skip penalty."""

    skip_weight: float = 0.0
    """Of the skips' divergence from their target rate, in units of the reward's scale; 0 leaves it
    out, as the paper's equation 1 does. ENAS takes 0.8 (``cifar10_macro_search.sh``) in units of
    the reward itself, and takes the sigmoid of each logit where here the probability stands
    (``general_controller.py``)."""
    skip_target: float = 0.4
    """Rate of skips; ENAS's."""


class JointStrategy(ControllerStrategy):
    """Samples operators and skips from one controller and makes the well scored ones likelier."""

    def __init__(
        self, space: MacroSpace, *, seed: int = 0, config: JointConfig | None = None
    ) -> None:
        config = config or JointConfig()
        self.skip_weight = config.skip_weight
        generator = torch.Generator().manual_seed(derive_seed(seed, "joint controller"))
        self.joint = JointController(
            space,
            hidden_size=config.hidden_size,
            temperature=config.temperature,
            tanh_constant=config.tanh_constant,
            skip_target=config.skip_target,
            generator=generator,
        )
        self._begin(config, self.joint, generator)  # type: ignore[arg-type]

    def domains(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters of the heads of operators and of skips."""
        return {domain: self.joint.parameters_of(domain) for domain in DOMAINS}

    def with_terms(self, policy_loss: torch.Tensor, samples: Samples) -> torch.Tensor:
        """Return the loss with its entropy bonus and skip penalty."""
        assert isinstance(samples, JointSamples)
        penalty = self.skip_weight * samples.skip_kl_M.mean()
        return super().with_terms(policy_loss, samples) + penalty
