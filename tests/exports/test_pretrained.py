import json
from pathlib import Path

import pytest
import torch
from models import TinyResNet, images

import refiner
from refiner.core.errors import ArchitectureError, ModelError
from refiner.core.preprocessing import Preprocessing
from refiner.core.types import ARCHITECTURE_KEY
from refiner.exports.exporting import export
from refiner.exports.pretrained import from_pretrained

transformers = pytest.importorskip("transformers")


@pytest.fixture
def refined():
    torch.manual_seed(0)
    config = transformers.ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32], depths=[2, 2], layer_type="basic", num_labels=3
    )
    model, x = transformers.ResNetForImageClassification(config).eval(), images(2, size=32)
    space = refiner.search_space(model, x, granularity="group")
    architecture = space.architecture(tuple(min(2, len(c) - 1) for c in space.candidates))
    return refiner.rewrite(model, architecture).eval(), model, x


def test_a_refined_model_comes_back_trains_and_is_saved_again(refined, tmp_path) -> None:
    model, original, x = refined
    assert not hasattr(original.config, ARCHITECTURE_KEY), "the caller's model is left as it was"
    said = export(model, tmp_path / "net", x, "transformers")
    assert said == "folder for refiner.from_pretrained, any batch size"
    again = refiner.from_pretrained(tmp_path / "net")
    assert type(again) is type(model)
    with torch.no_grad():
        assert torch.equal(again(x).logits, model(x).logits)
    optimizer = torch.optim.SGD(again.train().parameters(), lr=0.1)
    again(pixel_values=x, labels=torch.tensor([0, 1])).loss.backward()
    optimizer.step()
    again.save_pretrained(tmp_path / "trained")
    third = from_pretrained(tmp_path / "trained")
    with torch.no_grad():
        assert torch.equal(third(x).logits, again.eval()(x).logits)


def test_what_cannot_come_back_is_named(refined, tmp_path) -> None:
    model, original, x = refined
    with pytest.raises(ModelError, match="was not refined"):
        export(original, tmp_path / "net", x, "transformers")
    with pytest.raises(ModelError, match="holds models of transformers alone"):
        export(TinyResNet(), tmp_path / "net", images(), "transformers")
    assert not (tmp_path / "net").exists()
    original.save_pretrained(tmp_path / "plain")
    with pytest.raises(ModelError, match="holds no refined model"):
        from_pretrained(tmp_path / "plain")
    export(model, tmp_path / "net", x, "transformers")
    with pytest.raises(ModelError, match="Refine the original again"):
        refiner.ModelSpec(source=f"transformers:{tmp_path / 'net'}").build()
    file = tmp_path / "net" / "config.json"
    config = json.loads(file.read_text())
    (kept,) = config[ARCHITECTURE_KEY]
    for damaged in (3, [3], [{"format_version": 1}], [{**kept, "vector": [0]}]):
        file.write_text(json.dumps(config | {ARCHITECTURE_KEY: damaged}))
        with pytest.raises(ArchitectureError):
            from_pretrained(tmp_path / "net")
    zeros = {**kept, "vector": [0] * len(kept["vector"])}
    file.write_text(json.dumps(config | {ARCHITECTURE_KEY: [zeros]}))
    with pytest.raises(ModelError, match="cannot be loaded|lack"):
        from_pretrained(tmp_path / "net")


@pytest.mark.parametrize("form", ["torchscript", "onnx"])
def test_models_with_outputs_of_their_own_kind_are_exported(refined, tmp_path, form) -> None:
    model, _, x = refined
    assert "any batch size" in export(model, tmp_path / f"net.{form}", x, form)


def test_a_model_that_is_refined_twice_comes_back(refined, tmp_path) -> None:
    model, _, x = refined
    space = refiner.search_space(model, x, candidates=["depthwise3x3"])
    twice = refiner.rewrite(model, space.architecture((1,) + (0,) * (len(space.slots) - 1))).eval()
    assert len(twice.config.to_dict()[ARCHITECTURE_KEY]) == 2
    assert len(model.config.to_dict()[ARCHITECTURE_KEY]) == 1
    twice.save_pretrained(tmp_path / "twice")
    with torch.no_grad():
        assert torch.equal(from_pretrained(tmp_path / "twice")(x).logits, twice(x).logits)


def test_the_folder_says_how_images_were_prepared(refined, tmp_path, monkeypatch) -> None:
    model, _, x = refined
    monkeypatch.chdir(tmp_path)
    Path("preprocessor_config.json").write_text("{}")  # nobody's
    export(model, "plain", x, "transformers")
    assert not Path("plain/preprocessor_config.json").exists()
    prepared = Preprocessing(
        mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), size=(32, 32), resize=(36, 36),
        interpolation="bicubic", source="here",
    )  # fmt: skip
    export(model, "net", x, "transformers", prepared)
    pixels = torch.randint(0, 256, (3, 36, 36), dtype=torch.uint8)
    processor = transformers.AutoImageProcessor.from_pretrained("net")
    ours = (pixels / 255)[:, 2:34, 2:34] - torch.tensor(prepared.mean)[:, None, None]
    ours = ours / torch.tensor(prepared.std)[:, None, None]
    assert torch.allclose(
        processor(pixels, return_tensors="pt")["pixel_values"][0], ours, atol=1e-5
    )
