"""Our side of the cases of speed_cases.py, from the parts of the library, as a user would put them together.

A side is `like_for_like` (the peer's network and settings, calls that do nothing left out), `equal_calls` (the same,
with as many calls as the peer makes) or `as_shipped` (our defaults for the same task).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import speed_weights as weights
import torch
from speed_agents import Denoising, DiffusionQL, ImplicitQL, PlanCritic
from speed_harness import Work
from torch import Tensor, nn

from ornstein.contract import Spec
from ornstein.data.episodes import Episodes
from ornstein.data.normalize import ZScore
from ornstein.data.views import Transitions, Window, Windows
from ornstein.diffusion.guide import EnergyGuidance
from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.diffusion.pin import Pin
from ornstein.networks.critics import Critics
from ornstein.networks.dit1d import DiT1D
from ornstein.networks.film_unet import FilmUNet
from ornstein.networks.mlp import MLP, ResidualMLP, SkipMLP
from ornstein.networks.transformer import CausalTransformer
from ornstein.networks.unet1d import TemporalUNet, ValueUNet
from ornstein.optim import Optim, Stepper, polyak_update, target_copy
from ornstein.roles import preset
from ornstein.roles.planners import Diffuser
from ornstein.run.capture import Captured

Shape = dict[str, Any]
Works = dict[str, Work]
SHIPPED = "auto"  # the precision of our defaults


@dataclass(frozen=True)
class Setting:
    """A side of a case."""

    shape: Shape
    device: str
    side: str
    donors: dict[str, nn.Module] | None  # the peer's networks, if there is a peer

    @property
    def shipped(self) -> bool:
        return self.side == "as_shipped"

    def calls(self, peer: int) -> int:
        """Calls of the network where the peer makes so many, one of them for nothing."""
        return peer - (self.side == "like_for_like")

    def recipe(self, *args: Any, **settings: Any) -> Recipe:
        """A recipe, at our default precision if shipped."""
        return Recipe(*args, **settings, precision=SHIPPED if self.shipped else "float32")

    def randn(self, *shape: int) -> Tensor:
        return torch.randn(*shape, device=self.device)

    def levels(self) -> Tensor:
        """Noise levels of two samples, to compare networks at."""
        return torch.tensor([1.0, 3.0], device=self.device)

    def take(self, name: str, net: nn.Module, give: Callable[..., None], *inputs: Tensor) -> nn.Module:
        """`net` on the device; like for like with the peer's weights, and proven to be the same function."""
        if self.donors is not None and not self.shipped:
            give(net, self.donors[name].to("cpu"))
            weights.agree(net.to(self.device), self.donors[name].to(self.device), *inputs)
        return net.to(self.device)


def size(*modules: nn.Module) -> int:
    """Weights that are trained."""
    return sum(p.numel() for m in modules for p in m.parameters() if p.requires_grad)


def diffuser(at: Setting) -> Works:
    """Diffuser and its value, with the peer's settings and its rule of guidance."""
    if at.shipped:
        return diffuser_shipped(at)
    s, rows, features = at.shape, at.shape["horizon"], at.shape["obs"] + at.shape["act"]
    x, returns = at.randn(s["batch"], rows, features), at.randn(s["batch"])
    net = at.take("net", TemporalUNet(features, s["width"], s["mults"]), weights.unet, x[:2], at.levels())
    value = ValueUNet(features, rows, s["width"], s["mults"])
    value = at.take("value", value, weights.value, x[:2], at.levels())
    calls = at.calls(s["levels"])
    recipe = at.recipe("cosine", "x0", s["levels"], solver="ddpm", steps=calls, init_temperature=0.5)
    denoising = Denoising(net, recipe, Optim(2e-4, decay=1e-5), 1e-4)
    judge, step_value, model = target_copy(value).eval(), Stepper(value, Optim(2e-4, decay=1e-4)), denoising.model
    known, weight = torch.zeros(rows, features, dtype=torch.bool), torch.ones(rows, features, device=at.device)
    known[0, : s["obs"]], weight[0, s["obs"] :] = True, 10.0
    pin, start = Pin(known.to(at.device), x), Pin(known.to(at.device), at.randn(1, rows, features))

    def step() -> Tensor:
        return denoising.step(x, None, pin, weight)

    def both() -> Tensor:
        step()
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
        "train_step": Work(step, params),
        "train_iter": Work(both, all_params),
        "plan": Work(partial(plan, n), params, calls),
        "plan_guided": Work(partial(guided, n), all_params, calls),
        "plan_1": Work(partial(plan, 1), params, calls),
        "plan_1_guided": Work(partial(guided, 1), all_params, calls),
    }


