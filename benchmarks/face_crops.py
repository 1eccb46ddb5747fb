"""What it saves to cut faces out in the decoding process, and not out of frames that it sends.

    python -m benchmarks.face_crops [--json FILE]

Both ways give the same crops of the same video, one face in each frame, at two sizes of a frame.
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import av
import numpy as np
from PIL import Image as Picture

from benchmarks.helpers.timing import Report, arguments, in_turns
from features.media.alignment import TEMPLATE_PX, TEMPLATE_SIDE_PX, AlignmentConfig
from features.media.decoder import Decoder
from features.media.display import Image
from features.media.limits import DEFAULT_LIMITS
from features.media.sampling import EVERY_FRAME
from features.media.tracks import BY_FILE
from features.timeline import FrameTimes

SIZES = ((640, 360), (1920, 1080))
N_FRAMES = 150
ALIGNMENT = AlignmentConfig()


def main() -> None:
    """Time both ways in turns, and print a report."""
    given = arguments(__doc__)
    report = Report()
    with closing(Decoder(DEFAULT_LIMITS)) as decoder, tempfile.TemporaryDirectory() as folder:
        for width, height in SIZES:
            video = make_video(Path(folder) / f"{height}.mp4", width, height)
            points = np.array(TEMPLATE_PX, np.float32) / TEMPLATE_SIDE_PX * height / 2
            points = points + np.array([width / 4, height / 4], np.float32)

            def cut_there(video=video, points=points) -> int:
                landmarks = np.repeat(points[None], N_FRAMES, axis=0)
                items = decoder.face_crops(video, None, EVERY_FRAME, BY_FILE, ALIGNMENT, landmarks)
                return checksum(images_of(items))

            def cut_here(video=video, points=points) -> int:
                frames = images_of(decoder.frames(video, None))
                return checksum(ALIGNMENT.crop(frame, points) for frame in frames)

            if cut_there() != cut_here():
                raise SystemExit("the two ways give different crops")
            ways = {f"{height}p, there": cut_there, f"{height}p, here": cut_here}
            report.times_s |= in_turns(ways, 2 if given.quick else 6)
            there_s, here_s = (report.median_s(name) for name in ways)
            for name, way in ways.items():
                began_s = time.process_time()
                way()
                took_s = time.process_time() - began_s
                report.numbers[f"{name}: processor time of the reader (s)"] = took_s
            report.ratios[f"{height}p: time of frames that are sent / of crops"] = here_s / there_s
    report.write(given.json)


def make_video(path: Path, width: int, height: int) -> Path:
    """Write a video of a smooth picture that moves, in H.264."""
    small = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    large = np.array(Picture.fromarray(small).resize((width, height), Picture.Resampling.BICUBIC))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(N_FRAMES):
            frame = av.VideoFrame.from_ndarray(np.roll(large, 4 * index, axis=1), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode())
    return path


def images_of(items: Iterator[list[Image] | FrameTimes]) -> Iterator[Image]:
    """Yield the images, which are valid until the next piece."""
    for item in items:
        if isinstance(item, list):
            yield from item


def checksum(images: Iterator[Image]) -> int:
    """Return the sum of all grey levels."""
    return sum(int(image.sum()) for image in images)


if __name__ == "__main__":
    main()
