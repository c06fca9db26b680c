"""The peer's weights in our networks, so that both sides do the same work: name maps, and the proof that outputs agree.

Where our standard network differs from the peer's (which levels halve, what a transformer's block adds to), ours is
changed into the peer's here, out of our own parts.
"""

import types
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ornstein.networks.attention import SelfAttention
from ornstein.networks.blocks import Denoiser, Sinusoidal
from ornstein.networks.conv import Conv
from ornstein.networks.dit1d import _modulate


class Differ(Exception):
    """Two networks that are said to be the same are not."""


def leaves(modules: Iterable[nn.Module]) -> list[nn.Module]:
    """The modules that hold weights themselves, in the order in which they were made."""
    return [m for module in modules for m in module.modules() if any(p is not None for p in m._parameters.values())]


@torch.no_grad()
def copy(ours: Iterable[nn.Module], theirs: Iterable[nn.Module]) -> None:
    """Weights and biases, from leaf to leaf. Our convolutions keep theirs as matrices."""
    for a, b in zip(leaves(ours), leaves(theirs), strict=True):
        for name, p in a.named_parameters(recurse=False):
            found: Tensor = b.get_parameter(name)
            if isinstance(b, nn.ConvTranspose1d) and found.dim() > p.dim():
                found = found.permute(2, 1, 0)
            p.copy_(found.reshape(p.shape))


@torch.no_grad()
def put(ours: Tensor, theirs: Iterable[Tensor], dim: int = 0) -> None:
    """Many of their tensors in one of ours."""
    ours.copy_(torch.cat(list(theirs), dim))


@torch.no_grad()
def phases(sinusoidal: Any, *tensors: Tensor) -> None:
    """Ours is sines then cosines, theirs the other way and at other frequencies: gives it theirs, and turns the last
    dimension of what reads it round."""
    half = len(sinusoidal.frequencies)
    sinusoidal.frequencies.copy_(1e4 ** -(torch.arange(half) / half))
    for tensor in tensors:
        tensor.copy_(tensor.roll(half, -1))


def agree(ours: nn.Module, theirs: nn.Module, *inputs: Tensor, bound: float = 1e-4) -> None:
    """Raises Differ unless outputs agree to `bound` of their size."""
    modes = [(net, net.training) for net in (ours, theirs)]
    for net, _ in modes:
        net.eval()
    with torch.no_grad():
        a, b = ours(*inputs), getattr(theirs, "both", theirs)(*inputs)
    for net, mode in modes:
        net.train(mode)
    b = torch.stack(b) if isinstance(b, tuple) else b
    gap = ((a.reshape(b.shape) - b).abs().max() / b.abs().max()).item()
    if not gap <= bound:
        raise Differ(f"{type(ours).__name__} and {type(theirs).__name__} differ by {gap:.1e} of their size")


def unet(ours: Any, theirs: Any) -> None:
    """Diffuser's U-Net."""
    copy([ours.noise], [theirs.map_emb])
    phases(ours.noise[0], ours.noise[1].weight)
    copy(ours.down, theirs.downs)
    copy(ours.middle, [theirs.mid_block1, theirs.mid_block2])
    copy(ours.up, theirs.ups)
    copy([ours.head], [theirs.final_conv])


def value(ours: Any, theirs: Any) -> None:
    """Its half that ends in a value. The peer's last level does not halve, and its levels' kernels are 3 wide."""
    for level, donors in zip(ours.down, theirs.downs, strict=True):
        for block, donor in zip((level.first, level.second), donors, strict=False):
            for part, conv in ((block.first, donor.conv1[0]), (block.second, donor.conv2[0])):
                part[0] = Conv(conv.in_channels, conv.out_channels, *conv.kernel_size)
    ours.down[-1].resample = nn.Identity()
    first, last = (m for m in theirs.final_block if isinstance(m, nn.Linear))
    ours.value[0] = nn.Linear(first.in_features, first.out_features)
    ours.value[2] = nn.Linear(last.in_features, last.out_features)
    copy([ours.noise], [theirs.map_emb])
    phases(ours.noise[0], ours.noise[1].weight)
    copy(ours.down, theirs.downs)
    for block, shrink, pair in zip(ours.tail, ours.shrink, (theirs.mid_block1, theirs.mid_block2), strict=True):
        copy([block, shrink], pair)
    copy([ours.value], [theirs.final_block])


