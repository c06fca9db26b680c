"""Updates and sampling calls are device programs: a graph of them, replayed, does what calling them does.

Where there is no CUDA a tape stands in for its graphs. It notes every operator of a call, and a replay runs them again
on the very same tensors: what a function did on the host in between is missed, as a graph would miss it.
"""

import contextlib
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from oracles import known
from ornstein.cli import commands  # noqa: F401  (has the real `records` before a test puts another in its place)
from ornstein.data.episodes import Episodes
from ornstein.diffusion.guide import ClassifierFree, EnergyGuidance, Guide, ValueGuidance
from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.diffusion.pin import Pin
from ornstein.diffusion.schedule import Churn
from ornstein.diffusion.solvers import SOLVERS
from ornstein.envs.tasks import task
from ornstein.errors import InputError
from ornstein.optim import Optim, Stepper, pace, polyak_update, target_copy
from ornstein.run import capture, checkpoint
from ornstein.run import distill as distillation
from ornstein.run.capture import KINDS, WARM, Captured, records
from ornstein.run.distill import distill
from ornstein.run.evaluate import evaluate
from ornstein.run.train import Interrupted, _Loop, train
from small import FEW, GOAL, OPTIONS, VALUE, Done, small

CPU = torch.device("cpu")
READS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "lift_fresh", "unique2", "_unique2"}
Command = Callable[..., Done]
OFTEN = WARM + 4  # calls, the last three of which are replays


class Tape(TorchDispatchMode):
    """The operators of a call. Those that read from the device, or take a tensor from the host to it, are refused."""

    def __init__(self) -> None:
        super().__init__()
        self.played: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = operator.overloadpacket.__name__
        masks = name.startswith("index") and any(x.dtype == torch.bool for x in tensors(args[1:]))
        if name in READS or masks:
            raise RuntimeError(f"{name} makes the host wait for the device")
        found = operator(*args, **(kwargs or {}))
        if operator.namespace != "profiler" and torch.Tag.inplace_view not in operator.tags:
            # shapes as they are now, whatever is done to them later
            note = tree_map_only(Tensor, Tensor.detach, (args, kwargs or {}, found))
            self.played.append((operator, *note))
        return found

    @torch.no_grad()
    def replay(self) -> None:
        for operator, args, kwargs, found in self.played:
            again = operator(*args, **kwargs)
            for old, new in zip(tensors(found), tensors(again), strict=True):
                if old.untyped_storage().data_ptr() != new.untyped_storage().data_ptr():
                    old.copy_(new)


class OnTape:
    """In the place of CUDA's graphs. To record is to call here, so that the first replay is over already."""

    recordings = replays = 0

    def __init__(self, device: torch.device):
        self.waits = False

    def call(self, function: Callable[..., Any], args: Any) -> tuple[Any, bool]:
        return function(*args), self.waits

    def record(self, function: Callable[..., Any], args: Any) -> tuple[Callable[[], None], Any]:
        with Tape() as tape:
            result = function(*args)
        OnTape.recordings += 1
        fresh = True

        def replay() -> None:
            nonlocal fresh
            OnTape.replays += not fresh
            if not fresh:
                tape.replay()
            fresh = False

        return replay, result


@pytest.fixture
def taped(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be captured on CUDA is put on tape."""
    monkeypatch.setattr(capture, "_Cuda", OnTape)
    monkeypatch.setattr(capture, "records", lambda mode, device: mode != "off")
    monkeypatch.setattr(OnTape, "recordings", 0)
    monkeypatch.setattr(OnTape, "replays", 0)


@contextlib.contextmanager
def unread() -> Iterator[None]:
    """A region in which the host may not look at a tensor."""

    def refuse(self: Tensor, *rest: Any, **more: Any) -> Any:
        raise AssertionError("the host looks at a tensor")

    with pytest.MonkeyPatch.context() as patch:
        for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "__index__", "__array__"):
            patch.setattr(Tensor, name, refuse)
        yield


def tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def assert_same(one: Any, other: Any) -> None:
    """To the last bit."""
    assert len(tensors(one)) == len(tensors(other)) > 0
    assert all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(other), strict=True))


class Net(nn.Module):
    """(B, 3), noise (B,), cond (B, 2) -> (B, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 16), nn.SiLU(), nn.Linear(16, 3))

    def forward(self, x: Tensor, noise: Tensor, cond: Any) -> Tensor:
        return self.net(torch.cat([x, noise[:, None] / 1000, known(cond)], -1))


