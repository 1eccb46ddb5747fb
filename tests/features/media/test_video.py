from contextlib import suppress

import av
import av.error
import numpy as np
import pytest

from features.errors import MediaError
from features.media.crops import crop_files, read_image
from features.media.tracks import demux
from features.media.video import DecodedVideo, frame_times, probe
from tests.helpers.hostile_media import audio_file, coded
from tests.helpers.small_media import RATE_HZ, tone
from tests.helpers.whole_media import read_audio, read_frame_times, read_images

SYSTEM_FILES = (".DS_Store", "._00002.jpg", "._crops", ".hidden", "Thumbs.db", "thumbs.db")
SYSTEM_FILES += ("desktop.ini", "Desktop.ini", "ehthumbs.db")
FASTSTART = {"movflags": "faststart"}  # the index first, as streamed files have it


def test_a_variable_rate_is_kept_frame_by_frame(make_video):
    uneven_s = np.array([0.0, 0.1, 0.13, 0.5, 0.51, 2.0])
    found = read_frame_times(make_video(time_s=uneven_s), 25.0)
    np.testing.assert_array_equal(found.time_s, uneven_s)
    assert found.note is None


def test_an_avi_with_b_frames_falls_back_to_the_declared_rate(make_video, tmp_path):
    rng = np.random.default_rng(0)
    still = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
    frames = np.stack([np.roll(still, 2 * k, axis=1) for k in range(40)])  # a pan: B-frames
    path = make_video("b.avi", time_s=np.arange(40) / 25, frames=frames)
    with av.open(str(path)) as container:
        stamps = [frame.time for frame in container.decode(video=0)]
    assert None in stamps or np.any(np.diff(stamps) <= 0), "this file has no scrambled stamps"
    found = read_frame_times(path, 30.0)
    assert "constant rate" in found.note
    np.testing.assert_allclose(found.time_s, np.arange(40) / 30)
    np.testing.assert_allclose(read_frame_times(path, None).time_s, np.arange(40) / 25)


@pytest.mark.parametrize("stamps", [[5.0, None, None, None, 5.4], [5.0, 5.2, 5.1, 5.4, 5.3]])
def test_unusable_timestamps_give_a_constant_rate_from_the_start_of_the_track(stamps, make_video):
    decoded = DecodedVideo(stamps, start_s=5.0)
    found = frame_times(decoded, 10.0, make_video())
    assert "constant rate" in found.note
    np.testing.assert_allclose(found.time_s, [5, 5.1, 5.2, 5.3, 5.4])


def test_frames_come_in_presentation_order(make_video):
    flat = np.repeat(np.arange(20, 220, 10, dtype=np.uint8), 64 * 64 * 3)
    path = make_video(time_s=np.arange(20) / 25, frames=flat.reshape(20, 64, 64, 3))
    means = [image.mean() for image in read_images(path)]
    np.testing.assert_allclose(means, np.arange(20, 220, 10), atol=3)


def test_a_probe_lists_without_decoding(make_video):
    path = make_video(time_s=np.arange(30) / 30, sound=tone(1))
    found = probe(path)
    assert (found.n_frames, found.variable_rate, found.has_audio) == (30, False, True)
    assert found.mean_fps == pytest.approx(30, rel=0.05)
    uneven = make_video("v.mp4", time_s=np.array([0, 0.1, 0.15, 0.4]))
    assert probe(uneven).variable_rate
    assert not probe(uneven).has_audio


def damaged(path, keep: float | None = None, zero: tuple[float, float] | None = None):
    """A copy cut to a share of its bytes, or with a stretch of zeros."""
    data = bytearray(path.read_bytes())
    if keep is not None:
        data = data[: int(len(data) * keep)]
    if zero is not None:
        start, stop = (int(len(data) * share) for share in zero)
        data[start:stop] = bytes(stop - start)
    other = path.with_name("damaged-" + path.name)
    other.write_bytes(bytes(data))
    return other


