from contextlib import closing

import pytest
import torch

from features.clip import Source
from features.encoders.ast import AstConfig
from features.encoders.clip import ClipConfig
from features.extraction.batching import Failed, encode_all
from features.extraction.prefetch import ReadTask
from features.media.decoder import Decoder
from features.timeline import FrameTimes
from tests.helpers import hostile_media
from tests.helpers.hostile_media import FILES, LIMITS, TRAPS

# of each: rows with pictures, and seconds with sound (0: it has none), or the code of the failure
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
    "eats.mp4": ("limit-memory", 2),
    "spins.mp4": ("limit-cpu", 2),
    "dies.mp4": ("crashed", 2),
    "trips.mp4": ("crashed", 2),
    "writes.mp4": ("crashed", 2),
    "good-4.mp4": WHOLE,
}


class Trapped(Decoder):
    """A decoder that does something else with some files."""

    def pictures(self, video, fps, *sampling):
        if video.stem not in TRAPS:
            return (yield from super().pictures(video, fps, *sampling))
        return (yield from self.link.pieces(TRAPS[video.stem], FrameTimes, str(video), fps))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    hostile_media.write_corpus(folder)
    return folder


def ends(config, corpus) -> dict[str, int | str]:
    """What became of each file in one run with all of them: rows, or a code."""
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
    with closing(Trapped(LIMITS)) as first, closing(Trapped(LIMITS)) as second:
        results = encode_all(
            {"it": encoder}, tasks, batch_sizes={"it": 64}, decoders=[first, second]
        )
        return {
            sources[r.index].clip_id: r.code if isinstance(r, Failed) else len(r.track.time_s)
            for r in results
        }


def test_every_hostile_file_meets_its_end_and_the_good_ones_beside_it_come_through(
    corpus, tiny_clip, monkeypatch
):
    before = (corpus / "writes.mp4").read_bytes()
    found = ends(ClipConfig(**tiny_clip), corpus)
    assert found == {name: pictures for name, (pictures, _) in EXPECTED.items()}
    assert (corpus / "writes.mp4").read_bytes() == before


def test_the_sound_of_hostile_files_is_as_expected(corpus, tiny_ast):
    found = ends(AstConfig(model=tiny_ast, hop_s=0.64), corpus)
    seconds = {name: n if isinstance(n, str) else round(n / 10) for name, n in found.items()}
    assert seconds == {name: sound for name, (_, sound) in EXPECTED.items()}
