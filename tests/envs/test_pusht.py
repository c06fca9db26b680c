"""The world in which a block is pushed onto its mark."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ornstein.data.specs import TensorSpec
from ornstein.envs import pusht
from ornstein.envs.pusht import PushT
from ornstein.envs.tasks import task
from ornstein.errors import InputError

pytest.importorskip("gym_pusht")

REAL = os.environ.get("ORNSTEIN_TEST_DATA")
MARK = np.array([256.0, 256.0, np.pi / 4])


def near(offset: float) -> np.ndarray:
    """A state with the block `offset` pixels beside its mark, and the agent far away."""
    return np.array([60.0, 60.0, MARK[0] + offset, MARK[1], MARK[2]])


def test_states_are_placed_as_they_are_told() -> None:
    states = np.array([[100.0, 400.0, 300.0, 200.0, 1.0], [60.0, 60.0, 256.0, 300.0, 4.0]])
    seen = PushT(2).place(states)
    np.testing.assert_allclose(seen.numpy(), states, atol=1e-4)
    assert seen.dtype == torch.float32


def test_starts_are_those_of_diffusion_policy() -> None:
    """The package's own reset to the same drawn numbers places the block alike."""
    from gym_pusht.envs.pusht import PushTEnv

    from ornstein.envs.vector import generator

    start = PushT(4).reset(range(4), seed=3)
    assert start.given is None
    env = PushTEnv()
    for number in range(4):
        rng = generator(3, number)
        agent, block = rng.integers(50, 450, 2), rng.integers(100, 400, 2)
        angle = rng.standard_normal() * 2 * np.pi - np.pi
        expected, _ = env.reset(options={"reset_to_state": [*agent, *block, angle]})
        np.testing.assert_allclose(start.obs[number].numpy(), expected, atol=1e-3)


def test_seed_and_number_decide_everything() -> None:
    world = PushT(3)
    acts = torch.rand(12, 3, 2, generator=torch.Generator().manual_seed(0)) * 512
    whole = world.reset(range(3), seed=1).obs
    path = [world.step(act).obs for act in acts]
    assert torch.equal(world.reset([2], seed=1).obs, whole[2:])
    assert all(torch.equal(world.step(act[2:]).obs, obs[2:]) for act, obs in zip(acts, path, strict=True))
    assert not torch.equal(world.reset([2], seed=2).obs, whole[2:])


def test_a_return_is_the_largest_coverage() -> None:
    """Nothing for what was covered before; success and the end at 0.95, of which a return of 1 is told."""
    world = PushT(3)
    world.place(np.array([near(0.0), near(30.0), near(-130.0)]))
    still = torch.full((3, 2), 60.0)
    first = world.step(still)
    assert first.success is not None
    assert first.terminated.tolist() == first.success.tolist() == [True, False, False]
    assert first.rew[0] == 1.0
    assert 0.3 < first.rew[1] < 0.4
    assert first.rew[2] == 0.0
    second = world.step(still)
    assert second.rew.tolist() == [0.0, 0.0, 0.0]
    assert second.terminated.tolist() == [True, False, False]  # what has ended stays so


def test_actions_beyond_the_frame_are_clipped() -> None:
    one, other = PushT(1), PushT(1)
    for world in (one, other):
        world.place(near(100.0)[None])
    for _ in range(5):
        a, b = one.step(torch.tensor([[900.0, -50.0]])), other.step(torch.tensor([[512.0, 0.0]]))
    assert torch.equal(a.obs, b.obs)
    assert a.obs[0, 0] > 400


def test_frames() -> None:
    world = PushT(2)
    world.place(np.array([near(0.0), near(200.0)]))
    one, other = world.frame(0), world.frame(1)
    assert one.dtype == np.uint8
    assert one.shape == other.shape == (*one.shape[:2], 3)
    assert (one != other).any()


