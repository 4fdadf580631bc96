import subprocess
import sys

import pytest
import timm
import torch
from models import PlainNet, RandomNet, TinyResNet, images
from safetensors.torch import save_file
from torch import nn

from refiner.core.errors import ModelError
from refiner.exports.python_source import python_source


def loaded(model: nn.Module, x: object, folder) -> nn.Module:
    source = python_source(model.eval(), x, "a model")
    folder.mkdir()
    (folder / "model.py").write_text(source.code)
    save_file({k: v.detach().clone().contiguous() for k, v in source.weights.items()},
              folder / "model.safetensors")  # fmt: skip
    space: dict[str, object] = {"__file__": str(folder / "model.py")}
    exec(source.code, space)
    return space["load"]()


def test_the_file_is_plain_and_readable(tmp_path) -> None:
    code = python_source(TinyResNet(width=4).eval(), images(), "tiny").code
    for line in (
        "self.block2_conv1 = nn.Conv2d(in_channels=4, out_channels=8, kernel_size=3, stride=2, "
        "padding=1, bias=False)",
        "        # block1",
        "        x1 = self.block1_conv1(x)",
        "        x1 = x1 + x",
    ):
        assert line in code
    assert "refiner" not in code.replace("made by refiner", "")


@pytest.mark.parametrize("seed", range(5))
def test_random_nets_come_back_for_any_batch(seed: int, tmp_path) -> None:
    model = RandomNet(seed)
    twin = loaded(model, images(size=model.size), tmp_path / "out")
    for count in (1, 2, 5):
        x = images(count=count, size=model.size, seed=count)
        with torch.no_grad():
            assert torch.equal(model(x), twin(x))


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "convnext_atto", "botnet26t_256"])
def test_timm_models_come_back(name: str, tmp_path) -> None:
    model = timm.create_model(name, num_classes=4).eval()
    size = 256 if name == "botnet26t_256" else 64
    twin = loaded(model, images(size=size), tmp_path / "out")
    x = images(count=3, size=size, seed=1)
    with torch.no_grad():
        assert torch.allclose(model(x), twin(x), atol=1e-6)


def test_a_process_with_torch_alone_loads_it(tmp_path) -> None:
    model = PlainNet().eval()
    loaded(model, images(), tmp_path / "out")
    torch.save((images(3), model(images(3)).detach()), tmp_path / "pair.pt")
    code = (
        "import sys\nfor gone in ('refiner', 'timm', 'safetensors'): sys.modules[gone] = None\n"
        f"sys.path.insert(0, {str(tmp_path / 'out')!r})\n"
        "import torch\nfrom model import load\n"
        f"x, y = torch.load({str(tmp_path / 'pair.pt')!r})\n"
        "assert torch.allclose(load()(x), y, atol=1e-6)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_several_inputs_and_outputs_and_constants(tmp_path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.table = [torch.arange(4.0)]

        def forward(self, left, right):
            both = self.conv(left) * self.table[0][:, None, None] - right.mean()
            return {"pair": (both, both.view(len(left), -1)), "right": right}

    model, example = Two().eval(), {"left": images(), "right": images(seed=1)}
    twin = loaded(model, example, tmp_path / "out")
    x, y = images(4, seed=2), images(4, seed=3)
    expected, got = model(x, y), twin(left=x, right=y)
    assert torch.equal(expected["pair"][1], got["pair"][1])
    assert torch.equal(got["right"], y)


def test_what_depends_on_the_batch_otherwise_is_for_that_size() -> None:
    class Square(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3)

        def forward(self, x):
            return self.conv(x).repeat(len(x) ** 2, 1, 1, 1)

    source = python_source(Square().eval(), images(), "square")
    assert not source.any_batch
    assert "for a batch of 2" in source.code


def test_outputs_that_are_no_data_are_refused() -> None:
    class Odd(nn.Module):
        def forward(self, x):
            return object()

    with pytest.raises(ModelError, match="output of type object"):
        python_source(Odd().eval(), images(), "odd")
