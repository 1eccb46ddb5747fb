import shutil
from pathlib import Path

import numpy as np
import pytest

from features.clip import Clip, Track
from features.encoders.ast import AstConfig
from features.encoders.clip import ClipConfig
from features.extraction.dry_run import plan_dry_run, render_dry_run
from features.extraction.extract import extract_features
from features.extraction.options import ExtractionOptions
from features.extraction.throughput import Throughput, add_throughput, of_track, read_throughput
from features.manifest.manifest import write_manifest
from tests.helpers.small_media import tone


@pytest.fixture
def encoders(tiny_clip, tiny_ast):
    return (ClipConfig(**tiny_clip), AstConfig(model=tiny_ast, hop_s=0.64))


@pytest.fixture
def manifest(tmp_path, make_video):
    """Clips of 2 s and 1 s, at 25 frames a second."""
    clips = []
    for name, n_frames in (("a", 50), ("b", 25)):
        make_video(f"{name}.mp4", time_s=np.arange(n_frames) / 25, sound=tone(n_frames / 25))
        clips.append(Clip(id=name, video=f"{name}.mp4"))
    write_manifest(tmp_path / "m.jsonl", clips)
    return tmp_path / "m.jsonl"


def everything(folder: Path) -> dict[str, bytes | None]:
    return {str(p): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def said(manifest, store, encoders, **keys) -> str:
    return "\n".join(
        render_dry_run(plan_dry_run(manifest, ExtractionOptions(str(store), encoders, **keys)))
    )


def test_it_tells_what_would_be_done_and_why_and_writes_nothing(
    manifest, encoders, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        "features.freshness.digest_cache.SETTLE_NS", -(10**15)
    )  # else new files go unnoted
    store, before = tmp_path / "s.zarr", everything(tmp_path)
    clip_set, ast_set = (encoder.spec().name for encoder in encoders)
    first = said(manifest, store, encoders)
    assert f"{clip_set}: 2 to extract (2 new)\n  75 frames, 0.00 hours of media; how" in first
    assert first.count("not known yet") == 2
    assert everything(tmp_path) == before

    extract_features(manifest, ExtractionOptions(str(store), encoders))
    (store / clip_set / "a" / "time_s" / "c" / "0").unlink()
    shutil.rmtree(store / ast_set / "b")
    (tmp_path / "c.mp4").write_text("no video")
    clips = [Clip(id=name, video=f"{name}.mp4") for name in "abcd"]
    write_manifest(manifest, clips)
    before = everything(tmp_path)
    found = plan_dry_run(manifest, ExtractionOptions(str(store), encoders))
    assert found.sets[0].reasons == {"a": "corrupt", "c": "new"}
    assert found.sets[1].reasons == {"b": "new", "c": "new"}
    assert found.counts == {"corrupt": 1, "new": 3, "present": 2, "failed": 2}
    lines = "\n".join(render_dry_run(found))
    assert f"{clip_set}: 2 to extract (1 corrupt, 1 new), 1 already there, 1 cannot be re" in lines
    assert "  50 frames, 0.00 hours of media, and 1 clips of unknown length; about" in lines
    assert "  a: corrupt\n" in lines
    assert "d: failed: " in lines
    assert "d.mp4 cannot be read" in lines
    assert everything(tmp_path) == before

    extract_features(manifest, ExtractionOptions(str(store), encoders))
    again = plan_dry_run(manifest, ExtractionOptions(str(store), encoders))
    assert again.counts == {"present": 4, "quarantined": 2, "failed": 2}
    assert again.sets[0].seconds == 0
    assert "c: quarantined: " in "\n".join(render_dry_run(again))
    forced = plan_dry_run(manifest, ExtractionOptions(str(store), encoders, force=True))
    assert forced.counts == {"forced": 6, "failed": 2}


def test_other_settings_are_named_as_the_reason(manifest, encoders, tmp_path, tiny_ast):
    store = tmp_path / "s.zarr"
    extract_features(manifest, ExtractionOptions(str(store), encoders))
    other = [AstConfig(model=tiny_ast, hop_s=0.32)]
    assert plan_dry_run(manifest, ExtractionOptions(str(store), other)).counts == {
        "spec changed": 2
    }
    assert extract_features(manifest, ExtractionOptions(str(store), other)).reasons == {
        "spec changed": 2
    }


def test_the_time_it_takes_is_of_what_was_measured_on_this_device(manifest, encoders, tmp_path):
    (work := tmp_path / "s.zarr.work").mkdir()
    name = encoders[0].spec().name
    add_throughput(work, name, "cuda", Throughput(rows=1e6, media_s=1e6, seconds=1.0))
    add_throughput(work, name, "cpu", Throughput(rows=100.0, media_s=4.0, seconds=3.0))
    add_throughput(work, name, "cpu", Throughput(rows=100.0, media_s=2.0, seconds=1.0))
    found = plan_dry_run(
        manifest, ExtractionOptions(str(tmp_path / "s.zarr"), encoders[:1], device="cpu")
    ).sets[0]
    assert found.rows_per_s == 50  # 200 rows in 4 s
    assert found.length.media_s == 3
    assert found.seconds == pytest.approx(2)  # 3 s of media, where 6 took 4
    lines = "\n".join(
        render_dry_run(
            plan_dry_run(manifest, ExtractionOptions(str(tmp_path / "s.zarr"), encoders[:1]))
        )
    )
    assert "about 0 min 2 s at the 50.0 rows a second measured so far" in lines


def test_a_run_measures_its_rows_and_its_media(manifest, encoders, tmp_path):
    extract_features(manifest, ExtractionOptions(str(tmp_path / "s.zarr"), encoders, device="cpu"))
    measured = read_throughput(tmp_path / "s.zarr.work", encoders[0].spec().name, "cpu")
    assert measured.rows == 75
    assert measured.media_s == pytest.approx(3)
    assert measured.seconds > 0


def test_media_of_a_track_counts_its_last_row(tmp_path):
    track = Track(np.zeros((5, 1), np.float16), np.arange(5) / 4 + 7, np.ones(5, bool))
    assert of_track(track) == Throughput(rows=5.0, media_s=1.25)
    empty = Track(np.zeros((0, 1), np.float16), np.zeros(0), np.zeros(0, bool))
    assert of_track(empty).seconds_for(9.0) is None


@pytest.mark.parametrize("content", ["", "[]", '{"cpu": 7}', '{"cpu": {"rows": -1}}', "[" * 10**5])
def test_measurements_that_are_damaged_are_begun_anew(tmp_path, content):
    (tmp_path / "throughput").mkdir()
    (tmp_path / "throughput" / "x.json").write_text(content)
    assert read_throughput(tmp_path, "x", "cpu") == Throughput()
    add_throughput(tmp_path, "x", "cpu", Throughput(1.0, 2.0, 3.0))
    assert read_throughput(tmp_path, "x", "cpu") == Throughput(1.0, 2.0, 3.0)


def test_crops_without_a_video_are_counted(encoders, tmp_path, make_crops):
    make_crops([1, 2, 3])
    write_manifest(
        tmp_path / "m.jsonl",
        [Clip(id="timed", frames="crops", fps=2.0), Clip(id="untimed", frames="crops")],
    )
    length = (
        plan_dry_run(
            tmp_path / "m.jsonl", ExtractionOptions(str(tmp_path / "s.zarr"), encoders[:1])
        )
        .sets[0]
        .length
    )
    assert (length.n_frames, length.media_s, length.n_unknown) == (6, 1.5, 1)
