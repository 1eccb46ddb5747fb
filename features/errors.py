"""The errors a user can meet: each message says what, which value, which rule, what to do."""

from typing import Literal

MediaCode = Literal[
    "missing",  # what the manifest names is not there, or it names nothing
    "unreadable",  # the operating system does not give it
    "empty",
    "not-media",  # no container, or not one of those that are opened
    "codec",  # a codec that is not among those that are opened
    "no-picture",
    "no-frames",  # a picture track of which nothing decodes
    "incomplete",  # less than the container promises: truncated, or damaged in many places
    "damaged",
    "no-clock",  # neither usable timestamps nor a rate
    "crops",  # pictures that are not named, or not numbered, as crops of this video
    "not-finite",  # the encoder's output
    "limit-bytes",
    "limit-pixels",
    "limit-frames",
    "limit-duration",
    "limit-streams",
    "limit-memory",
    "limit-cpu",
    "limit-wall",
    "crashed",  # the process that decoded it ended by a signal
]
"""Why a clip's media cannot be used, for programs; the message is for people."""


class VaflowError(Exception):
    """A fact about the world that stops some work; the command exits with `exit_status`."""

    exit_status = 1


class InputError(VaflowError):
    """What the user gave is wrong: a path, a manifest line, a config key. Exit status 2."""

    exit_status = 2


class LaterVersion(InputError):
    """A store, a record or a head that a later vaflow wrote: it is neither read nor replaced."""


class MediaError(VaflowError):
    """One clip's media cannot be used; the clip fails, the others go on."""

    def __init__(self, message: str, code: MediaCode) -> None:
        super().__init__(message)
        self.code: MediaCode = code


class WeightsError(InputError):
    """An encoder's weights cannot be had, or do not fit the model."""


class StoreError(VaflowError):
    """The feature store cannot give or take a record."""


class Unreachable(VaflowError):
    """The server of an object store is not there, or refuses: it says nothing of the records."""


class SpecMismatch(StoreError):
    """Features of one spec where another was wanted."""

    exit_status = 2


class Incomplete(VaflowError):
    """A stage did what it could; what it could not do is listed in the message."""
