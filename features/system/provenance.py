"""Provenance of a record or a run: versions, git commit and time. Never part of a digest."""

import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from features.canonical_json import JsonObject

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "vaflow", "av", "numpy", "open_clip_torch", "torch", "torchaudio", "torchvision",
    "transformers", "zarr",
)  # fmt: skip


def provenance() -> JsonObject:
    """Versions of Python and packages, the git commit, and the time."""
    return {
        "versions": {"python": platform.python_version()} | {p: _version(p) for p in PACKAGES},
        "git_commit": git_commit(),
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@cache
def git_commit() -> str | None:
    """The commit of this checkout, with `+changes` if files differ from it; None if it is none.

    Asked once per process, since code is loaded once.
    """
    said = _git("describe", "--always", "--exclude=*", "--abbrev=40", "--dirty=+changes")
    return None if said is None else said.decode().strip()


@cache
def git_changes() -> bytes:
    """The difference of this checkout from its commit, as a patch; empty if there is none.

    It lacks files that were never added to git.
    """
    return _git("diff", "--binary", "HEAD") or b""


def _git(*words: str) -> bytes | None:
    if not (ROOT / ".git").exists():  # installed, perhaps inside the checkout of another project
        return None
    try:
        return subprocess.run(
            ["git", "-C", str(ROOT), *words], capture_output=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None  # no git on this machine


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
