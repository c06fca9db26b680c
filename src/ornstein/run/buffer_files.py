"""A buffer on disk: what an agent has seen, in blocks that are only ever added.

    buffer/000000000.safetensors    each named after the number of its first row; a column for each field of the buffer,
                                    and in its header how many episodes had begun

A block is written beside its place and renamed, so that a killed run finds all of them whole. They are kept when the
buffer in memory, a ring, forgets their rows. An algorithm's own columns are not here: they change anywhere at any time,
and belong to the weights they were made by, so the checkpoint holds them.
"""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save

from ornstein import files
from ornstein.data.buffer import Buffer
from ornstein.errors import InputError
from ornstein.fields import check
from ornstein.files import parsed, refused, sweep
from ornstein.folder import BUFFER, block
from ornstein.run import tensors

ROWS = 1000  # of a block


class BufferFiles:
    """The rows of a buffer that came after it was made, in the folder of a run."""

    def __init__(self, run: Path, buffer: Buffer) -> None:
        """Rows that the buffer holds already, such as prior data, are not written."""
        self.folder, self.buffer, self.prior = run / BUFFER, buffer, buffer.total
        self.written, self.episodes = buffer.total, 0

    def load(self) -> None:
        """Put the rows of all blocks into the buffer. `InputError` for a block that is missing, damaged, or of another
        world."""
        sweep(path.with_suffix("") for path in self.folder.glob("*.safetensors.part"))
        for path in sorted(self.folder.glob("*.safetensors")):
            if path.stem != self._name():
                raise InputError(f"{self.folder} lacks {self._name()}.safetensors before {path.name}: restore it")
            try:
                found, words = tensors.read(path)
                self.buffer.put(block(found))
                told: Any = parsed(words["episodes"].encode())
                check("episodes", told, int)
            except (KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
                raise InputError(f"{path} cannot be read ({error}): restore it, or train again elsewhere") from error
            self.written, self.episodes = self.buffer.total, told

    def grow(self) -> None:
        """Write a block if there are rows enough for one."""
        if self.buffer.total - self.written >= min(ROWS, self.buffer.capacity):
            self.flush()

    def flush(self) -> None:
        """Write the rows that are in no block yet. TrainingError if the disk refuses."""
        if self.buffer.total == self.written:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise refused(self.folder, error) from error
        rows = {name: column.contiguous() for name, column in self.buffer.since(self.written).items()}
        path = self.folder / f"{self._name()}.safetensors"
        files.write(path, save(rows, {"episodes": json.dumps(self.episodes)}))
        self.written = self.buffer.total

    def _name(self) -> str:
        return f"{self.written - self.prior:09}"
