"""The controller: the LSTM that samples architectures, after ENAS (Pham et al., 2018).

One step of the LSTM a slot. Its input is an embedding of the operation chosen for the slot before,
its output the logits over this slot's candidates, squashed as in ENAS: ``c * tanh(logits / t)``.
The embedding and the output layer know operations by name, so what is learned of ``depthwise3x3``
in one slot serves the next; slots that lack an operation mask it. ENAS's macro controller
separates its layers apart by the recurrent state alone; here each slot adds a learned embedding of
its own to the input and a learned bias to the logits, without which 16 slots are hard to tell
apart in the few thousand samples of a refinement. Within budgets the logits are added to the
logarithm of the number of feasible architectures behind each choice, so that all are equally
likely before anything is learned.

Shapes: M samples, S slots, V operations of all slots together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import skip_init

from refiner.cost.feasible import FeasibleSet

_TINY = 1e-300
_IMPOSSIBLE = -1e4
"""Logit of what may not be sampled: its probability is zero in float32, and its gradient finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Architectures drawn from, or scored by, a controller."""

    index_MS: torch.Tensor
    """Candidate index of each slot, int64, M x S."""
    log_prob_M: torch.Tensor
    """Log-probability of each architecture."""
    entropy_M: torch.Tensor
    """Entropy of the distributions met on the way, summed over the slots, in nats."""


class Controller(nn.Module):
    """An autoregressive distribution over architectures.

    Args:
        candidates: names of the candidates of each slot.
        hidden_size: of the LSTM; ENAS takes 64 (macro search on CIFAR-10).
        temperature, tanh_constant: of the logits. ENAS's macro script takes no temperature, which
            is 1, and 1.5; 5.0 and 2.5 are what implementations after it take.
        generator: for the initial weights, uniform in [-0.1, 0.1] as in ENAS.
        feasible: what may be sampled, with equal probability before training; all else has the
            probability zero. Everything by default.
    """

    def __init__(
        self,
        candidates: Sequence[Sequence[str]],
        *,
        hidden_size: int = 64,
        temperature: float = 5.0,
        tanh_constant: float = 2.5,
        generator: torch.Generator,
        feasible: FeasibleSet | None = None,
    ) -> None:
        super().__init__()
        self.feasible = feasible
        vocabulary = list(dict.fromkeys(name for names in candidates for name in names))
        slots, operations = len(candidates), len(vocabulary)
        self.temperature, self.tanh_constant = temperature, tanh_constant
        # Built without their own initial values, which would come from the global generator.
        self.lstm = skip_init(nn.LSTMCell, hidden_size, hidden_size)
        self.start = nn.Parameter(torch.empty(hidden_size))
        self.operation_embedding = nn.Parameter(torch.empty(operations, hidden_size))
        self.slot_embedding = nn.Parameter(torch.empty(slots, hidden_size))
        self.output = skip_init(nn.Linear, hidden_size, operations, bias=False)
        self.slot_bias = nn.Parameter(torch.empty(slots, operations))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1, generator=generator)
        nn.init.zeros_(self.slot_bias)
        # Of each slot, the operation behind each index, and the index behind each operation.
        self.operation_of = [
            torch.tensor([vocabulary.index(name) for name in names]) for names in candidates
        ]
        self.names = tuple(tuple(names) for names in candidates)

    def sample(self, count: int, generator: torch.Generator) -> Samples:
        """Return ``count`` architectures drawn from the policy; gradients flow to their scores."""
        return self._run(count, generator=generator)

    def evaluate(self, index_MS: torch.Tensor) -> Samples:
        """Return the scores of given architectures, M x S, under the policy of now."""
        return self._run(len(index_MS), given=index_MS)

    def greedy(self) -> torch.Tensor:
        """Return the architecture of the likeliest candidate at each step, S."""
        with torch.no_grad():
            return self._run(1).index_MS[0]

    def head_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that know operations: embedding, output and biases."""
        return [self.operation_embedding, self.output.weight, self.slot_bias]

    def _run(
        self,
        count: int,
        generator: torch.Generator | None = None,
        given: torch.Tensor | None = None,
    ) -> Samples:
        state: tuple[torch.Tensor, torch.Tensor] | None = None
        previous = self.start.expand(count, -1)
        chosen: list[torch.Tensor] = []
        log_prob_M = torch.zeros(count)
        entropy_M = torch.zeros(count)
        spent_MR = self.feasible.nothing_spent(count) if self.feasible is not None else np.empty(0)
        for slot, operation_of in enumerate(self.operation_of):
            state = self.lstm(previous + self.slot_embedding[slot], state)
            logits = (self.output(state[0]) + self.slot_bias[slot])[:, operation_of]
            logits = self.tanh_constant * torch.tanh(logits / self.temperature)
            if self.feasible is not None:
                # As in random search, so that an untrained policy is uniform over the set.
                ways_MV = torch.from_numpy(self.feasible.ways(slot, spent_MR))
                most_M1 = ways_MV.amax(dim=1, keepdim=True).clamp(
                    min=_TINY
                )  # a scored one may lead nowhere
                share_MV = ways_MV / most_M1
                logits = logits + share_MV.log().clamp(min=_IMPOSSIBLE).to(logits.dtype)
            log_p = F.log_softmax(logits, dim=1)
            if given is not None:
                index_M = given[:, slot]
            elif generator is not None:
                index_M = torch.multinomial(log_p.exp().detach(), 1, generator=generator)[:, 0]
            else:
                index_M = log_p.argmax(dim=1)
            log_prob_M = log_prob_M + log_p.gather(1, index_M[:, None])[:, 0]
            entropy_M = entropy_M - (log_p.exp() * log_p).sum(dim=1)
            chosen.append(index_M)
            if self.feasible is not None:
                spent_MR = spent_MR + self.feasible.spent(slot, index_M.numpy())
            previous = self.operation_embedding[operation_of[index_M]]
        return Samples(
            index_MS=torch.stack(chosen, dim=1), log_prob_M=log_prob_M, entropy_M=entropy_M
        )
