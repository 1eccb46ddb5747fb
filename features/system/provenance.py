"""Provenance of a record or a run: versions, git commit and time. Never part of a digest."""

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from features.canonical_json import JsonObject

PACKAGES = (
    "vaflow",
    "av",
    "numpy",
    "open_clip_torch",
    "torch",
    "torchaudio",
    "torchvision",
    "transformers",
    "zarr",
)


def provenance() -> JsonObject:
    """Versions of Python and packages, the git commit, and the time."""
    return {
        "versions": {"python": platform.python_version()} | {p: _version(p) for p in PACKAGES},
        "git_commit": git_commit(),
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def git_commit() -> str | None:
    """The commit of this checkout, with `+changes` if files differ from it; None without git."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + (
            "+changes" if git("status", "--porcelain", "-uno") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return None  # no git on this machine, or not a checkout


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
