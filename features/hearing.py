"""Sound that came along with the pictures of a video, kept until it is asked for."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import SpooledTemporaryFile

import numpy as np

from features.sound import BLOCK, Block

IN_MEMORY_BYTES = 8 * 2**20  # two minutes at 16 kHz; what is longer goes to a file without a name


class Hearing:
    """The sound of one video, block by block as it was decoded."""

    def __init__(self, video: Path, rate_hz: int) -> None:
        self.video = video
        self.rate_hz = rate_hz
        self.start_s: float | None = None
        """Presentation time of the first sample; None where there is no sound."""
        self.is_whole = False
        """Whether it was heard to its end."""
        self._file = SpooledTemporaryFile(IN_MEMORY_BYTES)  # noqa: SIM115 - `close` closes it

    def add(self, block: Block) -> None:
        """Keep what comes next; where the disk is full nothing is kept."""
        if self._file.closed:
            return
        try:
            self._file.write(block.data)
        except OSError:
            self.close()

    def end(self, *, is_whole: bool, start_s: float | None) -> None:
        """That nothing more comes."""
        self.is_whole, self.start_s = is_whole and not self._file.closed, start_s

    def blocks(self) -> Iterator[Block]:
        """What was kept, from its beginning."""
        self._file.seek(0)
        while data := self._file.read(BLOCK * np.dtype(np.float32).itemsize):
            yield np.frombuffer(data, np.float32)

    def close(self) -> None:
        """Forget all of it."""
        self.is_whole = False
        self._file.close()
