"""CleanDiffuser's Diffusion-QL as an agent of ours, for benchmarks/policies.py: trained by its own parts as its
dql_d4rl_mujoco.py trains, on the same episodes, and scored in the same worlds.

Kept in memory, without the four loader processes of that script, which favours it. Its settings: rewards stretched to
returns 1000 apart, observations as z-scores, actions as they are, critics with layer norm, four numbers read from the
device at each update; an average of the actor's weights acts at temperature 0.5, one of 50 candidates by softmax(8 Q).
"""

import time
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

STEPS, CANDIDATES, SHARP, HEAT, ETA = 5, 50, 8.0, 0.5, 1.0  # as its configuration has them for hopper-medium-expert


class PeerQL(Foreign):
    """CleanDiffuser's Diffusion-QL."""

    candidates = CANDIDATES

    def __init__(self, spec: Spec, path: str):
        super().__init__(spec, None)
        import_peer(path)
        from cleandiffuser.nn_diffusion import DQLMlp
        from cleandiffuser.utils import DQLCritic

        self.scale = ZScore(spec.obs_size)
        net = DQLMlp(spec.obs_size, spec.act_size, emb_dim=64, timestep_emb_type="positional")
        self.actor: Any = actor_of(net, {"act": spec.act_size}, STEPS, 0.995, "cpu")
        self.critic: nn.Module = DQLCritic(spec.obs_size, spec.act_size, hidden_dim=256)
        self.target: Any = deepcopy(self.critic).requires_grad_(False).eval()
        self.optim = torch.optim.Adam(self.critic.parameters(), lr=3e-4)

    def learn(self, data: Episodes, updates: int, seed: int) -> float:
        """Train as its pipeline does; the seconds that it took."""
        torch.manual_seed(seed)
        self.scale.learn(data.obs)
        view, start = Transitions(RewardScale("returns").learn(data)), time.monotonic()
        schedules = [
            torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=updates) for o in (self.actor.optimizer, self.optim)
        ]
        for step in range(updates):
            self.update(view.batch(256), step)
            for schedule in schedules:
                schedule.step()
        seconds = time.monotonic() - start
        self.actor.eval()
        return seconds

    def update(self, batch: Transition, step: int) -> tuple[float, ...]:
        """One iteration of its loop."""
        from cleandiffuser.utils import FreezeModules

        obs, following = self.scale(batch.obs), self.scale(batch.next_obs)
        prior = torch.zeros_like(batch.act)
        q1, q2 = self.critic(obs, batch.act)
        ahead = draw(self.actor, prior, following, STEPS, requires_grad=False)
        best = torch.min(*self.target(following, ahead))
        goal = (batch.rew[:, None] + (1 - batch.terminated[:, None]) * 0.99 * best).detach()
        error = F.mse_loss(q1, goal) + F.mse_loss(q2, goal)
        self.optim.zero_grad()
        error.backward()
        self.optim.step()
        imitation = self.actor.loss(batch.act, obs)
        act = draw(self.actor, prior, obs, STEPS, use_ema=False, requires_grad=True)
        with FreezeModules([self.critic]):
            pair = self.critic(obs, act)
        climbs, scales = pair if torch.rand(()) > 0.5 else pair[::-1]
        climb = -climbs.mean() / scales.abs().mean().detach()
        self.actor.optimizer.zero_grad()
        (imitation + ETA * climb).backward()
        self.actor.optimizer.step()
        if step % 5 == 0:
            if step >= 1000:
                self.actor.ema_update()
            trail(self.target, self.critic)
        return imitation.item(), climb.item(), error.item(), goal.mean().item()

    def _act(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        seen = self.scale(obs[:, -1]).repeat_interleave(CANDIDATES, 0)
        prior = torch.zeros(len(seen), self.spec.act_size)
        act = draw(self.actor, prior, seen, STEPS, temperature=HEAT).unflatten(0, (-1, CANDIDATES))
        worth = self.target.q_min(seen, act.flatten(0, 1)).view(-1, CANDIDATES)
        chosen = torch.softmax(SHARP * worth, 1).multinomial(1)
        return act.take_along_dim(chosen[..., None], 1)
