"""The client of an object store: which server, with what time-outs, and what its errors say.

Credentials come from the environment alone (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, a
profile, an instance's role), server and region from there (`AWS_ENDPOINT_URL`, `AWS_REGION`) or
from fsspec's own configuration, with any other option of s3fs: `s3` in a JSON file in
`~/.config/fsspec` (or `$FSSPEC_CONFIG_DIR`), or `FSSPEC_S3_...`. Every command and every worker
reads it on its own machine, so that no option has to travel with a store's URL.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import gettempdir
from typing import Any
from urllib.parse import urlsplit

from features.canonical_json import JsonObject
from features.errors import InputError, Unreachable

CONNECT_S = 5  # seconds until a server counts as not there
ANSWER_S = 10  # seconds that a server may be silent
ATTEMPTS = 2  # at each request, by botocore where there is no connection or the server is busy,
# and by s3fs where an answer breaks off, once around the other: a silent server is asked 8 times
AWS = ".amazonaws.com"  # where a bucket's name is unique in all the world, whatever the region
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}  # the fault of this machine
KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
PROTOCOL = "s3"  # the name of its part of fsspec's configuration
SECRETS = ("key", "secret", "token", "username", "password")  # options of s3fs that are credentials


def filesystem(url: str) -> Any:
    """The client; fsspec keeps one per process.

    `InputError` where s3fs is not installed, or where fsspec's files hold credentials.
    """
    try:
        from s3fs import S3FileSystem
    except ImportError as error:
        raise InputError(
            f"store = {url}: this needs s3fs, which is not installed ({error}); "
            "`pip install -e '.[s3]'` brings it"
        ) from None
    region, said = os.environ.get("AWS_REGION"), _configured(url)
    files = S3FileSystem(
        use_listings_cache=False,  # others write
        client_kwargs={
            **({"region_name": region} if region else {}),
            **said.get("client_kwargs", {}),
        },
        config_kwargs={
            "connect_timeout": CONNECT_S,
            "read_timeout": ANSWER_S,
            "retries": {"mode": "standard", "total_max_attempts": ATTEMPTS},
            **said.get("config_kwargs", {}),
        },
    )
    files.retries = ATTEMPTS
    return files


def _configured(url: str) -> JsonObject:
    """The options of s3fs in fsspec's configuration, which fsspec gives to it unless we do.

    `InputError` where a file holds credentials: files are copied, committed and shared.
    """
    from fsspec.config import conf, set_conf_env

    by_environment: dict[str, JsonObject] = {}
    set_conf_env(by_environment)
    said, allowed = conf.get(PROTOCOL, {}), by_environment.get(PROTOCOL, {})
    if found := [name for name in SECRETS if name in said and name not in allowed]:
        raise InputError(
            f"store = {url}: fsspec's configuration holds {found[0]!r}, and credentials come from "
            f"the environment alone; take it out of the file, and set {KEYS}"
        )
    return said


def server_url(url: str) -> str:
    """The server that is asked; the same for every region of AWS."""
    with s3_errors(url) as files:
        found = str(files.s3.meta.endpoint_url)
    return "" if (urlsplit(found).hostname or "").endswith(AWS) else found


@contextmanager
def s3_errors(url: str) -> Iterator[Any]:
    """The client; within, what goes wrong says what to do.

    `InputError` without credentials or bucket, `Unreachable` where the server is not there, or
    refuses. `FileNotFoundError` and `FileExistsError` of objects go through.
    """
    files = filesystem(url)
    from botocore.exceptions import BotoCoreError, NoCredentialsError, PartialCredentialsError
    from fsspec.exceptions import FSTimeoutError

    try:
        yield files
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise InputError(
            f"store = {url}: there are no credentials ({error}); set {KEYS} in the environment, "
            "and AWS_ENDPOINT_URL where the server is not Amazon's"
        ) from error
    except FileNotFoundError as error:
        if not is_of_bucket(error):
            raise
        raise InputError(
            f"store = {url}: there is no such bucket on this server; make it, or set "
            "AWS_ENDPOINT_URL to another server"
        ) from error
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno in DISK:
            raise OSError(error.errno, error.strerror, gettempdir()) from error
        raise _unreachable(url, error) from error
    except (BotoCoreError, FSTimeoutError, ValueError) as error:  # ValueError: no URL of a server
        raise _unreachable(url, error) from error


def _unreachable(url: str, error: Exception) -> Unreachable:
    """What to do about a server that is not there, or refuses."""
    if isinstance(error, PermissionError):
        return Unreachable(
            f"store = {url}: the server refuses ({error}); see to {KEYS}, and to the rights of "
            "this user in this bucket"
        )
    return Unreachable(
        f"store = {url}: the server does not answer as it should ({error}); see to "
        "AWS_ENDPOINT_URL and the network, and run the same again: what is done is kept"
    )


def code_of(error: OSError) -> str:
    """What S3 calls an error; empty where the server did not say it."""
    response = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def is_of_bucket(error: OSError) -> bool:
    """Whether it is the bucket that is not there."""
    return code_of(error) == "NoSuchBucket"


def is_empty_object(error: OSError) -> bool:
    """Whether a range was asked of an object that has no bytes."""
    return code_of(error) in ("InvalidRange", "416")
