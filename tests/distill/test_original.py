import torch
from models import TinyResNet, images
from torch import nn

from refiner.core.batches import pieces
from refiner.distill.original import Original
from refiner.distill.patches import PatchSums
from refiner.graph.conv_spec import conv_spec
from refiner.space.search_space import search_space
from refiner.space.supernet import Supernet
from refiner.training.devices import Devices
from refiner.training.task import make_task

BATCHES = [(images(count=2, seed=i), torch.zeros(2, dtype=torch.long)) for i in range(8)]


def original(batches=BATCHES):
    model = TinyResNet().eval()
    return Original(
        supernet=Supernet(model, search_space(model, images())), loader=batches,
        task=make_task("classification"), devices=Devices.choose("cpu", "no"), seed=0,
    )  # fmt: skip


def heard(of: Original, batches: int) -> list[torch.Tensor]:
    """Return the inputs of the first conv when the model is run on some batches."""
    found: list[torch.Tensor] = []
    of.run([("block1.conv1", lambda x, y: found.append(x))], batches, after_batch=lambda: None)
    return found


def rows_of(of: Original, most: int) -> tuple[int, int]:
    conv = of.supernet.mixed("block1.conv1").operations[0]
    sums = PatchSums("block1.conv1", conv_spec(conv), seed=0)
    sums.want(10**6, 1)
    of.read([sums], most)
    return sums._fit.rows, sums._held_out.rows


def test_the_second_batch_and_every_fifth_after_it_are_held_out() -> None:
    of = original()
    each = rows_of(original(BATCHES[:1]), 9)[0]
    assert rows_of(of, 9) == (6 * each, 2 * each)  # batches 1 and 6 of one pass
    assert rows_of(of, 3) == (2 * each, each)


def test_errors_are_measured_on_the_batches_held_out_or_on_the_only_one() -> None:
    seen: list[torch.Tensor] = []
    listeners = [("block1.conv1", lambda x, y: seen.append(x))]
    of = original()
    every = heard(of, 8)
    of.measure(listeners, 8)
    assert len(seen) == 2
    assert torch.equal(seen[0], every[1])
    assert torch.equal(seen[1], every[6])
    seen.clear()
    original(BATCHES[:1]).measure(listeners, 8)
    assert len(seen) == 1


def test_steps_go_on_over_several_passes() -> None:
    assert len(heard(original(), 19)) == 19


def test_large_batches_are_read_in_pieces(monkeypatch) -> None:
    whole = rows_of(original(BATCHES[:1]), 9)[0]
    numbers = BATCHES[0][0].numel()
    monkeypatch.setattr(pieces, "__defaults__", (numbers // 2 + 1,))
    assert rows_of(original(BATCHES[:1]), 9) == (whole // 2, whole // 2)  # one is held out


def test_a_run_ends_with_the_last_conv_that_is_listened_to() -> None:
    of = original()
    ran: list[str] = []
    for name in ("block1", "block2"):
        of.supernet.model.get_submodule(name).register_forward_hook(
            lambda *_, name=name: ran.append(name)
        )
    assert len(heard(of, 3)) == 3
    assert ran == ["block1", "block2"]  # the first run shows how often each conv is called


def test_each_listener_hears_every_call() -> None:
    of = original()
    seen: list[str] = []
    names = ["block2.conv1", "block1.conv1", "block2.conv1"]
    of.run([(n, lambda x, y, n=n: seen.append(n)) for n in names], 2, after_batch=lambda: None)
    assert sorted(seen) == sorted(2 * names)


class SiluPairs(TinyResNet):
    """Has an activation between convs that changes what is passed on, and one in place after."""

    def __init__(self) -> None:
        super().__init__()
        self.block2.bn2 = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.bn(self.stem(x))
        for block in (self.block1, self.block2):
            y = nn.functional.silu(block.bn1(block.conv1(x)))
            x = block.bn2(block.conv2(y)).relu_() + block.skip(x)
        return self.fc(x.mean((2, 3)))


def test_what_a_group_passes_on_is_read_in_the_place_of_the_original() -> None:
    torch.manual_seed(0)
    model = SiluPairs().eval()
    space = search_space(model, images(), granularity="group", candidates=["keep0.5", "merged1x1"])
    of = Original(
        supernet=Supernet(model, space), loader=BATCHES[:3], task=make_task("classification"),
        devices=Devices.choose("cpu", "no"), seed=0,
    )  # fmt: skip
    with torch.no_grad():  # the rest of the network has the original's norms
        of.supernet.mixed("block1.bn2").operations[2].bias += 1
    seen: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    sums = []
    for slot in space.slots:
        last = slot.sites[-1].conv
        for passed in (False, True):
            each = PatchSums(last, slot.sites[-1].spec, seed=0, passed=passed)
            key = f"{last} {passed}"
            each.add = each.add_held_out = lambda x, y, key=key: seen.setdefault(key, []).append(
                (x.clone(), y.clone())
            )
            sums.append(each)
    for _ in range(2):  # the first run shows how often each conv is called
        seen.clear()
        of.read(sums, 3)
        assert of.supernet.vector == (0, 0)
        assert torch.equal(of.supernet(BATCHES[0][0]), model(BATCHES[0][0]))
        with torch.no_grad():
            for i, (x, _) in enumerate(BATCHES[:3]):
                given = model.bn(model.stem(x))
                for block, name in ((model.block1, "block1.conv2"), (model.block2, "block2.conv2")):
                    read = nn.functional.silu(block.bn1(block.conv1(given)))
                    target = block.conv2(read)
                    for passed, expected in ((False, read), (True, nn.functional.silu(given))):
                        assert torch.equal(seen[f"{name} {passed}"][i][0], expected)
                    assert torch.equal(seen[f"{name} True"][i][1], target)
                    given = block.bn2(target).relu() + block.skip(given)
