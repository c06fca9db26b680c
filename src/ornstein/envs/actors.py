"""Trained actors of MuJoCo tasks that others have published, as plain functions of numpy; torch is not needed.

They are read as they lie in the repository github.com/DLR-RM/rl-trained-agents (MIT), of which nothing is unpickled
(`formats/inert.py`), or as arrays: `ENV-ALGORITHM.npz` and `policies.json`, which says the activation of each.
Those arrays are W0, b0, W1, b1, ... of the hidden layers (y = W x + b) and W_mean, b_mean of the head; W_logstd and
b_logstd where the action is tanh(mean + std noise); else log_std, where it is clip(mean + std noise, -1, 1), and
obs_mean, obs_std where it acts on clip((x - mean) / std, -10, 10). A first layer with one input more than the
observation has also sees the time that is left, 1 - t / 1000.
"""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ornstein.errors import InputError, OrnsteinError
from ornstein.files import parsed, read_json, regular
from ornstein.formats import inert
from ornstein.formats.npz import DAMAGE, opened_zip

LIMIT = 1000  # steps of an episode, by which the time that is left is counted
CLIP = 10.0  # of a normalised observation
MEGABYTES = 50  # of a file, at most
ACTORS = ("a2c", "trpo", "ppo", "sac", "tqc")  # from poor to expert on most worlds
WHERE = "a clone of github.com/DLR-RM/rl-trained-agents, or a folder with policies.json and its arrays"


class Trained:
    """One trained actor."""

    def __init__(self, name: str, weights: dict[str, np.ndarray], tanh: bool, obs: int, act: int) -> None:
        """Raises `InputError` for weights that do not fit together, or not to sizes `obs` and `act`."""
        self.name, self.tanh = name, tanh
        self.w = {key: np.asarray(value, np.float32) for key, value in weights.items()}
        self.hidden = sum(key[0] == "W" and key[1:].isdigit() for key in self.w)
        self.squashed = "W_logstd" in self.w
        self._check(obs, act)
        self.timed = self.w["W0"].shape[1] == obs + 1

    def _check(self, obs: int, act: int) -> None:
        first = self.w["W0"].shape[-1] if "W0" in self.w else obs
        wide = [first if first == obs + 1 else obs]
        wide += [(*self.w[f"W{i}"].shape, 0)[0] if f"W{i}" in self.w else 0 for i in range(self.hidden)]
        shapes: dict[str, tuple[int, ...]] = {f"W{i}": (wide[i + 1], wide[i]) for i in range(self.hidden)}
        shapes |= {f"b{i}": (wide[i + 1],) for i in range(self.hidden)}
        shapes |= {"W_mean": (act, wide[-1]), "b_mean": (act,)}
        shapes |= {"W_logstd": (act, wide[-1]), "b_logstd": (act,)} if self.squashed else {"log_std": (act,)}
        if "obs_mean" in self.w or "obs_std" in self.w:
            shapes |= {"obs_mean": (wide[0],), "obs_std": (wide[0],)}
        for key, shape in shapes.items():
            found = self.w[key].shape if key in self.w else None
            if found != shape or not np.isfinite(self.w[key]).all():
                has = "is missing" if found is None else f"has shape {found}" if found != shape else "is not finite"
                raise InputError(f"actor {self.name}: {key} {has}: expected finite numbers of shape {shape}")
        if not self.hidden:
            raise InputError(f"actor {self.name} has no layer W0: expected at least one")

    def __call__(self, obs: np.ndarray, step: int, noise: np.ndarray) -> np.ndarray:
        """The action (A,) for an observation (O,) in step `step`; `noise` (A,) is normal, or zeros."""
        w = self.w
        x = np.append(obs, 1 - step / LIMIT) if self.timed else obs
        if "obs_mean" in w:
            x = ((x - w["obs_mean"]) / w["obs_std"]).clip(-CLIP, CLIP)
        x = x.astype(np.float32)
        for i in range(self.hidden):
            x = w[f"W{i}"] @ x + w[f"b{i}"]
            x = np.tanh(x) if self.tanh else np.maximum(x, 0)
        mean = w["W_mean"] @ x + w["b_mean"]
        if self.squashed:
            std = np.exp((w["W_logstd"] @ x + w["b_logstd"]).clip(-20, 2))
            return np.tanh(mean + std * noise).astype(np.float32)
        return (mean + np.exp(w["log_std"]) * noise).clip(-1, 1).astype(np.float32)


