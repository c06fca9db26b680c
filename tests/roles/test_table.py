"""The table of algorithms: names of today and of before, what a learner knows of its row, and what listing imports."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from ornstein import roles
from ornstein.data.episodes import Episodes
from ornstein.envs.tasks import task
from ornstein.errors import InputError
from ornstein.roles import ALGORITHMS, FORMER, Parts, Row, build, current, find, listed, name_of, preset, slug
from ornstein.roles.policies.bc import BC, Config
from ornstein.roles.policies.diffusion_ql import DiffusionQL
from ornstein.roles.policies.td3_bc import TD3BC
from ornstein.run.checkpoint import load
from ornstein.run.distill import distill
from ornstein.run.evaluate import evaluate
from ornstein.run.train import train
from small import ROWS, VALUE, child_environment
from test_contract import make


def test_rows_of_one_class_differ_in_their_settings() -> None:
    made = [(row.parts.make, row.parts.config) for row in ALGORITHMS.values()]
    assert all(one not in made[:i] for i, one in enumerate(made))
    assert all(find(f"{name}:{one}").make is row.parts.make for name, row in ALGORITHMS.items() for one in row.variants)
    assert list(listed()) == list(ROWS)


@pytest.mark.parametrize("former", FORMER)
def test_former_names_are_taken(former: str) -> None:
    name = current(former)
    assert name in listed()
    assert former not in listed()
    assert find(former) == find(name)
    assert preset(former, ("hopper", "pointmaze-umaze")) == preset(name, ("hopper", "pointmaze-umaze"))
    assert slug(former) == slug(name) == former


def test_a_variant_may_have_presets_of_its_own() -> None:
    keys = ("pointmaze-umaze",)
    assert preset("diffuser:paper", keys).horizon == 128
    assert preset("diffuser", keys).horizon == 32
    assert preset("diffuser:paper").model != preset("diffuser").model
    assert preset("idql:paper", ("antmaze",)).tau == preset("idql", ("antmaze",)).tau == 0.9


def test_names_of_folders_are_portable_and_distinct() -> None:
    names = [slug(name) for name in listed()]
    assert all(name.replace("_", "").isalnum() for name in names)
    assert len(set(names)) == len(names)
    assert slug("bc:large") == "bc_large"
    assert slug("peer_bc") == "peer_bc"  # not of the table


@pytest.mark.parametrize("name", ["idql:", "idql:edp", "edp:paper", ":paper", "paper", "", "idql:paper:paper"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"unknown algorithm .*: expected one of awr, bc, .*diffusion_ql:edp"):
        find(name)


@pytest.mark.parametrize("name", ["diffusion_ql:edp", "edp", "idql:paper", "bc"])
def test_a_learner_knows_its_row(name: str, walks: Episodes, tmp_path: Path) -> None:
    """Trained, saved, loaded, pickled and distilled it is still of that row, and so its reports say."""
    learner = train(make(name, VALUE), walks, out=tmp_path / "run")
    assert name_of(learner) == current(name)
    again = load(tmp_path / "run")
    for one in (again, pickle.loads(pickle.dumps(learner))):
        assert name_of(one) == one.row == current(name)
    assert evaluate(again, task("toy-point"), episodes=1).algorithm == current(name)
    if name != "bc":
        student = distill(again, walks, steps=1, updates=1, out=tmp_path / "student")
        assert name_of(student) == name_of(load(tmp_path / "student")) == current(name)


def test_one_made_by_its_class_is_of_the_class_s_row() -> None:
    class Own(BC):
        """In no row."""

    assert name_of(DiffusionQL(VALUE, preset("diffusion_ql:edp"))) == "diffusion_ql"
    assert name_of(Own(VALUE, Config())) == "Own"
    assert name_of(TD3BC(VALUE)) == "td3_bc"  # the first of two rows
    assert name_of(build("td3", VALUE, preset("td3"))) == "td3"


def test_a_row_of_one_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(BC):
        """With a variant."""

    large = roles.Variant(Config(hidden=(64, 64)), {"hopper": {"updates": 7}})
    row = Row("policies", "imitation", "mine", lambda: Parts(Own, Config(), {}, {"large": large}), {"large": "larger"})
    monkeypatch.setitem(ALGORITHMS, "own", row)
    learner = build("own:large", VALUE, preset("own:large", ("hopper",)))
    assert (name_of(learner), learner.cfg.hidden, learner.cfg.updates) == ("own:large", (64, 64), 7)
    assert name_of(Own(VALUE, Config())) == "own"


def test_the_table_is_told_without_torch() -> None:
    """And its rooms are imported when they are asked for."""
    code = (
        "import sys; from ornstein import roles\n"
        "told = [(name, row.role, row.setting, text) for name, (row, text) in roles.listed().items()]\n"
        "assert all(map(all, told)) and ('diffuser', 'planners', 'offline') == told[0][:3]\n"
        "assert roles.slug(roles.current('edp')) == 'edp'\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
        "import ornstein\n"
        "assert ornstein.planners.Diffuser is roles.planners.Diffuser and ornstein.policies is roles.policies\n"
        "assert roles.find('edp').make is ornstein.policies.DiffusionQL and 'torch' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=child_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
