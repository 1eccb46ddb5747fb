"""The exceptions of vaflow; each message says what, which value, which rule, what to do."""

from collections.abc import Sequence
from typing import Literal

from features.printable import printable

MediaCode = Literal[
    "missing",  # the manifest names no file, or one that does not exist
    "unreadable",  # the operating system cannot read it
    "empty",
    "not-media",  # not a container, or one that is not allowed
    "codec",  # a codec that is not allowed
    "track",  # the manifest asks for a track that the file lacks
    "no-picture",
    "no-frames",  # no frame of the video stream decodes
    "incomplete",  # less than the container declares: truncated, or damaged in many places
    "damaged",
    "no-clock",  # neither usable timestamps nor a frame rate
    "crops",  # images whose names or numbers are not those of crops of this video
    "faces",  # the store has no faces of the video, or those of another decoding
    "not-finite",  # the encoder's output
    "limit-bytes",
    "limit-pixels",
    "limit-frames",
    "limit-duration",
    "limit-streams",
    "limit-memory",
    "limit-cpu",
    "limit-wall",
    "crashed",  # the decoding process was ended by a signal
]
"""Machine-readable reasons why a clip's media cannot be used."""


NAMED_AT_MOST = 5  # names that a message lists; the others are counted


def list_names(names: Sequence[str]) -> str:
    """The first few names, and the number of the others."""
    more = len(names) - NAMED_AT_MOST
    return ", ".join(names[:NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")


def one_line(error: Exception) -> str:
    """A library's message in one line of at most 300 characters."""
    return " ".join(str(error).split())[:300]


class VaflowError(Exception):
    """The base class: an error that a user can fix; the command exits with `exit_status`.

    Its text is the message and, on lines of their own, further arguments. Names from outside are
    escaped in it: a file name can neither add a line nor hide one, wherever the error is shown.
    """

    exit_status = 1

    def __str__(self) -> str:
        """The message, a line for each argument."""
        return "\n".join(printable(str(line), layout="") for line in self.args)


class InputError(VaflowError):
    """Invalid input: a path, a line of a manifest, a key of a config."""

    exit_status = 2


class LaterVersion(InputError):
    """A store, a record or a head of a later version, which is neither read nor replaced."""


class MediaError(VaflowError):
    """The media of one clip cannot be used; other clips are extracted."""

    def __init__(self, message: str, code: MediaCode) -> None:
        super().__init__(message)
        self.code: MediaCode = code


class WeightsError(InputError):
    """The weights of an encoder cannot be loaded, or are not those of the model."""


class StoreError(VaflowError):
    """A record or the metadata of a feature store is missing, damaged or cannot be written."""


class Unreachable(VaflowError):
    """The server of an object store does not answer or refuses; the records may be intact."""


class SpecMismatch(StoreError):
    """Features of another spec than the expected one."""

    exit_status = 2


class Incomplete(VaflowError):
    """A stage could not do everything; further lines list what is missing."""
