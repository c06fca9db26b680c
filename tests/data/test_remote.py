"""Minari ids that are not here: downloaded by minari, or told why not, and fast."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import layouts
from ornstein.errors import InputError
from ornstein.formats.sources import read

minari = pytest.importorskip("minari")


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "root"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "MINARI_REMOTE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "root"


@pytest.fixture
def reachable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A place that answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        yield


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("HF_ENDPOINT", "http://127.0.0.1:9", "no answer from 127.0.0.1: .*refused"),
        ("HF_ENDPOINT", "http://nowhere.invalid", "no answer from nowhere.invalid"),
        ("HF_ENDPOINT", "http://127.0.0.1:notaport", "no answer from 127.0.0.1"),
        ("HF_HUB_OFFLINE", "1", "HF_HUB_OFFLINE is set"),
    ],
)
def test_without_a_network_it_is_told_at_once(
    variable: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    start = time.monotonic()
    with pytest.raises(InputError, match=rf"cannot be downloaded now \({message}") as caught:
        read("D4RL/door/human-v2")
    assert "minari download D4RL/door/human-v2" in str(caught.value)
    assert time.monotonic() - start < 10


@pytest.mark.usefixtures("reachable")
def test_minaris_own_reason_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise ValueError(f"Couldn't find any version for dataset {name}\nin the remote server.")

    monkeypatch.setattr(minari, "download_dataset", refuse)
    with pytest.raises(InputError, match=r"minari could not download it \(Couldn't find any version") as caught:
        read("D4RL/door/human-v9")
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("reachable")
def test_what_was_downloaded_is_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(name: str) -> None:
        layouts.minari_by_library(root / name)

    monkeypatch.setattr(minari, "download_dataset", download)
    assert len(read("D4RL/door/human-v2").episodes) == layouts.STEPS
    monkeypatch.setattr(minari, "download_dataset", None)  # it is here now
    assert len(read("D4RL/door/human-v2").episodes) == layouts.STEPS