def load(folder: str | Path | None, family: str, name: str, obs: int, act: int) -> Trained:
    """The actor of algorithm `name` for the environment `family`, such as Hopper. Raises `InputError` where it is not
    there, damaged, or of other sizes than `obs` and `act`."""
    if folder is None:
        raise InputError(f"no actors are given: expected --actors DIR, {WHERE}")
    root = Path(folder).expanduser()
    arrays, published = root / "policies.json", root / name / f"{family}-v3_1" / f"{family}-v3.zip"
    if not arrays.is_file() and not published.is_file():
        raise InputError(f"actors {root} has neither policies.json nor {published.relative_to(root)}: expected {WHERE}")
    path = root / f"{family}-{name}.npz" if arrays.is_file() else published
    try:
        weights, tanh = _arrays(path, arrays) if arrays.is_file() else _published(path, family)
        return Trained(f"{family}-{name} of {path}", weights, tanh, obs, act)
    except (OrnsteinError, KeyError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else error
        raise InputError(f"actor {path} cannot be used ({why}): expected {WHERE}; get it again") from error


# ---- arrays ----


def _arrays(path: Path, told: Path) -> tuple[dict[str, np.ndarray], bool]:
    """The weights in a file of arrays, and whether their activation is tanh."""
    row = read_json(told, 5, "expected what says the activation of each actor")
    known = row.get(path.stem) if isinstance(row, dict) else None
    activation = known.get("activation") if isinstance(known, dict) else None
    if activation not in ("tanh", "relu"):
        raise InputError(f"{told.name} says no activation of {path.stem}, tanh or relu")
    regular(path, MEGABYTES, "expected an archive of arrays")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}, activation == "tanh"
    except DAMAGE as error:
        raise InputError(f"it is no archive of arrays: {error}") from error


# ---- as they were published ----

SQUASHED = "actor.latent_pi", {"actor.mu": "mean", "actor.log_std": "logstd"}
PLAIN = "mlp_extractor.policy_net", {"action_net": "mean"}


def _published(path: Path, family: str) -> tuple[dict[str, np.ndarray], bool]:
    """The weights in a checkpoint of Stable-Baselines3, and whether their activation is tanh."""
    regular(path, MEGABYTES, "expected a checkpoint")
    with opened_zip(path) as archive:
        said = parsed(archive.read("data"))
        state = inert.tensors(zipfile.ZipFile(io.BytesIO(archive.read("policy.pth"))))
    squashed = "actor.mu.weight" in state
    layers, heads = SQUASHED if squashed else PLAIN
    inner = sorted({int(key.split(".")[-2]) for key in state if key.startswith(layers + ".")})
    weights = {
        f"{kind}{i}": state[f"{layers}.{n}.{what}"]
        for i, n in enumerate(inner)
        for kind, what in (("W", "weight"), ("b", "bias"))
        if f"{layers}.{n}.{what}" in state
    }
    for head, to in heads.items():
        weights |= {f"{k}_{to}": state[f"{head}.{w}"] for k, w in (("W", "weight"), ("b", "bias"))}
    if not squashed:
        weights["log_std"] = state["log_std"]
        weights |= _statistics(path.parent / f"{family}-v3" / "vecnormalize.pkl")
    return weights, _activation(said, squashed)


def _activation(said: Any, squashed: bool) -> bool:
    """Whether the hidden layers have tanh: as the checkpoint says, else as Stable-Baselines3 sets it by itself."""
    told = (said.get("policy_kwargs") or {}) if isinstance(said, dict) else {}
    name = str(told.get("activation_fn", "ReLU" if squashed else "Tanh"))
    if ("Tanh" in name) == ("ReLU" in name):
        raise InputError(f"its activation is {name[:80]}: expected Tanh or ReLU")
    return "Tanh" in name


def _statistics(path: Path) -> dict[str, np.ndarray]:
    """Mean and deviation of observations, from the pickle of a `VecNormalize`."""
    regular(path, MEGABYTES, "expected the statistics of its observations there, without which it cannot act")
    state: Any = getattr(inert.told(path.read_bytes()), "state", None)
    try:
        if not state["norm_obs"]:
            return {}
        seen = state["obs_rms"].state
        variance = inert.array(seen["var"]) + float(state["epsilon"])
        return {"obs_mean": inert.array(seen["mean"]), "obs_std": np.sqrt(variance)}
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path.name} holds no statistics of observations") from error
