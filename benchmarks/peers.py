"""CleanDiffuser's Diffusion-QL, EDP, IDQL and QGPO as agents of ours, for benchmarks/policies.py and beside.py: trained
by its own parts as its pipelines for locomotion train, on the same episodes, and scored in the same worlds.

Kept in memory, without the four loader processes of its scripts, which favours it. Settings are those of its
configurations for hopper-medium-expert: rewards stretched to returns 1000 apart, observations as z-scores, actions as
they are, critics with layer norm, several numbers read from the device at each update, one of many candidates by
softmax, drawn at temperature 0.5.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from foreign import Foreign
from speed_peer import actor_of, draw, import_peer, trail
from torch import Tensor, nn
from torch.nn import functional as F

from ornstein.contract import Given, Spec
from ornstein.data.episodes import Episodes
from ornstein.data.normalize import ZScore
from ornstein.data.rewards import RewardScale
from ornstein.data.views import Transition, Transitions

HEAT = 0.5  # of the noise when acting
BATCH = 256
Clock = Callable[[], float]


def adam(module: nn.Module) -> torch.optim.Optimizer:
    """Its optimiser of critics."""
    return torch.optim.Adam(module.parameters(), lr=3e-4)


def falling(optimisers: list[Any], updates: int) -> list[Any]:
    """Its rates, which fall along a cosine."""
    return [torch.optim.lr_scheduler.CosineAnnealingLR(each, T_max=updates) for each in optimisers]


def chosen(act: Tensor, value: Tensor, sharp: float) -> Tensor:
    """One of n actions (B, n, A) by softmax(sharp value), (B, n): (B, 1, A)."""
    number = torch.softmax(sharp * value, 1).multinomial(1)
    return act.take_along_dim(number[..., None], 1)


class PeerIDQL(Foreign):
    """CleanDiffuser's IDQL: critics learn at every other update of the actor."""

    candidates = 256

    def __init__(self, spec: Spec, path: str):
        super().__init__(spec, None)
        import_peer(path)
        from cleandiffuser.nn_diffusion import IDQLMlp
        from cleandiffuser.utils import IDQLQNet, IDQLVNet

        self.scale = ZScore(spec.obs_size)
        net = IDQLMlp(spec.obs_size, spec.act_size, emb_dim=64, hidden_dim=256, n_blocks=3, dropout=0.1)
        self.actor: Any = actor_of(net, {"act": spec.act_size}, 5, 0.9999, "cpu")
        self.q: Any = IDQLQNet(spec.obs_size, spec.act_size, hidden_dim=256)
        self.target: Any = deepcopy(self.q).requires_grad_(False).eval()
        self.v: nn.Module = IDQLVNet(spec.obs_size, hidden_dim=256)
        self.optim_q, self.optim_v = adam(self.q), adam(self.v)

    def learn(self, data: Episodes, updates: int, seed: int) -> float:
        """Train as its pipeline does; the core seconds that it took."""
        torch.manual_seed(seed)
        self.scale.learn(data.obs)
        view, start = Transitions(RewardScale("returns").learn(data)), time.process_time()
        (slower,), faster = falling([self.actor.optimizer], updates), falling([self.optim_q, self.optim_v], updates)
        for step in range(updates):
            batch = view.batch(BATCH)
            if step % 2 == 0:
                self.learn_critics(batch)
                for schedule in faster:
                    schedule.step()
            self.actor.update(batch.act, self.scale(batch.obs))
            slower.step()
        seconds = time.process_time() - start
        self.actor.eval()
        return seconds

    def learn_critics(self, batch: Transition) -> tuple[float, float]:
        """One step of V, one of both Q."""
        obs, following = self.scale(batch.obs), self.scale(batch.next_obs)
        gap = self.target(obs, batch.act) - self.v(obs)
        v_loss = (torch.abs(0.7 - (gap < 0).float()) * gap**2).mean()
        self.optim_v.zero_grad()
        v_loss.backward()
        self.optim_v.step()
        with torch.no_grad():
            goal = batch.rew[:, None] + 0.99 * (1 - batch.terminated[:, None]) * self.v(following)
        q1, q2 = self.q.both(obs, batch.act)
        q_loss = ((q1 - goal) ** 2 + (q2 - goal) ** 2).mean()
        self.optim_q.zero_grad()
        q_loss.backward()
        self.optim_q.step()
        trail(self.target, self.q)
        return v_loss.item(), q_loss.item()

    def _act(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        n = self.candidates
        seen = self.scale(obs[:, -1]).repeat_interleave(n, 0)
        act = draw(self.actor, torch.zeros(len(seen), self.spec.act_size), seen, 5, temperature=HEAT)
        value = (self.target(seen, act) - self.v(seen)).view(-1, n)
        return chosen(act.unflatten(0, (-1, n)), value, 5.0)


class Climber(Foreign, ABC):
    """CleanDiffuser's policies that climb their own critic: its loop is the same for Diffusion-QL and EDP."""

    candidates = 50
    actor: Any
    clock: Clock = staticmethod(time.process_time)

    def __init__(self, spec: Spec, path: str):
        super().__init__(spec, None)
        import_peer(path)
        from cleandiffuser.nn_diffusion import DQLMlp
        from cleandiffuser.utils import DQLCritic

        self.scale = ZScore(spec.obs_size)
        self.make(DQLMlp(spec.obs_size, spec.act_size, emb_dim=64, timestep_emb_type="positional"))
        self.critic: Any = DQLCritic(spec.obs_size, spec.act_size, hidden_dim=256)
        self.target: Any = deepcopy(self.critic).requires_grad_(False).eval()
        self.optim = adam(self.critic)

    @abstractmethod
    def make(self, net: nn.Module) -> None:
        """Make the actor of its network."""

    @abstractmethod
    def propose(self, obs: Tensor, **more: Any) -> Tensor:
        """An action (B, A) for each observation (B, O)."""

    @abstractmethod
    def guess(self, act: Tensor, obs: Tensor) -> Tensor:
        """The actions (B, A) at which Q is climbed."""

    def learn(self, data: Episodes, updates: int, seed: int) -> float:
        """Train as its pipeline does; the seconds that it took, by `clock`."""
        torch.manual_seed(seed)
        self.scale.learn(data.obs)
        view, start = Transitions(RewardScale("returns").learn(data)), self.clock()
        self.actor.train()
        schedules = falling([self.actor.optimizer, self.optim], updates)
        for step in range(updates):
            self.update(view.batch(BATCH), step)
            for schedule in schedules:
                schedule.step()
        seconds = self.clock() - start
        self.actor.eval()
        return seconds

    def update(self, batch: Transition, step: int) -> tuple[float, ...]:
        """One iteration of its loop."""
        from cleandiffuser.utils import FreezeModules

        obs, following = self.scale(batch.obs), self.scale(batch.next_obs)
        q1, q2 = self.critic(obs, batch.act)
        ahead = self.propose(following, requires_grad=False)
        best = torch.min(*self.target(following, ahead))
        goal = (batch.rew[:, None] + (1 - batch.terminated[:, None]) * 0.99 * best).detach()
        error = F.mse_loss(q1, goal) + F.mse_loss(q2, goal)
        self.optim.zero_grad()
        error.backward()
        self.optim.step()
        imitation = self.actor.loss(batch.act, obs)
        guess = self.guess(batch.act, obs)
        with FreezeModules([self.critic]):
            pair = self.critic(obs, guess)
        climbs, scales = pair if torch.rand(()) > 0.5 else pair[::-1]
        climb = -climbs.mean() / scales.abs().mean().detach()
        self.actor.optimizer.zero_grad()
        (imitation + climb).backward()
        self.actor.optimizer.step()
        if step % 5 == 0:
            if step >= 1000:
                self.actor.ema_update()
            trail(self.target, self.critic)
        return imitation.item(), climb.item(), error.item(), goal.mean().item()

    def _act(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        n = self.candidates
        seen = self.scale(obs[:, -1]).repeat_interleave(n, 0)
        act = self.propose(seen, temperature=HEAT)
        value = self.target.q_min(seen, act).view(-1, n)
        return chosen(act.unflatten(0, (-1, n)), value, 8.0)


class PeerQL(Climber):
    """CleanDiffuser's Diffusion-QL: 5 levels, and the gradient of Q through the chain."""

    steps = 5
    clock: Clock = staticmethod(time.monotonic)  # benchmarks/policies.py tells wall time

    def make(self, net: nn.Module) -> None:
        self.actor = actor_of(net, {"act": self.spec.act_size}, self.steps, 0.995, "cpu")

    def propose(self, obs: Tensor, **more: Any) -> Tensor:
        return draw(self.actor, torch.zeros(len(obs), self.spec.act_size), obs, self.steps, **more)

    def guess(self, act: Tensor, obs: Tensor) -> Tensor:
        return self.propose(obs, use_ema=False, requires_grad=True)


class PeerEDP(Climber):
    """CleanDiffuser's EDP: 50 levels, the gradient of Q at one clean guess, 15 calls of DPM-Solver++ to sample."""

    levels, calls = 50, 15

    def make(self, net: nn.Module) -> None:
        from cleandiffuser.diffusion import DiscreteDiffusionSDE
        from cleandiffuser.nn_condition import IdentityCondition

        bound = torch.ones(1, self.spec.act_size)
        self.actor = DiscreteDiffusionSDE(
            net, IdentityCondition(dropout=0.0), predict_noise=False, optim_params={"lr": 3e-4}, x_max=bound,
            x_min=-bound, diffusion_steps=self.levels, ema_rate=0.995, device="cpu",
        )  # fmt: skip

    def propose(self, obs: Tensor, **more: Any) -> Tensor:
        prior = torch.zeros(len(obs), self.spec.act_size)
        return draw(self.actor, prior, obs, self.calls, solver="ode_dpmsolver++_2M", **more)

    def guess(self, act: Tensor, obs: Tensor) -> Tensor:
        t = torch.randint(self.levels, (len(obs),))
        noised = self.actor.alpha[t][:, None] * act + self.actor.sigma[t][:, None] * torch.randn_like(act)
        return self.actor.model["diffusion"](noised, t, self.actor.model["condition"](obs, None))


class PeerQGPO(Foreign):
    """CleanDiffuser's QGPO: a clone, 16 actions of it for every next observation, critics, and the energy of noisy
    actions. Of `updates` the clone has two fifths, critics one, the energy two."""

    support, scale_of_guide = 16, 0.7

    def __init__(self, spec: Spec, path: str):
        super().__init__(spec, None)
        import_peer(path)
        from cleandiffuser.classifier import QGPOClassifier
        from cleandiffuser.diffusion import ContinuousDiffusionSDE
        from cleandiffuser.nn_classifier import QGPONNClassifier
        from cleandiffuser.nn_condition import MLPCondition
        from cleandiffuser.nn_diffusion import SfBCUNet
        from cleandiffuser.utils.iql import TwinQ

        self.scale, bound = ZScore(spec.obs_size), torch.ones(spec.act_size)
        self.actor: Any = ContinuousDiffusionSDE(
            SfBCUNet(spec.act_size), MLPCondition(spec.obs_size, 64, [64], nn.SiLU()), ema_rate=0.9999, x_max=bound,
            x_min=-bound, device="cpu",
        )  # fmt: skip
        energy = QGPONNClassifier(spec.obs_size, spec.act_size, 64, [256, 256, 256], "untrainable_fourier")
        self.energy: Any = QGPOClassifier(energy, ema_rate=0.9999, device="cpu", optim_params={"lr": 1e-3})
        self.q: Any = TwinQ(spec.obs_size, spec.act_size, 256)
        self.target: Any = deepcopy(self.q).requires_grad_(False).eval()
        self.optim = adam(self.q)

    def learn(self, data: Episodes, updates: int, seed: int) -> float:
        """Train as its pipeline does; the core seconds that it took."""
        torch.manual_seed(seed)
        self.scale.learn(data.obs)
        view, start = Transitions(RewardScale("returns").learn(data)), time.process_time()
        self.actor.train()
        for _ in range(2 * updates // 5):
            batch = view.batch(BATCH)
            self.actor.update(batch.act, self.scale(batch.obs))
        whole = view.at(torch.arange(len(view)))
        following = self.scale(whole.next_obs)
        acts = torch.cat([self.supported(part) for part in following.split(5000)])  # (S, 16, A)
        for _ in range(updates // 5):
            self.learn_critics(whole, following, acts)
        for _ in range(2 * updates // 5):
            self.learn_energy(following, acts)
        seconds = time.process_time() - start
        self.actor.classifier = self.energy
        self.actor.eval()
        return seconds

    def supported(self, obs: Tensor) -> Tensor:
        """Actions (B, 16, A) of the clone."""
        seen = obs.repeat_interleave(self.support, 0)
        return self.propose(seen, 10).unflatten(0, (-1, self.support))

    def propose(self, obs: Tensor, calls: int, **more: Any) -> Tensor:
        """An action for each observation."""
        prior = torch.zeros(len(obs), self.spec.act_size)
        told = {"solver": "ddpm", "sample_step_schedule": "quad_continuous", "condition_cfg": obs, "w_cfg": 1.0}
        return self.actor.sample(prior, n_samples=len(obs), sample_steps=calls, **told, **more)[0]

    def learn_critics(self, whole: Transition, following: Tensor, acts: Tensor) -> tuple[float, float]:
        """One step of both Q, whose next value is a softmax over the clone's actions."""
        i = torch.randint(len(acts), (BATCH,))
        with torch.no_grad():
            value = self.target(following[i][:, None].expand(-1, self.support, -1), acts[i])
            best = (torch.softmax(value, 1) * value).sum(1)
            goal = whole.rew[i][:, None] + 0.99 * (1 - whole.terminated[i][:, None]) * best
        q1, q2 = self.q.both(self.scale(whole.obs[i]), whole.act[i])
        loss = ((q1 - goal) ** 2 + (q2 - goal) ** 2).mean()
        self.optim.zero_grad()
        loss.backward()
        self.optim.step()
        for p, t in zip(self.q.parameters(), self.target.parameters(), strict=True):
            t.data = 0.995 * t.data + 0.005 * p.data
        return loss.item(), goal.mean().item()

    def learn_energy(self, following: Tensor, acts: Tensor) -> None:
        """One step of the energy of noisy actions."""
        i = torch.randint(len(acts), (BATCH,))
        with torch.no_grad():
            value = self.q(following[i][:, None].expand(-1, self.support, -1), acts[i])
        noised, t, _ = self.actor.add_noise(acts[i])
        self.energy.update(noised, t, {"soft_label": torch.softmax(10 * value, 1), "obs": following[i]})

    def _act(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        seen = self.scale(obs[:, -1])
        with torch.enable_grad():
            act = self.propose(seen, 5, condition_cg=seen, w_cg=self.scale_of_guide)
        return act.detach()[:, None]