def diffuser_shipped(at: Setting) -> Works:
    """Our planner with its preset; a maze is inpainted between here and a goal, and needs no value."""
    s, maze = at.shape, at.shape["obs"] == 4
    if s.get("brief"):
        return {}  # the large maze again, at a length that the peer's U-Net accepts
    spec = Spec(s["obs"], s["act"], s["horizon"], {"goal": s["obs"]} if maze else {}, tracked=maze)
    cfg = preset("diffuser", ["pointmaze-large" if maze else "halfcheetah"])
    cfg = replace(cfg, model=replace(cfg.model, precision=SHIPPED), batch=s["batch"])
    cfg = cfg if maze else replace(cfg, horizon=s["horizon"])
    many, one = (Diffuser(spec, replace(cfg, plans=n)).to(at.device) for n in (s["plans"], 1))
    rows, b, b_act = many.rows, s["batch"], s["act"]
    batch = Window(
        at.randn(b, rows, s["obs"]), at.randn(b, rows, b_act), torch.ones(b, rows, dtype=torch.bool), at.randn(b)
    )
    batch = Window(*(part.to(at.device) for part in batch[:4]))
    obs, given = at.randn(1, s["obs"]), {"goal": at.randn(1, s["obs"])} if maze else None
    note = f"{rows} rows, multipliers {cfg.mults}, {cfg.activation}, {cfg.model.steps} steps of {cfg.model.solver}"
    calls, params = cfg.model.steps, size(many.model)

    def both() -> None:
        many.update_model(batch)
        many.update_value(batch)

    def unguided(agent: Diffuser) -> Tensor:
        start = torch.zeros(1, *agent.known.shape, device=at.device)
        return agent.model_ema.sample(at.randn(agent.candidates, *agent.known.shape), pin=Pin(agent.known, start))

    works = {"train_step": Work(lambda: many.update_model(batch), params, None, note)}
    if maze:
        works["plan"] = Work(lambda: many.plan(obs, given), params, calls, note)
        works["plan_1"] = Work(lambda: one.plan(obs, given), params, calls, note)
        return works
    both_params = size(many.model, many.value)
    return works | {
        "train_iter": Work(both, both_params, None, note),
        "plan": Work(torch.no_grad()(partial(unguided, many)), params, calls, note),
        "plan_guided": Work(lambda: many.plan(obs), both_params, calls, note),
        "plan_1": Work(torch.no_grad()(partial(unguided, one)), params, calls, note),
        "plan_1_guided": Work(lambda: one.plan(obs), both_params, calls, note),
    }


def transitions(at: Setting) -> tuple[Tensor, ...]:
    """A batch: obs, act, reward, next obs, done."""
    s, b = at.shape, at.shape["batch"]
    obs, act, nxt = at.randn(b, s["obs"]), at.randn(b, s["act"]).clamp(-1, 1), at.randn(b, s["obs"])
    return obs, act, at.randn(b), nxt, torch.zeros(b, device=at.device)


def policy(at: Setting, calls: int) -> Recipe:
    """The recipe of Diffusion-QL and IDQL: the peer's cosine table, or the authors'."""
    process = "vp" if at.shipped else "cosine"
    return at.recipe(process, "eps", at.shape["levels"], solver="ddpm", steps=calls, clip=1.0)


def dql(at: Setting) -> Works:
    """Diffusion-QL."""
    s, calls, hidden = at.shape, at.calls(at.shape["levels"]), (at.shape["hidden"],) * 3
    batch, one = transitions(at), at.randn(1, s["obs"])
    obs, act, *_ = batch
    net: nn.Module = MLP(s["act"], s["obs"], hidden) if at.shipped else MLP(s["act"], s["obs"], hidden, s["emb"])
    net = at.take("net", net, weights.mlp, act[:2], at.levels(), obs[:2])
    critics: nn.Module = Critics(s["obs"], s["act"], 2, hidden, norm=not at.shipped)
    critics = at.take("critic", critics, weights.critics, obs[:2], act[:2])
    actor = Denoising(net, policy(at, calls), Optim(3e-4), 0.005, every=5)
    alone = Denoising(target_copy(net).requires_grad_(), policy(at, calls), Optim(3e-4), 0.005)
    agent = DiffusionQL(actor, critics, Optim(3e-4))
    note = "the authors' embedding of 16, critics without layer norm" if at.shipped else ""
    return {
        "train_step": Work(lambda: alone.step(act, obs), size(net), None, note),
        "train_iter": Work(lambda: agent.update(batch), size(net, critics), 2 * calls + 1, note),
        "act": Work(lambda: agent.act(one, s["candidates"], s["act"]), size(net), calls, note),
    }


