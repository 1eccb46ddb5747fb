"""The errors a user can meet: each message says what, which value, which rule, what to do."""


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


class WeightsError(InputError):
    """An encoder's weights cannot be had, or do not fit the model."""


class StoreError(VaflowError):
    """The feature store cannot give or take a record."""


class SpecMismatch(StoreError):
    """Features of one spec where another was wanted."""

    exit_status = 2


class Incomplete(VaflowError):
    """A stage did what it could; what it could not do is listed in the message."""
