"""The gallery's own logic: the energy distance against closed forms, data sets, what guides should do, tables."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from small import PLAIN

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True, scope="module")
def _on_the_path() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def distance(x: Tensor, y: Tensor) -> float:
    from gallery_data import energy_distance, sort

    return energy_distance(sort(x), sort(y))


# ---- the energy distance ----


def test_energy_distance_is_the_sum_over_pairs() -> None:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'|, no sample being paired with itself."""
    x, y = torch.randn(300, 2, generator=generator()), 0.5 + 1.5 * torch.rand(200, 2, generator=generator(1))
    a, b, c = (torch.cdist(p, q).double() for p, q in ((x, y), (x, x), (y, y)))
    want = 2 * a.mean() - b.sum() / (300 * 299) - c.sum() / (200 * 199)
    assert distance(x, y) == pytest.approx(want.item(), rel=1e-3)
    assert distance(y, x) == pytest.approx(distance(x, y), rel=1e-6)


def test_energy_distance_of_points() -> None:
    """Whatever the direction between them: 2 |v|."""
    for angle in np.linspace(0, math.pi, 13):
        v = torch.tensor([math.cos(angle), math.sin(angle)])
        assert distance(torch.zeros(3, 2), 2 * v.expand(5, 2)) == pytest.approx(4.0, rel=1e-3)


def test_energy_distance_of_gaussians() -> None:
    """Of N(0, 1) and N(0, s^2) in the plane: sqrt(pi) (sqrt(2 (1 + s^2)) - 1 - s)."""
    n, s = 20_000, 2.0
    x, y = torch.randn(n, 2, generator=generator()), s * torch.randn(n, 2, generator=generator(1))
    want = math.sqrt(math.pi) * (math.sqrt(2 * (1 + s * s)) - 1 - s)
    assert distance(x, y) == pytest.approx(want, rel=0.02)


def test_energy_distance_is_without_bias() -> None:
    """Its mean over small samples of one distribution is nought, where the V-statistic's would be 2 sqrt(pi) / 10."""
    g = generator()
    found = [distance(torch.randn(10, 2, generator=g), torch.randn(10, 2, generator=g)) for _ in range(800)]
    mean, error = np.mean(found), np.std(found) / math.sqrt(len(found))
    assert error < 0.01
    assert abs(mean) < 4 * error


def test_an_excess_is_above_the_floor() -> None:
    from gallery_data import TOYS, Figure, gaussian, mean, ruler

    assert mean([1.0, 2.0, 6.0]) == Figure(3.0, pytest.approx(math.sqrt(14 / 6)))
    toy = TOYS["ring"]
    r = ruler(toy.draw, 1000, 4, 0)
    assert abs(r.floor.mean) < 5e-3
    same = r.figures(toy.draw(4000, generator(5)))
    assert abs(same["percent"]) < 4 * same["percent_error"] < 25
    normal = r.figures(gaussian(toy.draw(50_000, generator(6)), 4000, generator(7)))
    assert normal["percent"] == pytest.approx(100, abs=15)
    assert normal["excess"] == pytest.approx(normal["percent"] * r.gaussian.mean / 100)
    assert r.gaussian.mean == pytest.approx(0.0448, rel=0.15)
    half, floor = r.halves[0]
    with pytest.raises(ValueError, match=r"zip\(\)"):
        r.excess(toy.draw(3000, generator()))
    assert floor == pytest.approx(r.halves[0][1])
    assert half.along.shape == (32, 1000)


# ---- data ----


@pytest.mark.parametrize(("name", "covariance"), [("moons", -0.444), ("ring", 0.0), ("board", 3 / 16)])
def test_sets_have_unit_variance(name: str, covariance: float) -> None:
    from gallery_data import TOYS

    x = TOYS[name].draw(40_000, generator())
    assert x.shape == (40_000, 2)
    assert x.mean(0).abs().max() < 0.02
    want = torch.tensor([[1.0, covariance], [covariance, 1.0]])
    assert (torch.cov(x.T) - want).abs().max() < 0.02
    assert torch.equal(x, TOYS[name].draw(40_000, generator()))


def test_the_board_has_eight_fields() -> None:
    from gallery_data import board

    fields = (board(4000, generator()) * math.sqrt(4 / 3)).floor().long()
    assert fields.sum(1).remainder(2).eq(0).all()
    kinds, counts = fields.unique(dim=0, return_counts=True)
    assert len(kinds) == 8
    assert counts.min() > 400
    assert set(kinds.flatten().tolist()) == {-2, -1, 0, 1}