def idql(at: Setting) -> Works:
    """IDQL: the peer's network, or the authors' with learned frequencies."""
    s, calls, hidden = at.shape, at.calls(at.shape["levels"]), (at.shape["hidden"],) * 2
    batch, one = transitions(at), at.randn(1, s["obs"])
    obs, act, *_ = batch
    net: nn.Module = ResidualMLP(
        s["act"], s["obs"], s["hidden"], s["blocks"], s["emb"], s["dropout"], fourier=at.shipped
    )
    net = at.take("net", net, weights.residual, act[:2], at.levels(), obs[:2])
    critics: nn.Module = Critics(s["obs"], s["act"], 2, hidden, norm=not at.shipped)
    critics = at.take("q", critics, weights.critics, obs[:2], act[:2])
    value = at.take("v", Critics(s["obs"], 0, 1, hidden, norm=not at.shipped), weights.critics, obs[:2])
    actor = Denoising(net, policy(at, calls), Optim(3e-4), 1e-4)
    agent = ImplicitQL(actor, critics, value, Optim(3e-4))
    note = "learned frequencies, critics without layer norm" if at.shipped else ""
    works = {
        "train_step": Work(lambda: actor.step(act, obs), size(net), None, note),
        "train_iter": Work(lambda: agent.update(batch), size(net, critics, value), None, note, 0.5),
        "act": Work(lambda: agent.act(one, s["candidates"], s["act"]), size(net), calls, note),
    }
    return works if s["batch"] == 256 else {k: v for k, v in works.items() if k != "act"}


def synther(at: Setting) -> Works:
    """SynthER with EDM: the peer's network, or the authors'."""
    s, note = at.shape, ""
    x = at.randn(s["batch"], s["dim"])
    if at.shipped:
        net: nn.Module = SkipMLP(s["dim"], 0, s["hidden"], s["blocks"], s["emb"]).to(at.device)
        note = "the authors' network"
    else:
        net = ResidualMLP(s["dim"], 0, s["hidden"], s["blocks"], s["emb"], s["dropout"])
        net = at.take("net", net, weights.residual, x[:2], at.levels())
    steps = s.get("made_steps", s["steps"])
    recipe = at.recipe("karras", "edm", solver="ddim", grid="karras", steps=steps, data_std=0.5)
    denoising = Denoising(net, recipe, Optim(3e-4, decay=0.01), 0.001)
    works = {"train_step": Work(lambda: denoising.step(x), size(net), None, note)}
    if "made" in s:
        n, scale = s["made"], s["total"] / s["made"] * s["steps"] / steps
        works["generate"] = Work(lambda: denoising.sample(at.randn(n, s["dim"])), size(net), s["steps"], note, scale)
    return works


def veteran(at: Setting) -> Works:
    """Diffusion Veteran: plans of states, a critic of plans, inverse dynamics by diffusion."""
    s, rows, n, o = at.shape, at.shape["horizon"], at.shape["plans"], at.shape["obs"]
    x, act, returns = at.randn(s["batch"], rows, o), at.randn(s["batch"], s["act"]), torch.rand(s["batch"])
    returns, pair = returns.to(at.device), torch.cat([x[:, 0], x[:, 1]], -1)
    net: nn.Module = DiT1D(o, s["dim"], s["heads"], s["layers"], s["emb"])
    net = at.take("net", net, weights.dit, x[:2], at.levels() / 10)
    inverse: nn.Module = MLP(s["act"], 2 * o, (s["inverse_hidden"],) * 3, s["inverse_emb"])
    inverse = at.take("inverse", inverse, weights.mlp, act[:2], at.levels(), pair[:2])
    critic = at.take("critic", PlanCritic(o, s["dim"], s["heads"], 2), weights.plan_critic, x[:2])
    value = at.take("value", Critics(o, 0, 1, (256, 256), norm=True), weights.critics, x[:2, 0]).requires_grad_(False)
    planner = Denoising(net, at.recipe("linear", "eps", solver="ddim", steps=s["steps"]), Optim(2e-4, decay=1e-5), 1e-4)
    calls = at.calls(s["inverse_levels"])
    cosine = at.recipe("cosine", "eps", s["inverse_levels"], solver="ddpm", steps=calls, clip=1.0, init_temperature=0.5)
    mover, step_critic = Denoising(inverse, cosine, Optim(3e-4), 0.005), Stepper(critic, Optim(3e-4))
    known = torch.zeros(rows, 1, dtype=torch.bool, device=at.device)
    known[0] = True
    pin, start = Pin(known, x), Pin(known, at.randn(1, 1, o))

    def step() -> Tensor:
        return planner.step(x, None, pin, torch.exp(2 * (returns - 1))[:, None, None])

    def iteration() -> tuple[Tensor, ...]:
        pred = critic(x)
        loss = (pred - returns).square().mean()
        step_critic(loss)
        return step(), pred.detach().mean(), loss.detach(), mover.step(act, torch.cat([x[:, 0], x[:, 1]], -1))

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
        "train_step": Work(step, size(net)),
        "train_iter": Work(iteration, size(net, critic, inverse)),
        "plan": Work(plan, size(net), s["steps"]),
        "act": Work(decide, small, s["steps"] + calls),
    }


