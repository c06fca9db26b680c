"""The bandit of Diffusion-QL, as a test of what policies are for: keep all modes of the data, or go to the best and
stay near it. Settings and counts are those of benchmarks/bandit.py; each claim is checked to fail without its cause."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ornstein.contract import Agent
from ornstein.roles.policies.bc import BC

SEED = 0


@pytest.fixture(scope="module")
def bandit() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).resolve().parents[3] / "benchmarks"))
        import bandit

        yield bandit


@pytest.fixture(scope="module")
def trained(bandit: ModuleType) -> Callable[[str], Agent]:
    """Each row or control, trained once."""
    made: dict[str, Agent] = {}
    return lambda row: made.get(row) or made.setdefault(row, bandit.trained(row, SEED))


@pytest.fixture(scope="module")
def judged(bandit: ModuleType, trained: Callable[[str], Agent]) -> Callable[[str], dict[str, Any]]:
    return lambda row: bandit.judge(bandit.actions(trained(row)))


def test_a_gaussian_means_none_of_the_modes(
    bandit: ModuleType, trained: Callable[[str], Agent], judged: Callable[[str], dict[str, Any]]
) -> None:
    """Neither its action, the mean, nor what it would draw."""
    agent, found = trained("bc"), judged("bc")
    assert isinstance(agent, BC)
    assert found["near_any"] == 0
    assert found["from_best_median"] > 0.9
    assert bandit.judge(bandit.gaussian(agent))["near_any"] < 0.2


def all_modes(found: dict[str, Any]) -> bool:
    return found["near_any"] >= 0.85 and all(0.15 <= share <= 0.35 for share in found["at_corners"])


def test_diffusion_keeps_all_modes(judged: Callable[[str], dict[str, Any]]) -> None:
    assert all_modes(judged("diffusion_bc"))


@pytest.mark.parametrize(
    "row", ["diffusion_ql", "diffusion_ql:edp", "idql", "weighted_bc", "qgpo", "sfbc", "ifql", "rebrac", "dtql", "srpo"]
)
def test_a_critic_leads_to_the_best_mode(row: str, judged: Callable[[str], dict[str, Any]]) -> None:
    """And not past it, where the critic has seen nothing."""
    found = judged(row)
    assert found["at_best"] >= 0.9
    assert found["from_best_median"] < 0.25
    assert max(abs(v) for v in found["mean"]) < 0.9  # critics without layer norm lead to 0.96
    assert not all_modes(found)


def test_without_climbing_the_best_is_one_of_four(judged: Callable[[str], dict[str, Any]]) -> None:
    """EDP's updates are Diffusion-QL's, too, once nothing is climbed."""
    assert judged("diffusion_ql:edp, eta=0")["at_best"] < 0.35
    assert judged("diffusion_ql:edp, eta=0")["near_any"] > 0.6


@pytest.mark.parametrize("row", ["idql", "sfbc", "ifql"])
def test_without_the_choice_the_best_is_one_of_four(
    row: str, bandit: ModuleType, trained: Callable[[str], Agent], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = trained(row)
    monkeypatch.setattr(agent, "candidates", 1)
    alone = bandit.judge(bandit.actions(agent))
    assert alone["at_best"] < 0.35
    assert min(alone["at_corners"]) > 0.05


def test_without_guidance_all_modes_are_kept(
    bandit: ModuleType, trained: Callable[[str], Agent], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the same weights: how much is guided is said when acting."""
    agent: Any = trained("qgpo")
    monkeypatch.setattr(agent, "cfg", replace(agent.cfg, guidance=0.0))
    assert all_modes(bandit.judge(bandit.actions(agent)))


def test_weights_say_how_often_a_mode_is_kept(judged: Callable[[str], dict[str, Any]]) -> None:
    """By the expectile's own weights the two better corners come tau / (1 - tau) = 2.3 times as often as the others."""
    found = judged("weighted_bc, weigh=implicit")
    assert found["near_any"] >= 0.85
    low, high = found["at_corners"][1:3], [found["at_corners"][0], found["at_corners"][3]]
    assert 1.6 < sum(high) / sum(low) < 3.2
    assert all_modes(judged("weighted_bc, beta=0"))


def test_what_nothing_holds_goes_past_the_data(judged: Callable[[str], dict[str, Any]]) -> None:
    """To the edge of the box, where no action is."""
    assert max(abs(v) for v in judged("td3")["mean"]) > 0.9


def test_without_a_trust_region_q_leads_past_the_data(judged: Callable[[str], dict[str, Any]]) -> None:
    """To the edge of the box, as critics without layer norm do; with it DTQL stays at the corner."""
    assert max(abs(v) for v in judged("dtql, alpha=0")["mean"]) > 0.9


def test_without_q_srpo_is_at_some_mode(judged: Callable[[str], dict[str, Any]]) -> None:
    """By the score alone, at the levels that tell modes apart."""
    found = judged("srpo, beta=0")
    assert found["near_any"] == 1
    assert found["at_best"] == 0, "by this seed; which one is chance"


def test_consistency_is_led_by_q(judged: Callable[[str], dict[str, Any]]) -> None:
    """By two calls, which after so few updates do not yet end sharply at the corners."""
    assert judged("cpql")["at_best"] > 0.7
    found = judged("cpql, eta=0")
    assert found["at_best"] < 0.35
    assert all(0.08 <= share <= 0.3 for share in found["at_corners"])
