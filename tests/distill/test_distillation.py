import pytest
import torch
from models import TinyResNet, images
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from refiner.core.errors import ConfigError, TrainingError
from refiner.core.progress import Silent
from refiner.distill.candidate_fit import relative_error
from refiner.distill.distillation import DistillConfig, distill, fit_candidates
from refiner.distill.original import Original
from refiner.space.search_space import search_space
from refiner.space.supernet import Supernet
from refiner.training.devices import Devices
from refiner.training.task import make_task
from refiner.training.usage import Usage

DEVICES = Devices.choose("cpu", "no")
BATCHES = [(images(count=8, seed=i), torch.zeros(8, dtype=torch.long)) for i in range(6)]


class OneConv(nn.Module):
    """A stem, and a conv that is an average pool and a pointwise conv in disguise."""

    def __init__(self, *, bias: bool, norm: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.conv = nn.Conv2d(6, 4, 3, padding=1, bias=bias)
        self.norm = nn.BatchNorm2d(4) if norm else nn.Identity()
        self.head = nn.Linear(4, 2)
        self.mixing = torch.randn(4, 6, generator=torch.Generator().manual_seed(3))
        with torch.no_grad():
            self.conv.weight.copy_((self.mixing / 9)[:, :, None, None].expand(4, 6, 3, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.head(self.norm(self.conv(self.stem(x))).mean((2, 3)))
        return output


def distilled(model: nn.Module, config: DistillConfig, seed: int = 0, candidates=None):
    space = search_space(model, BATCHES[0][0], candidates=candidates)
    net = Supernet(model, space, seed=seed)
    errors = distill(
        net, BATCHES, make_task("classification"), devices=DEVICES, config=config, seed=seed
    )
    return net, errors


@pytest.mark.parametrize(("bias", "norm"), [(True, False), (False, False), (False, True)])
def test_least_squares_finds_the_pointwise_conv_that_is_there(bias: bool, norm: bool) -> None:
    model = OneConv(bias=bias, norm=norm).eval()
    net, errors = distilled(model, DistillConfig(steps=0))
    average = net.candidates[0].index("avgpool3x3")
    pointwise = net.mixed("conv").operations[average][-1]
    assert torch.allclose(pointwise.weight[:, :, 0, 0], model.mixing, atol=2e-3)
    if bias:
        assert torch.allclose(pointwise.bias, model.conv.bias, atol=2e-3)
    assert errors["conv"]["avgpool3x3"] < 1e-5
    assert errors["conv"]["maxpool3x3"] > 0.05


class TwoFactors(nn.Module):
    """A conv whose output has three components, so that half of its weights can give all of it."""

    def __init__(self, *, bias: bool, norm: bool, kind: type[nn.Conv2d] = nn.Conv2d) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 3, 3, padding=1)
        self.conv = kind(3, 12, 3, padding=1, bias=bias)
        self.norm = nn.BatchNorm2d(12) if norm else nn.Identity()
        generator = torch.Generator().manual_seed(4)
        up, down = torch.randn(12, 3, generator=generator), torch.randn(3, 27, generator=generator)
        with torch.no_grad():
            self.conv.weight.copy_((up @ down).reshape(12, 3, 3, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.norm(self.conv(self.stem(x))).mean((2, 3))
        return output


@pytest.mark.parametrize(("bias", "norm"), [(True, False), (False, False), (True, True)])
def test_the_factors_of_a_conv_of_low_rank_are_found(bias: bool, norm: bool) -> None:
    model = TwoFactors(bias=bias, norm=norm).eval()
    net, errors = distilled(model, DistillConfig(steps=0))
    half = net.candidates[0].index("lowrank2")  # rank 27 * 12 // (2 * 39) = 4
    assert errors["conv"]["lowrank2"] < 1e-6
    assert errors["conv"]["lowrank4"] > 0.01  # rank 2
    net.select((0,))
    with torch.no_grad():
        before = net.model(BATCHES[0][0])
        net.select((half,))
        assert torch.allclose(net.model(BATCHES[0][0]), before, atol=1e-3)


class HalfWeight(nn.Conv2d):
    """Computes the weight that it uses, as a standardised conv does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(x, self.weight * self.weight.abs(), self.bias)


def test_factors_of_a_conv_with_a_parametrised_weight_are_found() -> None:
    model = TwoFactors(bias=False, norm=True)
    nn.utils.parametrizations.weight_norm(model.conv)
    _, errors = distilled(model.eval(), DistillConfig(steps=0))
    assert errors["conv"]["lowrank2"] < 1e-6


def test_an_output_that_is_not_finite_is_refused() -> None:
    model = TwoFactors(bias=False, norm=True).eval()
    with torch.no_grad():
        model.conv.weight[0, 0, 0, 0] = float("inf")
    with pytest.raises(TrainingError, match="the output of conv is not finite"):
        distilled(model, DistillConfig(steps=0))


def test_no_small_change_of_the_factors_brings_them_nearer_where_no_norm_follows() -> None:
    model = OneConv(bias=False, norm=False).eval()
    with torch.no_grad():
        model.stem.bias.fill_(3.0)  # means far above the deviations: channels count by the latter
        model.conv.weight.copy_(torch.randn(4, 6, 3, 3, generator=torch.Generator().manual_seed(0)))
    net, errors = distilled(model, DistillConfig(steps=0, solve_batches=len(BATCHES)))
    operation = net.mixed("conv").operations[net.candidates[0].index("lowrank2")]
    with torch.no_grad():
        x = model.stem(torch.cat([x for x, _ in BATCHES]))
        y = model.conv(x)
    error = ((operation(x) - y).square() / y.var((0, 2, 3), correction=0, keepdim=True)).mean()
    assert float(error.detach()) == pytest.approx(errors["conv"]["lowrank2"], rel=0.05)
    gradients = torch.autograd.grad(error, list(operation.parameters()))
    assert max(float(g.abs().max()) for g in gradients) < 1e-3


def test_factors_of_a_conv_that_computes_its_weight_are_learned() -> None:
    model = TwoFactors(bias=False, norm=True, kind=HalfWeight).eval()
    _, solved = distilled(model, DistillConfig(steps=0))
    _, stepped = distilled(model, DistillConfig(steps=60, learning_rate=0.01))
    assert stepped["conv"]["lowrank2"] < 0.95 * solved["conv"]["lowrank2"]


def test_steps_bring_a_candidate_without_a_closed_form_nearer() -> None:
    torch.manual_seed(0)
    model, names = TinyResNet().eval(), ["factorised", "avgpool3x3", "depthwise3x3"]
    _, solved = distilled(model, DistillConfig(steps=0), candidates=names)
    _, stepped = distilled(model, DistillConfig(steps=60, learning_rate=0.01), candidates=names)
    for name, row in stepped.items():
        assert row["factorised"] < 0.95 * solved[name]["factorised"]
        assert row["avgpool3x3"] == solved[name]["avgpool3x3"]
        assert row["depthwise3x3"] == solved[name]["depthwise3x3"]
        assert all(error < 1.1 for error in row.values())


def test_steps_run_no_further_than_the_last_candidate_that_they_learn(monkeypatch) -> None:
    heard: list[list[str]] = []
    forward = Original._forward

    def listening(self, batch, listeners):
        heard.append([name for name, _ in listeners])
        forward(self, batch, listeners)

    monkeypatch.setattr(Original, "_forward", listening)
    convs = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, 1, 1), nn.Conv2d(4, 4, (1, 3))
    model = nn.Sequential(*convs, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    runs = []
    for steps in (0, 9):
        heard.clear()
        distilled(model, DistillConfig(steps=steps), candidates=["factorised", "lowrank2"])
        runs.append(sum("2" in names for names in heard))
        assert heard.count(["1"]) >= steps
    assert runs[0] == runs[1] > 0  # a row of a kernel has no factors, so the steps need none of it


def test_the_zero_vector_stays_the_model_to_the_bit() -> None:
    model = TinyResNet().eval()
    with torch.no_grad():
        before = model(BATCHES[0][0])
    net, _ = distilled(model, DistillConfig(steps=5))
    net.eval().select((0,) * len(net.candidates))
    with torch.no_grad():
        assert torch.equal(net.model(BATCHES[0][0]), before)
    assert not any(m._forward_hooks for m in net.modules())


def test_the_seed_decides_and_global_random_state_is_left_alone() -> None:
    model = TinyResNet()
    state = torch.get_rng_state()
    runs = [distilled(model, DistillConfig(steps=3), seed)[1] for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": -1},
        {"solve_batches": 0},
        {"rows_per_feature": 0},
        {"most_batches": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(wrong) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        DistillConfig(**wrong)


def test_single_values_and_dead_channels_are_no_trouble() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1),
        nn.Conv2d(4, 4, 3, 2, 1), nn.Flatten(), nn.Linear(4, 10),
    )  # fmt: skip
    with torch.no_grad():
        model[2].weight[0].zero_()
    batches = [(images(count=1, seed=i), torch.zeros(1, dtype=torch.long)) for i in range(4)]
    net = Supernet(model.eval(), search_space(model, images()))
    errors = distill(
        net, batches, make_task("classification"), devices=DEVICES, config=DistillConfig(steps=3)
    )
    assert all(0 <= error < 1e4 for row in errors.values() for error in row.values())


def test_the_learning_rate_falls_to_zero_along_a_cosine(monkeypatch) -> None:
    rates: list[float] = []

    class Noted(torch.optim.Adam):
        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "Adam", Noted)
    distilled(
        TinyResNet().eval(), DistillConfig(steps=4, learning_rate=0.02), candidates=["factorised"]
    )
    assert rates == pytest.approx([0.02, 0.01 * (1 + 0.5**0.5), 0.01, 0.01 * (1 - 0.5**0.5)])


@pytest.mark.parametrize("rate", [1e18, 1e30])  # the error is infinite, or no number
def test_an_error_that_is_not_finite_is_refused(rate: float) -> None:
    model = TinyResNet().eval()
    space = search_space(model, images(), candidates=["factorised"])
    with pytest.raises(TrainingError, match=r"of block1\.conv1 is not finite"):
        distill(
            Supernet(model, space), BATCHES, make_task("classification"), devices=DEVICES,
            config=DistillConfig(steps=2, learning_rate=rate),
        )  # fmt: skip


def test_one_batch_for_a_closed_form_is_enough() -> None:
    assert DistillConfig(solve_batches=1, steps=0).solve_batches == 1


def test_the_seed_orders_a_loader_with_a_generator_of_its_own_and_leaves_that_alone() -> None:
    generator = torch.Generator().manual_seed(5)
    pixels, labels = (torch.cat(each) for each in zip(*BATCHES))
    loader = DataLoader(TensorDataset(pixels, labels), 8, shuffle=True, generator=generator)
    model, state, found = TinyResNet().eval(), generator.get_state(), []
    space = search_space(model, images(), candidates=["depthwise3x3"])
    for seed in (0, 0, 1):
        config = DistillConfig(steps=2, solve_batches=1)
        found.append(
            distill(
                Supernet(model, space), loader, make_task("classification"), devices=DEVICES,
                config=config, seed=seed,
            )
        )  # fmt: skip
    assert found[0] == found[1] != found[2]
    assert torch.equal(generator.get_state(), state)


def test_images_are_counted_and_no_gradient_is_left() -> None:
    model, usage = TinyResNet().eval(), Usage()
    net = Supernet(model, search_space(model, images(), candidates=["shuffle2", "factorised"]))
    distill(
        net, BATCHES, make_task("classification"), devices=DEVICES, usage=usage,
        config=DistillConfig(steps=3, most_batches=4),
    )  # fmt: skip
    # Batches of 8: for the first solution, the steps and the second solution.
    assert usage == Usage(forward=(4 + 3 + 4) * 8, backward=3 * 8)
    assert all(parameter.grad is None for parameter in net.parameters())


def test_the_original_runs_in_eval_mode_whatever_path_the_supernet_was_on() -> None:
    model, found = TinyResNet().eval(), []
    for training in (False, True):
        net = Supernet(model, search_space(model, images()))
        if training:
            net.train()
            net.select((1, 2, 3, 1))
        before = net.model.bn.running_mean.clone()
        found.append(
            distill(
                net, BATCHES, make_task("classification"), devices=DEVICES,
                config=DistillConfig(steps=2, solve_batches=2),
            )
        )  # fmt: skip
        assert torch.equal(net.model.bn.running_mean, before)
    assert found[0] == found[1]


def test_after_the_steps_the_last_conv_is_solved_for_again() -> None:
    model = OneConv(bias=False, norm=False).eval()
    with torch.no_grad():
        model.conv.weight.copy_(torch.randn(4, 6, 3, 3, generator=torch.Generator().manual_seed(0)))
    config = DistillConfig(steps=4, learning_rate=0.05)
    net, _ = distilled(model, config, candidates=["factorised"])
    operation = net.mixed("conv").operations[net.candidates[0].index("factorised")]
    x = model.stem(torch.cat([x for x, _ in BATCHES])).detach()
    error = relative_error(operation(x), model.conv(x).detach(), centred=False)
    (gradient,) = torch.autograd.grad(error, [operation[-1].weight])
    assert float(gradient.abs().max()) < 1e-3


def test_a_pass_ends_as_soon_as_there_are_rows_enough() -> None:
    model = TinyResNet().eval()
    batches = BATCHES * 20  # of 8 images with 16 x 16 positions
    used = []
    for config in (DistillConfig(), DistillConfig(solve_batches=20), DistillConfig(most_batches=5)):
        usage, net = Usage(), Supernet(model, search_space(model, images()))
        distill(
            net, batches, make_task("classification"), devices=DEVICES, usage=usage, config=config
        )
        used.append(usage.forward // 8)
    assert used[2] == 5 < used[0] < used[1] < len(batches)
    assert used[0] >= 8 + 2  # two of ten are held out


def test_what_is_held_out_gives_the_errors() -> None:
    """The second of the two batches is held out, and nothing else is as noisy."""
    model = OneConv(bias=True, norm=False).eval()
    with torch.no_grad():
        model.conv.weight.copy_(torch.randn(4, 6, 3, 3, generator=torch.Generator().manual_seed(0)))
    net = Supernet(model, search_space(model, images(), candidates=["avgpool3x3"]))
    batches = [
        (images(count=2, seed=1), torch.zeros(2, dtype=torch.long)),
        (3 * images(count=2, seed=2), torch.zeros(2, dtype=torch.long)),
    ]
    fitted = fit_candidates(
        net, batches, make_task("classification"), devices=DEVICES, config=DistillConfig(), seed=0,
        progress=Silent(), usage=Usage(),
    )  # fmt: skip
    assert fitted.errors["conv"]["avgpool3x3"] > 2 * fitted.fit_errors["conv"]["avgpool3x3"]


def test_sums_beyond_the_memory_bound_are_read_in_several_passes(monkeypatch) -> None:
    model, found = TinyResNet().eval(), []
    for most in (2**31, 1):
        monkeypatch.setattr("refiner.distill.sum_table.MOST_BYTES", most)
        usage, net = Usage(), Supernet(model, search_space(model, images()))
        found.append(
            distill(
                net, BATCHES, make_task("classification"), devices=DEVICES, usage=usage,
                config=DistillConfig(most_batches=3),
            )
        )  # fmt: skip
        found.append(usage.forward // 8)
    assert found[0] == found[2]
    assert found[1] == 3 < found[3]


class Pair(nn.Module):
    """A stem, and two convs of a channel group; a scale is all that may come between them."""

    def __init__(self, *, norm: bool, linear: bool) -> None:
        super().__init__()
        self.stem, self.first = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 16, 3, stride=2, bias=False)
        self.inner, self.second = nn.BatchNorm2d(16), nn.Conv2d(16, 5, 3, bias=not norm)
        self.outer = nn.BatchNorm2d(5) if norm else nn.Identity()
        self.act, self.head = nn.Identity() if linear else nn.SiLU(), nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.act(self.inner(self.first(self.stem(x))))
        return self.head(self.outer(self.second(y)).relu_().mean((2, 3)))


def merged(model: nn.Module, *names: str, **options):
    space = search_space(
        model, images(size=24), granularity="group", candidates=names, allow_larger=True
    )
    net = Supernet(model, space)
    batches = [(images(count=8, size=24, seed=i), torch.zeros(8)) for i in range(6)]
    config = DistillConfig(**options)
    task = make_task("classification")
    errors = distill(net, batches, task, devices=DEVICES, config=config)
    return net, errors, batches


@pytest.mark.parametrize("norm", [True, False])
def test_two_convs_without_an_activation_are_one_to_the_bit_of_a_ridge(norm: bool) -> None:
    torch.manual_seed(0)
    model = Pair(norm=norm, linear=True).eval()
    # 3x3 of stride 2 and 3x3 are 7x7 of stride 2, and no candidate is as large.
    model.second = nn.Conv2d(16, 5, 2, bias=not norm)
    net, errors, batches = merged(model, "merged5x5", "merged3x3")
    assert set(errors["second"]) == {"merged5x5", "merged3x3"}
    assert errors["first"] == {}
    assert errors["second"]["merged5x5"] < 1e-4 < errors["second"]["merged3x3"] < 1
    x = batches[0][0]
    expected = net(x).detach()
    net.select((1,))
    if not norm:  # one whose mean is free would have to be recalibrated
        assert torch.allclose(net(x), expected, atol=0.02 * float(expected.abs().max()))


@pytest.mark.parametrize("name", ["merged3x3", "merged1x1", "merged_depthwise3x3"])
@pytest.mark.parametrize("norm", [True, False])
def test_the_error_of_a_merged_conv_is_that_of_its_network(name: str, norm: bool) -> None:
    torch.manual_seed(0)
    model = Pair(norm=norm, linear=False).eval()
    net, errors, batches = merged(model, name)
    assert not any(parameter.grad is not None for parameter in net.parameters())
    held_out = batches[1][0]
    outputs = []
    hook = net.mixed("second").register_forward_hook(lambda _m, _i, y: outputs.append(y))
    for index in (0, 1):
        net.select((index,))
        net(held_out)
    hook.remove()
    measured = float(relative_error(outputs[1], outputs[0], centred=True))
    assert 0.01 < errors["second"][name] < 1.1
    assert errors["second"][name] == pytest.approx(measured, rel=0.15)


def test_the_zero_vector_stays_the_model_beside_merged_convs() -> None:
    torch.manual_seed(0)
    model = TinyResNet().eval()
    space = search_space(model, images(), granularity="group")
    net = Supernet(model, space)
    distill(net, BATCHES, make_task("classification"), devices=DEVICES)
    assert net.vector == (0,) * len(space.slots)
    assert torch.equal(net(BATCHES[0][0]), model(BATCHES[0][0]))
