"""Provenance of a record or a run: versions, git commit and time. Never part of a digest."""

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from features.canonical_json import JsonObject

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


def git_commit() -> str | None:
    """The commit of this checkout, with `+changes` if files differ from it; None without git."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--exclude=*"]
    command += ["--abbrev=40", "--dirty=+changes"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None  # no git on this machine, or not a checkout


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
