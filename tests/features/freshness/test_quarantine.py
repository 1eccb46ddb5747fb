import json
from pathlib import Path

import pytest

from features.freshness.quarantine import (
    MAX_MESSAGE_LENGTH,
    QuarantineEntry,
    delete_entry,
    entries_of,
    is_valid,
    read_entry,
    write_entry,
)
from features.media.decoder_version import DECODING, DecoderVersion, decoder_version
from features.media.limits import DecodeLimits

NAME = "clip-0123456789ab"
SOURCE = {"video": "a" * 64, "frames": None, "fps": 25.0}


def put(work: Path, clip: str = "a", **changes) -> QuarantineEntry:
    fields = {"code": "incomplete", "message": "5 of 9 frames", "source": SOURCE}
    return write_entry(work, NAME, clip, **{**fields, "decoder": DecoderVersion("x 1"), **changes})


def path_of(work: Path, clip: str = "a") -> Path:
    return work / "quarantine" / NAME / f"{clip}.json"


def test_an_entry_is_read_as_it_was_written(tmp_path):
    entry = put(tmp_path)
    assert read_entry(tmp_path, NAME, "a") == entry
    assert entries_of(tmp_path, NAME) == {"a"}


def test_the_file_keeps_its_field_names_and_has_no_other_file_beside_it(tmp_path):
    put(tmp_path)
    path = path_of(tmp_path)
    fields = json.loads(path.read_text())
    names = {"clip", "spec", "code", "words", "source", "extractor", "limits", "made_at"}
    assert set(fields) == names
    assert (fields["spec"], fields["words"], fields["extractor"]) == (NAME, "5 of 9 frames", "x 1")
    assert path.read_bytes() == json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]


def test_an_entry_is_valid_until_the_source_or_the_decoder_changes(tmp_path):
    entry = put(tmp_path)
    assert is_valid(entry, {**SOURCE, "fps": 25}, DecoderVersion("x 1"))
    assert not is_valid(entry, {**SOURCE, "video": "b" * 64}, DecoderVersion("x 1"))
    assert not is_valid(entry, {**SOURCE, "fps": 24.0}, DecoderVersion("x 1"))
    assert not is_valid(entry, SOURCE, DecoderVersion("x 2"))


@pytest.mark.parametrize("code", ["limit-frames", "crashed"])
def test_an_entry_that_depends_on_the_limits_is_valid_until_they_change(tmp_path, code):
    tight, wide = DecodeLimits(frames=4), DecodeLimits(frames=9)
    entry = put(tmp_path, code=code, decoder=DecoderVersion("x 1", tight))
    assert read_entry(tmp_path, NAME, "a") == entry
    assert is_valid(entry, SOURCE, DecoderVersion("x 1", tight))
    assert not is_valid(entry, SOURCE, DecoderVersion("x 1", wide))
    assert is_valid(entry, SOURCE, DecoderVersion("x 1"))  # `status` sets no limits


def test_an_entry_for_damaged_media_does_not_depend_on_the_limits(tmp_path):
    entry = put(tmp_path, code="damaged", decoder=DecoderVersion("x 1", DecodeLimits(frames=4)))
    assert is_valid(entry, SOURCE, DecoderVersion("x 1", DecodeLimits(frames=9)))


def test_a_later_entry_replaces_the_first(tmp_path):
    put(tmp_path)
    put(tmp_path, code="no-picture")
    assert read_entry(tmp_path, NAME, "a").code == "no-picture"


def test_a_deleted_entry_is_gone_and_deleting_it_again_does_nothing(tmp_path):
    put(tmp_path)
    put(tmp_path, "b")
    delete_entry(tmp_path, NAME, "a")
    delete_entry(tmp_path, NAME, "a")
    assert read_entry(tmp_path, NAME, "a") is None
    assert read_entry(tmp_path, NAME, "b") is not None


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"7", b"[" * 100_000, b'{"clip": "a"}', b"\xff\xfe\x00", b"x" * 9],
    ids=lambda content: repr(content[:4]),
)
def test_a_damaged_entry_counts_as_missing(tmp_path, content):
    put(tmp_path)
    path_of(tmp_path).write_bytes(content)
    assert read_entry(tmp_path, NAME, "a") is None


@pytest.mark.parametrize("change", [{"more": 1}, {"code": "unheard-of"}, {"spec": "clip-b"}])
def test_an_entry_with_an_unknown_field_or_value_counts_as_missing(tmp_path, change):
    put(tmp_path)
    path = path_of(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert read_entry(tmp_path, NAME, "a") is None


def test_an_entry_of_another_clip_counts_as_missing(tmp_path):
    put(tmp_path)
    path_of(tmp_path, "b").write_bytes(path_of(tmp_path).read_bytes())
    assert read_entry(tmp_path, NAME, "b") is None


def test_a_long_message_is_cut(tmp_path):
    put(tmp_path, message="y" * 10 * MAX_MESSAGE_LENGTH)
    assert read_entry(tmp_path, NAME, "a").message == "y" * MAX_MESSAGE_LENGTH


def test_the_decoder_version_names_our_code_and_the_libraries():
    assert decoder_version().name.startswith(f"decoding {DECODING}, PyAV 1")
    assert "FFmpeg" in decoder_version().name
    assert "Pillow" in decoder_version().name
