import json

import pytest

from features.freshness.quarantine import (
    WORDS_LENGTH,
    delete_entry,
    is_valid,
    read_entry,
    write_entry,
)
from features.media.decoder_version import DecoderVersion, decoder_version
from features.media.limits import DecodeLimits

NAME = "clip-0123456789ab"
SOURCE = {"video": "a" * 64, "frames": None, "fps": 25.0}


def put(work, clip="a", **changes):
    fields = {"code": "incomplete", "words": "5 of 9 frames", "source": SOURCE}
    return write_entry(
        work, NAME, clip, **{**fields, "extractor": DecoderVersion("x 1"), **changes}
    )


def test_a_record_comes_back_from_its_file_with_nothing_beside_it(tmp_path):
    record = put(tmp_path)
    assert read_entry(tmp_path, NAME, "a") == record
    path = tmp_path / "quarantine" / NAME / "a.json"
    fields = json.loads(path.read_text())
    names = {"clip", "spec", "code", "words", "source", "extractor", "limits", "made_at"}
    assert set(fields) == names
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]
    assert path.read_bytes() == json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def test_it_stands_until_the_source_or_the_extractor_changes(tmp_path):
    record = put(tmp_path)
    assert is_valid(record, {**SOURCE, "fps": 25}, DecoderVersion("x 1"))
    assert not is_valid(record, {**SOURCE, "video": "b" * 64}, DecoderVersion("x 1"))
    assert not is_valid(record, {**SOURCE, "fps": 24.0}, DecoderVersion("x 1"))
    assert not is_valid(record, SOURCE, DecoderVersion("x 2"))


def test_what_a_limit_ended_stands_as_long_as_the_limits(tmp_path):
    tight, wide = DecodeLimits(frames=4), DecodeLimits(frames=9)
    at_limit = put(tmp_path, code="limit-frames", extractor=DecoderVersion("x 1", tight))
    assert read_entry(tmp_path, NAME, "a") == at_limit
    for code in ("limit-frames", "crashed"):
        record = put(tmp_path, code=code, extractor=DecoderVersion("x 1", tight))
        assert is_valid(record, SOURCE, DecoderVersion("x 1", tight))
        assert not is_valid(record, SOURCE, DecoderVersion("x 1", wide))
        assert is_valid(record, SOURCE, DecoderVersion("x 1"))  # who only asks sets no limits
    broken = put(tmp_path, code="damaged", extractor=DecoderVersion("x 1", tight))
    assert is_valid(broken, SOURCE, DecoderVersion("x 1", wide))


def test_a_later_failure_takes_its_place_and_a_release_ends_it(tmp_path):
    put(tmp_path)
    put(tmp_path, code="no-picture")
    put(tmp_path, "b")
    assert read_entry(tmp_path, NAME, "a").code == "no-picture"
    delete_entry(tmp_path, NAME, "a")
    delete_entry(tmp_path, NAME, "a")
    assert read_entry(tmp_path, NAME, "a") is None
    assert read_entry(tmp_path, NAME, "b") is not None


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", "7", "[" * 100_000, '{"clip": "a"}', "\ufffd", "x" * 9],
    ids=lambda content: content[:4],
)
def test_a_damaged_record_is_as_none(tmp_path, content):
    put(tmp_path)
    (tmp_path / "quarantine" / NAME / "a.json").write_text(content)
    assert read_entry(tmp_path, NAME, "a") is None


def test_a_record_of_another_clip_or_with_more_in_it_is_as_none(tmp_path):
    put(tmp_path)
    path = tmp_path / "quarantine" / NAME / "a.json"
    path.with_name("b.json").write_bytes(path.read_bytes())
    assert read_entry(tmp_path, NAME, "b") is None
    path.write_text(json.dumps({**json.loads(path.read_text()), "more": 1}))
    assert read_entry(tmp_path, NAME, "a") is None
    path.write_text(json.dumps({**json.loads(path.read_text()), "code": "unheard-of"}))
    assert read_entry(tmp_path, NAME, "a") is None
    path.write_bytes(b"\xff\xfe\x00")
    assert read_entry(tmp_path, NAME, "a") is None


def test_endless_words_are_cut(tmp_path):
    put(tmp_path, words="y" * 10 * WORDS_LENGTH)
    assert read_entry(tmp_path, NAME, "a").words == "y" * WORDS_LENGTH


def test_the_extractor_names_our_code_and_the_decoders():
    assert decoder_version().name.startswith("decoding 1, PyAV 1")
    assert "FFmpeg" in decoder_version().name
    assert "Pillow" in decoder_version().name
