"""Batches across clips and encoders, with an encoder that counts and with real media."""

import errno
import threading
from contextlib import closing
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from features.clip import Source, Track
from features.encoders.ast import AstConfig
from features.encoders.clip import ClipConfig
from features.errors import MediaError, VaflowError
from features.extraction.batching import Encoded, Failed, encode_all, largest_batch, pad_batch
from features.extraction.output_buffer import OutputBuffer
from features.extraction.prefetch import ReadTask
from features.media.decoder import Decoder
from features.media.limits import DecodeLimits
from features.media.worker.client import DecoderClient, Stopped
from features.spec import FeatureSpec
from tests.helpers.small_media import draw_frames, tone
from tests.helpers.whole_media import read_audio

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
SPEC = FeatureSpec(
    kind="clip",
    model={},
    weights_sha256="0" * 64,
    preprocessing={},
    sampling={},
    precision="float32",
)


def n_not_blank(items: torch.Tensor) -> int:
    return int((items.flatten(1) != 0).any(dim=1).sum())


@dataclass
class Counting:
    """Returns its items, and records the sizes of its batches without blank items."""

    room: int = 10**9
    """Number of items that fit into its memory."""
    device: torch.device = CPU
    sizes: list[int] = field(default_factory=list)
    modality: str = "visual"
    rate_hz: None = None
    cpu_batch, gpu_batch = 16, 64
    spec = SPEC

    def blank(self, n_items):
        return torch.zeros(n_items, 1)

    def read(self, source, decoder):
        numbers = np.frombuffer(source.clip_id.encode(), np.uint8).astype(np.float32)
        for part in np.array_split(numbers, 3):
            yield torch.from_numpy(part)[:, None]
        yield len(numbers)

    def encode(self, items):
        if len(items) > self.room:
            raise torch.OutOfMemoryError("no memory")
        self.sizes.append(n_not_blank(items))
        return items

    def assemble(self, outputs, n_rows):
        values = torch.cat(list(outputs)).numpy()
        assert values.dtype == np.float16
        return Track(values, np.arange(n_rows, dtype=np.float64), np.ones(n_rows, bool)), None


READ = Counting.read


def fails_at_the_end(self, source, decoder):
    *pieces, end = READ(self, source, decoder)
    yield from pieces
    if source.clip_id == "bad":
        raise MediaError("a fault of the clip", "damaged")
    yield end


def results(encoder, names, batch_size, **limits) -> list[Encoded | Failed]:
    tasks = [
        ReadTask(k, Source(name, None, None, None, None), ("it",)) for k, name in enumerate(names)
    ]
    sizes = {"it": batch_size}
    with closing(Decoder(DecodeLimits(**limits))) as decoder:
        return list(encode_all({"it": encoder}, tasks, batch_sizes=sizes, decoders=[decoder]))


def encoded(encoder, names, batch_size=4, **limits) -> dict[str, str]:
    """The texts that the tracks of encoded clips hold, by clip."""
    return {
        names[r.index]: r.track.values[:, 0].astype(np.uint8).tobytes().decode()
        for r in results(encoder, names, batch_size, **limits)
    }


NAMES = ("abcdefgh", "aabbaabb", "zzzzzzzz", "q")


@pytest.mark.parametrize("batch_size", [1, 3, 4, 100])
def test_equal_items_of_a_clip_are_encoded_once_and_copied_to_each_of_their_rows(
    batch_size,
):
    encoder = Counting()
    assert encoded(encoder, NAMES, batch_size) == {name: name for name in NAMES}
    assert sum(encoder.sizes) == 8 + 2 + 1 + 1  # a z of another clip is another z
    assert set(encoder.sizes[:-1]) <= {batch_size}


