"""The client of an object store: server, time-outs and errors.

Credentials come from the environment only (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, a profile,
an instance's role). Server and region come from the environment (`AWS_ENDPOINT_URL`, `AWS_REGION`)
or from fsspec's configuration, together with any other option of s3fs: `s3` in a JSON file in
`~/.config/fsspec` (or `$FSSPEC_CONFIG_DIR`), or `FSSPEC_S3_...`. Every command and every worker
reads them on its own machine, so that a store is named by its URL alone.
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

CONNECT_S = 5  # until a server counts as unreachable
ANSWER_S = 10  # until an answer counts as missing
ATTEMPTS = 2  # of each request, by botocore if the connection fails or the server is busy, and by
# s3fs around it if an answer breaks off: a silent server gets 8 requests
AWS = ".amazonaws.com"  # bucket names are unique there, across all regions
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}  # of this machine
KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
PROTOCOL = "s3"  # the key in fsspec's configuration
SECRETS = ("key", "secret", "token", "username", "password")  # options of s3fs that are credentials
NO_BUCKET = "NoSuchBucket"  # S3's code


def filesystem(url: str) -> Any:
    """The client, an `s3fs.S3FileSystem`; fsspec keeps one per process.

    Raises `InputError` if s3fs is not installed, or if fsspec's files hold credentials.
    """
    try:
        from s3fs import S3FileSystem
    except ImportError as error:
        raise InputError(
            f"store = {url}: this needs s3fs, which is not installed ({error}); "
            "`pip install -e '.[s3]'` installs it"
        ) from None
    region, options = os.environ.get("AWS_REGION"), _fsspec_options(url)
    client = S3FileSystem(
        use_listings_cache=False,  # other processes write
        client_kwargs={
            **({"region_name": region} if region else {}),
            **options.get("client_kwargs", {}),
        },
        config_kwargs={
            "connect_timeout": CONNECT_S,
            "read_timeout": ANSWER_S,
            "retries": {"mode": "standard", "total_max_attempts": ATTEMPTS},
            **options.get("config_kwargs", {}),
        },
    )
    client.retries = ATTEMPTS
    return client


def _fsspec_options(url: str) -> JsonObject:
    """The options of s3fs; `InputError` if a file, which may be shared, holds credentials."""
    from fsspec.config import conf, set_conf_env

    environment: dict[str, JsonObject] = {}
    set_conf_env(environment)
    options, allowed = conf.get(PROTOCOL, {}), environment.get(PROTOCOL, {})
    if secrets := [name for name in SECRETS if name in options and name not in allowed]:
        raise InputError(
            f"store = {url}: fsspec's configuration holds {secrets[0]!r}, and credentials come "
            f"from the environment alone; take it out of the file, and set {KEYS}"
        )
    return options


def server_url(url: str) -> str:
    """The URL of the server; empty for Amazon's, in every region."""
    with s3_errors(url) as client:
        server = str(client.s3.meta.endpoint_url)
    return "" if (urlsplit(server).hostname or "").endswith(AWS) else server


@contextmanager
def s3_errors(url: str) -> Iterator[Any]:
    """Context manager: the client, whose errors are raised with what to do about them.

    Raises `InputError` without credentials or bucket, and `Unreachable` if the server does not
    answer or refuses. `FileNotFoundError` and `FileExistsError` of objects pass through.
    """
    client = filesystem(url)
    from botocore.exceptions import BotoCoreError, NoCredentialsError, PartialCredentialsError
    from fsspec.exceptions import FSTimeoutError

    try:
        yield client
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise InputError(
            f"store = {url}: there are no credentials ({error}); set {KEYS} in the environment, "
            "and AWS_ENDPOINT_URL if the server is not Amazon's"
        ) from error
    except FileNotFoundError as error:
        if error_code(error) != NO_BUCKET:
            raise
        raise InputError(
            f"store = {url}: there is no such bucket on this server; make it, or set "
            "AWS_ENDPOINT_URL to another server"
        ) from error
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno in DISK_ERRORS:
            raise OSError(error.errno, error.strerror, gettempdir()) from error
        raise _unreachable(url, error) from error
    except (BotoCoreError, FSTimeoutError, ValueError) as error:  # ValueError: invalid server URL
        raise _unreachable(url, error) from error


def _unreachable(url: str, error: Exception) -> Unreachable:
    if isinstance(error, PermissionError):
        return Unreachable(
            f"store = {url}: the server refuses ({error}); check {KEYS}, and the rights of this "
            "user in this bucket"
        )
    return Unreachable(
        f"store = {url}: the server does not answer correctly ({error}); check "
        "AWS_ENDPOINT_URL and the network, then run the command again: finished work is kept"
    )


def error_code(error: OSError) -> str:
    """S3's code of an error; empty if the server gave none."""
    response = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))
