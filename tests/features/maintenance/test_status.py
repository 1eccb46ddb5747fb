import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from features.encoders import AnyEncoderConfig
from features.errors import StoreError
from features.maintenance.status import readable, render_status, status
from features.spec import MODALITY
from tests.helpers.small_stores import SPEC, send_away, write_clips


@pytest.fixture
def place(tmp_path) -> Path:
    return write_clips(tmp_path)


def states(place: Path) -> dict[str, tuple[str, str]]:
    found = status(str(place / "s.zarr"), place / "m.jsonl")
    return {clip.clip: (clip.state, clip.reason) for clip in found.clips}


def test_each_state_has_its_reason(place):
    assert states(place) == {
        "a": ("complete", ""),
        "b": ("complete", ""),
        "c": ("missing", "no record"),
    }
    (place / "a.mp4").write_text("other pictures")
    (place / f"s.zarr/{SPEC.name}/b/valid/c/0").write_bytes(b"")
    send_away(place, "c")
    assert states(place) == {
        "a": ("stale", "source changed: video"),
        "b": ("corrupt", "valid/c/0 is empty"),
        "c": ("quarantined", "damaged: moov atom not found"),
    }


def test_quarantine_stands_until_media_or_decoder_change(place):
    send_away(place, "c", extractor="an older one")
    assert states(place)["c"] == ("missing", "no record")
    send_away(place, "c")
    assert states(place)["c"][0] == "quarantined"
    (place / "c.mp4").write_text("mended")
    assert states(place)["c"] == ("missing", "no record")
    send_away(place, "a")  # its features came through, whatever lies in quarantine
    assert states(place)["a"][0] == "complete"


def test_bytes_are_those_of_the_files(place):
    found = status(str(place / "s.zarr"), place / "m.jsonl")
    files = [path for path in (place / "s.zarr" / SPEC.name).rglob("*") if path.is_file()]
    n_bytes = sum(path.stat().st_size for path in files if path.parent.name != SPEC.name)
    assert found.n_bytes == {SPEC.name: n_bytes}
    assert found.as_json()["bytes"] == found.n_bytes
    assert f"2 complete, 1 missing; {n_bytes / 1000:.1f} kB" in next(render_status(found))


def test_media_that_is_gone_or_unreadable_is_told(place):
    (place / "a.mp4").unlink()
    (place / "c.mp4").unlink()
    found = states(place)
    assert found["a"][0] == "stale"
    assert "its media is not what they were made of" in found["a"][1]
    assert found["c"][0] == "missing"
    (place / f"s.zarr/{SPEC.name}/a/zarr.json").write_text("{")
    assert states(place)["a"][0] == "corrupt"


def test_a_set_that_lost_its_spec_is_not_passed_over(place):
    (place / f"s.zarr/{SPEC.name}/zarr.json").unlink()
    with pytest.raises(StoreError, match="lost its zarr.json"):
        states(place)


def test_bytes_for_a_person():
    wanted = {0: "0 B", 999: "999 B", 1000: "1.0 kB", 1_500_000: "1.5 MB", 10**15: "1000.0 TB"}
    assert {n: readable(n) for n in wanted} == wanted


def test_a_store_is_asked_without_loading_what_encodes():
    code = (
        "import sys, features.maintenance.status, features.maintenance.verify\n"
        "import features.maintenance.garbage\n"
        "heavy = ('torch', 'transformers', 'open_clip', 'prefect')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_sight_and_sound_are_told_as_the_encoders_say_it():
    configs = get_args(get_args(AnyEncoderConfig)[0])
    assert {c.model_fields["kind"].default: c.modality for c in configs} == MODALITY
