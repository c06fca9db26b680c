"""Minari ids: the folder of a dataset that was downloaded, or is now, by the minari package."""

import os
import re
import socket
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from ornstein.data.checks import few_words
from ornstein.errors import InputError, needs
from ornstein.formats.minari_write import ID
from ornstein.formats.places import minari_root

PATIENCE = 3.0  # seconds for a first answer; the library itself would try for half a minute


def minari_folder(name: str, expected: str) -> Path:
    """The folder of the dataset `name`, which is downloaded if it is not here. Raises `InputError` if that cannot be,
    with the library's reason; where there is no network that is told at once."""
    if not re.fullmatch(ID, name):
        raise InputError(f"no dataset at '{name[:200]}': expected {expected}")
    root = minari_root()
    if (root / name).exists():
        return root / name
    hint = f"no dataset '{name}', neither as a path nor under {root}"
    mend = f"download it with `minari download {name}`, or pass a path"
    if reason := _offline():
        raise InputError(f"{hint}, and it cannot be downloaded now ({reason}): {mend}")
    try:
        import minari
    except ImportError as error:
        raise InputError(f"{hint}; {needs(error, 'data')}, or pass a path") from error
    try:
        minari.download_dataset(name)
    except Exception as error:  # whatever the library and those below it raise
        raise InputError(f"{hint}, and minari could not download it ({few_words(error)}): {mend}") from error
    if not (root / name).exists():
        raise InputError(f"{hint}: minari downloaded it to another place; {mend}")
    return root / name


def _offline() -> str:
    """Why the place that datasets come from cannot be reached; empty if it can."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return "HF_HUB_OFFLINE is set"
    remote = os.environ.get("MINARI_REMOTE", "hf://")
    url = (
        os.environ.get("HF_ENDPOINT", "https://huggingface.co")
        if remote[:2] == "hf"
        else "https://storage.googleapis.com"
    )
    url = getproxies().get("https", url)
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname or "", port), PATIENCE).close()
    except (OSError, ValueError) as error:
        return f"no answer from {parts.hostname}: {few_words(error)}"
    return ""
