"""Files and folders of kinds that are not read here: what they are, by their first bytes and names, and how to make
Episodes of them."""

from collections.abc import Sequence
from pathlib import Path

EXPECTED = (
    "a folder in Minari's layout, a converted one, a zarr replay buffer, an HDF5 file (D4RL's, robomimic's), an .npz "
    "file with named columns, or the id of a Minari dataset"
)
HEAD = 4096  # bytes that are looked at
LAST = "cut = numpy.concatenate([numpy.arange(len(a)) == len(a) - 1 for a in act]); "
JOINED = "ornstein.Episodes.from_arrays(numpy.concatenate(obs), numpy.concatenate(act), truncations=cut)"
SAVE = "save its arrays by name, numpy.savez('data.npz', obs=..., actions=..., rewards=..., episode_ends=...)"
PARQUET = (
    "give its columns to Episodes.from_arrays, like this: import glob, numpy, ornstein, pyarrow, pyarrow.parquet; "
    "files = sorted(glob.glob({path!r}, recursive=True)); "
    "t = pyarrow.concat_tables([pyarrow.parquet.read_table(f) for f in files]).sort_by([('index', 'ascending')]); "
    "names = 'observation.state', 'action', 'episode_index'; "
    "obs, act, number = (numpy.array(t[name].to_pylist()) for name in names); "
    "data = ornstein.Episodes.from_arrays(obs, act, truncations=numpy.diff(number, append=-1) != 0)"
)
CSV = (
    "give its columns to Episodes.from_arrays, like this: import numpy, ornstein; "
    "t = numpy.genfromtxt({path!r}, delimiter=',', names=True); names = t.dtype.names; "
    "obs, act = numpy.stack([t[n] for n in names[:-1]], 1), numpy.stack([t[n] for n in names[-1:]], 1); "
    "data = ornstein.Episodes.from_arrays(obs, act)"
)
HDF5 = (
    "put them end to end, like this: import glob, h5py, numpy, ornstein; files = sorted(glob.glob({path!r})); "
    "obs = [h5py.File(f)['observations/qpos'][()] for f in files]; act = [h5py.File(f)['action'][()] for f in files]; "
    + LAST
    + "data = "
    + JOINED
)
UNPACK = "unpack it first"
TRUSTED = "load it with pickle if you trust who made it, because that runs what is in it, and " + SAVE
TENSORS = "load it with torch.load({path!r}, weights_only=True), and give the tensors to ornstein.Episodes.from_arrays"
NO_ACTIONS = "pictures alone hold no actions; " + SAVE
SIGNATURES: tuple[tuple[int, bytes, str, str], ...] = (  # place, bytes, kind, what to do
    (0, b"PAR1", "a Parquet file", PARQUET),
    (0, b"ARROW1", "an Arrow file", "write it as Parquet or HDF5, or " + SAVE),
    (
        0,
        b"\x93NUMPY",
        "one array without a name (.npy)",
        "save named ones, numpy.savez('data.npz', obs=..., actions=...)",
    ),
    (4, b"ftyp", "a film (MP4)", NO_ACTIONS),
    (0, b"\x1a\x45\xdf\xa3", "a film (Matroska, WebM)", NO_ACTIONS),
    (8, b"AVI ", "a film (AVI)", NO_ACTIONS),
    (0, b"\x89PNG", "a picture (PNG)", NO_ACTIONS),
    (0, b"\xff\xd8\xff", "a picture (JPEG)", NO_ACTIONS),
    (0, b"GIF8", "a picture (GIF)", NO_ACTIONS),
    (0, b"\x1f\x8b", "packed with gzip", UNPACK),
    (0, b"BZh", "packed with bzip2", UNPACK),
    (0, b"\xfd7zXZ", "packed with xz", UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "packed with zstd", UNPACK),
    (0, b"7z\xbc\xaf", "a 7z archive", UNPACK),
    (0, b"Rar!", "a RAR archive", UNPACK),
    (257, b"ustar", "a tar archive", UNPACK),
    (0, b"\x0e\x03\x13\x01", "an HDF4 file", "convert it to HDF5 with h4toh5"),
    (0, b"MATLAB 5", "a MATLAB file", "load it with scipy.io.loadmat, and " + SAVE),
    (0, b"#ROSBAG", "a ROS bag", "export its topics, and " + SAVE),
    (0, b"\x89MCAP", "an MCAP log", "export its topics, and " + SAVE),
    (0, b"SQLite format 3", "an SQLite database", "export its tables, and " + SAVE),
    (0, b"version https://git-lfs", "a pointer of Git LFS, not the file itself", "fetch it with git lfs pull"),
    (0, b"<!DOCTYPE", "a web page", "download the file itself"),
    (0, b"<html", "a web page", "download the file itself"),
)
SUFFIXES = {  # kinds of many files in a folder
    "HDF5 files, such as ACT and ALOHA write, one an episode": ((".hdf5", ".h5"), HDF5),
    ".npz files": ((".npz",), "put their arrays end to end, and " + SAVE),
    ".npy files": ((".npy",), "load each with numpy.load, and " + SAVE),
    "Parquet files": ((".parquet",), PARQUET),
    "pickles": ((".pkl", ".pickle"), TRUSTED),
    "CSV files": ((".csv", ".tsv"), "read each with numpy.genfromtxt, and " + SAVE),
    "JSON files": ((".json", ".jsonl"), "read each with json.load, and " + SAVE),
    "pictures": ((".png", ".jpg", ".jpeg"), NO_ACTIONS),
    "films": ((".mp4", ".avi", ".webm", ".mkv"), NO_ACTIONS),
    "files of torch.save": ((".pt", ".pth"), "load each with torch.load(FILE, weights_only=True), and " + SAVE),
}


