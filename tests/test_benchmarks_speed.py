"""The speed benchmark's own logic, without the peer: turns, medians, ratios of neighbours, JSON, resuming, tables."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(autouse=True, scope="module")
def _on_the_path() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield


class Clock:
    """A clock that only moves when somebody works."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order: list[str] = []

    def __call__(self) -> float:
        return self.now

    def work(self, name: str, *seconds: float) -> Callable[[], None]:
        """Work that takes these seconds in turn, and the last of them ever after."""
        left = list(seconds)

        def run() -> None:
            self.order.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


def timer(clock: Clock) -> Any:
    from speed_harness import Timer

    return Timer(wall=clock, cpu=lambda: clock.now / 2)


def test_sides_take_turns_after_a_warm_up() -> None:
    from speed_harness import in_turns

    clock = Clock()
    blocks = in_turns({"a": clock.work("a", 1.0), "b": clock.work("b", 2.0)}, timer(clock), rounds=4, target=0.5)
    assert "".join(clock.order) == "aaabb" + "ab" * 4
    assert [b.wall for b in blocks["b"]] == [2.0] * 4
    assert [b.cpu for b in blocks["b"]] == [1.0] * 4


def test_blocks_are_long_enough_and_seconds_are_of_one_call() -> None:
    from speed_harness import in_turns

    clock = Clock()
    blocks = in_turns({"a": clock.work("a", 3.0, 0.1)}, timer(clock), rounds=3, target=0.5)
    assert len(clock.order) == 3 + 3 * 5  # the first call is no measure of the others
    assert blocks["a"][0].wall == pytest.approx(0.1)
    assert blocks["a"][0].cpu == pytest.approx(0.05)
    clock = Clock()
    in_turns({"a": clock.work("a", 3.0)}, timer(clock), rounds=3, target=0.5)
    assert len(clock.order) == 2 + 3  # too slow to be called three times for a warm-up


def test_a_slow_figure_gets_three_rounds() -> None:
    from speed_harness import in_turns

    clock = Clock()
    blocks = in_turns({"a": clock.work("a", 6.0), "b": clock.work("b", 6.0)}, timer(clock), rounds=9, budget=20.0)
    assert len(blocks["a"]) == len(blocks["b"]) == 3


def test_no_garbage_is_collected_in_a_block() -> None:
    import gc

    from speed_harness import Timer

    seen: list[bool] = []
    Timer().block(lambda: seen.append(gc.isenabled()), 2)
    assert seen == [False, False]
    assert gc.isenabled()


def test_a_ratio_is_the_median_over_neighbours() -> None:
    """Not the ratio of medians: neighbours share what the machine was busy with."""
    from speed_harness import ratio

    peer, ours = [2.0, 20.0, 4.0, 6.0, 8.0], [1.0, 10.0, 2.0, 6.0, 2.0]
    found = ratio(peer, ours)
    assert found["pairs"] == [2.0, 2.0, 2.0, 1.0, 4.0]
    assert found["ratio"] == 2.0
    assert found["ci95"] == [1.0, 4.0]
    assert ratio(peer, ours) == found  # the bootstrap is seeded
    assert ratio([3.0] * 9, [2.0] * 9)["ci95"] == [1.5, 1.5]
    with pytest.raises(ValueError, match="do not pair"):
        ratio([1.0], [1.0, 2.0])


def test_the_interval_narrows_with_more_blocks() -> None:
    from speed_harness import ratio

    few, many = (ratio([1.0 + 0.01 * (i % 7) for i in range(n)], [1.0] * n)["ci95"] for n in (7, 70))
    assert 0 < many[1] - many[0] < few[1] - few[0]


def test_a_row_says_all_sides() -> None:
    from speed_harness import Work, row

    clock = Clock()
    works = {
        "peer": Work(clock.work("p", 4.0), 10, 5, "one wasted"),
        "ours": Work(clock.work("o", 1.0), 8, 4, scale=2.0),
    }
    found = row("act", works, timer(clock), "cpu", rounds=3)
    assert found["sides"]["peer"]["seconds"] == 2.0
    assert found["sides"]["ours"]["seconds"] == 1.0  # half a second by the processor's clock, times its scale
    assert found["sides"]["ours"]["calls"] == 4
    assert found["sides"]["peer"]["note"] == "one wasted"
    assert found["ratios"]["ours"]["ratio"] == 2.0
    assert "peer" not in found["ratios"]
    assert json.loads(json.dumps(found)) == found
    assert row("act", {"ours": works["ours"]}, timer(clock), "wall", rounds=3)["ratios"] == {}


