"""Refined networks are plain PyTorch to Torch-Pruning; and docs/guides/pruning.md runs as it stands."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest
import timm
import torch
import torch_pruning as tp
from models import PlainNet, TinyResNet, UNet, images
from refiner.cli.app import main
from torch import nn

import refiner

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "pruning.md").read_text("utf-8")
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", GUIDE, re.DOTALL)


@pytest.fixture(autouse=True)
def one_thread():
    """Convs this small gain nothing by a second thread, and on busy cores wait long for it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def settled(model: nn.Module, x: torch.Tensor) -> nn.Module:
    """Give the norms scales, shifts and statistics of their own, as training does."""
    model.train()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
        for _ in range(3):
            model(x)
    return model.eval()


def rewritten(model: nn.Module, x: torch.Tensor, names: tuple[str, ...], **options) -> nn.Module:
    """Rewrite with the named candidates in turn, where a slot has the one whose turn it is."""
    space = refiner.search_space(
        model, x, candidates=[n for n in names if n != "original"], **options
    )
    vector = [
        row.index(names[i % len(names)]) if names[i % len(names)] in row else 0
        for i, row in enumerate(space.candidates)
    ]
    assert any(vector)
    return settled(refiner.rewrite(model, space.architecture(tuple(vector))), x)


def exported(model: nn.Module, x: torch.Tensor, folder: Path) -> nn.Module:
    refiner.export(model, folder, x, "python")
    spec = importlib.util.spec_from_file_location("exported_for_pruning", folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load()


def pruned_exactly(model: nn.Module, x: torch.Tensor) -> bool:
    """Prune as the guide does; return whether it gave what zeros in the channels' place give."""
    heads = [m for m in model.modules() if isinstance(m, nn.Linear)]
    pruner = tp.pruner.MagnitudePruner(
        model, x, importance=tp.importance.MagnitudeImportance(p=2), pruning_ratio=0.5,
        ignored_layers=heads or [list(model.modules())[-1]],
    )  # fmt: skip
    groups, exact = 0, True
    for group in pruner.step(interactive=True):
        if any("ChannelShuffle" in layer.target.name for layer, _ in group):
            continue
        with torch.no_grad():
            for layer, channels in group:
                if pruner.DG.is_out_channel_pruning_fn(layer.handler) and isinstance(
                    layer.target.module, nn.Module
                ):
                    for parameter in layer.target.module.parameters():
                        parameter[channels] = 0
            expected = model(x)
            group.prune()
            exact = exact and torch.allclose(model(x), expected, atol=1e-4)
            groups += 1
    return exact and groups > 0


MIXED = ("depthwise3x3", "original", "maxpool3x3", "avgpool3x3")
FURTHER = ("plain_maxpool3x3", "identity", "factorised", "plain_avgpool3x3")
SHUFFLED = ("original", "shuffle2", "original", "original", "depthwise3x3")


@pytest.mark.parametrize("form", ["rewritten", "exported"])
@pytest.mark.parametrize(
    ("build", "size", "names", "options"),
    [
        (lambda: TinyResNet(width=8), 16, MIXED, {}),
        (lambda: TinyResNet(width=8), 16, FURTHER, {}),
        (PlainNet, 16, ("depthwise3x3", "avgpool3x3"), {}),
        (lambda: UNet(width=8), 16, MIXED, {}),
        (lambda: UNet(width=8), 16, SHUFFLED, {}),
        (lambda: timm.create_model("resnet18", num_classes=10), 32, SHUFFLED, {}),
        (lambda: timm.create_model("mobilenetv2_035"), 32, ("depthwise3x3", "lowrank2"),
         {"granularity": "all"}),
    ],
    ids=["tiny", "tiny-more", "plain", "unet", "unet-shuffled", "resnet18-shuffled", "mobilenet"],
)  # fmt: skip
def test_a_refined_network_is_pruned_exactly_and_trains(
    build, size, names, options, form, tmp_path
) -> None:
    torch.manual_seed(0)
    x = images(count=3, size=size)
    model = rewritten(build(), x, names, **options)
    if form == "exported":
        model = exported(model, x, tmp_path / "refined")
    before, shape = refiner.measure_cost(model, x[:1]), model(x).shape
    assert pruned_exactly(model, x)
    after = refiner.measure_cost(model, x[:1])
    assert after.macs < 0.9 * before.macs
    assert after.params < 0.9 * before.params
    output = model.train()(x)
    assert output.shape == shape
    output.square().mean().backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)


def test_depthwise_and_pointwise_convs_lose_channels_together() -> None:
    torch.manual_seed(0)
    x = images(size=16)
    model = rewritten(TinyResNet(width=8), x, ("depthwise3x3",))
    pruned_exactly(model, x)
    for block, channels in ((model.block1, 4), (model.block2, 8)):  # half of 8, half of 16
        depthwise, pointwise = block.conv2
        assert depthwise.groups == depthwise.in_channels == channels
        assert pointwise.in_channels == pointwise.out_channels == channels


@pytest.mark.slow
def test_the_guide_runs_as_it_stands(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "model", raising=False)
    scope: dict = {}
    assert [kind for kind, _ in BLOCKS] == ["sh", "python", "python", "sh", "python"]
    for kind, text in BLOCKS:
        if kind == "python":
            exec(text, scope)
        else:
            for line in text.splitlines():
                command, *arguments = line.split()
                assert command == "refine"
                assert main(arguments) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert "\n".join(rows[-4:]) in GUIDE
    assert scope["pruned"](scope["x"]).shape == (1, 10)
    assert torch.jit.load("pruned.ts")(scope["x"]).shape == (1, 10)