def test_waiting_items_of_a_failed_clip_are_not_encoded(monkeypatch):
    monkeypatch.setattr(Counting, "read", fails_at_the_end)
    encoder = Counting()
    ended = results(encoder, ["bad", "good", "fine"], 5)
    assert [(r.index, isinstance(r, Failed)) for r in ended] == [
        (0, True),
        (1, False),
        (2, False),
    ]
    assert encoder.sizes == [5, 2]  # good has three different letters, fine four; none of bad


def test_a_batch_that_does_not_fit_is_halved_and_encoded_again(caplog):
    encoder = Counting(room=3)
    assert encoded(encoder, NAMES, 8) == {name: name for name in NAMES}
    assert max(encoder.sizes) == 2  # 8, 4, 2
    assert sum(encoder.sizes) == 12
    assert "a batch of 8 does not fit into the memory of cpu: 4 from here on" in caplog.text
    assert "a batch of 4 does not fit into the memory of cpu: 2 from here on" in caplog.text


def test_too_little_memory_for_one_item_is_an_error_that_says_what_to_do():
    with pytest.raises(VaflowError, match="cpu has too little memory to encode one item for it"):
        encoded(Counting(room=0), NAMES)


def test_other_errors_of_an_encoder_are_raised(monkeypatch):
    def encode(self, items):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(Counting, "encode", encode)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        encoded(Counting(), NAMES)
    assert not [t for t in threading.enumerate() if t.name.startswith("reader")]


@pytest.mark.parametrize(("room", "size"), [(10**9, 64), (64, 64), (63, 32), (1, 1), (0, 1)])
def test_the_batch_size_on_a_gpu_is_halved_until_it_fits(room, size):
    assert largest_batch(Counting(room=room, device=torch.device("cuda"))) == size
    assert largest_batch(Counting(room=room)) == 16


# Real media ---------------------------------------------------------------------------------------


@pytest.fixture
def requests(monkeypatch) -> list[str]:
    """The names of the requests to decoding processes."""
    names: list[str] = []
    request = DecoderClient.request

    def noted(self, name, *arguments):
        names.append(name)
        return request(self, name, *arguments)

    monkeypatch.setattr(DecoderClient, "request", noted)
    return names


@pytest.fixture
def both(tiny_clip, tiny_ast):
    return {
        "clip": ClipConfig(**tiny_clip).build(CPU),
        "ast": AstConfig(model=tiny_ast, hop_s=0.64).build(CPU),
    }


@pytest.fixture
def run(kept_decoder):
    """A function that encodes one clip by each of some encoders."""

    def encode(encoders, source: Source, **limits) -> dict[str, Encoded | Failed]:
        ended = encode_all(
            encoders,
            [ReadTask(0, source, tuple(encoders))],
            batch_sizes=dict.fromkeys(encoders, 8),
            decoders=[kept_decoder(DecodeLimits(**limits))],
        )
        return {result.feature_set: result for result in ended}

    return encode


def source(**parts) -> Source:
    empty = {"clip_id": "a", "video": None, "frames": None, "audio": None, "fps": None}
    return Source(**{**empty, **parts})


def assert_same(a: Encoded, b: Encoded) -> None:
    for part in ("values", "time_s", "valid"):
        np.testing.assert_array_equal(getattr(a.track, part), getattr(b.track, part))
    assert len(a.track.time_s) > 0


def test_two_encoders_share_one_decoding_of_a_video_and_get_what_each_gets_alone(
    run, both, make_video, make_crops, requests
):
    video = make_video(time_s=np.arange(80) / 25, sound=tone(3.2), sound_starts_s=0.2)
    for frames in (None, make_crops([1, 5])):
        clip = source(video=video, frames=frames)
        together = run(both, clip)
        assert "decode_audio" not in requests
        assert requests[0] == "decode_video"
        for name, encoder in both.items():
            assert_same(together[name], run({name: encoder}, clip)[name])
        assert requests[-1] == "decode_audio"
        requests.clear()