def test_the_ring_is_where_its_labels_say() -> None:
    from gallery_data import MODE_STD, RING, centers, ring

    label = torch.arange(8000) % 8
    offset = ring(8000, generator(), label) - centers()[label]
    assert offset.std().item() == pytest.approx(MODE_STD / RING, rel=0.03)
    assert offset.mean(0).abs().max() < 0.01
    assert torch.allclose(centers().norm(dim=1), torch.full((8,), 1 / RING))


def test_the_moons_are_half_circles() -> None:
    from gallery_data import moons

    gap = 2 / math.pi - 0.25
    size = torch.tensor([0.75 + 0.08**2, 0.5 - 4 / math.pi**2 + gap**2 + 0.08**2]).sqrt()
    x = moons(4000, generator()) * size + torch.tensor([0.5, 0.25])
    upper, lower = x.norm(dim=1), (x - torch.tensor([1.0, 0.5])).norm(dim=1)
    assert (torch.minimum((upper - 1).abs(), (lower - 1).abs()) < 0.4).all()
    assert ((upper - 1).abs() < 0.1).double().mean().item() == pytest.approx(0.43, abs=0.06)


# ---- what guides should do ----


def test_the_tilted_mixture_is_the_tilted_mixture() -> None:
    """Its means are those of the data, weighed by exp(b . x)."""
    from gallery_data import ring
    from gallery_guides import tilted, worth

    data, wanted = ring(100_000, generator()), tilted(20_000, generator(1))
    weight = torch.softmax(worth(data), 0)
    assert (weight @ data - wanted.mean(0)).abs().max() < 0.02
    assert (weight @ data.square() - wanted.square().mean(0)).abs().max() < 0.02


@pytest.mark.parametrize("t", [0.05, 0.5, 0.9])
def test_the_exact_energy_is_exact(t: float) -> None:
    """Up to a constant: log E[exp(b . x0) | x], by weighing samples of the data."""
    from gallery_data import ring
    from gallery_guides import exact, worth
    from gallery_models import Trained, make

    model, data = make(Trained("ring", "cosine", "v")), ring(150_000, generator())
    alpha, sigma = model.process.alpha_sigma(torch.tensor(t))
    at = alpha * ring(3, generator(1)) + sigma * torch.randn(3, 2, generator=generator(2))
    posterior = torch.softmax(-(at[:, None] - alpha * data).square().sum(-1) / (2 * sigma**2), 1)
    want = (posterior * worth(data).exp()).sum(1).log()
    found = exact(model)(at, torch.tensor(t))
    assert torch.allclose(found - found[0], want - want[0], atol=0.03)


def test_what_is_inside_is_data() -> None:
    from gallery_guides import BOUNDS, inside

    for name, project in BOUNDS.items():
        x = inside(name)(500, generator())
        assert x.shape == (500, 2)
        assert torch.equal(project(x), x)


def test_guides_are_measured_by_what_they_should_do() -> None:
    from gallery_data import centers
    from gallery_guides import STD, Guided

    points = centers()[torch.arange(16) % 8].clone()
    points[:4] *= -1
    found = Guided("label", "").extra(points)
    assert found["hits"] == 0.75
    assert found["spread"] == pytest.approx(0, abs=1e-5)
    points = centers()[torch.arange(16) % 8] + torch.tensor([STD, -STD])
    assert Guided("label", "").extra(points)["spread"] == pytest.approx(1, rel=1e-4)
    assert Guided("tilt", "").extra(points)["worth"] == pytest.approx(1.5 * STD, rel=1e-4)
    assert Guided("bound", "", bound="half-space").extra(torch.tensor([[0.2, 9.0], [0.4, 0.0]]))["outside"] == 0.5
    assert Guided("none", "").extra(points) == {}


# ---- models ----


def test_the_network_knows_labels_and_may_be_asked_in_parts() -> None:
    from gallery_models import Trained, make

    net = make(Trained("ring", "cosine", "v", knows="label")).net.eval()
    x, noise, label = torch.randn(4, 2), torch.full((4,), 3.0), torch.eye(8)[:4]
    whole = net(x, noise, label)
    assert torch.allclose(net.body(x, net.times(noise[:1]), net.encode(label)), whole, atol=1e-6)
    given = torch.arange(4) != 1
    assert (net(x, noise, (label, given)) != whole).any(1).tolist() == [False, True, False, False]
    assert make(Trained("ring", "cosine", "v")).net.encode(None) is None


