import subprocess
import sys
from pathlib import Path

import pytest

from features.config_errors import kind_of
from features.encoder_kinds import KINDS, config_of
from features.errors import StoreError
from features.maintenance.status import readable, render_status, status
from features.spec import MODALITY
from features.store.feature_store import FeatureStore
from tests.helpers.small_stores import SOURCE, SPEC, make_track, send_away, write_clips

UNKNOWN = SPEC.model_copy(update={"kind": "wav"})


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_clips(tmp_path)


def status_in(folder: Path):
    return status(str(folder / "s.zarr"), folder / "m.jsonl")


def states(folder: Path) -> dict[str, tuple[str, str]]:
    return {clip.clip: (clip.state, clip.reason) for clip in status_in(folder).clips}


def add_unknown_set(folder: Path) -> None:
    store = FeatureStore.open(folder / "s.zarr")
    store.write(UNKNOWN, "a", make_track(), source=SOURCE, provenance={})


def test_each_state_has_its_reason(folder):
    assert states(folder) == {
        "a": ("complete", ""),
        "b": ("complete", ""),
        "c": ("missing", "no record"),
    }
    (folder / "a.mp4").write_text("other pictures")
    (folder / f"s.zarr/{SPEC.name}/b/valid/c/0").write_bytes(b"")
    send_away(folder, "c")
    assert states(folder) == {
        "a": ("stale", "source changed: video"),
        "b": ("corrupt", "valid/c/0 is empty"),
        "c": ("quarantined", "damaged: moov atom not found"),
    }


def test_a_clip_is_quarantined_until_its_media_or_the_decoder_changes(folder):
    send_away(folder, "c", extractor="an older one")
    assert states(folder)["c"] == ("missing", "no record")
    send_away(folder, "c")
    assert states(folder)["c"][0] == "quarantined"
    (folder / "c.mp4").write_text("another file")
    assert states(folder)["c"] == ("missing", "no record")


def test_a_complete_clip_is_complete_in_spite_of_a_quarantine_entry(folder):
    send_away(folder, "a")
    assert states(folder)["a"][0] == "complete"


def test_the_size_of_a_feature_set_is_that_of_its_record_files(folder):
    found = status_in(folder)
    files = [path for path in (folder / "s.zarr" / SPEC.name).rglob("*") if path.is_file()]
    n_bytes = sum(path.stat().st_size for path in files if path.parent.name != SPEC.name)
    assert found.n_bytes == {SPEC.name: n_bytes}
    assert found.as_json()["bytes"] == found.n_bytes
    assert f"2 complete, 1 missing; {n_bytes / 1000:.1f} kB" in next(render_status(found))


def test_missing_media_is_named_in_the_reason(folder):
    (folder / "a.mp4").unlink()
    (folder / "c.mp4").unlink()
    found = states(folder)
    assert found["a"][0] == "stale"
    assert "media that it was extracted from is no longer available" in found["a"][1]
    assert found["c"][0] == "missing"
    assert "c.mp4 cannot be read" in found["c"][1]
    (folder / f"s.zarr/{SPEC.name}/a/zarr.json").write_text("{")
    assert states(folder)["a"][0] == "corrupt"


def test_a_feature_set_without_its_spec_is_an_error(folder):
    (folder / f"s.zarr/{SPEC.name}/zarr.json").unlink()
    with pytest.raises(StoreError, match="lost its zarr.json"):
        states(folder)


def test_a_feature_set_of_an_unknown_kind_is_named_and_the_others_are_compared(folder):
    known = status_in(folder)
    add_unknown_set(folder)
    found = status_in(folder)
    assert found.clips == known.clips
    assert found.as_json() == {**known.as_json(), "unknown_kinds": {UNKNOWN.name: "wav"}}
    lines = "\n".join(render_status(found))
    assert f"{SPEC.name}: 2 complete, 1 missing" in lines
    assert f"{UNKNOWN.name}: not compared: this vaflow does not know the kind 'wav'" in lines


def test_a_store_is_complete_in_spite_of_a_feature_set_of_an_unknown_kind(folder):
    add_unknown_set(folder)
    assert not status_in(folder).is_complete
    manifest = folder / "m.jsonl"
    manifest.write_text("".join(manifest.read_text().splitlines(keepends=True)[:2]))  # a and b
    assert status_in(folder).is_complete


def test_a_size_for_a_person_has_a_decimal_unit():
    expected = {0: "0 B", 999: "999 B", 1000: "1.0 kB", 1_500_000: "1.5 MB", 10**15: "1000.0 TB"}
    assert {n: readable(n) for n in expected} == expected


def test_the_commands_on_a_store_import_no_encoder_library():
    code = (
        "import sys, features.maintenance.status, features.maintenance.verify\n"
        "import features.maintenance.garbage\n"
        "heavy = ('torch', 'transformers', 'open_clip', 'prefect')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_listed_as_its_config_has_it(kind):
    config = config_of(kind)
    assert (kind_of(config), config.modality) == (kind, KINDS[kind].modality)
    assert MODALITY[kind] == config.modality
