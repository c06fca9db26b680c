"""What learners promise that do not act: values, rewards, world models, synthesizers of data, generators of worlds.

In the style of `contract.py`: what users call checks what it is given and then calls what an algorithm writes, which
has the same name after an underscore. Of a pair (`value` and `q`, `sample` and `edit`) an algorithm writes one or both,
and the other is refused in one line. Letters in shapes: `B` batch, `H` rows of a window, `O` and `A` sizes of
observation and action.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ornstein.contract import Agent, Given, Learner, check_fit
from ornstein.data.asked import Asked, Shape, asked, received
from ornstein.data.episodes import Episodes, Obs, count, each
from ornstein.data.fit import check_finite
from ornstein.data.views import Window
from ornstein.errors import InputError, positive

Policy = Agent | Callable[[Obs], Tensor]  # a function takes observations (B, O) and answers actions (B, A)

BLOCK = 10_000  # episodes that a synthesizer draws at once


def offers(learner: Learner, name: str) -> bool:
    """Whether an algorithm writes the method `name` of a pair, of which it may leave one out."""
    return getattr(type(learner), f"_{name}").__module__ != __name__


def _check_offered(learner: Learner, name: str, other: str) -> None:
    if not offers(learner, name):
        raise InputError(f"{type(learner).__name__} has no {name}: expected a call of {other}")


def _received_act(learner: Learner, name: str, act: Any, axes: Shape = ()) -> Asked:
    """Actions (B, *axes, A) that a caller passed: checked, as tensors like the weights, and finite."""
    return asked(act, {}, learner.spec.act, {}, axes, next(learner.parameters()), name)


def _given_rows(learner: Learner, given: Any, n: int) -> Given:
    """What a caller gave for `n` samples, (n, size): checked, as tensors like the weights, and finite."""
    given = {} if given is None else given
    expects = learner._expects(given if isinstance(given, Mapping) else {})
    found: Given = received("given", given, expects, (), next(learner.parameters()))
    check_finite(found)
    for name, rows in found.items():
        if len(rows) not in (1, n):
            raise InputError(f"given['{name}'] has {len(rows)} rows: expected {n}, or 1 for all alike")
    return {name: rows.expand(n, *rows.shape[1:]) for name, rows in found.items()}


def _check_rows(here: int, there: int) -> None:
    if here != there:
        raise InputError(f"{here} observations and {there} actions: expected the same B of both")


class Value(Learner, ABC):
    """Says what is to be expected of a state, or of an action there: the discounted sum of rewards from now on. An
    algorithm writes `_value`, `_q`, or both. One that acts by critics keeps this promise beside that of an `Agent`, so
    that these can be judged (`ornstein.health`); it writes `_imitation_weight`, too, if its actor imitates some of the
    data's actions more than others."""

    @property
    def discount(self) -> float:
        """Of the rewards that are still to come: the settings', unless an algorithm says otherwise."""
        return float(self.cfg.discount)

    def units(self, data: Episodes) -> Episodes:
        """The same episodes with rewards in the units of the values: what an algorithm's `rewards`, a `RewardScale`,
        made of those that it learned, or as they are where it has none. Raises `InputError` as that does."""
        scale = getattr(self, "rewards", None)
        return data if scale is None else scale(data)

    def value(self, obs: Any, given: Mapping[str, Any] | None = None) -> Tensor:
        """What observations (B, O) are worth, (B,). NaN where what was seen or given is not finite. Raises InputError
        for other shapes, names and kinds, and where only actions are valued."""
        return self._said("value", "q(obs, act)", obs, None, given)

    def q(self, obs: Any, act: Any, given: Mapping[str, Any] | None = None) -> Tensor:
        """What actions (B, A) are worth at observations (B, O), (B,); else as `value`."""
        return self._said("q", "value(obs)", obs, act, given)

    def imitation_weight(self, obs: Any, act: Any, given: Mapping[str, Any] | None = None) -> Tensor:
        """How much the actor that learns beside the critics imitates actions (B, A) at observations (B, O), (B,), up to
        a factor; else as `q`."""
        return self._said("imitation_weight", "q(obs, act)", obs, act, given)

    @torch.no_grad()
    def _said(self, name: str, other: str, obs: Any, act: Any, given: Any) -> Tensor:
        """What the algorithm's own method says, which may have no other of the pair."""
        _check_offered(self, name, other)
        it, own = self._received(obs, given), getattr(self, f"_{name}")
        if name == "value":
            return it.mark(own(it.obs, it.given))
        done = _received_act(self, "act", act)
        _check_rows(count(it.obs), len(done.obs))
        return done.mark(it.mark(own(it.obs, done.obs, it.given)))

    def _value(self, obs: Obs, given: Given | None) -> Tensor:
        """What finite observations (B, O) are worth, (B,)."""
        raise NotImplementedError

    def _q(self, obs: Obs, act: Tensor, given: Given | None) -> Tensor:
        """What finite actions (B, A) are worth at finite observations (B, O), (B,)."""
        raise NotImplementedError

    def _imitation_weight(self, obs: Obs, act: Tensor, given: Given | None) -> Tensor:
        """How much finite actions (B, A) are imitated at finite observations (B, O), (B,)."""
        raise NotImplementedError