def test_a_model_is_trained_once(tmp_path: Path) -> None:
    from gallery_models import Shelf, Trained, Training, draw

    small = Training(width=8, layers=2, updates=3, batch=4)
    name, other = Trained("ring", "flow", "flow", training=small), Trained("ring", "flow", "flow")
    assert str(name) != str(other)
    shelf = Shelf(tmp_path / "models")
    model = shelf.get(name)
    assert shelf.get(name) is model
    assert not any(p.requires_grad for p in model.parameters())
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "models").iterdir()}
    again = Shelf(tmp_path / "models")
    x = draw(again.get(name), 7, 3, steps=2, solver="ddim")
    assert torch.equal(x, draw(model, 7, 3, steps=2, solver="ddim"))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "models").iterdir()} == files
    assert again.used.keys() == {str(name)}
    model.net.last.bias.fill_(torch.inf)
    assert draw(model, 3, 0, steps=1, solver="ddim").abs().max() == 1e3


@pytest.mark.parametrize("knows", ["", "label", "pin"])
def test_every_kind_of_model_trains(knows: str) -> None:
    from gallery_models import Trained, Training, fit, losses, make

    trained = Trained("ring", "cosine", "x0", knows=knows, training=Training(width=64, updates=150, batch=128))
    model = make(trained)

    def error(model: Any) -> float:
        loss = losses(trained)
        torch.manual_seed(0)
        return sum(loss(model).mean().item() for _ in range(8))

    first = error(model)
    average = fit(model, losses(trained), trained.training)
    assert error(average) < 0.8 * first
    assert error(model) != error(average)


