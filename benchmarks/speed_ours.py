"""Our side of the cases of speed_cases.py.

A side is `like_for_like` (the peer's networks and settings, calls that do nothing left out), `equal_calls` (the same,
with as many calls as the peer makes) or `as_shipped` (see speed_shipped.py). Where the table has the algorithm, an
update is that of its agent, with the peer's networks put in; all else is the library's parts.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import speed_weights as weights
import torch
from speed_harness import Work
from speed_shipped import Shape, Works, shipped, size
from torch import Tensor, nn

from ornstein.contract import Spec
from ornstein.data.episodes import Episodes
from ornstein.data.normalize import ZScore
from ornstein.data.views import Transition, Transitions, Window, Windows
from ornstein.diffusion.guide import EnergyGuidance
from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.diffusion.pin import Pin
from ornstein.networks.blocks import Denoiser
from ornstein.networks.critics import Critics
from ornstein.networks.dit1d import DiT1D
from ornstein.networks.film_unet import FilmUNet
from ornstein.networks.mlp import MLP, ResidualMLP
from ornstein.networks.transformer import CausalTransformer
from ornstein.networks.unet1d import TemporalUNet, ValueUNet
from ornstein.optim import Optim, Stepper, pace, polyak_update, target_copy
from ornstein.roles import build, preset
from ornstein.roles.values.choice import Choice
from ornstein.run.capture import Captured

N = TypeVar("N", bound=nn.Module)
PLAIN = Optim(3e-4)  # the peer's, of policies and critics


@dataclass(frozen=True)
class Setting:
    """A side of a case."""

    shape: Shape
    device: str
    side: str
    donors: dict[str, nn.Module] | None  # the peer's networks, if there is a peer

    def calls(self, peer: int) -> int:
        """Calls of the network where the peer makes so many, one of them for nothing."""
        return peer - (self.side == "like_for_like")

    def randn(self, *shape: int) -> Tensor:
        return torch.randn(*shape, device=self.device)

    def levels(self) -> Tensor:
        """Noise levels of two samples, to compare networks at."""
        return torch.tensor([1.0, 3.0], device=self.device)

    def take(self, name: str, net: N, give: Callable[..., None], *inputs: Tensor) -> N:
        """`net` on the device; with the peer's weights, if there is a peer, and proven to be the same function."""
        if self.donors is not None:
            give(net, self.donors[name].to("cpu"))
            weights.agree(net.to(self.device), self.donors[name].to(self.device), *inputs)
        return net.to(self.device)


def recipe(*args: Any, **settings: Any) -> Recipe:
    """A recipe in float32, as the peer computes."""
    return replace(Recipe(*args, **settings), precision="float32")


class Denoising:
    """A denoiser that learns: its model, an average, and what steps it, by the names that agents give them."""

    def __init__(self, net: nn.Module, recipe: Recipe, optim: Optim):
        self.model = Diffusion(net, recipe).to(next(net.parameters()).device)
        self.model_ema, self.step_model = target_copy(self.model).eval(), Stepper(self.model, optim)

    @torch.no_grad()
    def sample(self, *args: Any, **settings: Any) -> Tensor:
        """Samples of the average."""
        return self.model_ema.sample(*args, **settings)


def step(
    of: Any, x: Tensor, cond: Tensor | None = None, pin: Pin | None = None, weight: Tensor | float = 1.0,
    rate: float = 0.005,
) -> Tensor:  # fmt: skip
    """A step of the denoiser of an agent, or of a `Denoising`: loss, gradient, AdamW, average; the loss, which nobody
    reads."""
    loss = (of.model.loss(x, cond, pin) * weight).mean()
    of.step_model(loss)
    polyak_update(of.model_ema, of.model, pace(of.step_model.count, rate))
    return loss.detach()


def refitted(agent: Any, net: Denoiser, q: Critics, v: Critics | None = None) -> Any:
    """An agent of the table with other networks put in, and what steps them made anew."""
    agent.to(next(net.parameters()).device)
    agent.model = Diffusion(net, agent.cfg.model).to(next(net.parameters()).device)
    agent.model_ema = target_copy(agent.model).eval()
    agent.critics.q, agent.critics.q_slow = q, target_copy(q)
    if v is not None:
        agent.critics.v = v
    agent.step_model = Stepper(agent.model, agent.cfg.actor)
    agent.step_critics = Stepper(agent.critics, agent.cfg.critic)
    return agent