class Reward(Learner, ABC):
    """Says what the steps of a window bring."""

    @torch.no_grad()
    def reward(self, window: Window) -> Tensor:
        """The reward (B, H) of each row of a window, 0 where it is not real. NaN in windows that are not finite. What
        the spec says is given stands in `window.more`. Raises InputError for other names, shapes and kinds."""
        like = next(self.parameters())
        real = torch.as_tensor(window.real, device=like.device)
        axes = tuple(real.shape[1:])
        it = asked(window.obs, {}, self.spec.seen, {}, axes, like, "window.obs")
        done = _received_act(self, "window.act", window.act, axes)
        _check_rows(count(it.obs), len(done.obs))
        told = {name: rows for name, rows in window.more.items() if name in self.spec.given}
        more = received("window.more", told, self._expects({}), axes, like)
        found = self._reward(window._replace(obs=it.obs, act=done.obs, real=real, more=more))
        return done.mark(it.mark(found.masked_fill(~real, 0.0)))

    @abstractmethod
    def _reward(self, window: Window) -> Tensor:
        """The reward (B, H) of each row of a finite window."""


class OpenLoop:
    """A policy that carries out what is written down, whatever it sees: actions (B, H, A), one at each call."""

    def __init__(self, act: Tensor) -> None:
        """A world model that denoises whole windows may look at all of `act` at once."""
        self.act, self.step = act, 0

    def __call__(self, obs: Obs) -> Tensor:
        """The next actions (B, A)."""
        self.step += 1
        return self.act[:, self.step - 1]


class Acting:
    """A policy at work in a world model, asked once a step. `policy` is what it was made of, for a world model that
    asks more of it, such as its likelihood."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.window: Obs = None  # (B, K - 1, ...) what was seen before

    def __call__(self, obs: Obs) -> Tensor:
        """Actions (B, A) at observations (B, O): what a function answers, or the first of those that an agent gives
        when it is shown what it saw last."""
        if not isinstance(self.policy, Agent):
            return self.policy(obs)
        last = self.policy.history - 1
        if self.window is None:
            self.window = each(lambda x: x[:, None].expand(-1, last, *x.shape[1:]), obs)
        seen = each(lambda old, x: torch.cat([old, x[:, None]], 1), self.window, obs)
        self.window = each(lambda x: x[:, x.shape[1] - last :], seen)
        return self.policy.act(seen)[:, 0]


class WorldModel(Learner, ABC):
    """Imagines what follows when a policy acts."""

    @torch.no_grad()
    def imagine(self, policy: Policy, obs: Any, horizon: int, given: Mapping[str, Any] | None = None) -> Episodes:
        """Episodes of at most `horizon` steps, one from each observation (B, O), in their order; they are shorter where
        the task ends. An agent that is to be given something is passed as a function that does so; `given` is for the
        world model. Observations and rewards are NaN in episodes whose start, or what was given, is not finite. Raises
        InputError for other shapes, names and kinds."""
        it = self._received(obs, given)
        made = self._imagine(Acting(policy), it.obs, positive("horizon", horizon), it.given)
        steps = it._replace(fault=it.fault.repeat_interleave(made.lengths))
        obs, final = each(_floats(steps.mark), made.obs), each(_floats(it.mark), made.final_obs)
        return replace(made, obs=obs, rew=steps.mark(made.rew), final_obs=final)

    @abstractmethod
    def _imagine(self, act: Acting, obs: Obs, horizon: int, given: Given | None) -> Episodes:
        """Episodes from finite observations (B, O), in their order."""


def _floats(mark: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """`mark` for all but images."""
    return lambda x: mark(x) if x.is_floating_point() else x


class Synthesizer(Learner, ABC):
    """Invents data, or changes what was recorded. An algorithm writes `_sample`, `_edit`, or both."""

    def sample(self, n: int, given: Mapping[str, Any] | None = None, block: int = BLOCK) -> Iterator[Episodes]:
        """`n` invented episodes, in the world's units; transitions are episodes of one step. They come in blocks of at
        most `block` episodes, each drawn when it is asked for, so that memory does not grow with `n`. What is given is
        (n, size), or (1, size) for all alike. Raises InputError at once for other counts, names, shapes and kinds, for
        what is not finite, and of one that only edits."""
        _check_offered(self, "sample", "edit(episodes)")
        return self._blocks(positive("n", n), _given_rows(self, given, n), positive("block", block))

    def edit(self, episodes: Episodes, given: Mapping[str, Any] | None = None) -> Iterator[Episodes]:
        """What becomes of recorded episodes, M of them: new ones that take their place or stand beside them, as the
        algorithm says. What is given is (M, size) or (1, size). Raises InputError as `sample`, and for data that is not
        what the spec says."""
        _check_offered(self, "edit", "sample(n)")
        check_fit(self, episodes)
        return self._edits(episodes, _given_rows(self, given, len(episodes.ends)))

    @torch.no_grad()
    def _blocks(self, n: int, given: Given, block: int) -> Iterator[Episodes]:
        for first in range(0, n, block):
            rows = min(block, n - first)
            part = {name: x[first : first + rows] for name, x in given.items()}
            yield self._sample(rows, part or None)

    @torch.no_grad()
    def _edits(self, episodes: Episodes, given: Given) -> Iterator[Episodes]:
        yield from self._edit(episodes, given or None)

    def _sample(self, n: int, given: Given | None) -> Episodes:
        """`n` invented episodes, in the world's units; what is given is (n, size)."""
        raise NotImplementedError

    def _edit(self, episodes: Episodes, given: Given | None) -> Iterator[Episodes]:
        """New episodes made of recorded ones, block by block."""
        raise NotImplementedError


class Generator(Learner, ABC):
    """Invents worlds: the levels that a world can be reset to (`World.reset(levels=...)`)."""

    @torch.no_grad()
    def levels(self, n: int, given: Mapping[str, Any] | None = None) -> Tensor:
        """`n` levels (n, ...). What is given is as for a synthesizer's `sample`."""
        return self._levels(positive("n", n), _given_rows(self, given, n) or None)

    @abstractmethod
    def _levels(self, n: int, given: Given | None) -> Tensor:
        """`n` levels (n, ...)."""