@pytest.mark.parametrize("method", ["path-1", "path-2", "consistency", "training", "reflow"])
def test_every_student_is_taught(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gallery_distill as module
    from gallery_models import Shelf, Training

    small = Training(width=16, layers=2, updates=4, batch=8)
    monkeypatch.setattr(module, "PAIRS", 32)
    monkeypatch.setattr(module, "CALLS", 4)
    monkeypatch.setitem(module.METHODS, method, replace(module.METHODS[method], training=small))
    said, shelf = module.METHODS[method], Shelf(tmp_path)
    few = module.Few(module.Student("ring", method, teaching=small), said.steps)
    assert few.points(shelf, 10, 0).shape == (10, 2)
    assert len(shelf.used) == 1 + said.taught
    student = module.get(shelf, few.student)
    assert (student.recipe.solver, student.recipe.steps) == (
        "consistency" if said.few == "consistency" else "ddim",
        said.steps,
    )
    if said.taught:
        assert not torch.equal(shelf.get(few.student.teacher).net.last.weight, student.net.last.weight)


# ---- cases ----


def parts() -> dict[str, list[Any]]:
    import gallery

    return {name: list(cases()) for name, cases in gallery.PARTS.items()}


def test_everything_is_in_the_gallery() -> None:
    from gallery_cases import CALLS

    from ornstein.diffusion.distill import METHODS, SPANS
    from ornstein.diffusion.process import PROCESSES
    from ornstein.diffusion.schedule import GRIDS
    from ornstein.diffusion.solvers import SOLVERS

    found = parts()
    assert {c.key["process"] for c in found["process"]} == set(PROCESSES)
    assert {c.key["target"] for c in found["target"]} == set(PLAIN)
    assert {c.key["grid"] for c in found["grid"]} == set(GRIDS)
    solvers = {c.key["solver"] for c in found["solver"]}
    assert solvers | {"consistency"} == set(SOLVERS)
    assert {c.key["calls"] for c in found["solver"]} == set(CALLS) == {2, 4, 8, 16, 32, 64}
    import gallery_distill

    assert {m.few for m in gallery_distill.METHODS.values()} == set(METHODS) - set(SPANS)


def test_cases_are_told_apart_and_can_be_made() -> None:
    from ornstein.diffusion.model import Recipe

    for name, cases in parts().items():
        keys = [json.dumps(case.key) for case in cases]
        assert len(set(keys)) == len(keys), name
        for case in cases:
            if hasattr(case, "recipe"):
                Recipe(case.model.process, case.model.target, case.model.levels, **case.recipe)


def test_calls_are_calls() -> None:
    from gallery_cases import case
    from gallery_models import Trained, make

    from ornstein.diffusion.model import Diffusion

    trained = Trained("ring", "cosine", "v")
    for solver, calls in (("heun", 7), ("dpmpp_2s", 8), ("ddim", 8)):
        one, count = case(trained, solver, "trailing", 8), 0
        model = make(trained)
        body = model.net.body

        def counted(*args: Any, body: Any = body) -> Tensor:
            nonlocal count
            count += 1
            return body(*args)

        model.net.body = counted
        Diffusion(model.net, replace(model.recipe, **one.recipe)).sample(torch.zeros(2, 2))
        assert count == calls


class Fake:
    """A case that counts how often it was sampled."""

    rule = "ring"
    drawn: list[int]

    def __init__(self, index: int):
        self.key = {"set": "ring", "label": f"case {index}", "calls": index}

    def points(self, shelf: Any, n: int, seed: int) -> Tensor:
        Fake.drawn.append(self.key["calls"])
        shelf.used[f"model {self.key['calls']}"] = 2.0
        if self.key["calls"] == 2 and len(Fake.drawn) < 4:
            raise KeyboardInterrupt
        return torch.zeros(n, 2)

    def extra(self, points: Tensor) -> dict[str, float]:
        return {"hits": 1.0}


def test_measuring_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gallery
    from gallery_models import Shelf

    Fake.drawn = []
    moments = iter(range(0, 1000, 100))
    monkeypatch.setattr(gallery, "SIZE", 50)
    monkeypatch.setattr(gallery.time, "monotonic", lambda: next(moments))
    monkeypatch.setitem(gallery.PARTS, "fake", lambda: [Fake(i) for i in range(3)])
    path = tmp_path / "results" / "fake.json"
    with pytest.raises(KeyboardInterrupt):
        gallery.measure("fake", Shelf(tmp_path), path)
    assert [row["calls"] for row in json.loads(path.read_text())["rows"]] == [0, 1]
    assert gallery.measure("fake", Shelf(tmp_path), path)
    assert Fake.drawn == [0, 1, 2, 2]
    found = json.loads(path.read_text())
    assert [row["calls"] for row in found["rows"]] == [0, 1, 2]
    assert found["command"] == "python benchmarks/gallery.py --parts fake"
    assert found["seed"] == 0
    assert found["commit"]
    assert found["machine"]["threads"] == 1
    assert found["models"] == {f"model {i}": 2.0 for i in range(3)}
    assert found["measure"] == {"statistic": "U", "samples": 50, "repetitions": 4}
    assert found["yardsticks"]["ring"]["gaussian"] > 0.01
    assert found["rows"][0]["percent"] > 100
    assert found["rows"][0]["hits"] == 1.0
    assert not gallery.measure("fake", Shelf(tmp_path), path)
    assert len(Fake.drawn) == 4


# ---- pictures ----


def test_a_picture_is_dark_where_samples_are(tmp_path: Path) -> None:
    from gallery_draw import FRAME, INK, PAPER, Panel, density, scale_of, sheet
    from PIL import Image

    right = torch.tensor([[FRAME / 2, FRAME / 2]]).expand(100, 2)  # above, to the right
    counts = density(right, 40)
    assert counts.sum() == pytest.approx(100)
    assert np.unravel_index(counts.argmax(), counts.shape) in [(i, j) for i in (8, 9, 10, 11) for j in (28, 29, 30, 31)]
    path = tmp_path / "deep" / "picture.png"
    sheet(path, [[Panel(right, "a"), Panel(-right)]], ["row"], ["one\ntwo", ""], [scale_of(right, 40)], 40)
    image = Image.open(path)
    assert image.mode == "P"
    pixels = np.asarray(image.convert("RGB"))
    dark = np.argwhere((pixels == INK).all(-1))
    assert (pixels == PAPER).all(-1).mean() > 0.5
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) <= 16
    gap = np.diff(np.unique(dark[:, 1])).max()
    assert gap > 20  # one blot in either panel
    assert path.stat().st_size < 5_000


# ---- tables ----


def row(percent: float, **said: Any) -> dict[str, Any]:
    return {"percent": percent, "percent_error": 0.26, "excess": percent / 1e4, **said}


