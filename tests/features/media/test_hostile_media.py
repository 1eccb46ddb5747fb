from contextlib import closing

import pytest
import torch

from features.clip import Source
from features.encoders.ast import AstConfig
from features.encoders.clip import ClipConfig
from features.extraction.batching import Failed, encode_all
from features.extraction.prefetch import ReadTask
from features.media.decoder import Decoder
from tests.helpers import hostile_media
from tests.helpers.hostile_media import FILES, LIMITS
from tests.helpers.hostile_server import HOSTILE, HOSTILE_SERVER

pytestmark = pytest.mark.slow

# of each: rows of video and seconds of audio (0: it has none), or the code of the error
WHOLE = (50, 2)
EXPECTED = {
    "good-1.mp4": WHOLE,
    "empty.mp4": ("empty", "empty"),
    "text.mp4": ("not-media", "not-media"),
    "noise.mp4": ("not-media", "not-media"),
    "ffconcat.mp4": ("not-media", "not-media"),
    "hls.mp4": ("not-media", "not-media"),
    "picture.mp4": ("not-media", "not-media"),
    "no-head.mp4": ("not-media", "not-media"),
    "no-tail.mp4": ("incomplete", "incomplete"),
    "no-tail.mkv": ("incomplete", "incomplete"),
    "no-index.mp4": ("not-media", "not-media"),
    "good-2.mp4": WHOLE,
    "flips.mp4": ("incomplete", "damaged"),
    "hole.mp4": (50, 0),  # one frame lost, which stays a row
    "no-packets.mkv": ("not-media", "not-media"),
    "sound-alone.mp4": ("no-picture", 1),
    "renamed.avi": WHOLE,  # an mp4 by its content
    "again.ts": (100, 4),
    "large.mp4": ("limit-pixels", 0),
    "vast.mp4": WHOLE,  # the stream's own word for the size counts
    "endless.mp4": WHOLE,  # the index lists 50 frames, whatever it says beside that
    "claims-days.mkv": ("limit-duration", "limit-duration"),
    "late.mkv": ("limit-duration", "limit-duration"),
    "late-live.mkv": ("limit-duration", 0),
    "late-sound.mkv": ("no-picture", "limit-duration"),
    "long.mp4": ("limit-frames", 0),
    "heavy.mp4": ("limit-bytes", "limit-bytes"),
    "tracks.mkv": ("limit-streams", "limit-streams"),
    "good-3.mp4": WHOLE,
    "no-rate.avi": WHOLE,
    "one-frame.mp4": (1, 0),
    "10-bit-hevc.mp4": (10, 0),
    "10-bit-h264.mp4": (10, 0),
    "odd-444.mp4": (10, 0),
    "grey.mkv": (10, 0),
    "see-through.mkv": (10, 0),
    "animation.mov": ("codec", 0),
    "turned.mp4": WHOLE,
    "surround.mp4": ("no-picture", 1),
    "telephone.mp4": ("no-picture", 1),
    "still-crop": ("damaged", 0),
    "half-crop": ("damaged", 0),
    "bomb-crop": ("limit-pixels", 0),
    "far-crop": ("limit-frames", 0),
    "no-crop": ("crops", 0),
    "exhaust_memory.mp4": ("limit-memory", 2),
    "spin.mp4": ("limit-cpu", 2),
    "crash.mp4": ("crashed", 2),
    "divide_by_zero.mp4": ("crashed", 2),
    "write.mp4": ("crashed", 2),
    "good-4.mp4": WHOLE,
}


class HostileDecoder(Decoder):
    """A decoder with hostile requests for the videos that are named after one."""

    def __init__(self):
        super().__init__(LIMITS, server=HOSTILE_SERVER)

    def frames(self, video, fps, *sampling):
        if video.stem in HOSTILE:
            return self.client.request(video.stem, str(video))
        return super().frames(video, fps, *sampling)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    hostile_media.write_corpus(folder)
    return folder


def encode_corpus(config, corpus) -> dict[str, int | str]:
    """The number of rows of each file, or the code of its error; all in one run."""
    encoder = config.build(torch.device("cpu"))
    sources = [
        Source(
            name,
            None if (corpus / name).is_dir() else corpus / name,
            corpus / name if (corpus / name).is_dir() else None,
            None,
            25.0,
        )
        for name in FILES
    ]
    tasks = [ReadTask(index, source, ("it",)) for index, source in enumerate(sources)]
    with closing(HostileDecoder()) as first, closing(HostileDecoder()) as second:
        results = encode_all(
            {"it": encoder}, tasks, batch_sizes={"it": 64}, decoders=[first, second]
        )
        return {
            sources[r.index].clip_id: r.code if isinstance(r, Failed) else len(r.track.time_s)
            for r in results
        }


def test_a_hostile_video_fails_alone_with_its_own_code(corpus, tiny_clip):
    before = (corpus / "write.mp4").read_bytes()
    found = encode_corpus(ClipConfig(**tiny_clip), corpus)
    assert found == {name: n_rows for name, (n_rows, _) in EXPECTED.items()}
    assert (corpus / "write.mp4").read_bytes() == before


def test_the_audio_of_a_hostile_file_fails_alone_with_its_own_code(corpus, tiny_ast):
    found = encode_corpus(AstConfig(model=tiny_ast, hop_s=0.64), corpus)
    seconds = {name: n if isinstance(n, str) else round(n / 10) for name, n in found.items()}
    assert seconds == {name: audio for name, (_, audio) in EXPECTED.items()}