def test_a_truncated_or_overwritten_file_is_an_error_and_not_a_short_clip(make_video):
    times = np.arange(100) / 25
    whole = make_video("a.mp4", time_s=times, sound=tone(4), options=FASTSTART)
    assert len(read_frame_times(whole, None).time_s) == 100
    assert read_audio(whole, 16_000) is not None
    with pytest.raises(MediaError, match=r"of the 100 frames that the container promises decode"):
        read_frame_times(damaged(whole, keep=0.5), None)
    with pytest.raises(MediaError, match="seconds of audio that the container promises are there"):
        read_audio(damaged(whole, keep=0.5), 16_000)
    with pytest.raises(MediaError, match="truncated or damaged"):
        read_frame_times(damaged(whole, zero=(0.4, 0.7)), None)
    late = make_video("late.mp4", time_s=times, sound=tone(4))  # the index last
    with pytest.raises(MediaError, match="cannot be decoded"):
        read_frame_times(damaged(late, keep=0.5), None)
    mkv = make_video("a.mkv", time_s=times, sound=tone(4))  # no count of frames at all
    assert len(read_frame_times(mkv, None).time_s) == 100
    with pytest.raises(MediaError, match="seconds that the container promises decode"):
        read_frame_times(damaged(mkv, keep=0.5), None)
    with pytest.raises(MediaError, match="seconds of audio"):
        read_audio(damaged(mkv, keep=0.5), 16_000)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"a text, not a video\n" * 50, "cannot be decoded"),
        (b"ffconcat version 1.0\nfile other.mp4\n", "cannot be decoded"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nother.mp4\n", "cannot be decoded"),
    ],
)
def test_a_file_that_is_no_media_is_refused(tmp_path, make_video, content, message):
    make_video("other.mp4")  # a playlist would open this file
    path = tmp_path / "bad.mp4"
    path.write_bytes(content)
    for read in (lambda: read_frame_times(path, None), lambda: read_audio(path, 16_000)):
        with pytest.raises(MediaError, match=message):
            read()