def test_cells_have_the_digits_that_count() -> None:
    from gallery_tables import cell

    cells = [cell(row(p)) for p in (-0.31, 0.04, 9.94, 9.96, 123.4, 999.4, 999.6)]
    assert cells == ["-0.3", "0.0", "9.9", "10", "123", "999", "> 999"]
    assert cell(row(2.0), True) == "2.0 ± 0.3"
    assert cell(row(20.0), True) == "20"
    assert cell(None) == ""


def test_tables_are_made_from_files(tmp_path: Path) -> None:
    import gallery_tables as tables

    for make in (tables.process, tables.solver, tables.grid, tables.target, tables.distill, tables.yardsticks):
        assert make(tmp_path) == tables.EMPTY
    same = {"process": "flow", "levels": None, "target": "flow", "grid": "trailing"}
    rows = [
        row(10.0 * i + calls / 10, set=s, label="ddim", solver="ddim", calls=calls, **same)
        for i, s in enumerate(tables.SETS)
        for calls in (8, 64)
    ]
    stick = {"floor": 1e-6, "floor_error": 2e-5, "gaussian": 0.02, "gaussian_error": 3e-4}
    found = {"rows": rows, "yardsticks": dict.fromkeys(tables.SETS, stick)}
    for part in ("process", "solver", "grid", "target"):
        (tmp_path / f"{part}.json").write_text(json.dumps(found))
    lines = tables.process(tmp_path).splitlines()
    assert (
        lines[0]
        == "| process | target | solver, grid | two moons: 8 | 64 | 8 Gaussians: 8 | 64 | checkerboard: 8 | 64 |"
    )
    assert lines[2] == "| `flow` | `flow` | `ddim`, `trailing` | 0.8 | 6.4 ± 0.3 | 11 | 16 | 21 | 26 |"
    assert "| `ddim` | 21 | 26 |" in tables.solver(tmp_path)
    assert tables.solver(tmp_path).count("| solver | 8 calls | 64 calls |") == 3
    assert "| checkerboard | 0.01 ± 0.20 | 200.0 ± 3.0 | 0.1 % |" in tables.yardsticks(tmp_path)
    guides = [row(1.0, task="label", label="`Free(1)`", solver="ddim", hits=0.987, spread=1.234), row(2.0, task="tilt")]
    (tmp_path / "guide.json").write_text(json.dumps({"rows": guides}))
    said = tables.guide("label", {"hits": "{:.1%}", "spread": "{:.2f}"}, tmp_path).splitlines()
    assert said[2:] == ["| `ClassifierFree(1)` | `ddim` | 1.0 ± 0.3 | 98.7% | 1.23 |"]


def test_the_students_table(tmp_path: Path) -> None:
    import gallery_tables as tables

    rows = [row(i, set=s, label="teacher", process="flow", solver="ddim", calls=1) for i, s in enumerate(tables.SETS)]
    rows += [row(5.0, set="board", label="reflow", title="ReFlow", process="flow", calls=2)]
    (tmp_path / "distill.json").write_text(json.dumps({"rows": rows}))
    lines = tables.distill(tmp_path).splitlines()
    assert lines[2] == "| teacher, `ddim` | `flow` | 1 | 0.0 ± 0.3 | 1.0 ± 0.3 | 2.0 ± 0.3 |"
    assert lines[3] == "| ReFlow | `flow` | 2 |  |  | 5.0 ± 0.3 |"


def test_training_is_told_once_for_each_model(tmp_path: Path) -> None:
    import gallery_tables as tables

    file = {
        "models": {"a": 60.0, "b": 60.0},
        "training": {"layers": 3, "width": 128, "updates": 8000, "batch": 256},
        "measure": {"repetitions": 4, "samples": 20_000},
        "machine": {"cpu": "chip"},
    }
    for name in ("one", "two"):
        (tmp_path / f"{name}.json").write_text(json.dumps(file))
    assert "2 networks" in tables.training(tmp_path)
    assert "2 minutes of one core in all (chip)" in tables.training(tmp_path)


def test_the_page_has_all_tables() -> None:
    import gallery_tables

    page = (ROOT / "docs" / "gallery.md").read_text()
    assert set(re.findall(r"<!-- results:(\S+) -->", page)) == set(gallery_tables.TABLES)
    for image in re.findall(r"\((images/\S+)\)", page):
        assert (ROOT / "docs" / image).stat().st_size < 150_000