class Batch(NamedTuple):
    x: Tensor
    cond: Tensor


class Learning:
    """A small learner with all that an update can have: a cosine rate, a clip, an average that follows at times."""

    def __init__(self, device: torch.device = CPU):
        torch.manual_seed(0)
        self.model = Diffusion(Net(), Recipe("vp", "eps", steps=3))
        self.average = target_copy(self.model)
        self.step = Stepper(self.model, Optim(1e-2, clip=0.5, decay=0.1, cosine=True))
        self.model.to(device), self.average.to(device)
        self.step.over(OFTEN + 2)
        torch.manual_seed(1)

    def update(self, batch: Batch) -> dict[str, Tensor]:
        loss = self.model.loss(batch.x, batch.cond).mean()
        self.step(loss)
        polyak_update(self.average, self.model, pace(self.step.count, 0.1, every=3, start=5))
        return {"loss": loss.detach(), "rate": self.step.adam.param_groups[0]["lr"].clone()}

    def state(self) -> list[Any]:
        return [self.model.state_dict(), self.average.state_dict(), self.step.state_dict()]


def batches(device: torch.device = CPU) -> list[Batch]:
    draw = torch.Generator().manual_seed(2)
    made = [Batch(torch.randn(8, 3, generator=draw), torch.randn(8, 2, generator=draw)) for _ in range(OFTEN)]
    return [Batch(*(part.to(device) for part in batch)) for batch in made]


# ---- updates ----


@pytest.mark.usefixtures("taped")
def test_replays_of_an_update_are_updates() -> None:
    """Weights, moments, averages and metrics, bit for bit; random numbers too."""
    found = []
    for mode in ("off", "auto"):
        learner = Learning()
        update = Captured(learner.update, mode, CPU)
        told = [update(batch) for batch in batches()]
        found.append((told, learner.state(), torch.get_rng_state()))
    assert (OnTape.recordings, OnTape.replays) == (1, OFTEN - WARM - 1)
    assert_same(*found)


@pytest.mark.usefixtures("taped")
@pytest.mark.parametrize("fault", ["the count", "the rate", "the average"])
def test_what_an_update_counts_on_the_host_is_missed(fault: str) -> None:
    """A replay is none of these updates, each of which has a number of Python's that changes: the tape can tell."""
    found = []
    for mode in ("off", "auto"):
        learner, count = Learning(), [0]

        def update(batch: Batch, learner: Learning = learner, count: list[int] = count) -> dict[str, Tensor]:
            count[0] += 1
            loss = learner.model.loss(batch.x, batch.cond).mean()
            if fault == "the rate":
                loss = loss * 0.5 ** count[0]
            learner.step(loss)
            if fault == "the average" and count[0] % 2 == 0:
                polyak_update(learner.average, learner.model, 0.5)
            return {"count": torch.full((), float(count[0] if fault == "the count" else 0))}

        call = Captured(update, mode, CPU)
        found.append(([call(batch) for batch in batches()], learner.state()))
    with pytest.raises(AssertionError):
        assert_same(*found)


def planner(kind: str, **more: Any) -> Any:
    from ornstein.roles.planners.diffuser import Diffuser

    torch.manual_seed(0)
    settings = {"updates": OFTEN, "value_share": 1.0, "ema_every": 2, "ema_start": 5, **more}
    return Diffuser({"goal": GOAL, "value": VALUE}[kind], small(**settings))


