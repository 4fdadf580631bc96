import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from refiner.core.errors import ConfigError, DataError, ModelError
from refiner.data.tensor_loader import TensorLoader
from refiner.faces.arcface import ArcFace, arcface_for
from refiner.training.devices import Devices
from refiner.training.loop import TrainConfig, train
from refiner.training.task import check_task

MODEL = nn.Identity()


def reference(embeddings, weight, labels, scale, margin):
    """Equation 3 of ArcFace as it is written, with the angle itself, in float64."""
    cosine = F.normalize(embeddings) @ F.normalize(weight).T
    theta = torch.acos(cosine)
    with_margin = torch.where(
        theta + margin <= math.pi, torch.cos(theta + margin), cosine - margin * math.sin(margin)
    )
    own = F.one_hot(labels, len(weight)).bool()
    logits = scale * torch.where(own, with_margin, cosine)
    return -(logits[own] - logits.logsumexp(1)).mean()


def target_logit(head, embedding):
    """With weights 0 and 1 at right angles to each other and 1 to the embedding, loss is log(1 + exp(-z))."""
    loss = head.loss(MODEL, (embedding, torch.tensor([0])))
    return -torch.log(torch.expm1(loss.detach()))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("scale", "margin"), [(64.0, 0.5), (8.0, 0.0), (4.0, 1.2)])
def test_loss_and_gradients_are_those_of_the_formula(seed, scale, margin) -> None:
    generator = torch.Generator().manual_seed(seed)
    head = ArcFace(5, 7, scale=scale, margin=margin, seed=seed)
    labels = torch.randint(0, 5, (12,), generator=generator)
    embeddings = torch.randn(12, 7, generator=generator)
    # Beyond pi - m too: nearly opposite to their own weights.
    embeddings[:3] = -30 * head.weight.detach()[labels[:3]] + 0.05 * embeddings[:3]
    embeddings.requires_grad_()
    loss = head.loss(MODEL, (embeddings, labels))
    found = torch.autograd.grad(loss, [embeddings, head.weight])

    exact = [v.detach().double().requires_grad_() for v in (embeddings, head.weight)]
    expected = reference(*exact, labels, scale, margin)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for a, b in zip(found, torch.autograd.grad(expected, exact)):
        assert torch.allclose(a.double(), b, rtol=1e-3, atol=1e-4 * float(b.abs().max()))