def test_a_missing_file_and_a_file_without_video_are_named(tmp_path, make_video):
    with pytest.raises(MediaError, match="there is no such file"):
        read_frame_times(tmp_path / "none.mp4", None)
    with av.open(str(tmp_path / "a.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        block = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), "s16", "mono")
        block.rate = 16_000
        container.mux(stream.encode(block))
    with pytest.raises(MediaError, match="has no video"):
        read_frame_times(tmp_path / "a.wav", None)
    assert read_audio(make_video("silent.mp4"), 16_000) is None


def test_audio_keeps_its_pitch_duration_and_position(make_video):
    t = np.arange(3 * RATE_HZ) / RATE_HZ
    path = make_video(
        time_s=np.arange(100) / 25, sound=0.5 * np.sin(2 * np.pi * 440 * t), sound_starts_s=0.6
    )
    sound = read_audio(path, 16_000)
    assert sound is not None
    loud = np.flatnonzero(np.abs(sound.samples) > 0.2)
    assert sound.start_s + loud[0] / 16_000 == pytest.approx(0.6, abs=0.05)
    assert sound.start_s + loud[-1] / 16_000 == pytest.approx(3.6, abs=0.05)
    steady = sound.samples[len(sound.samples) // 2 :][:16_000]
    assert np.abs(np.fft.rfft(steady)).argmax() == 440


def test_crops_are_numbered_from_one_and_hidden_files_are_ignored(make_crops):
    folder = make_crops([2, 10])
    for name in SYSTEM_FILES:
        (folder / name).write_bytes(b"x")
    assert list(crop_files(folder)) == [2, 10]
    (folder / "00000.jpg").write_bytes(b"x")
    with pytest.raises(MediaError, match="counted from 1"):
        crop_files(folder)
    with pytest.raises(MediaError, match="no such folder of crops"):
        crop_files(folder / "none")


def test_a_damaged_crop_is_named(make_crops):
    path = make_crops([1])
    whole = (path / "00001.jpg").read_bytes()
    assert read_image(path / "00001.jpg").shape == (112, 112, 3)
    for content in (b"", b"text", whole[: len(whole) // 2]):
        (path / "00001.jpg").write_bytes(content)
        with pytest.raises(MediaError, match=r"00001\.jpg is not a complete image"):
            read_image(path / "00001.jpg")


def test_a_gap_in_the_audio_is_silence_of_its_length(tmp_path):
    beep = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE_HZ) / RATE_HZ)[None].astype(np.float32)
    path = tmp_path / "gap.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=RATE_HZ, layout="mono")
        for start_s in (0.0, 2.5):  # a second of tone, a second and a half of nothing, a second
            block = av.AudioFrame.from_ndarray((beep * 32767).astype(np.int16), "s16", "mono")
            block.rate, block.pts = RATE_HZ, int(start_s * RATE_HZ)
            container.mux(stream.encode(block))
        container.mux(stream.encode(None))
    sound = read_audio(path, 16_000)
    assert sound is not None
    assert len(sound.samples) == pytest.approx(3.5 * 16_000, abs=200)
    rms = np.sqrt([np.mean(sound.samples[int(t * 16_000) :][:1600] ** 2) for t in (0.4, 1.7, 3.0)])
    np.testing.assert_allclose(rms, [0.35, 0, 0.35], atol=0.02)


def test_timestamps_that_go_back_lose_neither_frames_nor_audio(make_video):
    path = make_video("part.ts", time_s=np.arange(30) / 25, sound=tone(1.2))
    one, once = read_frame_times(path, None), read_audio(path, 16_000)
    path.write_bytes(path.read_bytes() * 2)  # the second half begins at 0 again
    both, twice = read_frame_times(path, None), read_audio(path, 16_000)
    assert len(one.time_s) == 30
    assert len(both.time_s) == 60
    assert both.note == "the clock of the file jumps (1x): its parts are joined"
    np.testing.assert_allclose(np.diff(both.time_s), 0.04, atol=0.05)
    assert once is not None
    assert twice is not None
    assert len(twice.samples) == pytest.approx(2 * len(once.samples), abs=1600)


def test_damaged_frames_do_not_count_as_decoded(make_video):
    path = make_video(time_s=np.arange(100) / 25, options=FASTSTART)
    data = bytearray(path.read_bytes())
    start, stop = data.index(b"mdat") + 4, len(data)
    for at in range(start + (stop - start) // 10, stop, 199):
        data[at] ^= 0xFF
    path.write_bytes(bytes(data))
    n_frames = 0
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            with suppress(av.error.InvalidDataError):
                n_frames += len(packet.decode())
    assert n_frames >= 95  # FFmpeg conceals damage, so the number of frames does not show it
    with pytest.raises(MediaError, match="of the 100 frames that the container promises decode"):
        read_frame_times(path, None)


def test_audio_that_changes_from_mono_to_stereo_is_decoded_to_its_end(tmp_path):
    path = tmp_path / "change.aac"
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE_HZ) / RATE_HZ).astype(np.float32)
    with path.open("wb") as both:  # as broadcasts do; the timestamps run on without a gap
        for layout, n_channels in (("mono", 1), ("stereo", 2)):
            part = tmp_path / f"{layout}.aac"
            with av.open(str(part), "w", format="adts") as container:
                stream = container.add_stream("aac", rate=RATE_HZ, layout=layout)
                samples = np.repeat(wave[None], n_channels, axis=0)
                block = av.AudioFrame.from_ndarray(samples, "fltp", layout)
                block.rate = RATE_HZ
                container.mux(stream.encode(block))
                container.mux(stream.encode(None))
            both.write(part.read_bytes())
    with av.open(str(path)) as container:
        frames = [(frame.layout.name, frame.time) for frame in container.decode(audio=0)]
    assert {layout for layout, _ in frames} == {"mono", "stereo"}
    assert np.diff([time_s for _, time_s in frames]).max() < 0.05
    sound = read_audio(path, 16_000)
    assert sound is not None
    assert len(sound.samples) == pytest.approx(2 * 16_000, rel=0.1)


def test_two_crops_of_one_frame_are_refused(make_crops):
    folder = make_crops([1])
    (folder / "000001.jpg").write_bytes((folder / "00001.jpg").read_bytes())
    with pytest.raises(MediaError, match="are of one frame; remove one"):
        crop_files(folder)


def test_a_frame_lost_to_damage_stays_a_row(make_video):
    path = make_video(time_s=np.arange(100) / 25, options=FASTSTART)
    data = bytearray(path.read_bytes())
    middle = (data.index(b"mdat") + len(data)) // 2
    data[middle : middle + 400] = bytes(400)
    path.write_bytes(bytes(data))
    found = read_frame_times(path, None)
    n_lost = 100 - len(found.rows)
    assert 0 < n_lost < 5
    np.testing.assert_allclose(found.time_s, np.arange(100) / 25)  # nothing slips
    assert found.note == f"{n_lost} frames lost to damage"


@pytest.mark.parametrize(("n_damaged", "is_complete"), [(5, True), (6, False)])
def test_a_video_with_95_percent_of_its_frames_is_complete(tmp_path, n_damaged, is_complete):
    path = tmp_path / "a.mov"
    coded(path, "mjpeg", "yuvj420p", n_frames=100)  # each frame decodes on its own
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    for position, size in packets[10 : 10 + n_damaged]:
        data[position : position + size] = bytes(size)
    path.write_bytes(data)
    if is_complete:
        assert len(read_frame_times(path, None).time_s) == 100  # the lost ones are rows
    else:
        with pytest.raises(MediaError, match="94 of the 100 frames that the container promises"):
            read_frame_times(path, None)


@pytest.mark.parametrize(("gap_s", "extra_s"), [(0.008, 0.0), (0.012, 0.012), (0.08, 0.08)])
def test_a_gap_above_10_ms_is_silence_and_a_smaller_one_is_jitter(tmp_path, gap_s, extra_s):
    audio_file(tmp_path / "a.mkv", codec="pcm_s16le", starts_s=(0.0, 1.0 + gap_s))
    audio = read_audio(tmp_path / "a.mkv", 16_000)
    assert len(audio.samples) / 16_000 == pytest.approx(2 + extra_s, abs=0.002)


def test_an_estimated_duration_is_no_promise(tmp_path):
    path = tmp_path / "a.aac"
    with av.open(str(path), "w", format="adts") as container:
        stream = container.add_stream("aac", rate=RATE_HZ, layout="mono")
        rng = np.random.default_rng(0)
        for loud in (0.0, 0.5):  # few bits a second at first: the estimate is too long
            noise = (loud * rng.standard_normal((1, 4 * RATE_HZ))).astype(np.float32)
            block = av.AudioFrame.from_ndarray(noise, "fltp", "mono")
            block.rate = RATE_HZ
            container.mux(stream.encode(block))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        assert container.duration / av.time_base > 9
    assert len(read_audio(path, 16_000).samples) / 16_000 == pytest.approx(8, abs=0.1)


def test_silence_keeps_its_length_where_audio_that_overlaps_was_not_dropped_whole(
    tmp_path, monkeypatch
):
    audio_file(tmp_path / "a.mkv", codec="libopus", rate_hz=48_000)  # a second in packets of 20 ms

    def moved(container, tracks):
        for k, packet in enumerate(demux(container, tracks)):
            if packet.pts is not None and k >= 25:  # one is 60 ms early, the others a second late
                packet.pts += round((-0.06 if k == 25 else 1) / packet.time_base)
            yield packet

    monkeypatch.setattr("features.media.audio.demux", moved)
    found = read_audio(tmp_path / "a.mkv", 16_000)
    assert len(found.samples) / 16_000 == pytest.approx(2, abs=0.02)
