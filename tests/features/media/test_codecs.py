"""Files whose format or codec is not decoded: the reason names it, and what to do."""

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from features.errors import MediaError
from features.media.audio import AudioEnd
from features.media.decoder import Decoder
from tests.helpers.field_media import Video, steps, write_media
from tests.helpers.small_media import draw_frames, tone

pytestmark = pytest.mark.slow

N_FRAMES = 10
RATE_HZ = 48_000
FOURCC = {"libx264": b"avc1", "alac": b"alac", "aac": b"mp4a"}
UNKNOWN = b"zzzz"


def write_mp4(path: Path, sounds: Sequence[str] = (), unknown: Sequence[str] = ()) -> Path:
    """An MP4 with a video track and one of each audio codec; those `unknown` get another fourcc."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        tracks = [container.add_stream(name, rate=RATE_HZ, layout="mono") for name in sounds]
        for k, picture in enumerate(draw_frames(N_FRAMES)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = k
            container.mux(video.encode(frame))
        container.mux(video.encode())
        for track in tracks:
            samples = tone(0.4)[None]
            block = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            if track.name == "alac":
                whole = (samples * 32767).astype(np.int16)
                block = av.AudioFrame.from_ndarray(whole, format="s16p", layout="mono")
            block.rate, block.pts = RATE_HZ, 0
            container.mux(track.encode(block))
            container.mux(track.encode())
    data = bytearray(path.read_bytes())
    for codec in unknown:
        at = data.index(FOURCC[codec], data.index(b"stsd"))
        data[at : at + 4] = UNKNOWN
    path.write_bytes(data)
    return path


def audio_end(decoder: Decoder, path: Path) -> AudioEnd:
    *_, end = decoder.audio(path, 16_000)
    assert isinstance(end, AudioEnd)
    return end


@pytest.mark.parametrize("name", ["GIF", "PNG", "JPEG", "WebP"])
def test_a_picture_that_is_named_mp4_is_named_by_its_format(decoder, tmp_path, name):
    pictures = [Image.fromarray(picture) for picture in draw_frames(5)]
    animated = {"save_all": True, "append_images": pictures[1:]} if name == "GIF" else {}
    pictures[0].save(tmp_path / "a.mp4", format=name, **animated)
    reason = f"a.mp4 is a {name} file, which is not decoded; convert it to a video, to H.264 in"
    with pytest.raises(MediaError, match=reason) as raised:
        decoder.frame_times(tmp_path / "a.mp4", None)
    assert raised.value.code == "not-media"


@pytest.mark.parametrize(("suffix", "codec"), [("h264", "libx264"), ("hevc", "libx265")])
def test_a_stream_without_container_is_named(decoder, tmp_path, suffix, codec):
    path = write_media(tmp_path / f"a.{suffix}", Video(steps(5), codec=codec))
    reason = "is a raw H.264 or H.265 stream without times, which is not decoded; convert it to a"
    with pytest.raises(MediaError, match=reason):
        decoder.frame_times(path, None)


def test_a_video_codec_without_a_decoder_is_named(decoder, tmp_path):
    path = write_mp4(tmp_path / "a.mp4", ["aac"], unknown=["libx264"])
    reason = r"a.mp4 has a video track of codec 'none \(zzzz / .*', .* not decoded; .* to H.264 and"
    for read in (decoder.probe, lambda path: decoder.frame_times(path, None)):
        with pytest.raises(MediaError, match=reason) as raised:
            read(path)
        assert raised.value.code == "codec"
    assert audio_end(decoder, path).n_samples  # the sound can be used all the same


def test_an_audio_codec_without_a_decoder_is_named(decoder, tmp_path):
    path = write_mp4(tmp_path / "a.mp4", ["alac"], unknown=["alac"])
    assert len(decoder.frame_times(path, None).time_s) == N_FRAMES
    reason = r"a.mp4 has an audio track of codec 'none \(zzzz / .*', .* not decoded; .* and AAC"
    with pytest.raises(MediaError, match=reason) as raised:
        audio_end(decoder, path)
    assert raised.value.code == "codec"


def test_an_audio_track_of_an_unknown_codec_is_passed_over_with_a_note(decoder, tmp_path):
    path = write_mp4(tmp_path / "a.mp4", ["alac", "aac"], unknown=["alac"])
    end = audio_end(decoder, path)
    assert end.n_samples > 0.3 * 16_000
    assert end.note == "audio track 1 of 2 is decoded, not 0 (unknown)"


def test_a_title_that_is_no_utf_8_is_no_reason_to_refuse_a_file(decoder, tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "caf__ Stream #0:0: Video: h264 (forged"
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for picture in draw_frames(N_FRAMES):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"caf__", b"caf\xe9\n"))
    assert len(decoder.frame_times(path, None).time_s) == N_FRAMES
    path.write_bytes(path.read_bytes().replace(b"V_MPEG4/ISO/AVC", b"V_MPEG4/ISO/ZZZ"))
    with pytest.raises(MediaError, match="a video track of codec 'none'"):
        decoder.frame_times(path, None)
