"""CleanDiffuser, built and called as its pipelines do, for the cases of speed_cases.py. It is imported from a checkout,
and never depended on."""

import copy
import importlib.machinery
import itertools
import sys
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from speed_harness import Work
from torch import Tensor, nn
from torch.nn import functional as F

Shape = dict[str, Any]


class Peer(NamedTuple):
    """What to time, and the networks whose weights ours takes."""

    works: dict[str, Work]
    nets: dict[str, nn.Module]


def import_peer(path: str) -> None:
    """Makes the checkout importable. It imports torchvision even for work on states: a missing one becomes empty."""
    sys.path.insert(0, path)
    try:
        import torchvision  # noqa: F401
    except Exception:  # a build for another torch fails in its own ways
        names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional", "torchvision.models")
        for name in names:
            module = types.ModuleType(name)
            module.__spec__ = importlib.machinery.ModuleSpec(name, None)
            sys.modules[name] = module
            parent, _, child = name.rpartition(".")
            if parent:
                setattr(sys.modules[parent], child, module)


def size(*modules: nn.Module) -> int:
    """Weights that are trained."""
    return sum(p.numel() for m in modules for p in m.parameters() if p.requires_grad)


def factors(mults: tuple[int, ...]) -> list[int]:
    """Multipliers as quotients of neighbours, which is how the peer wants them."""
    return [mults[0], *(b // a for a, b in itertools.pairwise(mults))]


def box(*shape: int, device: str) -> dict[str, Tensor]:
    """Its bounds on clean samples."""
    one = torch.ones(1, *shape, device=device)
    return {"x_max": one, "x_min": -one}


def diffuser(s: Shape, device: str) -> Peer:
    """Diffuser with its classifier, as in diffuser_d4rl_mujoco.py."""
    from cleandiffuser.classifier import CumRewClassifier
    from cleandiffuser.diffusion import DiscreteDiffusionSDE
    from cleandiffuser.nn_classifier import HalfJannerUNet1d
    from cleandiffuser.nn_diffusion import JannerUNet1d

    features, rows, n = s["obs"] + s["act"], s["horizon"], s["plans"]
    shape = {"model_dim": s["width"], "emb_dim": s["width"], "dim_mult": factors(s["mults"])}
    net = JannerUNet1d(features, kernel_size=5, **shape)
    value = HalfJannerUNet1d(rows, features, out_dim=1, kernel_size=3, **shape)
    known, weight = torch.zeros(rows, features), torch.ones(rows, features)
    known[0, : s["obs"]], weight[0, s["obs"] :] = 1.0, 10.0
    agent = DiscreteDiffusionSDE(
        net, None, fix_mask=known, loss_weight=weight, classifier=CumRewClassifier(value, device=device),
        ema_rate=0.9999, device=device, diffusion_steps=s["levels"], predict_noise=False,
    )  # fmt: skip
    agent.train()
    classifier, params = agent.classifier, size(net)
    x, returns = torch.randn(s["batch"], rows, features, device=device), torch.randn(s["batch"], 1, device=device)
    prior = torch.zeros(n, rows, features, device=device)
    prior[:, 0, : s["obs"]] = torch.randn(s["obs"])

    def both() -> None:
        agent.update(x)
        agent.update_classifier(x, returns)

    def plan(prior: Tensor, guide: float) -> Callable[[], object]:
        def run() -> object:
            agent.classifier = classifier if guide else None
            out = agent.sample(
                prior, solver="ddpm", n_samples=len(prior), sample_steps=s["levels"], use_ema=True, w_cg=guide,
                temperature=0.5,
            )  # fmt: skip
            agent.classifier = classifier
            return out

        return run

    wasted, calls = "one call of the network wasted", s["levels"]
    works = {
        "train_step": Work(lambda: agent.update(x), params),
        "train_iter": Work(both, size(net, value)),
        "plan": Work(plan(prior, 0.0), params, calls, wasted),
        "plan_guided": Work(plan(prior, 1e-4), size(net, value), calls, wasted),
        "plan_1": Work(plan(prior[:1], 0.0), params, calls, wasted),
        "plan_1_guided": Work(plan(prior[:1], 1e-4), size(net, value), calls, wasted),
    }
    return Peer(works, {"net": net, "value": value})


def transitions(s: Shape, device: str) -> tuple[Tensor, ...]:
    """A batch: obs, act, reward, next obs, done."""
    b = s["batch"]
    obs, act, nxt = (torch.randn(b, s[k], device=device) for k in ("obs", "act", "obs"))
    return obs, act.clamp(-1, 1), torch.randn(b, 1, device=device), nxt, torch.zeros(b, 1, device=device)


def trail(target: nn.Module, source: nn.Module) -> None:
    """A target network's step, as the pipelines write it: nearly a copy."""
    for p, t in zip(source.parameters(), target.parameters(), strict=True):
        t.data.copy_(0.995 * p.data + (1 - 0.995) * t.data)


def actor_of(net: nn.Module, s: Shape, levels: int, rate: float, device: str) -> Any:
    """A policy by diffusion, conditioned on what it observes."""
    from cleandiffuser.diffusion import DiscreteDiffusionSDE
    from cleandiffuser.nn_condition import IdentityCondition

    actor = DiscreteDiffusionSDE(
        net, IdentityCondition(dropout=0.0), optim_params={"lr": 3e-4}, diffusion_steps=levels, ema_rate=rate,
        device=device, **box(s["act"], device=device),
    )  # fmt: skip
    actor.train()
    return actor


def draw(actor: Any, prior: Tensor, cond: Tensor, steps: int, **more: Any) -> Tensor:
    """Actions from a policy."""
    more = {"use_ema": True, "temperature": 1.0, "solver": "ddpm", "w_cfg": 1.0, **more}
    return actor.sample(prior, n_samples=len(prior), sample_steps=steps, condition_cfg=cond, **more)[0]


def choose(act: Tensor, worth: Tensor) -> Any:
    """One of the candidates, drawn by the softmax of what they are worth, on the host."""
    weight = torch.softmax(worth.view(1, len(act)), 1)
    return act[torch.multinomial(weight, 1).view(-1)].cpu().numpy()


def dql(s: Shape, device: str) -> Peer:
    """Diffusion-QL, as in dql_d4rl_mujoco.py, without its learning rates' schedules."""
    from cleandiffuser.nn_diffusion import DQLMlp
    from cleandiffuser.utils import DQLCritic, FreezeModules

    net = DQLMlp(s["obs"], s["act"], emb_dim=s["emb"])
    actor = actor_of(net, s, s["levels"], 0.995, device)
    critic = DQLCritic(s["obs"], s["act"], hidden_dim=s["hidden"]).to(device)
    target = copy.deepcopy(critic).requires_grad_(False).eval()
    adam = torch.optim.Adam(critic.parameters(), lr=3e-4)
    obs, act, rew, nxt, done = transitions(s, device)
    prior, many = torch.zeros_like(act), torch.zeros(s["candidates"], s["act"], device=device)
    one, count = torch.randn(1, s["obs"], device=device), itertools.count()

    def iteration() -> tuple[float, ...]:
        i = next(count)
        q1, q2 = critic(obs, act)
        ahead = draw(actor, prior, nxt, s["levels"])
        goal = (rew + (1 - done) * 0.99 * torch.min(*target(nxt, ahead))).detach()
        critic_loss = F.mse_loss(q1, goal) + F.mse_loss(q2, goal)
        adam.zero_grad()
        critic_loss.backward()
        adam.step()
        bc = actor.loss(act, obs)
        new = draw(actor, prior, obs, s["levels"], use_ema=False, requires_grad=True)
        with FreezeModules([critic]):
            a, b = critic(obs, new)
        a, b = (a, b) if i % 2 else (b, a)
        q_loss = -a.mean() / b.abs().mean().detach()
        actor.optimizer.zero_grad()
        (bc + q_loss).backward()
        actor.optimizer.step()
        if i % 5 == 0:
            actor.ema_update()
            trail(target, critic)
        return bc.item(), q_loss.item(), critic_loss.item(), goal.mean().item()

    def decide() -> Any:
        cond = one.repeat(s["candidates"], 1)
        made = draw(actor, many, cond, s["levels"], temperature=0.5)
        with torch.no_grad():
            return choose(made, target.q_min(cond, made) * 50.0)

    works = {
        "train_step": Work(lambda: actor.update(act, obs), size(net)),
        "train_iter": Work(iteration, size(net, critic), 2 * s["levels"] + 1, "two calls of the network wasted"),
        "act": Work(decide, size(net), s["levels"], "one call of the network wasted"),
    }
    return Peer(works, {"net": net, "critic": critic})


def idql(s: Shape, device: str) -> Peer:
    """IDQL, as in idql_d4rl_mujoco.py, without its learning rates' schedules; critics learn every second time."""
    from cleandiffuser.nn_diffusion import IDQLMlp
    from cleandiffuser.utils import IDQLQNet, IDQLVNet

    net = IDQLMlp(s["obs"], s["act"], emb_dim=s["emb"], hidden_dim=s["hidden"], n_blocks=s["blocks"],
                  dropout=s["dropout"])  # fmt: skip
    actor = actor_of(net, s, s["levels"], 0.9999, device)
    q, v = IDQLQNet(s["obs"], s["act"], s["hidden"]).to(device), IDQLVNet(s["obs"], s["hidden"]).to(device)
    target = copy.deepcopy(q).requires_grad_(False).eval()
    adam_q, adam_v = (torch.optim.Adam(n.parameters(), lr=3e-4) for n in (q, v))
    obs, act, rew, nxt, done = transitions(s, device)
    many, one = torch.zeros(s["candidates"], s["act"], device=device), torch.randn(1, s["obs"], device=device)

    def values() -> tuple[float, float]:
        gain = target(obs, act) - v(obs)
        v_loss = (torch.abs(0.7 - (gain < 0).float()) * gain**2).mean()
        adam_v.zero_grad()
        v_loss.backward()
        adam_v.step()
        with torch.no_grad():
            goal = rew + 0.99 * (1 - done) * v(nxt)
        q1, q2 = q.both(obs, act)
        q_loss = ((q1 - goal) ** 2 + (q2 - goal) ** 2).mean()
        adam_q.zero_grad()
        q_loss.backward()
        adam_q.step()
        trail(target, q)
        return q_loss.item(), v_loss.item()

    def two() -> None:
        values()
        actor.update(act, obs)
        actor.update(act, obs)

    def decide() -> Any:
        cond = one.repeat(s["candidates"], 1)
        made = draw(actor, many, cond, s["levels"], temperature=0.5)
        with torch.no_grad():
            return choose(made, (target(cond, made) - v(cond)) * 400.0)

    works = {
        "train_step": Work(lambda: actor.update(act, obs), size(net)),
        "train_iter": Work(two, size(net, q, v), scale=0.5),
        "act": Work(decide, size(net), s["levels"], "one call of the network wasted"),
    }
    if s["batch"] != 256:
        del works["act"]
    return Peer(works, {"net": net, "q": q, "v": v})


def synther(s: Shape, device: str) -> Peer:
    """SynthER with EDM: the width that synther_d4rl_mujoco.py sets, in whose blocks everything is widened fourfold."""
    from cleandiffuser.diffusion import ContinuousEDM
    from cleandiffuser.nn_diffusion import IDQLMlp

    net = IDQLMlp(0, s["dim"], emb_dim=s["emb"], hidden_dim=s["hidden"], n_blocks=s["blocks"], dropout=s["dropout"])
    agent = ContinuousEDM(net, optim_params={"lr": 3e-4}, ema_rate=0.999, device=device)
    agent.train()
    x = torch.randn(s["batch"], s["dim"], device=device)
    works = {"train_step": Work(lambda: agent.update(x), size(net))}
    if "made" in s:
        n, steps, prior = s["made"], s["made_steps"], torch.zeros(s["made"], s["dim"], device=device)
        works["generate"] = Work(
            lambda: agent.sample(prior, solver="euler", n_samples=n, sample_steps=steps, use_ema=True),
            size(net), s["steps"], f"{n} at a time, {steps} steps timed", s["total"] / n * s["steps"] / steps,
        )  # fmt: skip
    return Peer(works, {"net": net})


def diffusion_policy(s: Shape, device: str) -> Peer:
    """Diffusion Policy: DDPM as in dp_pusht.py, and the same network in the class that has DDIM."""
    from cleandiffuser.diffusion import DiscreteDiffusionSDE
    from cleandiffuser.diffusion.ddpm import DDPM
    from cleandiffuser.nn_condition import IdentityCondition
    from cleandiffuser.nn_diffusion import ChiTransformer, ChiUNet1d

    if s["kind"] == "dp_unet":
        net = ChiUNet1d(s["act"], s["obs"], s["memory"], model_dim=s["width"], emb_dim=s["emb"], kernel_size=5,
                        dim_mult=factors(s["mults"]), obs_as_global_cond=True)  # fmt: skip
    else:
        net = ChiTransformer(s["act"], s["obs"], s["horizon"], s["memory"], d_model=s["dim"], nhead=s["heads"],
                             num_layers=s["layers"], p_drop_attn=s["dropout"])  # fmt: skip
    bounds = box(s["horizon"], s["act"], device=device)
    settings = {"optim_params": {"lr": 1e-4}, "diffusion_steps": s["levels"], "device": device, **bounds}
    ddpm = DDPM(net, IdentityCondition(dropout=0.0), **settings)
    ddim = DiscreteDiffusionSDE(net, IdentityCondition(dropout=0.0), **settings)
    ddim.model_ema = ddpm.model_ema
    x = torch.randn(s["batch"], s["horizon"], s["act"], device=device)
    obs = torch.randn(s["batch"], s["memory"], s["obs"], device=device)
    cond = obs.flatten(1) if s["kind"] == "dp_unet" else obs
    prior, one, levels = torch.zeros_like(x[:1]), {"n_samples": 1, "condition_cfg": cond[:1], "w_cfg": 1.0}, s["levels"]
    works = {
        "train_step": Work(lambda: ddpm.update(x, cond), size(net)),
        "chunk_ddpm": Work(lambda: ddpm.sample(prior, sample_steps=levels, **one), size(net), levels),
        "chunk_ddim": Work(
            lambda: ddim.sample(prior, solver="ddim", sample_steps=s["ddim"], **one), size(net), s["ddim"]
        ),
    }
    return Peer(works, {"net": net})


def veteran(s: Shape, device: str) -> Peer:
    """Diffusion Veteran, as in veteran_d4rl_mujoco.py: plans of states, a critic, inverse dynamics by diffusion."""
    from cleandiffuser.diffusion import ContinuousDiffusionSDE
    from cleandiffuser.nn_diffusion import DiT1d, DVInvMlp
    from cleandiffuser.utils import DVHorizonCritic, IDQLVNet

    rows, n, obs = s["horizon"], s["plans"], s["obs"]
    net = DiT1d(obs, emb_dim=s["emb"], d_model=s["dim"], n_heads=s["heads"], depth=s["layers"],
                timestep_emb_type="fourier")  # fmt: skip
    known = torch.zeros(rows, obs)
    known[0] = 1.0
    planner = ContinuousDiffusionSDE(net, None, fix_mask=known, loss_weight=torch.ones(rows, obs), ema_rate=0.9999,
                                     device=device, predict_noise=True, noise_schedule="linear")  # fmt: skip
    planner.train()
    inverse_net = DVInvMlp(obs, s["act"], emb_dim=s["inverse_emb"], hidden_dim=s["inverse_hidden"])
    inverse = actor_of(inverse_net, s, s["inverse_levels"], 0.995, device)
    critic = DVHorizonCritic(obs, emb_dim=s["emb"], d_model=s["dim"], n_heads=s["heads"], depth=2,
                             norm_type="pre").to(device)  # fmt: skip
    adam = torch.optim.Adam(critic.parameters(), lr=3e-4)
    value = IDQLVNet(obs, hidden_dim=256).to(device).eval()
    x, act = torch.randn(s["batch"], rows, obs, device=device), torch.randn(s["batch"], s["act"], device=device)
    returns, prior = torch.rand(s["batch"], 1, device=device), torch.zeros(n, rows, obs, device=device)
    prior[:, 0] = torch.randn(obs)
    none = torch.zeros(1, s["act"], device=device)

    def step() -> Any:
        return planner.update(x, weighted_regression_tensor=torch.exp((returns - 1) * 2))

    def iteration() -> None:
        step()
        pred = critic(x)
        loss = F.mse_loss(pred, returns)
        pred.mean().item(), loss.item()
        adam.zero_grad()
        loss.backward()
        adam.step()
        inverse.update(act, torch.cat([x[:, 0], x[:, 1]], -1))

    def plan() -> Tensor:
        return planner.sample(prior, solver="ddim", n_samples=n, sample_steps=s["steps"], use_ema=True,
                              condition_cfg=None, w_cfg=1.0, temperature=1.0)[0]  # fmt: skip

    def decide() -> Any:
        made = plan()
        with torch.no_grad():
            best = made[value(made)[:, 1:].sum((1, 2)).argmax()]
        pair = torch.cat([best[:1], best[1:2]], -1)
        return draw(inverse, none, pair, s["inverse_levels"], temperature=0.5).cpu().numpy()

    works = {
        "train_step": Work(step, size(net)),
        "train_iter": Work(iteration, size(net, critic, inverse_net)),
        "plan": Work(plan, size(net), s["steps"]),
        "act": Work(decide, size(net, inverse_net), s["steps"] + s["inverse_levels"],
                    "one call of the small network wasted"),
    }  # fmt: skip
    return Peer(works, {"net": net, "inverse": inverse_net, "critic": critic, "value": value})


def loader(s: Shape, device: str) -> Peer:
    """Its datasets behind torch's DataLoader, in the process and with four workers."""
    import numpy as np
    from cleandiffuser.dataset.d4rl_mujoco_dataset import D4RLMuJoCoDataset, D4RLMuJoCoTDDataset
    from torch.utils.data import DataLoader

    n, rng = s["size"], np.random.default_rng(0)
    data = {
        "observations": rng.standard_normal((n, s["obs"]), dtype=np.float32),
        "next_observations": rng.standard_normal((n, s["obs"]), dtype=np.float32),
        "actions": rng.standard_normal((n, s["act"]), dtype=np.float32),
        "rewards": rng.standard_normal(n, dtype=np.float32),
        "terminals": np.zeros(n, bool),
        "timeouts": np.arange(n) % s["episode"] == s["episode"] - 1,
    }
    rows = s.get("horizon")
    dataset = D4RLMuJoCoDataset(data, horizon=rows) if rows else D4RLMuJoCoTDDataset(data)

    def batches(workers: int) -> Callable[[], object]:
        def stream() -> Any:
            while True:
                yield from DataLoader(dataset, batch_size=s["batch"], shuffle=True, num_workers=workers, drop_last=True,
                                      pin_memory=device == "cuda")  # fmt: skip

        drawn = stream()
        return lambda: next(drawn)

    return Peer({"batch": Work(batches(0)), "batch_4_workers": Work(batches(4), note="4 worker processes")}, {})


KINDS: dict[str, Callable[[Shape, str], Peer]] = {
    "diffuser": diffuser, "dql": dql, "idql": idql, "synther": synther, "dp_unet": diffusion_policy,
    "dp_transformer": diffusion_policy, "veteran": veteran, "loader": loader,
}  # fmt: skip


def build(s: Shape, device: str) -> Peer:
    """The peer's side of a case."""
    return KINDS[s["kind"]](s, device)
