"""Trained actors are read without obeying what is in their files, and act as they did for their authors."""

import io
import json
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ornstein.envs import actors
from ornstein.envs.actors import Trained, load
from ornstein.errors import InputError
from ornstein.formats import inert

sb3 = pytest.importorskip("stable_baselines3")
OBS, ACT = 11, 3


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    import gymnasium as gym

    class Still(gym.Env):
        observation_space = gym.spaces.Box(-np.inf, np.inf, (OBS,), np.float64)
        action_space = gym.spaces.Box(-1.0, 1.0, (ACT,), np.float32)

        def reset(self, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
            return np.zeros(OBS), {}

        def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
            return np.zeros(OBS), 0.0, False, False, {}

    sac = sb3.SAC("MlpPolicy", Still(), seed=1, buffer_size=10)
    relu = {"activation_fn": nn.ReLU, "net_arch": [16, 8]}
    return {"sac": sac, "ppo": sb3.PPO("MlpPolicy", Still(), seed=2, policy_kwargs=relu), "env": Still}


@pytest.fixture
def published(models: dict[str, Any], tmp_path: Path) -> Path:
    """A folder that looks like the repository."""
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    for name in ("sac", "ppo"):
        place = tmp_path / name / "Hopper-v3_1"
        (place / "Hopper-v3").mkdir(parents=True)
        models[name].save(place / "Hopper-v3.zip")
    seen = VecNormalize(DummyVecEnv([models["env"]]))
    rng = np.random.default_rng(0)
    seen.obs_rms.mean, seen.obs_rms.var = rng.normal(size=OBS), rng.uniform(0.5, 2, OBS)
    seen.save(str(tmp_path / "ppo" / "Hopper-v3_1" / "Hopper-v3" / "vecnormalize.pkl"))
    models["seen"] = seen
    return tmp_path


def test_published_actors_act_as_their_library_does(models: dict[str, Any], published: Path) -> None:
    rng = np.random.default_rng(1)
    still = np.zeros(ACT)
    for name in ("sac", "ppo"):
        actor = load(published, "Hopper", name, OBS, ACT)
        for _ in range(5):
            obs = rng.normal(size=OBS)
            shown = models["seen"].normalize_obs(obs) if name == "ppo" else obs
            expected, _ = models[name].predict(shown.astype(np.float32), deterministic=True)
            assert np.allclose(actor(obs, 0, still), expected, atol=1e-5)
    assert not load(published, "Hopper", "ppo", OBS, ACT).tanh


def test_noise_is_the_actors_own(models: dict[str, Any], published: Path) -> None:
    actor, obs = load(published, "Hopper", "sac", OBS, ACT), np.full(OBS, 0.3)
    rng = np.random.default_rng(0)
    acts = np.arctanh(
        np.array([actor(obs, 0, rng.standard_normal(ACT)) for _ in range(4000)]).clip(-0.999999, 0.999999)
    )
    with torch.no_grad():
        mean, log_std, _ = models["sac"].actor.get_action_dist_params(torch.tensor(obs[None], dtype=torch.float32))
    assert np.allclose(acts.mean(0), mean[0].numpy(), atol=0.1)
    assert np.allclose(acts.std(0), log_std[0].exp().numpy(), rtol=0.1)


def arrays(**changed: Any) -> dict[str, np.ndarray]:
    found = {"W0": np.zeros((4, OBS)), "b0": np.zeros(4), "W_mean": np.zeros((ACT, 4)), "b_mean": np.full(ACT, 0.5)}
    return {k: v for k, v in ({**found, "log_std": np.zeros(ACT)} | changed).items() if v is not None}


def test_the_time_that_is_left_is_an_input() -> None:
    first = np.zeros((4, OBS + 1))
    first[:, -1] = 1.0
    actor = Trained("x", arrays(W0=first, W_mean=np.ones((ACT, 4))), False, OBS, ACT)
    actor.w["b_mean"][:] = -2.0
    acts = [actor(np.zeros(OBS), step, np.zeros(ACT))[0] for step in (400, 500, 600)]
    assert np.allclose(acts, [0.4, 0.0, -0.4], atol=1e-6)


@pytest.mark.parametrize(
    ("changed", "say"),
    [
        ({"W0": np.zeros((4, 7))}, "W0 has shape"),
        ({"b0": None}, "b0 is missing"),
        ({"log_std": None}, "log_std is missing"),
        ({"W_mean": np.full((ACT, 4), np.nan)}, "W_mean is not finite"),
        ({"obs_mean": np.zeros(OBS)}, "obs_std is missing"),
        ({"W0": None, "b0": None, "W_mean": np.zeros((ACT, OBS))}, "no layer W0"),
    ],
)
def test_weights_that_do_not_fit_are_refused(changed: dict[str, Any], say: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "Hopper-sac.npz", **arrays(**changed))
    (tmp_path / "policies.json").write_text(json.dumps({"Hopper-sac": {"activation": "relu"}}))
    with pytest.raises(InputError, match=say) as caught:
        load(tmp_path, "Hopper", "sac", OBS, ACT)
    assert "get it again" in str(caught.value)


class _Evil:
    def __reduce__(self) -> tuple[Callable, tuple]:
        return print, ("obeyed",)


def test_damaged_files_are_refused_in_one_line(published: Path, tmp_path: Path, capsys: Any) -> None:
    path = published / "ppo" / "Hopper-v3_1" / "Hopper-v3.zip"
    whole, statistics = path.read_bytes(), path.parent / "Hopper-v3" / "vecnormalize.pkl"

    def refused(say: str) -> None:
        with pytest.raises(InputError, match=say) as caught:
            load(published, "Hopper", "ppo", OBS, ACT)
        assert "\n" not in str(caught.value)

    for evil in (b"", b"\x80\x04", pickle.dumps(_Evil()), pickle.dumps([1]), pickle.dumps({"norm_obs": True})):
        statistics.write_bytes(evil)
        refused("statistics|pickle|number")
    statistics.unlink()
    refused("statistics of its observations")
    for size in (0, 100, len(whole) // 2):
        path.write_bytes(whole[:size])
        refused("cannot be used")
    state = OrderedDict(weight=torch.zeros(3, dtype=torch.int64))
    for entries in (
        {},
        {"data": b"{}"},
        {"data": b"{}", "policy.pth": b"PK"},
        {"data": b"{}", "policy.pth": saved(state)},
    ):
        with zipfile.ZipFile(path, "w") as file:
            for name, body in entries.items():
                file.writestr(name, body)
        refused("cannot be used")
    with pytest.raises(InputError, match=r"neither policies\.json nor"):
        load(tmp_path / "absent", "Hopper", "ppo", OBS, ACT)
    with pytest.raises(InputError, match="no actors are given"):
        load(None, "Hopper", "ppo", OBS, ACT)
    assert capsys.readouterr().out == ""


def saved(state: Any) -> bytes:
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def test_weights_are_those_that_torch_wrote() -> None:
    big = torch.arange(12.0).reshape(3, 4)
    state = OrderedDict(a=big, b=big[1], c=torch.tensor(2.0), d=torch.ones(2, dtype=torch.float64))
    found = inert.tensors(zipfile.ZipFile(io.BytesIO(saved(state))))
    assert {name: value.tolist() for name, value in found.items()} == {k: v.tolist() for k, v in state.items()}
    with pytest.raises(InputError, match="not contiguous"):
        inert.tensors(zipfile.ZipFile(io.BytesIO(saved(OrderedDict(a=big.T)))))


def test_arrays_are_those_that_numpy_pickled() -> None:
    for value in (np.arange(6.0).reshape(2, 3), np.float32([1.5, 2.5])):
        for protocol in (3, 4):
            assert np.array_equal(inert.array(inert.told(pickle.dumps(value, protocol))), value)
    for value in (np.arange(3), np.array(["a"]), np.asfortranarray(np.zeros((2, 2))), "text"):
        with pytest.raises(InputError, match="no array of floats"):
            inert.array(inert.told(pickle.dumps(value, 3)))


def test_names_of_actors_are_of_the_table() -> None:
    from ornstein.envs.locomotion import ALL, EXPERT, MEDIUM

    assert {name for name, _ in (*ALL, EXPERT, *MEDIUM.values())} == set(actors.ACTORS)