def diffuser(at: Setting) -> Works:
    """Diffuser and its value, with the peer's settings and its rule of guidance."""
    s, rows, features = at.shape, at.shape["horizon"], at.shape["obs"] + at.shape["act"]
    x, returns = at.randn(s["batch"], rows, features), at.randn(s["batch"])
    net = at.take("net", TemporalUNet(features, s["width"], s["mults"]), weights.unet, x[:2], at.levels())
    value = at.take("value", ValueUNet(features, rows, s["width"], s["mults"]), weights.value, x[:2], at.levels())
    calls = at.calls(s["levels"])
    how = recipe("cosine", "x0", s["levels"], solver="ddpm", steps=calls, init_temperature=0.5)
    denoising = Denoising(net, how, Optim(2e-4, decay=1e-5))
    judge, step_value, model = target_copy(value).eval(), Stepper(value, Optim(2e-4, decay=1e-4)), denoising.model
    known, weight = torch.zeros(rows, features, dtype=torch.bool), torch.ones(rows, features, device=at.device)
    known[0, : s["obs"]], weight[0, s["obs"] :] = True, 10.0
    pin, start = Pin(known.to(at.device), x), Pin(known.to(at.device), at.randn(1, rows, features))

    def learn() -> Tensor:
        return step(denoising, x, None, pin, weight, 1e-4)

    def both() -> Tensor:
        learn()
        noised = model.noised(x, pin)
        loss = (value(noised.x, model.process.embed(noised.t)) - returns).square().mean()
        step_value(loss)
        polyak_update(judge, value, 0.005)
        return loss.detach()

    def worth(x: Tensor, t: Tensor) -> Tensor:
        return judge(x, model.process.embed(t.expand(len(x))))

    def plan(n: int) -> Tensor:
        return denoising.sample(at.randn(n, rows, features), pin=start)

    @torch.no_grad()
    def guided(n: int) -> tuple[Tensor, Tensor]:
        made = denoising.sample(at.randn(n, rows, features), pin=start, guide=EnergyGuidance(worth, 1e-4))
        return made, worth(made, torch.full((), model.schedule[-2].t, device=at.device))

    n, params, all_params = s["plans"], size(net), size(net, value)
    return {
        "train_step": Work(learn, params),
        "train_iter": Work(both, all_params),
        "plan": Work(partial(plan, n), params, calls),
        "plan_guided": Work(partial(guided, n), all_params, calls),
        "plan_1": Work(partial(plan, 1), params, calls),
        "plan_1_guided": Work(partial(guided, 1), all_params, calls),
    }


def transitions(at: Setting) -> Transition:
    """A batch."""
    s, b = at.shape, at.shape["batch"]
    obs, act, after = at.randn(b, s["obs"]), at.randn(b, s["act"]).clamp(-1, 1), at.randn(b, s["obs"])
    return Transition(obs, act, at.randn(b), after, torch.zeros(b, device=at.device))


def policy(at: Setting, row: str, temperature: float, **settings: Any) -> Any:
    """An agent of the table with the peer's settings: its cosine table, its choice among candidates, no clipping."""
    s, calls = at.shape, at.calls(at.shape["levels"])
    how = recipe("cosine", "eps", s["levels"], solver="ddpm", steps=calls, clip=1.0)
    choice = Choice(s["candidates"], "softmax", temperature)
    cfg = replace(preset(row), model=how, choice=choice, norm=True, actor=PLAIN, critic=PLAIN, **settings)
    return build(row, Spec(s["obs"], s["act"]), cfg)


def dql(at: Setting) -> Works:
    """Diffusion-QL."""
    s, calls, hidden = at.shape, at.calls(at.shape["levels"]), (at.shape["hidden"],) * 3
    batch, one = transitions(at), at.randn(1, 1, s["obs"])
    obs, act = batch.obs, batch.act
    net = at.take("net", MLP(s["act"], s["obs"], hidden, s["emb"]), weights.mlp, act[:2], at.levels(), obs[:2])
    critics = Critics(s["obs"], s["act"], 2, hidden, norm=True)
    critics = at.take("critic", critics, weights.critics, obs[:2], act[:2])
    agent = refitted(policy(at, "diffusion_ql", 1 / 50, hidden=hidden), net, critics)
    return {
        "train_step": Work(lambda: step(agent, act, obs), size(net)),
        "train_iter": Work(lambda: agent.update(batch), size(net, critics), 2 * calls + 1),
        "act": Work(lambda: agent.act(one)[:, 0], size(net), calls),
    }


