"""A noise level for each row of a window, as Diffusion Forcing has it."""

from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.diffusion.pin import Pin
from ornstein.diffusion.process import PROCESSES
from ornstein.errors import InputError
from ornstein.networks.dit1d import DiT1D
from ornstein.networks.film_unet import FilmUNet
from ornstein.networks.mlp import MLP
from ornstein.networks.transformer import CausalTransformer
from ornstein.networks.unet1d import TemporalUNet
from small import PLAIN

B, H, F = 4, 5, 3


class EachRow(nn.Module):
    """It sees one row at a time, and its level."""

    noise_per_row: ClassVar[bool] = True

    def forward(self, x: Tensor, noise: Tensor, cond: Tensor | None = None) -> Tensor:
        level = noise / 1000 if noise.dim() == 2 else noise[:, None] / 1000
        return x.sin() + level[..., None] * x.flip(-1)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def times(model: Diffusion, *shape: int) -> Tensor:
    """Different levels from clean to noise."""
    torch.manual_seed(2)
    return model.process.draw(torch.Size(shape).numel()).view(shape).double()


def dit(cond: int = 0) -> DiT1D:
    """A small one with no weight left at zero."""
    torch.manual_seed(0)
    net = DiT1D(F, width=16, heads=2, depth=2, emb=8, cond=cond).double().eval()
    for weight in net.parameters():
        nn.init.normal_(weight, std=0.3)
    return net


RECIPES = [Recipe(name, "x0") for name in PROCESSES] + [Recipe("cosine", "x0", levels=50)]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: f"{recipe.process}-{recipe.levels}")
def test_each_row_has_its_own_alpha_and_sigma(recipe: Recipe) -> None:
    model = Diffusion(EachRow(), recipe)
    x0, eps, t = draw(B, H, F), draw(B, H, F, seed=1), times(model, B, H)
    found = model.noised(x0, eps=eps, t=t)
    assert found.alpha.shape == found.sigma.shape == (B, H, 1)
    for b in range(B):
        for h in range(H):
            alpha, sigma = model.process.alpha_sigma(t[b, h])
            torch.testing.assert_close(found.x[b, h], alpha * x0[b, h] + sigma * eps[b, h])
    mask = torch.zeros(H, F, dtype=torch.bool)
    mask[0] = True
    assert torch.equal(model.noised(x0, Pin(mask, x0), t=t).x[:, 0], x0[:, 0]), "what is known stays clean"


@pytest.mark.parametrize("target", PLAIN)
def test_mixed_levels_are_each_rows_own(target: str) -> None:
    """Of a network that sees rows one by one, windows are what their rows are when asked about by themselves."""
    model = Diffusion(EachRow(), Recipe("linear", target, weight="min-snr", clip=1.5))

    def asked(x: Tensor, eps: Tensor, t: Tensor) -> list[Tensor]:
        drift, volatility = model.reverse(x, t)
        clean = [model.denoise(x, t), model.predict(x, t)[0], model.score(x, t)]
        return [model.loss(x, eps=eps, t=t), *clean, drift, volatility.expand_as(x)]

    x, eps, t = draw(B, H, F), draw(B, H, F, seed=1), times(model, B, H)
    alone = [asked(x[:, h : h + 1], eps[:, h : h + 1], t[:, h]) for h in range(H)]
    for found, rows in zip(asked(x, eps, t), zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(found, torch.cat(rows, 1))


@pytest.mark.parametrize("size", [0, 2])
def test_equal_levels_are_one_level(size: int) -> None:
    """To the rounding of double precision: the products are of other shapes."""
    model = Diffusion(dit(size), Recipe("cosine", "v"))
    cond = draw(B, size, seed=3) if size else None
    x, eps, t = draw(B, H, F), draw(B, H, F, seed=1), times(model, B)
    rows = t[:, None].expand(B, H)
    exact = {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(model.predict(x, rows, cond)[0], model.predict(x, t, cond)[0], **exact)
    torch.testing.assert_close(model.loss(x, cond, eps=eps, t=rows), model.loss(x, cond, eps=eps, t=t), **exact)
    one, once = x[:1], cond if cond is None else cond[:1]  # a batch of one
    torch.testing.assert_close(model.denoise(one, rows[:1], once), model.denoise(one, t[0], once), **exact)


def test_a_transformers_row_is_told_its_own_level() -> None:
    """Without attention, a row's prediction moves with its own level and no other."""
    net = dit()
    for block in net.blocks:
        nn.init.zeros_(block.attention.out.weight)
    x, noise = draw(B, H, F), 1000 * torch.rand(B, H, dtype=torch.float64)
    other = noise.clone()
    other[:, 2] += 100
    moved = (net(x, other) != net(x, noise)).any(-1)
    assert moved[:, 2].all()
    assert not moved[:, [0, 1, 3, 4]].any()


def test_noise_per_row_can_be_learned() -> None:
    """Rows of one number, alike within a window: beside clean rows, a noisy one is told from them."""
    torch.manual_seed(0)
    model = Diffusion(DiT1D(1, width=32, heads=2, depth=1, emb=16), Recipe("linear", "x0"))
    optim = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(300):
        x0 = torch.randn(64, 1, 1).expand(-1, 4, -1)
        t = model.process.draw(256).view(64, 4)
        loss = model.loss(x0, t=t).mean()
        optim.zero_grad()
        loss.backward()
        optim.step()
    x0, t = torch.randn(256, 1, 1).expand(-1, 4, -1), torch.full((256, 4), 0.01)
    t[:, 3] = 0.9
    beside = model.loss(x0, t=t)[:, 3].mean()
    alone = model.loss(x0, t=torch.full((256, 4), 0.9))[:, 3].mean()
    assert beside < 0.3 * alone, (beside, alone)


@pytest.mark.parametrize(
    "net",
    [
        TemporalUNet(F, 8, (1, 2)),
        FilmUNet(F, 8, (1, 2)),
        CausalTransformer(F, H, width=16, heads=2, depth=1),
        MLP(F),
    ],
    ids=lambda net: type(net).__name__,
)
def test_networks_without_refuse_a_level_for_each_row(net: nn.Module) -> None:
    model, x = Diffusion(net, Recipe()), torch.randn(B, H, F)
    t = torch.rand(B, H)
    said = rf"times of shape \(4, 5\) .* {type(net).__name__}: expected \(\) or \(4,\);"
    for call in (lambda: model.loss(x, t=t), lambda: model.denoise(x, t), lambda: model.noised(x, t=t)):
        with pytest.raises(InputError, match=said):
            call()


@pytest.mark.parametrize("shape", [(H,), (B, H + 1), (H, B), (B, H, F), (B, 1)])
def test_times_of_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    model = Diffusion(EachRow(), Recipe())
    with pytest.raises(InputError, match=r"expected \(\) or \(4,\) or \(4, 5\)"):
        model.denoise(torch.randn(B, H, F), torch.rand(shape))