def test_the_task() -> None:
    made = task("pusht")
    assert (made.spec.obs_size, made.spec.act_size, made.spec.horizon) == (5, 2, 16)
    assert set(made.kinds) == {"pusht"}
    assert made.worlds(1).limit == 300
    own = task(env="gym_pusht/PushT-v0")
    assert isinstance(own.worlds(2), PushT)
    assert own.spec == made.spec


def test_a_missing_simulator_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("gym_pusht", "gym_pusht.envs.pusht"):
        monkeypatch.setitem(sys.modules, name, None)
    pusht._simulator.cache_clear()
    try:
        with pytest.raises(InputError, match='pip install "gym-pusht'):
            PushT(1)
    finally:
        pusht._simulator.cache_clear()


def test_forms_show_the_same_state_and_never_jump() -> None:
    """The corners are the simulator's; where the angle jumps by 2 pi, cosine, sine and corners stay."""
    states = np.array([[100.0, 400.0, 300.0, 200.0, 1.0], [60.0, 60.0, 256.0, 300.0, 4.0]])
    world = PushT(2, form="keypoints")
    seen = world.place(states)
    assert seen[:, :2].tolist() == states[:, :2].tolist()
    for env, corners in zip(world.envs, seen[:, 2:].unflatten(1, (8, 2)).numpy().astype(float), strict=True):
        expected = env.get_keypoints(env._block_shapes)
        for found, wanted in ((corners, expected), (expected, corners)):  # in any order
            assert np.abs(found[:, None] - wanted[None]).sum(-1).min(1).max() < 1e-3
    turned = PushT(2, form="sincos").place(states)
    angle = torch.tensor(states[:, 4], dtype=torch.float32)
    torch.testing.assert_close(turned[:, 4:], torch.stack([angle.cos(), angle.sin()], 1))
    before, after = (torch.tensor([[1.0, 2.0, 3.0, 4.0, angle]]) for angle in (2 * np.pi - 1e-3, 1e-3))
    for form in ("sincos", "keypoints"):
        gap = pusht.FORMS[form](before) - pusht.FORMS[form](after)
        assert 0 < gap.abs().max() < 0.3
    with pytest.raises(InputError, match="unknown form 'radians': expected one of angle, keypoints, sincos"):
        PushT(1, form="radians")


@pytest.mark.parametrize(("name", "size"), [("pusht-sincos", 6), ("pusht-keypoints", 18)])
def test_data_and_world_show_the_same_form(tmp_path: Path, name: str, size: int) -> None:
    rng = np.random.default_rng(0)
    state = np.concatenate([rng.uniform(100, 400, (7, 4)), rng.uniform(0, 6, (7, 1))], 1).astype(np.float32)
    np.savez(tmp_path / "pusht_lowdim.npz", state=state, action=state[:, :2], episode_ends=np.array([4, 7]))
    made = task(name, data=tmp_path / "pusht_lowdim.npz")
    data = made.episodes()
    assert made.spec.obs_size == data.obs.shape[1] == data.final_obs.shape[1] == size
    assert "pusht" in made.kinds
    world = made.worlds(1)
    assert isinstance(world, PushT)
    state[0, :2] = 30.0  # the agent apart from the block
    seen = world.place(state[:1].astype(float))
    torch.testing.assert_close(seen[0, 2:], data.obs[0, 2:], atol=1e-2, rtol=0)
    np.savez(tmp_path / "other.npz", observations=np.zeros((4, 3)), actions=np.zeros((4, 2)), rewards=np.zeros(4),
             terminals=np.array([0, 0, 0, 1]))  # fmt: skip
    with pytest.raises(InputError, match="observations"):
        task(name, data=tmp_path / "other.npz").episodes()