def test_the_target_s_logit_by_hand() -> None:
    head = ArcFace(2, 3, scale=1.0, margin=0.5)
    head.weight.data = torch.tensor([[3.0, 0, 0], [0, 0, 2]])
    for theta, expected in (
        (0.3, math.cos(0.8)),
        (2.0, math.cos(2.5)),
        (3.0, math.cos(3.0) - 0.5 * math.sin(0.5)),  # 3.0 + 0.5 is beyond pi
    ):
        embedding = torch.tensor([[5 * math.cos(theta), 5 * math.sin(theta), 0]])
        assert float(target_logit(head, embedding)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("margin", [0.0, 0.5, math.pi / 2])
def test_the_target_s_logit_falls_as_the_angle_grows(margin) -> None:
    head = ArcFace(2, 3, scale=1.0, margin=margin)
    head.weight.data = torch.tensor([[1.0, 0, 0], [0, 0, 1]])
    theta = torch.linspace(0.01, math.pi - 0.01, 200)
    embeddings = torch.stack([theta.cos(), theta.sin(), torch.zeros(200)], dim=1)
    logits = torch.stack([target_logit(head, e[None]) for e in embeddings])
    assert (logits.diff() < 0).all()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_all_is_finite_where_the_cosine_is_one_or_minus_one(sign) -> None:
    head = ArcFace(3, 4)
    head.weight.data = torch.eye(4)[:3]
    embeddings = (sign * torch.eye(4)[:3]).requires_grad_()
    loss = head.loss(MODEL, (embeddings, torch.arange(3)))
    loss.backward()
    target = math.cos(0.5) if sign > 0 else -1 - 0.5 * math.sin(0.5)
    expected = math.log1p(2 * math.exp(-64 * target)) if sign > 0 else -64 * target + math.log(2)
    assert loss.item() == pytest.approx(expected, abs=0.02)
    assert embeddings.grad.isfinite().all()
    assert head.weight.grad.isfinite().all()


def test_zero_embeddings_give_finite_gradients() -> None:
    head, embeddings = ArcFace(3, 4), torch.zeros(2, 4, requires_grad=True)
    head.loss(MODEL, (embeddings, torch.tensor([0, 2]))).backward()
    assert embeddings.grad.isfinite().all()


def test_the_head_computes_in_float32_under_autocast() -> None:
    head, batch = ArcFace(4, 8), (torch.randn(6, 8), torch.tensor([0, 1, 2, 3, 0, 1]))
    plain = head.loss(MODEL, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(head.loss(MODEL, batch), plain)
        assert head.loss(nn.Linear(8, 8), batch).dtype is torch.float32
        assert head.measure(nn.Linear(8, 8), batch)[1] == 6


def test_identification_by_hand_and_without_the_margin() -> None:
    head = ArcFace(2, 2, margin=1.0)
    head.weight.data = torch.tensor([[1.0, 0], [0, 1]])
    # The second lies 0.1 nearer to its own weight: with the margin it would be wrong.
    angles = torch.tensor([0.0, math.pi / 4 + 0.05, 1.5])
    embeddings = torch.stack([angles.cos(), angles.sin()], dim=1)
    sums = head.measure(MODEL, (embeddings, torch.tensor([0, 1, 0])))
    assert sums.tolist() == [2, 3]
    assert head.score(sums.double()) == pytest.approx(2 / 3)


def test_the_seed_alone_draws_the_weights() -> None:
    state = torch.get_rng_state()
    first, again, other = ArcFace(200, 50, seed=3), ArcFace(200, 50, seed=3), ArcFace(200, 50)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, other.weight)
    assert float(first.weight.std()) == pytest.approx(0.01, rel=0.05)
    assert float(first.weight.mean()) == pytest.approx(0, abs=0.001)


def test_inputs_in_mappings_and_lists_and_small_integer_labels() -> None:
    class Sum(nn.Module):
        def forward(self, left, right):
            return left + right

    head, x, y = ArcFace(3, 4), torch.randn(2, 4), torch.tensor([2, 0])
    expected = head.loss(MODEL, (x, y))
    assert head.loss(MODEL, {"image": x, "label": y.to(torch.uint8)}) == expected
    assert head.loss(Sum(), ([x, torch.zeros(2, 4)], y)) == expected


@pytest.mark.parametrize(
    ("output", "labels", "message"),
    [
        (torch.zeros(2, 5), torch.tensor([0, 1]), r"embeddings of shape \(2, 4\).*\(2, 5\)"),
        (torch.zeros(2, 4, 1), torch.tensor([0, 1]), r"\(2, 4, 1\)"),
        ((torch.zeros(2, 4), 0), torch.tensor([0, 1]), "the model gives tuple"),
        (torch.zeros(2, 4), torch.tensor([0, 1, 2]), r"embeddings of shape \(3, 4\)"),
        (torch.zeros(2, 4), torch.tensor([0.0, 1]), "integer label.*float32"),
        (torch.zeros(2, 4), torch.tensor([True, False]), "integer label.*bool"),
        (torch.zeros(2, 4), torch.zeros(2, 1, dtype=torch.int64), "integer label"),
        (torch.zeros(2, 4), [0, 1], "the loader gives list"),
        (torch.zeros(2, 4), torch.tensor([0, 3]), "labels 0 to 3, but ArcFace has 3"),
        (torch.zeros(2, 4), torch.tensor([-1, 2]), "labels -1 to 2"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(output, labels, message) -> None:
    class Fixed(nn.Module):
        def forward(self, x):
            return output

    for method in ("loss", "measure"):
        with pytest.raises(DataError, match=message) as caught:
            getattr(ArcFace(3, 4), method)(Fixed(), (torch.zeros(2), labels))
        assert "\n" not in str(caught.value)


def test_numbers_out_of_range_are_refused() -> None:
    for settings, message in (
        ({"identities": 0}, "identities is 0"),
        ({"embedding_size": 0}, "embedding_size is 0"),
        ({"scale": 0.0}, "scale is 0"),
        ({"scale": math.nan}, "scale is nan"),
        ({"margin": -0.1}, "margin is -0.1"),
        ({"margin": 1.6}, "margin is 1.6"),
    ):
        with pytest.raises(ConfigError, match=message):
            ArcFace(**{"identities": 3, "embedding_size": 4, **settings})


def test_it_trains_a_model_and_itself_as_any_task() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(4).repeat(16)
    centres = torch.randint(0, 256, (4, 3, 4, 4), generator=generator)
    noise = torch.randint(-20, 21, (64, 3, 4, 4), generator=generator)
    images = (centres[labels] + noise).clamp(0, 255).to(torch.uint8)
    half = torch.tensor([0.5])
    loaders = [
        TensorLoader(images, labels, batch_size=16, mean=half, std=half, train=t)
        for t in (True, False)
    ]
    torch.manual_seed(0)
    model, task = nn.Sequential(nn.Flatten(), nn.Linear(48, 8)), ArcFace(4, 8)
    check_task(task)
    before = task.weight.clone()
    config = TrainConfig(epochs=8, lr_max=0.05, schedule="cosine")
    devices = Devices.choose("cpu")
    result = train(model, *map(devices.loader, loaders), task, devices=devices, config=config)
    assert result.losses[-1] < result.losses[0] / 2
    assert result.score == 1
    assert torch.equal(task.weight, before)  # the trainer has a copy


def test_a_head_has_the_size_of_the_models_embedding() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 7), nn.BatchNorm1d(7)).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    head = arcface_for(model, torch.randn(2, 3, 2, 2), 5, seed=3)
    assert torch.equal(head.weight, ArcFace(5, 7, seed=3).weight)
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_model_without_an_embedding_gets_no_head() -> None:
    with pytest.raises(ConfigError, match=r"the model gives torch.float32 of shape \(2, 3, 4, 4\)"):
        arcface_for(nn.Identity(), torch.zeros(2, 3, 4, 4), 5)
    with pytest.raises(ModelError, match="fails on an input of the data"):
        arcface_for(nn.Linear(3, 4), torch.zeros(2, 5), 5)


def test_embeddings_opposite_to_all_identities_have_the_loss_that_is_told() -> None:
    head = ArcFace(1345, 4)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([1.0, 2, 3, 4]).expand(1345, 4))
    loss = head.loss(MODEL, (-head.weight[:8].detach(), torch.arange(8)))
    assert float(loss.detach()) == pytest.approx(
        64 * 0.5 * math.sin(0.5) + math.log(1345), rel=1e-4
    )
    assert float(loss.detach()) == pytest.approx(22.5, abs=0.1)