def idql(at: Setting) -> Works:
    """IDQL, whose critics learn at every second step of the actor, as the peer's do."""
    s, calls, hidden = at.shape, at.calls(at.shape["levels"]), (at.shape["hidden"],) * 2
    batch, one = transitions(at), at.randn(1, 1, s["obs"])
    obs, act = batch.obs, batch.act
    net = ResidualMLP(s["act"], s["obs"], s["hidden"], s["blocks"], s["emb"], s["dropout"])
    net = at.take("net", net, weights.residual, act[:2], at.levels(), obs[:2])
    q = at.take("q", Critics(s["obs"], s["act"], 2, hidden, norm=True), weights.critics, obs[:2], act[:2])
    v = at.take("v", Critics(s["obs"], 0, 1, hidden, norm=True), weights.critics, obs[:2])
    agent = refitted(policy(at, "idql", 1 / 400, hidden=hidden, ema_rate=1e-4), net, q, v)

    def two() -> Tensor:
        agent.update(batch)
        return step(agent, act, obs, rate=1e-4)

    works = {
        "train_step": Work(lambda: step(agent, act, obs, rate=1e-4), size(net)),
        "train_iter": Work(two, size(net, q, v), scale=0.5),
        "act": Work(lambda: agent.act(one)[:, 0], size(net), calls),
    }
    return works if s["batch"] == 256 else {k: w for k, w in works.items() if k != "act"}


def synther(at: Setting) -> Works:
    """SynthER with EDM, on rows as they are."""
    s = at.shape
    x = at.randn(s["batch"], s["dim"])
    net = ResidualMLP(s["dim"], 0, s["hidden"], s["blocks"], s["emb"], s["dropout"])
    net = at.take("net", net, weights.residual, x[:2], at.levels())
    steps = s.get("made_steps", s["steps"])
    how = recipe("karras", "edm", solver="ddim", grid="karras", steps=steps, data_std=0.5)
    denoising = Denoising(net, how, Optim(3e-4, decay=0.01))
    works = {"train_step": Work(lambda: step(denoising, x, rate=0.001), size(net))}
    if "made" in s:
        n, scale = s["made"], s["total"] / s["made"] * s["steps"] / steps
        works["generate"] = Work(lambda: denoising.sample(at.randn(n, s["dim"])), size(net), s["steps"], scale=scale)
    return works


def veteran(at: Setting) -> Works:
    """Diffusion Veteran: plans of states, a critic of plans, inverse dynamics by diffusion."""
    s, rows, n, o = at.shape, at.shape["horizon"], at.shape["plans"], at.shape["obs"]
    x, act, returns = at.randn(s["batch"], rows, o), at.randn(s["batch"], s["act"]), torch.rand(s["batch"])
    returns, pair = returns.to(at.device), torch.cat([x[:, 0], x[:, 1]], -1)
    net = DiT1D(o, s["dim"], s["heads"], s["layers"], s["emb"])
    net = at.take("net", net, weights.dit, x[:2], at.levels() / 10)
    inverse = MLP(s["act"], 2 * o, (s["inverse_hidden"],) * 3, s["inverse_emb"])
    inverse = at.take("inverse", inverse, weights.mlp, act[:2], at.levels(), pair[:2])
    critic = at.take("critic", weights.PlanCritic(o, s["dim"], s["heads"], 2), weights.plan_critic, x[:2])
    value = at.take("value", Critics(o, 0, 1, (256, 256), norm=True), weights.critics, x[:2, 0]).requires_grad_(False)
    planner = Denoising(net, recipe("linear", "eps", solver="ddim", steps=s["steps"]), Optim(2e-4, decay=1e-5))
    calls = at.calls(s["inverse_levels"])
    cosine = recipe("cosine", "eps", s["inverse_levels"], solver="ddpm", steps=calls, clip=1.0, init_temperature=0.5)
    mover, step_critic = Denoising(inverse, cosine, PLAIN), Stepper(critic, PLAIN)
    known = torch.zeros(rows, 1, dtype=torch.bool, device=at.device)
    known[0] = True
    pin, start = Pin(known, x), Pin(known, at.randn(1, 1, o))

    def learn() -> Tensor:
        return step(planner, x, None, pin, torch.exp(2 * (returns - 1))[:, None, None], 1e-4)

    def iteration() -> tuple[Tensor, ...]:
        pred = critic(x)
        loss = (pred - returns).square().mean()
        step_critic(loss)
        moved = step(mover, act, torch.cat([x[:, 0], x[:, 1]], -1))
        return learn(), pred.detach().mean(), loss.detach(), moved

    def plan() -> Tensor:
        return planner.sample(at.randn(n, rows, o), pin=start)

    @torch.no_grad()
    def decide() -> Tensor:
        made = plan()
        worth = value(made[:, 1:].flatten(0, 1)).view(n, -1).sum(1)
        best = made[worth.argmax(0, keepdim=True)]  # (1, H, O)
        return mover.sample(at.randn(1, s["act"]), best[:, :2].flatten(1))

    small = size(net, inverse)
    return {
        "train_step": Work(learn, size(net)),
        "train_iter": Work(iteration, size(net, critic, inverse)),
        "plan": Work(plan, size(net), s["steps"]),
        "act": Work(decide, small, s["steps"] + calls),
    }