def unlike(path: Path, members: Sequence[str] | None = None) -> str:
    """The line that refuses a file which is neither HDF5 nor an archive of arrays. `members` are the names in it, where
    it is another archive."""
    if not path.stat().st_size:
        return f"{path} is empty: expected {EXPECTED}; download or make it again"
    with path.open("rb") as file:
        kind, way = _kind(file.read(HEAD), path, members)
    return f"{path} is {kind}: expected {EXPECTED}; {way.format(path=str(path))}"


def _kind(head: bytes, path: Path, members: Sequence[str] | None) -> tuple[str, str]:
    """What a file is, and what to do with it."""
    if members is not None:
        if any(name.split("/")[-1] == "data.pkl" for name in members):
            return "a file of torch.save", TENSORS
        return "an archive without arrays", "unpack it, or " + SAVE
    for at, mark, kind, way in SIGNATURES:
        if head[at : at + len(mark)] == mark:
            return kind, way
    length, suffix = int.from_bytes(head[:8], "little"), path.suffix.lower()
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return ("a file of torch.save", TENSORS) if suffix in (".pt", ".pth") else ("a pickle", TRUSTED)
    if suffix in (".pkl", ".pickle"):
        return "a pickle", TRUSTED
    if head[8:10] == b'{"' and length < path.stat().st_size:
        return "a safetensors file", "load it with safetensors.numpy.load_file, and " + SAVE
    if "tfrecord" in path.name or (head[12:13] == b"\x0a" and 0 < length <= path.stat().st_size - 16):
        return "a TFRecord file", "read it with tensorflow_datasets, and " + SAVE
    return _text(head, suffix)


def _text(head: bytes, suffix: str) -> tuple[str, str]:
    """What a file of text is; others are of no known kind."""
    text = head.decode("utf-8", "ignore").lstrip("\ufeff \r\n\t")
    if len(text.encode()) < len(head) * 0.9 or not all(c.isprintable() or c.isspace() for c in text):
        begin = head[:8].hex(" ")
        return f"of no known kind (it begins with the bytes {begin})", "download or make it again, or " + SAVE
    if text[:1] in ("{", "["):
        return "a JSON file", "load it with json.load, and " + SAVE
    first, second = [*text.split("\n"), ""][:2]
    if suffix in (".csv", ".tsv") or any(first.count(mark) == second.count(mark) > 0 for mark in (",", ";", "\t")):
        return "a CSV file", CSV
    return "a text file", "read its numbers with numpy.loadtxt, and " + SAVE


def folder_of_others(path: Path) -> str:
    """The line that refuses a folder which holds no dataset in a known layout."""
    names = sorted(part.name for part in path.iterdir())
    what, way = "", "in Minari's layout data/main_data.hdf5 and data/metadata.json"
    if {"config.json", "weights.safetensors"} <= set(names):
        what, way = "what a training run left", "name the data, as in config.json there, or use it as a run"
    elif (path / "meta" / "info.json").is_file():
        what, way = "a dataset of LeRobot's", PARQUET.format(path=str(path / "data" / "**" / "*.parquet"))
    elif "features.json" in names or "dataset_info.json" in names or any("tfrecord" in name for name in names):
        what, way = "TFRecord files, as tensorflow_datasets has them", "read them with that package, and " + SAVE
    else:
        for kind, (suffixes, mend) in SUFFIXES.items():
            found = [name for name in names if name.lower().endswith(suffixes)]
            if len(found) == 1 and kind != "JSON files":
                what, way = f"the file {found[0]}", "name that file"
            elif found:
                pattern = str(path / ("*" + Path(found[0]).suffix))
                what, way = f"{len(found)} {kind}", mend.format(path=pattern)
            if found:
                break
    return f"{path} holds no dataset in a known layout{what and f', but {what}'}: expected {EXPECTED}; {way}"
