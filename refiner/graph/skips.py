"""Skip connections: the paths on which data passes a block. The graph defines them, not names.

A *join* is a node that two or more tensors flow into (add, concat, mul). A walk back from one of
its inputs may meet a *fork*, a node that another input of the join depends on, too. The input is a
skip connection if the way from the fork to the other input has more convs than the walk passed.
The walk may pass no conv (identity, pooling, a norm) or, at a join that keeps the shape of its
input, one: the projection. Data may also split and meet again on the way, as in a gate or a swish
written out. The walk then continues from the split, unless a spatial conv lies between.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from torch import fx, nn
from torch.nn.modules.conv import _ConvNd

from refiner.core.layers import is_conv


@dataclass(frozen=True, slots=True, kw_only=True)
class SkipConnection:
    """A path on which data passes a block, from node ``fork`` to node ``join``."""

    fork: str
    """Label of the node where the path begins."""
    join: str
    """Label of the node where it meets the block's output."""
    convs: tuple[str, ...]
    """Names of the convs on the path: none, or the projection."""


LocatedSkip: TypeAlias = tuple[SkipConnection, tuple[fx.Node, fx.Node]]
"""A skip connection with its fork and its join."""


class Flow:
    """The data flow of a graph: which nodes carry data, and which nodes each one reaches.

    Args:
        traced: the traced model.
        graph: one of its graphs; by default that of eval mode.
    """

    def __init__(self, traced: fx.GraphModule, graph: fx.Graph | None = None) -> None:
        self.modules = dict(traced.named_modules(remove_duplicate=False))
        self.parameters = dict(traced.named_parameters(remove_duplicate=False))
        self.all_nodes = list((graph or traced.graph).nodes)
        self.inputs: dict[fx.Node, list[fx.Node]] = {}
        for node in self.all_nodes:
            carries = node.op == "placeholder" or (
                node.meta.get("holds_tensor", False) and node.op not in ("get_attr", "output")
            )
            seen = dict.fromkeys((*node.all_input_nodes, *node.meta.get("after", ())))
            sources = [source for source in seen if source in self.inputs]
            if carries and (sources or node.op == "placeholder"):
                self.inputs[node] = sources
        self.nodes = list(self.inputs)
        self._dominators: dict[fx.Node, fx.Node | None] = {}
        self._work: dict[fx.Node, tuple[dict[fx.Node, tuple[int, int]], int]] = {}
        self.index = {node: i for i, node in enumerate(self.nodes)}
        self.ancestors: dict[fx.Node, int] = {}
        """A number for each node: bit i is set if node i reaches it. A node reaches itself."""
        for node, sources in self.inputs.items():
            word = 1 << self.index[node]
            for source in sources:
                word |= self.ancestors[source]
            self.ancestors[node] = word
        train = traced.meta.get("train_graph")
        self.in_training: dict[str, fx.Node] | None = None
        if train is not None:
            self.in_training = {str(n.target): n for n in train.nodes if n.op == "call_module"}
        self.labels: dict[fx.Node, str] = {}
        """A readable name of each node: a module's name, or ``path:add`` for an operation in it."""
        seen_labels: Counter[str] = Counter()
        for node in self.all_nodes:
            name = _label(node)
            self.labels[node] = f"{name}_{seen_labels[name]}" if seen_labels[name] else name
            seen_labels[name] += 1
        self.convs = [node for node in self.nodes if self.calls_conv(node)]
        self.conv_bits = sum(1 << self.index[node] for node in self.convs)

    def trains(self, name: str) -> bool:
        """Return whether train mode calls the module of that name; True if the mode is unknown."""
        return self.in_training is None or name in self.in_training

    def learns(self, name: str) -> bool:
        """Return whether the module learns in train mode; True if that is unknown."""
        if self.in_training is None or name not in self.in_training:
            return True
        meta = self.in_training[name].meta
        return bool(meta["grad"] or meta.get("learns"))

    def module(self, node: fx.Node) -> nn.Module:
        """Return the module that a node calls."""
        module: nn.Module = self.modules[str(node.target)]
        return module

    def conv(self, node: fx.Node) -> _ConvNd:
        """Return the conv that a node calls."""
        module = self.module(node)
        assert isinstance(module, _ConvNd)
        return module

    def calls_conv(self, node: fx.Node) -> bool:
        """Return whether a node calls a conv."""
        return node.op == "call_module" and is_conv(self.module(node))

    def reads_only(self, node: fx.Node, sources: Sequence[fx.Node]) -> bool:
        """Return whether a node reads these nodes and nothing else, parameters included."""
        return set(self.inputs.get(node, ())) == set(node.all_input_nodes) == set(sources)

    def reaches(self, source: fx.Node, node: fx.Node) -> bool:
        """Return whether data flows from ``source`` to ``node``; a node reaches itself."""
        return bool(self.ancestors[node] >> self.index[source] & 1)

    def between(self, source: fx.Node, node: fx.Node) -> list[fx.Node]:
        """Return the nodes on paths from ``source`` to ``node``, without ``source``."""
        nodes = self.nodes[self.index[source] + 1 : self.index[node] + 1]
        return [n for n in nodes if self.reaches(source, n) and self.reaches(n, node)]

    def dominator(self, node: fx.Node) -> fx.Node | None:
        """Return the last node that all data passes on the way to ``node``, None without one."""
        if not self._dominators:
            depth: dict[fx.Node | None, int] = {None: 0}
            for here, sources in self.inputs.items():
                found: fx.Node | None = sources[0] if sources else None
                for other in sources[1:]:
                    found = self._common(found, other, depth)
                self._dominators[here] = found
                depth[here] = depth[found] + 1
        return self._dominators[node]

    def _common(
        self, first: fx.Node | None, second: fx.Node | None, depth: dict[fx.Node | None, int]
    ) -> fx.Node | None:
        """Return the nearest node that dominates both, by the depth of each in the tree."""
        while first is not second:
            if first is not None and depth[first] >= depth[second]:
                first = self._dominators[first]
            else:
                assert second is not None
                second = self._dominators[second]
        return first

    def live(self) -> set[fx.Node]:
        """Return the nodes that the output depends on; autograd makes others that nothing reads."""
        waiting = [node for node in self.all_nodes if node.op == "output"]
        live: set[fx.Node] = set()
        while waiting:
            node = waiting.pop()
            if node not in live:
                live.add(node)
                waiting += [*node.all_input_nodes, *node.meta.get("after", ())]
        return live

    def work(self, source: fx.Node, last: fx.Node) -> dict[fx.Node, tuple[int, int]]:
        """Return the work between ``source`` and each node that it reaches, up to ``last``.

        The work is a pair: the most convs on one path, and the largest kernel volume of a conv.
        Later calls with the same source continue from the nodes of earlier calls.
        """
        found, seen = self._work.get(source, ({source: (0, 0)}, self.index[source] + 1))
        for node in self.nodes[seen : self.index[last] + 1]:
            before = [found[s] for s in self.inputs[node] if s in found]
            if before:
                depth, largest = (max(values) for values in zip(*before, strict=True))
                if self.calls_conv(node):
                    depth, largest = depth + 1, max(largest, kernel_volume(self.conv(node)))
                found[node] = depth, largest
        self._work[source] = found, max(seen, self.index[last] + 1)
        return found

    def skip_connections(self) -> list[LocatedSkip]:
        """Return each skip connection with its fork and its join."""
        joins = [node for node, sources in self.inputs.items() if len(sources) > 1]
        found = (self._skip_connection(a, join) for join in joins for a in self.inputs[join])
        return [skip for skip in found if skip is not None]

    def _skip_connection(self, start: fx.Node, join: fx.Node) -> LocatedSkip | None:
        """Return the skip connection that ends in the input ``start`` of a join, if it is one."""
        others = [
            source
            for source in self.inputs[join]
            if source is not start and self.ancestors[source] & self.conv_bits
        ]
        may_project = start.meta.get("shape") == join.meta.get("shape")
        passed: list[fx.Node] = []
        node = start
        while not any(self.reaches(node, other) for other in others):
            if self.calls_conv(node):
                if passed or not may_project:
                    return None
                passed.append(node)
            if not self.inputs[node]:
                return None
            before = self.dominator(node)
            if before is None or any(
                kernel_volume(self.conv(n)) > 1
                for n in self.between(before, node)
                if n is not node and self.calls_conv(n)
            ):
                return None
            node = before
        own = (len(passed), max((kernel_volume(self.conv(n)) for n in passed), default=0))
        own_bits = self.ancestors[node]
        others = [o for o in others if self.ancestors[o] & ~own_bits & self.conv_bits]
        if not others:
            return None
        work = self.work(node, join)
        around = max((work[other] for other in others if other in work), default=(0, 0))
        if around[0] == 0 or around <= own:
            return None
        convs = tuple(str(n.target) for n in passed)
        return SkipConnection(fork=self.labels[node], join=self.labels[join], convs=convs), (
            node,
            join,
        )


def _label(node: fx.Node) -> str:
    if node.op == "call_module":
        return str(node.target)
    if node.op == "placeholder":
        return node.name
    packet = getattr(node.target, "_overloadpacket", node.target)
    name = getattr(packet, "__name__", str(packet)).rstrip("_")
    path = node.meta.get("path", "")
    return f"{path}:{name}" if path else name


def kernel_volume(conv: _ConvNd) -> int:
    """Return the number of positions in a conv's kernel."""
    return math.prod(conv.kernel_size)