def diffusion_policy(at: Setting) -> Works:
    """Diffusion Policy: a chunk of actions, given the last observations."""
    s, unet = at.shape, at.shape["kind"] == "dp_unet"
    seen, note = s["memory"] * s["obs"], ""
    x, cond = at.randn(s["batch"], s["horizon"], s["act"]), at.randn(s["batch"], seen)
    if unet and at.shipped:
        net = FilmUNet(s["act"], s["width"], s["mults"], seen).to(at.device)
        note = "the observations enter as they are"
    elif unet:
        net = weights.Encoded(FilmUNet(s["act"], s["width"], s["mults"], s["emb"], emb=s["emb"]), seen, s["emb"])
        net = at.take("net", net, weights.film, x[:2], at.levels(), cond[:2])
    else:
        net = CausalTransformer(
            s["act"], s["horizon"], seen, s["memory"], s["dim"], s["heads"], s["layers"], s["dropout"]
        )
        cond = cond.unflatten(1, (s["memory"], -1))
        net = at.take("net", net, weights.transformer, x[:2], at.levels(), cond[:2])
    ddpm = at.recipe("cosine", "eps", s["levels"], solver="ddpm", steps=s["levels"], clip=1.0)
    denoising = Denoising(net, ddpm, Optim(1e-4, decay=0.01), 0.005)
    ddim = Diffusion(denoising.ema.net, replace(ddpm, solver="ddim", steps=s["ddim"])).to(at.device)

    @torch.no_grad()
    def chunk(model: Diffusion) -> Tensor:
        return model.sample(at.randn(1, s["horizon"], s["act"]), cond[:1])

    return {
        "train_step": Work(lambda: denoising.step(x, cond), size(net), None, note),
        "chunk_ddpm": Work(partial(chunk, denoising.ema), size(net), s["levels"], note),
        "chunk_ddim": Work(partial(chunk, ddim), size(net), s["ddim"], note),
    }


def loader(at: Setting) -> Works:
    """Batches gathered from tensors that stay on the device, normalised as they are drawn."""
    if not at.shipped:
        return loader_of(at)
    return {}


def loader_of(at: Setting) -> Works:
    """The batches of a view."""
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

    def transitions(view: Transitions) -> tuple[Any, ...]:
        batch = view.batch(s["batch"])
        return batch, scale(batch.obs), scale(batch.next_obs)

    rows = s.get("horizon")
    run = (
        partial(windows, Windows(data, rows, pad=False, discount=0.99))
        if rows
        else partial(transitions, Transitions(data))
    )
    return {"batch": Work(run), "batch_4_workers": Work(run, note="no worker")}


KINDS: dict[str, Callable[[Setting], Works]] = {
    "diffuser": diffuser, "dql": dql, "idql": idql, "synther": synther, "dp_unet": diffusion_policy,
    "dp_transformer": diffusion_policy, "veteran": veteran, "loader": loader,
}  # fmt: skip


def build(shape: Shape, device: str, side: str, donors: dict[str, nn.Module] | None) -> Works:
    """Our side of a case. On CUDA a figure is a device program, recorded and replayed; an action ends on the host."""
    if side == "equal_calls" and shape.get("brief"):
        return {}
    found = KINDS[shape["kind"]](Setting(shape, device, side, donors))
    return {name: work._replace(run=finish(work.run, device, name == "act")) for name, work in found.items()}


def finish(run: Callable[[], Any], device: str, host: bool) -> Callable[[], Any]:
    """A figure as it is timed."""
    whole = Captured(run, "auto", torch.device(device)) if device == "cuda" else run
    return (lambda: whole().cpu()) if host else whole
