"""Who may use the served API: those who know its password, and pages of the server alone."""

import os
import secrets
from pathlib import Path

from features.errors import InputError

USER = "vaflow"
PASSWORD_BYTES = 24
OF_SERVER, OF_CLIENTS = "PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING"
ORIGINS = "PREFECT_SERVER_CORS_ALLOWED_ORIGINS"


def auth_string(file: Path) -> str:
    """Return `USER:PASSWORD`: that of the environment, or the one that the file keeps.

    A missing file is written, with a random password, for its owner alone to read. Raises
    `InputError` if the environment has two that differ, or what is given has no colon.
    """
    given = {name: os.environ[name] for name in (OF_SERVER, OF_CLIENTS) if os.environ.get(name)}
    if len(set(given.values())) > 1:
        raise InputError(f"{OF_SERVER} and {OF_CLIENTS} differ: give both the same USER:PASSWORD")
    where, text = next(iter(given.items()), (str(file), ""))
    if not text:
        if not file.exists():
            written = f"{USER}:{secrets.token_urlsafe(PASSWORD_BYTES)}\n"
            descriptor = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with os.fdopen(descriptor, "w") as output:
                output.write(written)
        text = file.read_text().strip()
    if not all(text.partition(":")):
        raise InputError(f"{where} must be USER:PASSWORD; correct it (a file may be removed)")
    return text


def access_settings(url: str, auth: str) -> dict[str, str]:
    """Return the environment variables of server and clients, for the page of the server at `url`.

    Without a list of origins, a page of any web site could send requests by the user's browser.
    """
    local = url.replace("127.0.0.1", "localhost")
    origins = os.environ.get(ORIGINS) or f"{url},{local}"
    return {OF_SERVER: auth, OF_CLIENTS: auth, ORIGINS: origins}
