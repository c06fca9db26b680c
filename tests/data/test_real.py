"""Files that others published, where `ORNSTEIN_TEST_DATA` says that they lie; see the READMEs beside them."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ornstein.data.views import Windows
from ornstein.errors import InputError
from ornstein.formats.sources import convert, read

GIVEN = os.environ.get("ORNSTEIN_TEST_DATA")
ROOT = Path(GIVEN or "nowhere")
pytestmark = pytest.mark.skipif(
    not ROOT.is_dir(), reason=f"ORNSTEIN_TEST_DATA is {GIVEN!r}: set it to a folder of published files"
)

FILES: dict[str, dict[str, Any]] = {  # steps, episodes, sizes, true ends, whether it is known what followed
    "pusht_human/pusht_lowdim.npz": {"is": (25650, 206, (5, 2), 0, False)},
    "adroit_door_human/door_human_demos.npz": {"is": (6729, 25, (39, 28), 0, False)},
    "d4rl_excerpts/kitchen-complete-v0_excerpt.npz": {"is": (751, 4, (60, 9), 4, True)},
    "d4rl_excerpts/door-human-v0_excerpt.npz": {"is": (1689, 11, (39, 28), 5, True)},
    "mujoco_expert_cs285/Hopper-v4_expert.npz": {"is": (2000, 2, (11, 3), 2, True)},
    "classic_control_expert/pendulum_expert.npz": {"is": (11200, 56, (3, 1), 56, True)},
}


@pytest.mark.parametrize("name", FILES)
def test_published_files(name: str) -> None:
    data = read(ROOT / name).episodes
    known = bool(data.final_valid.all())
    assert (
        len(data),
        len(data.ends),
        (data.obs.shape[1], data.act.shape[1]),
        int(data.terminated.sum()),
        known,
    ) == FILES[name]["is"]


def test_returns_of_published_files() -> None:
    """As their READMEs have them."""
    expected = {"Ant": (4713, 4651), "HalfCheetah": (4068, 4002), "Hopper": (3717, 3718), "Walker2d": (5329, 5438)}
    for name, returns in expected.items():
        data = read(ROOT / "mujoco_expert_cs285" / f"{name}-v4_expert.npz").episodes
        got = [float(part.sum()) for part in data.rew.split(data.lengths.tolist())]
        assert got == pytest.approx(returns, abs=1)
    data = read(ROOT / "classic_control_expert" / "pendulum_expert.npz").episodes
    assert float(data.rew.sum()) / 56 == pytest.approx(-189, abs=1)


def test_observations_follow_one_another_in_pendulum() -> None:
    """The observation after a step obeys the physics: its speed differs by at most 3/20 (gravity and torque)."""
    data = read(ROOT / "classic_control_expert" / "pendulum_expert.npz").episodes
    after = data.obs.roll(-1, 0)
    after[data.ends] = data.final_obs
    assert ((after[:, 2] - data.obs[:, 2]).abs() < 1.06).all()


def test_discrete_actions_are_refused() -> None:
    with pytest.raises(InputError, match=r"act has shape \(26964,\)"):
        read(ROOT / "classic_control_expert" / "cartpole_expert.npz")


def test_weights_are_no_data() -> None:
    with pytest.raises(InputError, match="no column is called obs or act"):
        read(ROOT / "adroit_policies" / "door.npz")


def test_images_of_pusht_train_from_files(tmp_path: Path) -> None:
    """The real frames, compressed in HDF5, beside the low-dimensional columns, converted and drawn from."""
    import h5py

    low = np.load(ROOT / "pusht_human" / "pusht_lowdim.npz")
    steps = int(low["episode_ends"][9])
    with h5py.File(ROOT / "pusht_human" / "pusht_images.h5") as source, h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("img", data=source["img"][:steps], chunks=(64, 96, 96, 3), compression="gzip")
        for name in ("state", "action"):
            file[name] = low[name][:steps]
        file["episode_ends"] = low["episode_ends"][:10]
    folder = convert(tmp_path / "a.h5", tmp_path / "files", {"obs": {"image": "img", "agent": "state"}})
    data = read(folder).episodes
    batch = Windows(data, 4).batch(16)
    assert (batch.obs["image"].dtype, batch.obs["image"].shape) == (torch.uint8, (16, 4, 96, 96, 3))
    assert len(data.ends) == 10
    with h5py.File(tmp_path / "a.h5") as file:
        assert np.array_equal(data.obs["image"].numpy(), file["img"][()])