class Encoded(Denoiser):
    """A denoiser whose condition is first mapped by a linear layer, as the peer's U-Net does."""

    def __init__(self, net: Denoiser, size: int, dim: int):
        super().__init__()
        self.net, self.encoder = net, nn.Linear(size, dim)

    def times(self, noise: Tensor) -> Tensor:
        return self.net.times(noise)

    def encode(self, cond: Tensor | None) -> Tensor | None:
        return self.net.encode(None if cond is None else self.encoder(cond))

    def body(self, x: Tensor, time: Tensor, code: Tensor | None) -> Tensor:
        return self.net.body(x, time, code)


def film(ours: Encoded, theirs: Any) -> None:
    """Diffusion Policy's U-Net."""
    net: Any = ours.net
    copy([ours.encoder], [theirs.global_cond_encoder])
    copy([net.noise], [theirs.map_emb])
    phases(net.noise[0], net.noise[1].weight)
    levels = [list(level) for level in (*theirs.downs, [*theirs.mids, nn.Identity()], *theirs.ups)]
    blocks = [block for level in levels for block in level[:2]]
    for mine, block in zip(net.blocks, blocks, strict=True):
        copy([mine], [block.conv1, block.conv2, block.residual_conv])
    copy(net.resample, [level[2] for level in levels])
    for name in ("weight", "bias"):
        put(getattr(net.film, name), [getattr(block.cond_encoder[1], name) for block in blocks])
    copy([net.head], [theirs.final_conv])


def transformer(ours: Any, theirs: Any) -> None:
    """Diffusion Policy's transformer. The noise level's embedding is itself a token, so all tokens are turned round."""
    copy([ours.row, ours.cond, ours.encoder, ours.head], [theirs.act_emb, theirs.obs_emb, theirs.encoder, theirs.ln_f,
                                                          theirs.head])  # fmt: skip
    put(ours.row_position, theirs.pos_emb)
    put(ours.position, theirs.cond_pos_emb)
    phases(ours.noise, ours.position, ours.encoder[0].weight, ours.cond.weight.T, ours.cond.bias)
    width, shares = ours.width, []
    for mine, layer in zip(ours.layers, theirs.decoder.layers, strict=True):
        copy(mine.norms, [layer.norm1, layer.norm2, layer.norm3])
        copy([mine.back.out, mine.out, mine.mlp],
             [layer.self_attn.out_proj, layer.multihead_attn.out_proj, layer.linear1, layer.linear2])  # fmt: skip
        for name in ("weight", "bias"):
            put(getattr(mine.back.qkv, name), [getattr(layer.self_attn, f"in_proj_{name}")])
            put(getattr(mine.query, name), [getattr(layer.multihead_attn, f"in_proj_{name}")[:width]])
        shares.append(layer.multihead_attn)
    for name in ("weight", "bias"):
        put(getattr(ours.memory, name), [getattr(a, f"in_proj_{name}")[width:] for a in shares])


def replacing(block: Any, x: Tensor, rows: tuple[Tensor, ...]) -> Tensor:
    """The peer's block of a DiT, from the parts of ours: what attention adds to is the modulated x, not x."""
    shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = rows
    x = _modulate(x, shift, scale)
    x = torch.addcmul(x, gate, block.attention(x))
    return torch.addcmul(x, mlp_gate, block.mlp(_modulate(x, mlp_shift, mlp_scale)))


@torch.no_grad()
def dit(ours: Any, theirs: Any) -> None:
    """The diffusion transformer. The peer starts it at zero, where all networks agree, so it is shaken first. Of its
    positions' frequencies all but one are rounded to zero, since it counts rows in integers."""
    for module in (*(block.adaLN_modulation for block in theirs.blocks), theirs.final_layer):
        for p in module.parameters():
            p.normal_(std=0.05)
    ours.noise.frequencies.copy_(theirs.map_noise.freqs)
    ours.positions.copy_(theirs.pos_emb(torch.arange(len(ours.positions))))
    copy([ours.noise.net, ours.mix, ours.token], [theirs.map_noise.mlp, theirs.map_emb, theirs.x_proj])
    adapts = [*(block.adaLN_modulation[1] for block in theirs.blocks), theirs.final_layer.adaLN_modulation[1]]
    for name in ("weight", "bias"):
        put(getattr(ours.adapt, name), [getattr(a, name) for a in adapts])
    for mine, block in zip(ours.blocks, theirs.blocks, strict=True):
        for name in ("weight", "bias"):
            put(getattr(mine.attention.qkv, name), [getattr(block.attn, f"in_proj_{name}")])
        copy([mine.attention.out, mine.mlp], [block.attn.out_proj, block.mlp])
        mine.forward = types.MethodType(replacing, mine)
    copy([ours.head], [theirs.final_layer.linear])