def assert_runs_are_the_same(one: Path, other: Path) -> None:
    (_, tensors), (_, wanted) = (checkpoint.read_checkpoint(run) for run in (one, other))
    assert tensors.keys() == wanted.keys()
    assert all(torch.equal(value, wanted[name]) for name, value in tensors.items())


@pytest.mark.usefixtures("taped")
@pytest.mark.parametrize("kind", ["goal", "value"])
@pytest.mark.parametrize("table", [None, 6])
def test_training_on_tape_is_training(kind: str, table: int | None, walks: Episodes, tmp_path: Path) -> None:
    """Of a planner's model and of its value: all that a checkpoint holds, and all that is logged."""
    logs = []
    for mode in ("off", "auto"):
        agent = planner(kind, model=replace(FEW, levels=table), optim=Optim(1e-3, clip=1.0, cosine=True))
        train(agent, walks, out=tmp_path / mode, capture=mode)
        logs.append([line.split('"loss"')[1] for line in (tmp_path / mode / "log.jsonl").read_text().splitlines()])
    stages = 1 if kind == "goal" else 2
    assert (OnTape.recordings, OnTape.replays) == (stages, stages * (OFTEN - WARM - 1))
    assert_runs_are_the_same(tmp_path / "auto", tmp_path / "off")
    assert logs[0] == logs[1]