def diffusion_policy(at: Setting) -> Works:
    """Diffusion Policy: a chunk of actions, given the last observations."""
    s, seen = at.shape, at.shape["memory"] * at.shape["obs"]
    x, cond = at.randn(s["batch"], s["horizon"], s["act"]), at.randn(s["batch"], seen)
    net: Denoiser
    if s["kind"] == "dp_unet":
        unet = FilmUNet(s["act"], s["width"], s["mults"], s["emb"], emb=s["emb"])
        net = at.take("net", weights.Encoded(unet, seen, s["emb"]), weights.film, x[:2], at.levels(), cond[:2])
    else:
        net = CausalTransformer(
            s["act"], s["horizon"], seen, s["memory"], s["dim"], s["heads"], s["layers"], s["dropout"]
        )
        cond = cond.unflatten(1, (s["memory"], -1))
        net = at.take("net", net, weights.transformer, x[:2], at.levels(), cond[:2])
    ddpm = recipe("cosine", "eps", s["levels"], solver="ddpm", steps=s["levels"], clip=1.0)
    denoising = Denoising(net, ddpm, Optim(1e-4, decay=0.01))
    ddim = Diffusion(denoising.model_ema.net, replace(ddpm, solver="ddim", steps=s["ddim"])).to(at.device)

    @torch.no_grad()
    def chunk(model: Diffusion) -> Tensor:
        return model.sample(at.randn(1, s["horizon"], s["act"]), cond[:1])

    return {
        "train_step": Work(lambda: step(denoising, x, cond), size(net)),
        "chunk_ddpm": Work(partial(chunk, denoising.model_ema), size(net), s["levels"]),
        "chunk_ddim": Work(partial(chunk, ddim), size(net), s["ddim"]),
    }


def loader(at: Setting) -> Works:
    """Batches gathered from tensors that stay on the device, normalised as they are drawn."""
    s, n = at.shape, at.shape["size"]
    cut = torch.arange(n) % s["episode"] == s["episode"] - 1
    obs = at.randn(n, s["obs"])
    data = Episodes.from_arrays(
        obs, at.randn(n, s["act"]), at.randn(n), truncations=cut, next_obs=at.randn(n, s["obs"])
    )
    scale = ZScore(s["obs"]).to(at.device)
    scale.learn(data.obs)

    def windows(view: Windows) -> tuple[Window, Tensor]:
        batch = view.batch(s["batch"])
        return batch, scale(batch.obs)

    def singles(view: Transitions) -> tuple[Any, ...]:
        batch = view.batch(s["batch"])
        return batch, scale(batch.obs), scale(batch.next_obs)

    rows = s.get("horizon")
    run = (
        partial(windows, Windows(data, rows, pad=False, discount=0.99)) if rows else partial(singles, Transitions(data))
    )
    return {"batch": Work(run), "batch_4_workers": Work(run, note="no worker")}


KINDS: dict[str, Callable[[Setting], Works]] = {
    "diffuser": diffuser, "dql": dql, "idql": idql, "synther": synther, "dp_unet": diffusion_policy,
    "dp_transformer": diffusion_policy, "veteran": veteran, "loader": loader,
}  # fmt: skip


def sides(shape: Shape, device: str, side: str, donors: dict[str, nn.Module] | None) -> Works:
    """Our side of a case. On CUDA a figure is a device program, recorded and replayed; an action ends on the host."""
    only = shape.get("only", ("like_for_like", "equal_calls", "as_shipped"))
    if side not in only:
        return {}
    make = KINDS[shape["kind"]]
    found = shipped(shape, device) if side == "as_shipped" else make(Setting(shape, device, side, donors))
    return {name: work._replace(run=finish(work.run, device, name == "act")) for name, work in found.items()}


def finish(run: Callable[[], Any], device: str, host: bool) -> Callable[[], Any]:
    """A figure as it is timed."""
    whole = Captured(run, "auto", torch.device(device)) if device == "cuda" else run
    return (lambda: whole().cpu()) if host else whole
