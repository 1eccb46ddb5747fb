"""Who made a thing, with what: recorded beside the data, never part of a digest."""

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
    """Versions, git commit and the time, as of now."""
    return {
        "versions": {"python": platform.python_version()} | {p: _version(p) for p in PACKAGES},
        "git_commit": git_commit(),
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def git_commit() -> str | None:
    """The commit of this checkout, with `+changes` where files differ from it; None outside git."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(here), *words], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + (
            "+changes" if git("status", "--porcelain", "-uno") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return None  # no git on the machine, or not a checkout: known to be unknown


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