@pytest.mark.usefixtures("taped")
def test_resuming_on_tape_is_exact(walks: Episodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(planner("value"), walks, out=tmp_path / "whole", capture="off")
    save, count = _Loop.record, [0]

    def stop(self: Any, stage: str, done: int) -> None:
        save(self, stage, done)
        count[0] += 1
        if count[0] == WARM + 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(_Loop, "record", stop)
    with pytest.raises(Interrupted):
        train(planner("value"), walks, out=tmp_path / "cut")
    monkeypatch.setattr(_Loop, "record", save)
    train(planner("value"), walks, out=tmp_path / "cut", resume=True)
    assert OnTape.recordings > 1
    assert_runs_are_the_same(tmp_path / "cut", tmp_path / "whole")


@pytest.mark.usefixtures("taped")
@pytest.mark.parametrize("method", ["path", "reflow", "consistency"])
@pytest.mark.parametrize("table", [None, 6])
def test_distilling_on_tape_is_distilling(
    method: str, table: int | None, walks: Episodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The student's updates, and the teacher's walks."""
    monkeypatch.setattr(distillation, "FRESH", 1)
    teacher = train(planner("goal", model=replace(FEW, levels=table)), walks, capture="off")
    students = [
        distill(teacher, walks, steps=2, updates=OFTEN, method=method, rate=1e-2, capture=mode)
        for mode in ("off", "auto")
    ]
    programs = 1 if method == "consistency" else 2
    assert (OnTape.recordings, OnTape.replays) == (programs, programs * (OFTEN - WARM - 1))
    assert_same(*([student.state_dict(), student.step_model_distilled.state_dict()] for student in students))


# ---- sampling ----


def rise(x: Tensor, t: Tensor) -> Tensor:
    """log h (B,) of x (B, 3) at t ()."""
    return -(x - t).square().sum(-1)


GUIDES: dict[str, Guide | None] = {
    "none": None,
    "free": ClassifierFree(2.0),
    "lean": EnergyGuidance(rise, 0.1),
    "climb": ValueGuidance(rise, 0.1),
}


def sampler(solver: str, guide: str, device: torch.device = CPU, **more: Any) -> Callable[..., Tensor]:
    torch.manual_seed(0)
    recipe = Recipe("vp", "x0", solver=solver, steps=4, eta=0.5, clip=2.0, churn=Churn(1.0), **more)  # type: ignore[arg-type]
    model = target_copy(Diffusion(Net(), recipe)).to(device)

    @torch.no_grad()
    def sample(noise: Tensor, batch: Batch) -> Tensor:
        pin = Pin(batch.x > 1.5, batch.x)
        return model.sample(noise, batch.cond, guide=GUIDES[guide], pin=pin)

    return sample


@pytest.mark.usefixtures("taped")
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("guide", GUIDES)
def test_replays_of_sampling_are_sampling(solver: str, guide: str) -> None:
    found = []
    for mode in ("off", "auto"):
        call = Captured(sampler(solver, guide), mode, CPU)
        found.append([call(torch.randn(8, 3), batch) for batch in batches()])
    assert OnTape.replays == OFTEN - WARM - 1
    assert_same(*found)


@pytest.mark.usefixtures("taped")
@pytest.mark.parametrize("kind", ["goal", "value"])
@pytest.mark.parametrize("table", [None, 6])
def test_replays_of_plans_are_plans(kind: str, table: int | None, walks: Episodes) -> None:
    agent = train(planner(kind, model=replace(FEW, levels=table, solver="ddpm")), walks, capture="off")
    found = []
    for mode in ("off", "auto"):
        torch.manual_seed(3)
        call, told = Captured(agent.plan, mode, CPU), []
        for _ in range(OFTEN):
            given = {"goal": torch.rand(3, 2)} if kind == "goal" else None
            with torch.no_grad():
                told.append(call(torch.rand(3, 2), given))
        found.append((told, torch.get_rng_state()))
    assert OnTape.replays == OFTEN - WARM - 1
    assert type(told[0]).__name__ == "Plan"
    assert_same(*found)


@pytest.mark.usefixtures("taped")
def test_evaluating_on_tape_is_evaluating(walks: Episodes) -> None:
    world = task("toy-point")
    agent = train(planner("value", replan=3, updates=1), world.episodes(), capture="off")
    reports = [evaluate(agent, world, episodes=2, capture=mode) for mode in ("off", "auto")]
    assert OnTape.recordings == 1
    assert OnTape.replays > 2
    assert replace(reports[1], seconds=reports[0].seconds) == reports[0]


# ---- the host ----


@pytest.mark.parametrize("kind", ["goal", "value"])
@pytest.mark.parametrize("table", [None, 6])
def test_the_host_looks_at_nothing(kind: str, table: int | None, walks: Episodes) -> None:
    """In updates, plans and samples."""
    agent = planner(kind, model=replace(FEW, levels=table), optim=Optim(1e-3, clip=1.0, cosine=True))
    learner = Learning()
    learner.update(batches()[0])
    samplers = [sampler(solver, guide) for solver in SOLVERS for guide in GUIDES]
    with unread():
        for batch in batches():
            learner.update(batch)
        for sample in samplers:
            sample(torch.randn(8, 3), batches()[0])
    for stage in agent.fit(walks):
        stage.update(stage.view.batch(8))
        with unread():
            for _ in range(3):
                stage.update(stage.view.batch(8))
    given = {"goal": torch.rand(3, 2)} if kind == "goal" else None
    agent.plan(torch.rand(3, 2), given)
    with unread():
        agent.plan(torch.rand(3, 2), given)


READERS: dict[str, Callable[[Tensor], Tensor]] = {
    "item": lambda x: x * x.sum().item(),
    "a branch": lambda x: x if x.sum() > 0 else -x,
    "an index": lambda x: x[x > 0].sum(),
    "a place": lambda x: x[x.argmax()],
    "a constant": lambda x: x * torch.tensor([2.0]),
}


@pytest.mark.usefixtures("taped")
@pytest.mark.parametrize("reader", READERS)
def test_what_cannot_be_recorded_is_called(reader: str) -> None:
    """And one warning says so, in one line."""
    function = READERS[reader]
    call, inputs = Captured(function, "auto", CPU), [torch.randn(5) for _ in range(OFTEN)]
    with pytest.warns(UserWarning, match="cannot be captured as a CUDA graph.*waits? for the device") as warned:
        assert_same([call(x) for x in inputs], [function(x) for x in inputs])
    assert len(warned) == 1
    assert "\n" not in str(warned[0].message)
    assert OnTape.recordings == 0


@pytest.mark.usefixtures("taped")
def test_a_host_that_was_heard_to_wait_is_not_recorded() -> None:
    call = Captured(torch.neg, "auto", CPU)
    call.recorder.waits = True  # type: ignore[union-attr]
    with pytest.warns(UserWarning, match="neg.*waits for the device") as warned:
        assert [call(torch.full((), float(i))).item() for i in range(OFTEN)] == [-i for i in range(OFTEN)]
    assert (len(warned), OnTape.recordings) == (1, 0)


# ---- what is passed and returned ----


@pytest.mark.usefixtures("taped")
def test_each_combination_of_shapes_is_recorded() -> None:
    call = Captured(lambda x, given: {"x": -x, "sum": sum(given.values()) if given else None}, "auto", CPU)
    for turn in range(OFTEN):
        for n in (1, 2):
            x, given = torch.full((n,), float(turn)), {"goal": torch.full((n,), 2.0 * turn)}
            found = call(x, given)
            assert (found["x"].tolist(), found["sum"].tolist()) == ([-turn] * n, [2.0 * turn] * n)
            assert call(x, None)["sum"] is None
            assert call(x.double(), None)["x"].dtype == torch.float64
    assert OnTape.recordings == 6


@pytest.mark.usefixtures("taped")
def test_recordings_are_few() -> None:
    """Shapes that never end are called."""
    call = Captured(torch.neg, "auto", CPU)
    for n in range(KINDS + 3):
        for turn in range(OFTEN):
            assert call(torch.full((n,), float(turn))).tolist() == [-turn] * n
    assert OnTape.recordings == KINDS


@pytest.mark.usefixtures("taped")
def test_what_was_passed_and_returned_stays_as_it_is() -> None:
    call, passed = Captured(torch.neg, "auto", CPU), [torch.full((), float(i)) for i in range(OFTEN)]
    returned = [call(x) for x in passed]
    assert [(x.item(), y.item()) for x, y in zip(passed, returned, strict=True)] == [(i, -i) for i in range(OFTEN)]


def test_off_cuda_nothing_is_recorded() -> None:
    """A captured function is then the function."""
    assert [records(mode, "cpu") for mode in ("auto", "off")] == [False, False]
    assert [records(mode, "cuda:1") for mode in capture.MODES] == [True, True, False]
    call = Captured(lambda *args: args, "auto", CPU)
    assert call(1, "a") == (1, "a")


@pytest.mark.usefixtures("taped")
@pytest.mark.parametrize(
    ("words", "programs"),
    [
        (f"train diffuser --task toy-point {' '.join(OPTIONS)} --evaluate-every 6 --out new", 2),  # the look is one
        ("distill RUN --steps 1 --updates 6 --out new", 1),
        ("evaluate RUN --episodes 2", 1),
    ],
)
@pytest.mark.parametrize("mode", ["auto", "off"])
def test_commands_capture(
    command: Command, value_run: Path, tmp_path: Path, words: str, programs: int, mode: str
) -> None:
    run = shutil.copytree(value_run, tmp_path / "run")
    done = command(*words.replace("RUN", str(run)).split(), "--capture", mode)
    assert done.code == 0, done.err
    assert OnTape.recordings == (programs if mode == "auto" else 0)


# ---- what is refused ----


@pytest.mark.parametrize(("mode", "said"), [("on", "expected a CUDA device"), ("maybe", "unknown capture 'maybe'")])
def test_captures_that_there_are_not(mode: str, said: str, walks: Episodes, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        train(planner("goal"), walks, out=tmp_path / "run", capture=mode)
    agent = planner("value")
    with pytest.raises(InputError, match=said):
        distill(agent, walks, steps=1, out=tmp_path / "run", capture=mode)
    with pytest.raises(InputError, match=said):
        evaluate(agent, task("toy-point"), capture=mode)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("words", ["train diffuser --task toy-point", "distill RUN --steps 1", "evaluate RUN"])
def test_the_command_line_refuses_in_a_line(command: Command, value_run: Path, words: str) -> None:
    out = [] if words.startswith("evaluate") else ["--out", "new"]
    done = command(*words.replace("RUN", str(value_run)).split(), *out, "--capture", "on")
    assert (done.code, done.err[1:]) == (2, [])
    assert "capture is on for device 'cpu': expected a CUDA device" in done.err[0]
    assert not Path("new").exists()


# ---- with a GPU ----

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
EXACT = {"atol": 1e-6, "rtol": 1e-6}


@pytest.fixture
def exact() -> Iterator[torch.device]:
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield torch.device("cuda")


@needs_gpu
def test_captured_updates_on_a_gpu(exact: torch.device) -> None:
    found = []
    for mode in ("off", "on"):
        learner = Learning(exact)
        update = Captured(learner.update, mode, exact)
        told = [update(batch) for batch in batches(exact)]
        found.append((told, learner.state(), torch.cuda.get_rng_state()))
    assert len(update.tapes) == 1
    for one, other in zip(*(tensors(part) for part in found), strict=True):
        torch.testing.assert_close(one, other, **EXACT)


@needs_gpu
@pytest.mark.parametrize("guide", GUIDES)
def test_captured_samples_on_a_gpu(exact: torch.device, guide: str) -> None:
    """Equal to those that are not, and other ones with each replay."""
    found = []
    for mode in ("off", "on"):
        call = Captured(sampler("ddpm", guide, exact), mode, exact)
        torch.manual_seed(4)
        noise, batch = torch.randn(8, 3, device=exact), batches(exact)[0]
        found.append([call(noise, batch) for _ in range(OFTEN)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, **EXACT)
    assert len({tuple(x.flatten().tolist()) for x in found[1]}) == OFTEN


@needs_gpu
@pytest.mark.parametrize("kind", ["goal", "value"])
def test_captured_training_on_a_gpu(exact: torch.device, kind: str, walks: Episodes) -> None:
    agents = [train(planner(kind).to(exact), walks.to(exact), capture=mode) for mode in ("off", "on")]
    for one, other in zip(*(agent.state_dict().values() for agent in agents), strict=True):
        torch.testing.assert_close(one, other, **EXACT)
    given = {"goal": torch.rand(3, 2, device=exact)} if kind == "goal" else None
    call, obs = Captured(agents[1].plan, "on", exact), torch.rand(3, 2, device=exact)
    with torch.no_grad():
        for seed in range(OFTEN):
            torch.manual_seed(seed)
            plan = call(obs, given)
            torch.manual_seed(seed)
            torch.testing.assert_close(plan, agents[1].plan(obs, given), **EXACT)
    assert len(call.tapes) == 1


@needs_gpu
@pytest.mark.parametrize("reads", [True, False])
def test_a_gpu_goes_on_after_a_recording_that_failed(reads: bool) -> None:
    """Be it foreseen or not, and with its random numbers."""

    def update(x: Tensor) -> Tensor:
        x = x + torch.randn_like(x)
        if reads:
            return x * x.sum().item()
        torch.cuda.synchronize()
        return x

    x = torch.ones(4, device="cuda")
    call = Captured(update, "on", x.device)
    with pytest.warns(UserWarning, match="cannot be captured") as warned:
        assert len({tuple(call(x).tolist()) for _ in range(OFTEN)}) == OFTEN
    assert len(warned) == 1
    again = Captured(torch.randn_like, "on", x.device)
    assert len({tuple(again(x).tolist()) for _ in range(OFTEN)}) == OFTEN
    assert len(again.tapes) == 1
