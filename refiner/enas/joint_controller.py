"""The joint controller: one LSTM that samples operators and skips, after ENAS (Pham et al., 2018).

Two steps of the LSTM a node. After the first the operation is drawn, as in controller.py; its
embedding is the input of the second, whose output ``h_j`` is the node's anchor. A skip from node
``t`` has the logits ``(-q, q)``, ``q = v^T tanh(W_prev h_t + W_curr h_j)`` and a bias of its own;
the sum of the anchors of the chosen skips, over one more than their number, is the next node's
input. As in controller.py, and unlike ENAS, a node adds a learned embedding to its inputs and the
logits have learned biases, so that the two controllers differ in what they search alone.

Shapes: M samples, S positions of the vector, T earlier nodes, H hidden size, K operations.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import skip_init

from refiner.enas.macro import MacroSpace
from refiner.search.controller import Samples

Domain = Literal["operators", "skips"]
DOMAINS: tuple[Domain, Domain] = ("operators", "skips")


@dataclass(frozen=True, slots=True, kw_only=True)
class JointSamples(Samples):
    """Architectures of a macro space, drawn from or scored by a controller."""

    skip_kl_M: torch.Tensor
    """Divergence of the skips' probabilities from ``skip_target``: nats, summed over the skips of a
    node, mean over the nodes that have any."""


class JointController(nn.Module):
    """An autoregressive distribution over the vectors of a macro space (equation 2).

    Args:
        space: the macro space.
        hidden_size: of the LSTM; ENAS takes 64.
        temperature, tanh_constant: of the logits; see controller.py.
        skip_target: share of skips that ``skip_kl_M`` measures from; ENAS takes 0.4.
        generator: for the initial weights, uniform in [-0.1, 0.1] as in ENAS.
    """

    def __init__(
        self,
        space: MacroSpace,
        *,
        hidden_size: int = 64,
        temperature: float = 5.0,
        tanh_constant: float = 2.5,
        skip_target: float = 0.4,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.space = space
        self.temperature, self.tanh_constant = temperature, tanh_constant
        self.skip_target = skip_target
        operations = len(space.operations)
        # Built without their own initial values, which would come from the global generator.
        self.lstm = skip_init(nn.LSTMCell, hidden_size, hidden_size)
        self.start = nn.Parameter(torch.empty(hidden_size))
        self.node_embedding = nn.Parameter(torch.empty(space.nodes, hidden_size))
        self.operation_embedding = nn.Parameter(torch.empty(operations, hidden_size))
        self.operation_output = skip_init(nn.Linear, hidden_size, operations, bias=False)
        self.operation_bias = nn.Parameter(torch.empty(space.nodes, operations))
        self.skip_previous = skip_init(nn.Linear, hidden_size, hidden_size, bias=False)
        self.skip_current = skip_init(nn.Linear, hidden_size, hidden_size, bias=False)
        self.skip_output = skip_init(nn.Linear, hidden_size, 1, bias=False)
        self.skip_bias = nn.Parameter(torch.empty(len(space.skips)))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1, generator=generator)
        nn.init.zeros_(self.operation_bias)
        nn.init.zeros_(self.skip_bias)

    def parameters_of(self, domain: Domain) -> list[nn.Parameter]:
        """Return the parameters of a domain's heads; LSTM, start and node embedding serve both."""
        if domain == "operators":
            return [self.operation_embedding, self.operation_output.weight, self.operation_bias]
        heads = (self.skip_previous, self.skip_current, self.skip_output)
        return [*(head.weight for head in heads), self.skip_bias]

    def sample(self, count: int, generator: torch.Generator) -> JointSamples:
        """Return ``count`` architectures drawn from the policy; gradients flow to their scores."""
        return self._run(count, generator=generator)

    def evaluate(self, index_MS: torch.Tensor) -> JointSamples:
        """Return the scores of given architectures, M x S, under the policy of now."""
        return self._run(len(index_MS), given=index_MS)

    def greedy(self) -> torch.Tensor:
        """Return the architecture of the likeliest alternative at each step, S."""
        with torch.no_grad():
            return self._run(1).index_MS[0]

    def _run(
        self,
        count: int,
        generator: torch.Generator | None = None,
        given: torch.Tensor | None = None,
    ) -> JointSamples:
        state: tuple[torch.Tensor, torch.Tensor] | None = None
        start = self.start.expand(count, -1)
        previous = start
        chosen: list[torch.Tensor] = []
        anchors: list[torch.Tensor] = []
        log_prob_M = torch.zeros(count)
        entropy_M = torch.zeros(count)
        kl_M = torch.zeros(count)
        position = skips = 0
        for node in range(self.space.nodes):
            state = self.lstm(previous + self.node_embedding[node], state)
            logits_MK = self.operation_output(state[0]) + self.operation_bias[node]
            log_p_MK = self._log_p(logits_MK)
            operation_M = _pick(log_p_MK, given, slice(position, position + 1), generator)[:, 0]
            log_prob_M = log_prob_M + log_p_MK.gather(1, operation_M[:, None])[:, 0]
            entropy_M = entropy_M - (log_p_MK.exp() * log_p_MK).sum(dim=1)
            chosen.append(operation_M[:, None])
            position += 1

            embedded = self.operation_embedding[operation_M]
            state = self.lstm(embedded + self.node_embedding[node], state)
            earlier = max(node - 1, 0)
            if earlier:
                anchors_MTH = torch.stack(anchors[:earlier], dim=1)
                hidden_MTH = self.skip_previous(anchors_MTH) + self.skip_current(state[0])[:, None]
                query_MT = self.skip_output(torch.tanh(hidden_MTH))[:, :, 0]
                query_MT = query_MT + self.skip_bias[skips : skips + earlier]
                log_p_MT2 = self._log_p(torch.stack([-query_MT, query_MT], dim=2))
                skip_MT = _pick(log_p_MT2, given, slice(position, position + earlier), generator)
                log_prob_MT = log_p_MT2.gather(2, skip_MT[:, :, None])[:, :, 0]
                log_prob_M = log_prob_M + log_prob_MT.sum(dim=1)
                p_MT2 = log_p_MT2.exp()
                entropy_M = entropy_M - (p_MT2 * log_p_MT2).sum(dim=(1, 2))
                target = torch.tensor([1 - self.skip_target, self.skip_target]).log()
                kl_M = kl_M + (p_MT2 * (log_p_MT2 - target)).sum(dim=(1, 2))
                chosen.append(skip_MT)
                summed = (anchors_MTH * skip_MT[:, :, None]).sum(dim=1)
                previous = summed / (1 + skip_MT.sum(dim=1, keepdim=True))
                position, skips = position + earlier, skips + earlier
            else:
                previous = start
            anchors.append(state[0])
        return JointSamples(
            index_MS=torch.cat(chosen, dim=1),
            log_prob_M=log_prob_M,
            entropy_M=entropy_M,
            skip_kl_M=kl_M / max(self.space.nodes - 2, 1),
        )

    def _log_p(self, logits: torch.Tensor) -> torch.Tensor:
        return F.log_softmax(self.tanh_constant * torch.tanh(logits / self.temperature), dim=-1)


def _pick(
    log_p: torch.Tensor,
    given: torch.Tensor | None,
    positions: slice,
    generator: torch.Generator | None,
) -> torch.Tensor:
    """Return indices, M x positions: the given ones, or drawn, or without a generator the
    likeliest."""
    rows = log_p.reshape(-1, log_p.shape[-1])
    if given is not None:
        return given[:, positions]
    if generator is not None:
        index = torch.multinomial(rows.exp().detach(), 1, generator=generator)
    else:
        index = rows.argmax(dim=1)
    return index.reshape(len(log_p), -1)