@pytest.mark.skipif(REAL is None, reason="ORNSTEIN_TEST_DATA names no folder of real data")
def test_people_are_followed_to_the_pixel() -> None:
    """Acting as 60 recorded people did, from where they began, is seen as they saw it, and scores as they did."""
    with np.load(Path(str(REAL)) / "pusht_human" / "pusht_lowdim.npz", allow_pickle=False) as file:
        states, acts, ends = file["state"], file["action"], file["episode_ends"][:60]
    starts = np.concatenate([[0], ends[:-1]])
    world = PushT(60)
    np.testing.assert_allclose(world.place(states[starts].astype(float)).numpy(), states[starts], atol=1e-3)
    score = np.zeros(60)
    for t in range(int((ends - starts).max())):
        step = world.step(torch.from_numpy(acts[np.minimum(starts + t, ends - 1)]))
        score += step.rew.numpy() * (starts + t < ends)
        if t == 19:
            apart = np.abs(step.obs.numpy() - states[starts + 20])[:, :4].max(1)
            assert np.median(apart) < 0.005
            assert apart.max() < 0.1
    assert (0.95 * score).mean() == pytest.approx(0.90, abs=0.02)


def test_pictures_are_of_the_state_and_stop_with_the_episode() -> None:
    world, plain = PushT(2, pictures=True), PushT(2)
    states = np.stack([near(0.0), near(80.0)])
    seen, _ = world.place(states), plain.place(states)
    assert seen["image"].shape == (2, 96, 96, 3)
    assert seen["image"].dtype == torch.uint8
    assert seen["agent_pos"].tolist() == [[60, 60], [60, 60]]
    target = torch.tensor([[100.0, 60.0], [100.0, 60.0]])
    for _ in range(3):
        step, other = world.step(target), plain.step(target)
        assert torch.equal(step.rew, other.rew)
        assert torch.equal(step.obs["agent_pos"], other.obs[:, :2])
    assert step.terminated.tolist() == [True, False], "the first block lies on its mark"
    blue = [(image.float() - torch.tensor([65.0, 105.0, 225.0])).abs().sum(-1).argmin() for image in step.obs["image"]]
    assert int(blue[1]) % 96 > int(blue[0]) % 96, "the agent of the second has moved on"


def test_demonstrations_with_pictures(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(0)
    state, image = rng.uniform(0, 500, (7, 5)).astype(np.float32), rng.integers(0, 255, (7, 96, 96, 3), np.uint8)
    np.savez(tmp_path / "pusht_lowdim.npz", state=state, action=state[:, :2], episode_ends=np.array([4, 7]))
    with h5py.File(tmp_path / "pusht_images.h5", "w") as file:
        file["img"] = image
    world = task("pusht-image", data=tmp_path / "pusht_images.h5")
    data = world.episodes()
    assert world.spec.obs == {"agent_pos": TensorSpec((2,)), "image": TensorSpec((96, 96, 3), "uint8")}
    assert torch.equal(data.obs["image"], torch.from_numpy(image))
    assert torch.equal(data.obs["agent_pos"], torch.from_numpy(state[:, :2]))
    assert data.ends.tolist() == [3, 6]
    with h5py.File(tmp_path / "pusht_images.h5", "a") as file:
        del file["img"]
        file["img"] = image[:5]
    with pytest.raises(InputError, match=r"\(5, 96, 96, 3\).*expected \(7, 96, 96, 3\)"):
        world.episodes()
    (tmp_path / "pusht_images.h5").write_bytes(b"no file")
    with pytest.raises(InputError, match="no readable `img`"):
        world.episodes()


@pytest.mark.skipif(REAL is None, reason="ORNSTEIN_TEST_DATA does not name the real data")
def test_pictures_are_those_of_the_demonstrations() -> None:
    data = pusht.demonstrations(Path(str(REAL)) / "pusht_human" / "pusht_images.h5")
    states = np.load(Path(str(REAL)) / "pusht_human" / "pusht_lowdim.npz")["state"]
    steps = [0, 200, 5000]
    seen = PushT(3, pictures=True).place(states[steps])
    gap = (seen["image"].float() - data.obs["image"][steps].float()).abs()
    assert gap.mean() < 0.5
