"""How the crops of a manifest are framed: the `faces.alignment.margin` that shows the same.

Finds the landmarks in the crops of one split, and scores nothing: the margin is not chosen by what
a head makes of it.

    python -m benchmarks.framing MANIFEST [--split train]
"""

import argparse
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from features.errors import InputError
from features.faces.framing import framing_of
from features.faces.yunet import YuNetConfig
from features.manifest.manifest import Manifest, read_manifest
from features.media.crops import crop_files, read_image

PER_CLIP = 20  # crops, evenly spread


def main() -> None:
    """Print the margin, and what it leaves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--split", default="train")
    options = parser.parse_args()
    landmarks = landmarks_in_crops(read_manifest(options.manifest), options.split)
    framing = framing_of(landmarks)
    print(f"{len(landmarks)} crops of the split {options.split!r}")
    print(f"faces.alignment.margin={framing.margin:.2f}")
    right, down = framing.shift
    print(f"left over: {right:+.3f} sides right, {down:+.3f} down, {framing.error:.3f} in all")


def landmarks_in_crops(clips: Manifest, split: str) -> Float64[np.ndarray, "N 5 2"]:
    """The landmarks of the best face in some crops of each clip of a split, in sides of the crop.

    Raises `InputError` if there is none.
    """
    detector, found = YuNetConfig().build(), []
    for clip in clips.clips:
        if clip.split != split or clip.frames is None:
            continue
        paths = list(crop_files(clips.path(clip.frames)).values())
        for index in np.linspace(0, len(paths) - 1, min(PER_CLIP, len(paths))).astype(int):
            image = read_image(paths[index])
            faces = detector.detect(image)
            if len(faces):
                height, width, _ = image.shape
                found.append((faces.landmarks_px[0] + 0.5) / (width, height))
    if not found:
        raise InputError(f"no face was found in the crops of the split {split!r}")
    return np.array(found, np.float64)


if __name__ == "__main__":
    main()
