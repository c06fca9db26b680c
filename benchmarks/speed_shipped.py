"""What ships, for the cases of speed_cases.py: the agent of the table with its preset, learning and acting through the
doors that users come in by. Nothing is set here but the sizes of the task and of the batch."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from speed_harness import Work
from torch import Tensor, nn

from ornstein.contract import Agent, Learner, Planner, Spec, Stage
from ornstein.data.episodes import Episodes
from ornstein.networks.blocks import Denoiser
from ornstein.promises import Synthesizer
from ornstein.roles import build, preset

Shape = dict[str, Any]
Works = dict[str, Work]
STEPS, EPISODE = 2000, 1000  # of the data that stages are made of


def size(*modules: nn.Module) -> int:
    """Weights that are trained."""
    return sum(p.numel() for m in modules for p in m.parameters() if p.requires_grad)


def shipped(s: Shape, device: str) -> Works:
    """The figures of the row of the table that `s` names, if it names one."""
    if "row" not in s:
        return {}
    goal = s.get("goal", False)
    spec = Spec(s["obs"], s["act"], s.get("horizon", 32), {"goal": s["obs"]} if goal else {}, tracked=goal)
    agent = build(s["row"], spec, preset(s["row"], [s["task"]])).to(device)
    stages = list(agent.fit(data(spec, device)))
    works = learning(stages, agent, s["batch"]) | sampling(agent, s, device)
    return {name: work._replace(note=note(agent, s)) for name, work in works.items()}


def data(spec: Spec, device: str) -> Episodes:
    """Random numbers, as episodes."""
    cut = torch.arange(STEPS) % EPISODE == EPISODE - 1
    obs, act = torch.randn(STEPS, spec.obs_size), torch.rand(STEPS, spec.act_size) * 2 - 1
    return Episodes.from_arrays(obs, act, torch.randn(STEPS), truncations=cut, final_obs=obs[cut]).to(device)


def learning(stages: list[Stage], agent: Learner, rows: int) -> Works:
    """An update of each stage, on a batch that was drawn before. The first stage of a planner, and the only one of what
    has no critics, is a step of its denoiser."""
    updates = [partial(stage.update, stage.view.batch(rows)) for stage in stages]
    model = agent.get_submodule("model")
    if hasattr(agent, "critics"):
        return {"train_iter": Work(updates[0], size(agent))}
    works = {"train_step": Work(updates[0], size(model))}
    if len(updates) > 1:
        works["train_iter"] = Work(lambda: [update() for update in updates], size(agent))
    return works


def sampling(agent: Learner, s: Shape, device: str) -> Works:
    """Plans, actions or transitions, as a user asks for them."""
    obs, model = torch.randn(1, s["obs"], device=device), agent.get_submodule("model")
    if isinstance(agent, Planner):
        given = {"goal": torch.randn(1, s["obs"], device=device)} if s.get("goal") else None
        plan = partial(agent.plan, obs, given)
        figure, weights = ("plan", size(model)) if given else ("plan_guided", size(agent))
        return {figure: Work(plan, weights, calls(agent, plan))}
    if isinstance(agent, Agent):
        seen = torch.randn(1, agent.history, s["obs"], device=device)
        if agent.execute > 1:
            return chunks(agent, seen)
        act = partial(agent.act, seen)
        return {} if s["batch"] != 256 else {"act": Work(lambda: act()[:, 0], size(model), calls(agent, act))}
    assert isinstance(agent, Synthesizer)
    if "made" not in s:
        return {}

    def sample() -> None:
        for _ in agent.sample(s["made"]):  # block by block
            pass

    return {"generate": Work(sample, size(model), calls(agent, sample), scale=s["total"] / s["made"])}


def chunks(agent: Any, seen: Tensor) -> Works:
    """A chunk by the row's own solver and, where that is DDPM, by ten steps of DDIM, as `load(run, model=...)` sets."""
    recipe, made = agent.cfg.model, {}
    for how in {"ddpm": [recipe, replace(recipe, solver="ddim", steps=10)]}.get(recipe.solver, [recipe]):
        taught = type(agent)(agent.spec, replace(agent.cfg, model=how)).to(seen.device)
        act = partial(taught.act, seen)
        made[f"chunk_{how.solver}"] = Work(act, size(agent.model), calls(taught, act))
    return made


def calls(agent: Learner, run: Callable[[], object]) -> int:
    """How often `run` calls the denoising network."""
    found: list[int] = []
    nets = [module for module in agent.modules() if isinstance(module, Denoiser)]
    for net in nets:
        net.body = _counting(net.body, found)  # type: ignore[method-assign]
    run()
    for net in nets:
        del net.body
    return len(found)


def _counting(body: Callable[..., Tensor], found: list[int]) -> Callable[..., Tensor]:
    def counted(*args: Any) -> Tensor:
        found.append(1)
        return body(*args)

    return counted


def note(agent: Any, s: Shape) -> str:
    """Which row of the table, and what of its settings weighs."""
    recipe, many = agent.cfg.model, getattr(agent, "candidates", 1)
    rows = [f"{agent.rows} rows"] if hasattr(agent, "rows") else []
    among = [f"{many} to choose among"] if many > 1 else []
    return ", ".join([f"`{s['row']}`", *rows, f"{recipe.steps} steps of {recipe.solver}", *among])