def test_a_decoder_can_be_used_again_after_it_decoded_audio_along_with_video(both, make_video):
    video = make_video(time_s=np.arange(80) / 25, sound=tone(3.2))
    tasks, sizes = [ReadTask(0, source(video=video), tuple(both))], dict.fromkeys(both, 8)
    with closing(Decoder(DecodeLimits())) as decoder:
        assert len(list(encode_all(both, tasks, batch_sizes=sizes, decoders=[decoder]))) == 2
        assert decoder.probe(video).n_frames == 80  # used again


def test_closing_the_results_early_stops_the_decoders(make_video):
    tasks = [ReadTask(k, source(), ("it",)) for k in range(50)]
    with closing(Decoder(DecodeLimits())) as decoder:
        results_ = encode_all({"it": Counting()}, tasks, batch_sizes={"it": 1}, decoders=[decoder])
        next(results_)
        results_.close()
        with pytest.raises(Stopped):
            decoder.probe(make_video())


def test_audio_in_a_separate_file_is_read_alone(run, both, make_video, requests, monkeypatch):
    def never(*_):
        raise AssertionError("the audio of the video is not wanted")

    monkeypatch.setattr("features.media.decoder.AudioBuffer", never)
    video = make_video("v.mp4", sound=tone(2))
    other = make_video("other.mp4", time_s=np.arange(75) / 25, sound=tone(3, seed=1))
    ended = run(both, source(video=video, audio=other))
    assert requests == ["decode_video", "decode_audio"]
    assert ended["ast"].track.time_s[-1] > 2.5


def test_a_failure_of_one_modality_leaves_the_other(run, both, make_video):
    video = make_video(time_s=np.arange(80) / 25, sound=tone(3.2))

    with closing(Decoder(DecodeLimits())) as decoder:
        decoder.also_decode_audio(16_000)
        clock = decoder.frame_times(video, None)
    alone = run(both, source(video=video))
    assert isinstance(alone["ast"], Encoded)
    assert len(alone["clip"].track.time_s) == len(clock.time_s)

    ended = run(both, source(video=video), frames=10)
    assert ended["clip"].code == "limit-frames"
    assert_same(ended["ast"], alone["ast"])


def test_long_audio_is_buffered_in_a_file_and_decoded_alone_if_the_disk_is_full(
    run, both, make_video, monkeypatch, requests
):
    clip = source(video=make_video(time_s=np.arange(80) / 25, sound=tone(3.2)))
    wanted = run(both, clip)["ast"]
    monkeypatch.setattr("features.media.audio.IN_MEMORY_BYTES", 1000)
    assert_same(run(both, clip)["ast"], wanted)
    assert "decode_audio" not in requests

    monkeypatch.setattr("tempfile.SpooledTemporaryFile.write", disk_full)
    assert_same(run(both, clip)["ast"], wanted)
    assert requests[-1] == "decode_audio"


@pytest.mark.parametrize("n_others", [0, 1, 14, 15, 40])
def test_an_item_has_the_same_output_in_any_batch(n_others):
    """The other clips of a run decide nothing: outputs are equal bit by bit, before rounding."""
    encoder = ClipConfig(model="vaflow-rn-small", pretrained="rendered").build(CPU)
    drawn = torch.Generator().manual_seed(3)
    items = torch.randint(0, 256, (60, 3, *encoder.size), dtype=torch.uint8, generator=drawn)
    few = pad_batch([items[:1], items[20 : 20 + n_others]], encoder, 64)
    assert torch.equal(encoder.encode(few)[:1], encoder.encode(items)[:1])


