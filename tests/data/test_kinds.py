"""Files and folders of kinds that are not read are named for what they are, and what is said to be done can be done."""

import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from ornstein.errors import InputError
from ornstein.formats.kinds import EXPECTED, unlike
from ornstein.formats.sources import read


def tar() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.hdf5"))
    return made.getvalue()


def saved_by_torch() -> bytes:
    made = io.BytesIO()
    torch.save({"obs": torch.zeros(2, 3)}, made)
    return made.getvalue()


def archive() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        file.writestr("a.txt", "text")
    return made.getvalue()


def array() -> bytes:
    made = io.BytesIO()
    np.save(made, np.zeros(3))
    return made.getvalue()


FILES = {
    "episode_000000.parquet": (b"PAR1" + bytes(64) + b"PAR1", "a Parquet file"),
    "demos.pkl": (pickle.dumps([{"observations": [0.0]}]), "a pickle"),
    "old.pkl": (pickle.dumps([0.0], protocol=0), "a pickle"),
    "demos": (pickle.dumps({"obs": 1}), "a pickle"),
    "model.pt": (saved_by_torch(), "a file of torch.save"),
    "log.csv": (b"t,x,u\n0,1,2\n", "a CSV file"),
    "log.txt": (b"1 2 3\n", "a text file"),
    "info.json": (json.dumps({"codebase_version": "v3.0"}).encode(), "a JSON file"),
    "film.mp4": (b"\0\0\0\x18ftypmp42" + bytes(64), "a film (MP4)"),
    "frame.png": (b"\x89PNG\r\n\x1a\n" + bytes(64), "a picture (PNG)"),
    "set.hdf5.gz": (gzip.compress(b"\x89HDF"), "packed with gzip"),
    "set.tar": (tar(), "a tar archive"),
    "set.zip": (archive(), "an archive without arrays"),
    "old.hdf": (b"\x0e\x03\x13\x01" + bytes(64), "an HDF4 file"),
    "obs.npy": (array(), "one array without a name (.npy)"),
    "a.tfrecord-00000": (struct.pack("<Q", 20) + bytes(4) + b"\x0a" + bytes(23), "a TFRecord file"),
    "set.mat": (b"MATLAB 5.0 MAT-file" + bytes(128), "a MATLAB file"),
    "set.hdf5": (b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of Git LFS, not the file itself"),
    "page.hdf5": (b"<!DOCTYPE html><html>", "a web page"),
    "noise.bin": (bytes(range(128, 256)) * 3, "of no known kind (it begins with the bytes 80 81 82"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_kind_is_named(name: str, tmp_path: Path) -> None:
    content, kind = FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        read(tmp_path / name)
    said = str(caught.value)
    assert said.startswith(f"{tmp_path / name} is {kind}")
    assert EXPECTED in said
    assert "HDF5 (" not in said
    assert "\n" not in said


def test_a_damaged_file_of_a_known_kind_is_still_called_damaged(tmp_path: Path) -> None:
    (tmp_path / "a.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(InputError, match=r"cannot be read as HDF5 .*it is cut off or damaged"):
        read(tmp_path / "a.hdf5")


def does(said: str) -> torch.Tensor:
    """Runs the lines that a message offers; the lengths of the episodes that they make."""
    found: dict = {}
    exec(said.split("like this: ")[1], found)
    return found["data"].lengths.tolist()


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_lines_for_a_folder_of_lerobot(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "info.json").write_text("{}")
    for episode in (1, 0):
        folder = tmp_path / "data" / f"chunk-{episode:03d}"
        folder.mkdir(parents=True)
        index = [4 * episode + i for i in range(4)]
        table = {"observation.state": [[1.0, 2.0]] * 4, "action": [[0.5]] * 4, "episode_index": [episode] * 4}
        pq.write_table(pa.table({**table, "index": index}), folder / "file-000.parquet")
    said = refused(tmp_path)
    assert "a dataset of LeRobot's" in said
    assert does(said) == [4, 4]
    assert does(refused(tmp_path / "data" / "chunk-000" / "file-000.parquet")) == [4]


def test_the_lines_for_a_folder_of_one_file_an_episode(tmp_path: Path) -> None:
    for episode in range(3):
        with h5py.File(tmp_path / f"episode_{episode}.hdf5", "w") as file:
            file["observations/qpos"], file["observations/qvel"] = np.ones((5, 14)), np.ones((5, 14))
            file["action"] = np.ones((5, 14))
    said = refused(tmp_path)
    assert "3 HDF5 files, such as ACT and ALOHA write, one an episode" in said
    assert does(said) == [5, 5, 5]


def test_the_lines_for_csv(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("x,v,u\n0,1,2\n1,1,2\n")
    assert does(refused(tmp_path / "log.csv")) == [2]


FOLDERS = {
    "pictures": (["0.png", "1.png"], "2 pictures"),
    "films": (["0.mp4", "1.mp4"], "2 films"),
    "tfds": (["set-train.tfrecord-00000-of-00001", "features.json"], "tensorflow_datasets"),
    "run": (["config.json", "weights.safetensors"], "what a training run left"),
    "one": (["set.npz"], "the file set.npz: expected .*name that file"),
    "pickles": (["0.pkl", "1.pkl"], "2 pickles"),
    "nothing": ([], "in a known layout: expected"),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_folder_of_another_kind_is_named(kind: str, tmp_path: Path) -> None:
    names, told = FOLDERS[kind]
    for name in names:
        (tmp_path / name).write_text("")
    with pytest.raises(InputError, match=f"holds no dataset.*{told}"):
        read(tmp_path)


def test_braces_in_a_path_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "{a}{0.x}.csv").write_text("1,2\n")
    assert "{a}{0.x}.csv" in unlike(tmp_path / "{a}{0.x}.csv")