def test_what_is_finished_is_skipped(tmp_path: Path) -> None:
    from speed_harness import finished, write

    path = tmp_path / "deep" / "c-cpu.json"
    assert not finished(path, "abc", [])
    write(path, {"commit": "abc", "asked": ["peer", "like_for_like"]})
    assert [p.name for p in path.parent.iterdir()] == ["c-cpu.json"]
    assert finished(path, "abc", ["peer", "like_for_like"])
    assert finished(path, "abc", ["like_for_like"])
    assert not finished(path, "abc", ["as_shipped"])
    assert not finished(path, "abd", ["peer"])
    assert not finished(path, None, ["peer"])


def test_a_commit_says_what_was_changed_on_top(tmp_path: Path) -> None:
    from speed_harness import commit_of

    def git(*args: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *identity, *args], cwd=tmp_path, check=True, capture_output=True)

    assert commit_of(tmp_path / "nowhere") is None
    git("init", "-q")
    for name in ("src", "results"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("one")
    git("add", ".")
    git("commit", "-qm", "first")
    clean = commit_of(tmp_path, "src")
    assert clean
    assert "+" not in clean
    (tmp_path / "results" / "file").write_text("two")
    assert commit_of(tmp_path, "src") == clean
    (tmp_path / "src" / "new").write_text("a")
    added = commit_of(tmp_path, "src") or ""
    (tmp_path / "src" / "file").write_text("two")
    changed = commit_of(tmp_path, "src") or ""
    assert added.startswith(clean + "+")
    assert changed.startswith(clean + "+")
    assert added != changed
    git("checkout", "src/file")
    assert commit_of(tmp_path, "results") != clean
    git("checkout", "results/file")
    assert commit_of(tmp_path) == clean  # a checkout that is only used gathers files


def result(name: str, **ratios: float) -> dict[str, Any]:
    """The JSON of a case with one figure, `act`, that takes the peer 12 ms."""
    from speed_cases import CASES

    def side(seconds: float, **more: Any) -> dict[str, Any]:
        return {"seconds": seconds, "params": 172_230, "calls": 5, "note": "`row`, five steps", **more}

    sides = {name: side(0.012 / value, calls=4) for name, value in ratios.items()} | {"peer": side(0.012)}
    found = {name: {"ratio": value, "ci95": [value - 0.1, value + 0.1]} for name, value in ratios.items()}
    return {
        "case": name,
        "title": CASES[name]["title"],
        "commit": "abc",
        "peer": "05f17fc",
        "device": "cpu",
        "machine": {"cpu": "a processor", "threads": 1, "load": [0.4, 0.5, 0.6]},
        "versions": {"torch": "2.13.0"},
        "seconds": 60,
        "rows": [{"metric": "act", "clock": "cpu", "sides": sides, "ratios": found, "short": []}],
    }


def test_tables_are_made_from_results(tmp_path: Path) -> None:
    import speed_tables
    from speed_harness import write

    assert speed_tables.side_by_side("cpu", tmp_path) == speed_tables.EMPTY
    assert speed_tables.summary(tmp_path) == speed_tables.EMPTY
    write(tmp_path / "c-cpu.json", result("c", like_for_like=2.0, equal_calls=1.5, as_shipped=8.0))
    busy = result("d256", like_for_like=0.5)
    busy["rows"][0]["load"] = 3.25
    write(tmp_path / "d256-cpu.json", busy)
    table = speed_tables.side_by_side("cpu", tmp_path).splitlines()
    assert table[2].startswith("| Diffusion-QL, batch 256 | one decision for one observation, all candidates |")
    assert "| 5 | 12 ms | 4 | 6 ms | 2.00 | 1.90 to 2.10 | 4 | 1.5 ms | 8.00 | 7.90 to 8.10 |" in table[2]
    assert table[2].endswith("| `row`, five steps | 0.4 | abc |")
    assert "| **0.50** | 0.40 to 0.60 |  |  |  |  |  | 3.2 | abc |" in table[3]  # what is slower stands out
    assert table[4].startswith("| geometric mean | training and sampling |")
    assert "| 1.00 |" in table[4]
    assert "| 8.00 |" in table[4]
    assert "sampling" in table[5]
    assert len(table) == 6  # nothing of training was timed
    assert "like for like, cpu | 2 | 1.00 |  | 1.00 | **0.50** to 2.00" in speed_tables.summary(tmp_path)
    assert speed_tables.setting("cpu", tmp_path).startswith("a processor, 1 thread. torch 2.13.0; commit abc;")


def test_only_what_the_table_of_algorithms_has_is_as_shipped(tmp_path: Path) -> None:
    """Files of before have agents under that name that were put together for the page."""
    import speed_tables
    from speed_harness import write

    old = result("c", like_for_like=2.0, as_shipped=8.0)
    old["rows"][0]["sides"]["as_shipped"]["note"] = "the authors' network"
    write(tmp_path / "c-cpu.json", old)
    assert "8.00" not in speed_tables.side_by_side("cpu", tmp_path)
    assert "as shipped" not in speed_tables.summary(tmp_path)


def test_every_row_of_a_table_has_as_many_cells(tmp_path: Path) -> None:
    import speed_tables
    from speed_harness import write

    write(tmp_path / "c-cpu.json", result("c", like_for_like=2.0, equal_calls=1.5, as_shipped=8.0))
    equal = result("c", equal_result=11.0) | {"measure": "success", "quality": {"peer": 0.91, "equal_result": 0.93}}
    write(tmp_path / "equal_maze-cpu.json", equal)
    makers = (speed_tables.side_by_side, speed_tables.equal_result)
    for table in [*(make("cpu", tmp_path) for make in makers), speed_tables.summary(tmp_path)]:
        assert len({line.count("|") for line in table.splitlines()}) == 1
        assert len(table.splitlines()) >= 3
    assert "| success | 0.91 | 0.93 |" in speed_tables.equal_result("cpu", tmp_path)


def test_what_falls_short_is_told_with_a_profile(tmp_path: Path) -> None:
    import speed_tables
    from speed_cases import aim
    from speed_harness import write

    assert speed_tables.short("cpu", tmp_path) == speed_tables.EMPTY
    slow = result("c", like_for_like=1.2)
    write(tmp_path / "d256-cpu.json", result("d256", like_for_like=1.2))
    assert speed_tables.short("cpu", tmp_path) == "*None.*"
    profiles = {"like_for_like": [["aten::mish", 0.4]], "peer": [["aten::mm", 0.3]]}
    slow["rows"][0] |= {"short": ["like_for_like"], "aims": {"like_for_like": 1.5}, "profiles": profiles}
    write(tmp_path / "c-cpu.json", slow)
    row = speed_tables.short("cpu", tmp_path).splitlines()[2]
    assert row.endswith("| like for like | 1.5 | 1.20 | mish 40% | mm 30% |")
    assert [aim("c", m, "like_for_like", "cpu") for m in ("train_step", "train_iter", "act")] == [1.0, 1.4, 1.5]
    assert aim("h_windows", "batch", "like_for_like", "cpu") == 10.0
    assert aim("c", "act", "as_shipped", "cpu") == 1.0
    assert aim("c", "act", "equal_calls", "cpu") == 0.0
    assert [aim("f_unet", m, "like_for_like", "cuda") for m in ("train_step", "chunk_ddpm")] == [1.5, 5.0]


def test_durations_read_well() -> None:
    from speed_tables import seconds, times, weights

    assert [seconds(s) for s in (0.00437, 0.192, 1.113, 5.94, 90.0, 660.0, 10080.0)] == [
        "4.37 ms", "192 ms", "1.11 s", "5.94 s", "90 s", "11 min", "2.8 h",
    ]  # fmt: skip
    assert [times(r) for r in (0.999, 1.0, 25.9)] == ["**1.00**", "1.00", "26"]
    assert [weights(n) for n in (0, 172_230, 50_656_681)] == ["", "172 k", "50.7 M"]


def test_the_equal_result_table_has_an_open_door(tmp_path: Path) -> None:
    from speed_equal import equal
    from speed_harness import Work

    ours, peer = Work(lambda: None), Work(lambda: None)
    row = equal("two moons", "energy distance", ours, peer, (0.1, 0.12))
    assert list(row.works) == ["peer", "equal_result"]
    assert row.facts["quality"] == {"equal_result": 0.1, "peer": 0.12}
    assert list(equal("two moons", "energy distance", ours, None, (0.1, None)).works) == ["equal_result"]


SMALL = {"batch": 4, "plans": 2, "candidates": 3, "size": 400, "episode": 100, "hidden": 16, "blocks": 1, "made": 4}
SMALL |= {"mults": (1, 2), "width": 32, "layers": 1, "dim": 16, "heads": 2, "inverse_hidden": 16, "emb": 16}
SMALL |= {"levels": 8, "horizon": 16, "ddim": 4, "steps": 4}
ENOUGH = {"b": {"horizon": 24}, "d256": {"batch": 256}, "e256": {"dim": 5}, "h_windows": {"horizon": 32}}
SHIPPED = {  # beside what the table's agents have of their own: figures, and calls of the network in one of them
    "a": ({"train_step", "train_iter", "plan_guided"}, 10),
    "b": ({"train_step", "plan"}, None),
    "c": ({"train_iter"}, None),
    "d256": ({"train_iter", "act"}, 8),
    "e256": ({"train_step", "generate"}, 31),
    "f_default": ({"train_step", "chunk_ddim"}, 10),
    "f_transformer": ({"train_step", "chunk_ddim"}, 10),
    "g": (set(), None),
    "h_windows": (set(), None),
}


@pytest.mark.parametrize("side", ["like_for_like", "equal_calls"])
@pytest.mark.parametrize("name", ["a", "b", "c", "d256", "e256", "f_unet", "f_transformer", "g", "h_windows"])
def test_our_side_runs(name: str, side: str) -> None:
    """Every figure of ours, with small networks."""
    import speed_ours
    from speed_cases import CASES

    shape = {key: SMALL.get(key, value) for key, value in CASES[name].items()} | ENOUGH.get(name, {})
    works = speed_ours.sides(shape, "cpu", side, None)
    assert works
    run(works, shape)


@pytest.mark.parametrize("name", SHIPPED)
def test_what_ships_runs(name: str) -> None:
    """The table's own agents, with their own networks; what the contract has no door to is no figure."""
    import speed_ours
    from speed_cases import CASES

    shape = CASES[name] | {"batch": 4 if name != "d256" else 256, "made": 4}
    works = speed_ours.sides(shape, "cpu", "as_shipped", None)
    figures, calls = SHIPPED[name]
    assert works.keys() == figures
    run(works, shape)
    assert {work.note.split(",")[0] for work in works.values()} <= {f"`{shape.get('row')}`"}
    assert calls in {None, *(work.calls for work in works.values())}


def run(works: dict[str, Any], shape: dict[str, Any]) -> None:
    """Call each, and look at what it makes."""
    import torch
    from speed_cases import METRICS

    assert works.keys() <= METRICS.keys()
    for metric, work in works.items():
        made = work.run()
        assert work.params > 0 or metric.startswith("batch"), metric
        if isinstance(made, torch.Tensor):
            assert made.isfinite().all(), metric
            assert metric != "act" or made.shape == (1, shape["act"])


def test_calls_of_the_network_are_counted() -> None:
    import speed_ours
    from speed_cases import CASES

    shape = CASES["c"] | {"batch": 4, "hidden": 16}
    calls: list[int] = []
    body = speed_ours.MLP.body
    counted = {}
    for side in ("like_for_like", "equal_calls"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(speed_ours.MLP, "body", lambda *args: calls.append(1) or body(*args))
            works = speed_ours.sides(shape, "cpu", side, None)
            for metric in ("train_iter", "act"):
                calls.clear()
                works[metric].run()
                assert len(calls) == works[metric].calls
                counted[side, metric] = len(calls)
    assert counted["equal_calls", "act"] == counted["like_for_like", "act"] + 1
    assert counted["equal_calls", "train_iter"] == counted["like_for_like", "train_iter"] + 2