def test_a_still_image_and_silence_are_encoded_once(run, both, make_video, monkeypatch):
    counts = {"clip": 0, "ast": 0}
    for name, encoder in both.items():

        def counted(items, name=name, real=encoder.encode):
            counts[name] += n_not_blank(items)
            return real(items)

        monkeypatch.setattr(encoder, "encode", counted)
    still = np.repeat(draw_frames(1), 100, axis=0)
    still[60:] = draw_frames(3)[2]
    video = make_video(
        time_s=np.arange(100) / 25,
        frames=still,
        sound=np.zeros(4 * 44_100, np.float32),
        options={"qp": "0"},
    )
    ended = run(both, source(video=video))
    assert len(ended["clip"].track.time_s) == 100
    assert 2 <= counts["clip"] < 20  # x264 refines a still image over some frames
    values = ended["clip"].track.values
    assert (values[30:59] == values[40]).all()
    assert not (values[70] == values[40]).all()
    n_frames = 1 + (len(read_audio(video, 16_000).samples) - 400) // 160
    assert len(both["ast"].windows.starts(n_frames)) > 4
    assert counts["ast"] == 2  # a full window of silence, and the last one with its padding
    mute = run({"ast": both["ast"]}, source(video=make_video("mute.mp4")))["ast"]
    assert len(mute.track.time_s) == 0


def test_readers_take_one_core_each_and_leave_the_others_to_the_encoder(monkeypatch):
    n_threads = []

    def counted(self, *arguments):
        n_threads.append(torch.get_num_threads())
        yield from READ(self, *arguments)

    monkeypatch.setattr(Counting, "read", counted)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        encoded(Counting(), ("a",))
        after = torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
    assert (n_threads, after) == ([1], 2)


@pytest.mark.parametrize("in_memory", [0, 10**6])
@pytest.mark.parametrize("piece", [1, 100, 10**6])
def test_an_output_buffer_returns_outputs_in_any_order_from_memory_and_file(
    in_memory, piece, monkeypatch
):
    monkeypatch.setattr("features.extraction.output_buffer.IN_MEMORY_BYTES", in_memory)
    monkeypatch.setattr("features.extraction.output_buffer.PIECE_BYTES", piece)
    values = torch.arange(5 * 2 * 3).reshape(5, 2, 3).half()
    orders = [(0, 1, 2, 3, 4), (0, 0, 1, 2, 2, 3, 4, 0), (3, 3, 0), (0, 0, 1)]
    with closing(OutputBuffer()) as buffer:
        for part in values.split(2):
            buffer.add(part)
        assert buffer.n_items == 5
        for order in orders:
            outputs = torch.cat(list(buffer.in_order(order)))
            torch.testing.assert_close(outputs, values[list(order)], rtol=0, atol=0)


def test_an_output_buffer_keeps_outputs_in_memory_when_the_disk_is_full(monkeypatch):
    monkeypatch.setattr("features.extraction.output_buffer.IN_MEMORY_BYTES", 1)
    values = torch.arange(6 * 4).reshape(6, 4).half()
    with closing(OutputBuffer()) as buffer:
        buffer.add(values[:2])
        monkeypatch.setattr("tempfile.SpooledTemporaryFile.write", disk_full)
        buffer.add(values[2:3])
        monkeypatch.undo()  # there is room again
        buffer.add(values[3:])
        for order in (tuple(range(6)), (0, 1, 4, 4, 1)):
            torch.testing.assert_close(torch.cat(list(buffer.in_order(order))), values[list(order)])


def disk_full(*_) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_outputs_of_a_failed_clip_in_flight_on_a_gpu_are_discarded(monkeypatch):
    """A pretended event of a GPU keeps one batch in flight while the next is prepared."""

    def in_flight(values, dtype):
        return SimpleNamespace(event=True, on_cpu=lambda: values.to(dtype))

    monkeypatch.setattr(
        "features.extraction.batching.BatchOutput", SimpleNamespace(fetch=in_flight)
    )
    monkeypatch.setattr(Counting, "read", fails_at_the_end)
    ended = results(Counting(), ["bad", "good", "fine"], 2)
    assert [(r.index, isinstance(r, Failed)) for r in ended] == [(0, True), (1, False), (2, False)]
    assert ended[1].track.values[:, 0].astype(np.uint8).tobytes() == b"good"