def mlp(ours: Any, theirs: Any) -> None:
    """The networks of Diffusion-QL and of Diffusion Veteran's inverse dynamics."""
    copy([ours.noise], [theirs.time_mlp])
    phases(ours.noise[0], ours.noise[1].weight)
    copy([ours.entry, ours.rest], [theirs.mid_layer, theirs.final_layer])


def residual(ours: Any, theirs: Any) -> None:
    """IDQL's network. The peer's has no activation before its last layer."""
    ours.last = nn.Identity()
    copy([ours.noise], [theirs.time_mlp])
    phases(ours.noise[0], ours.noise[1].weight)
    copy([ours.entry, ours.blocks, ours.out], [theirs.affine_in, theirs.ln_resnet, theirs.affine_out])


class InTurn(nn.Module):
    """Another activation in each layer, first to last and from the first again."""

    def __init__(self, *activations: nn.Module):
        super().__init__()
        self.activations, self.next = nn.ModuleList(activations), 0

    def forward(self, x: Tensor) -> Tensor:
        activation = self.activations[self.next]
        self.next = (self.next + 1) % len(self.activations)
        return activation(x)


@torch.no_grad()
def critics(ours: Any, theirs: Any) -> None:
    """Values: the peer's members are modules of their own, and its Diffusion-QL's first layer ends in tanh."""
    members = [member for member in theirs.children() if isinstance(member, nn.Sequential)]
    if any(isinstance(m, nn.Tanh) for m in theirs.modules()):
        ours.activation = InTurn(nn.Tanh(), *[ours.activation] * (len(ours.gains) - 1))
    for e, member in enumerate(members):
        linears, norms = ([m for m in member if isinstance(m, kind)] for kind in (nn.Linear, nn.LayerNorm))
        for k, linear in enumerate(linears):
            ours.weights[k][e].copy_(linear.weight.T)
            ours.biases[k][e, 0].copy_(linear.bias)
        for k, norm in enumerate(norms):
            ours.gains[k][e, 0].copy_(norm.weight)
            ours.shifts[k][e, 0].copy_(norm.bias)


class PlanCritic(nn.Module):
    """Diffusion Veteran's critic: a transformer over a plan x (B, H, features) whose first row becomes a number (B,).
    As in the peer's, what a layer adds to is the normalised x."""

    positions: Tensor

    def __init__(self, features: int, width: int, heads: int, layers: int):
        super().__init__()
        self.token, self.wave, self.head = nn.Linear(features, width), Sinusoidal(width), nn.Linear(width, 1)
        self.attention = nn.ModuleList(SelfAttention(width, heads) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(width, 1e-6, elementwise_affine=False) for _ in range(2 * layers))
        grown = 4 * width
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.Linear(width, grown), nn.GELU("tanh"), nn.Linear(grown, width)) for _ in range(layers)
        )
        self.register_buffer("positions", self.wave(torch.arange(512)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.token(x) + self.positions[: x.shape[1]]
        for i, (attention, mlp) in enumerate(zip(self.attention, self.mlps, strict=True)):
            h = self.norms[2 * i](h)
            h = h + attention(h)
            h = h + mlp(self.norms[2 * i + 1](h))
        return self.head(h[:, 0])[:, 0]


@torch.no_grad()
def plan_critic(ours: Any, theirs: Any) -> None:
    """Diffusion Veteran's critic."""
    copy([ours.token, ours.head], [theirs.x_proj, theirs.final_layer])
    ours.positions.copy_(theirs.pos_emb(torch.arange(len(ours.positions))))
    for attention, mlp_, block in zip(ours.attention, ours.mlps, theirs.blocks, strict=True):
        for name in ("weight", "bias"):
            put(getattr(attention.qkv, name), [getattr(block.attn, f"in_proj_{name}")])
        copy([attention.out, mlp_], [block.attn.out_proj, block.mlp])
