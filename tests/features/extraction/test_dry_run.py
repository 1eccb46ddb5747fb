import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features.clip import Clip, Track
from features.encoders.ast import AstConfig
from features.encoders.clip import ClipConfig
from features.extraction.dry_run import plan_dry_run, render_dry_run
from features.extraction.extract import extract_features
from features.extraction.options import ExtractionOptions
from features.extraction.throughput import (
    Throughput,
    add_throughput,
    read_throughput,
    track_throughput,
)
from features.manifest.manifest import write_manifest
from tests.helpers.small_media import tone

pytestmark = pytest.mark.slow


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


@pytest.fixture
def options(tmp_path, encoders):
    return ExtractionOptions(str(tmp_path / "s.zarr"), encoders, device="cpu")


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(p): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def rendered(manifest, options) -> str:
    return "\n".join(render_dry_run(plan_dry_run(manifest, options)))


def test_a_dry_run_of_a_new_store_counts_its_media_and_writes_nothing(
    manifest, options, tmp_path, monkeypatch
):
    # Without this, new files are not put into the digest cache.
    monkeypatch.setattr("features.freshness.digest_cache.MIN_AGE_NS", -(10**15))
    before = contents(tmp_path)
    text = rendered(manifest, options)
    name = options.encoders[0].spec().name
    assert f"{name}: 2 to extract (2 new)\n  75 frames, 0.00 hours of media; how" in text
    assert text.count("not known yet") == 2
    assert contents(tmp_path) == before


def test_a_dry_run_reports_the_reason_for_each_clip_and_writes_nothing(
    manifest, options, tmp_path, monkeypatch
):
    monkeypatch.setattr("features.freshness.digest_cache.MIN_AGE_NS", -(10**15))
    store = Path(options.store)
    clip_set, ast_set = (encoder.spec().name for encoder in options.encoders)
    extract_features(manifest, options)
    (store / clip_set / "a" / "time_s" / "c" / "0").unlink()
    shutil.rmtree(store / ast_set / "b")
    (tmp_path / "c.mp4").write_text("no video")
    write_manifest(manifest, [Clip(id=name, video=f"{name}.mp4") for name in "abcd"])
    before = contents(tmp_path)

    dry_run = plan_dry_run(manifest, options)

    assert dry_run.sets[0].reasons == {"a": "corrupt", "c": "new"}
    assert dry_run.sets[1].reasons == {"b": "new", "c": "new"}
    assert dry_run.counts == {"corrupt": 1, "new": 3, "present": 2, "failed": 2}
    text = "\n".join(render_dry_run(dry_run))
    assert f"{clip_set}: 2 to extract (1 corrupt, 1 new), 1 already there, 1 cannot be re" in text
    assert "  50 frames, 0.00 hours of media, and 1 clips of unknown length; about" in text
    assert "  a: corrupt\n" in text
    assert "d: failed: " in text
    assert "d.mp4 cannot be read" in text
    assert contents(tmp_path) == before


def test_a_dry_run_lists_quarantined_clips_and_what_force_would_extract(
    manifest, options, tmp_path
):
    (tmp_path / "c.mp4").write_text("no video")
    write_manifest(manifest, [Clip(id=name, video=f"{name}.mp4") for name in "abcd"])
    extract_features(manifest, options)

    dry_run = plan_dry_run(manifest, options)

    assert dry_run.counts == {"present": 4, "quarantined": 2, "failed": 2}
    assert dry_run.sets[0].seconds == 0
    assert "c: quarantined: " in "\n".join(render_dry_run(dry_run))
    forced = plan_dry_run(manifest, replace(options, force=True))
    assert forced.counts == {"forced": 6, "failed": 2}


def test_another_spec_is_the_reason_for_an_extraction(manifest, options, tiny_ast):
    extract_features(manifest, options)
    other = replace(options, encoders=(AstConfig(model=tiny_ast, hop_s=0.32),))
    assert plan_dry_run(manifest, other).counts == {"spec changed": 2}
    assert extract_features(manifest, other).reasons == {"spec changed": 2}


def test_the_estimated_time_uses_the_measurements_of_this_device(manifest, options):
    visual = replace(options, encoders=options.encoders[:1])
    work, name = Path(f"{options.store}.work"), options.encoders[0].spec().name
    work.mkdir()
    add_throughput(work, name, "cuda", Throughput(rows=1e6, media_s=1e6, seconds=1.0))
    add_throughput(work, name, "cpu", Throughput(rows=100.0, media_s=4.0, seconds=3.0))
    add_throughput(work, name, "cpu", Throughput(rows=100.0, media_s=2.0, seconds=1.0))

    estimate = plan_dry_run(manifest, visual).sets[0]

    assert estimate.rows_per_s == 50  # 200 rows in 4 s
    assert estimate.media.media_s == 3
    assert estimate.seconds == pytest.approx(2)  # 3 s of media, where 6 took 4
    text = rendered(manifest, visual)
    assert "about 0 min 2 s at the 50.0 rows a second measured so far" in text


def test_an_extraction_measures_its_rows_and_the_duration_of_its_media(manifest, options):
    extract_features(manifest, options)
    name = options.encoders[0].spec().name
    measured = read_throughput(Path(f"{options.store}.work"), name, "cpu")
    assert measured.rows == 75
    assert measured.media_s == pytest.approx(3)
    assert measured.seconds > 0


def test_the_duration_of_a_track_includes_its_last_row():
    track = Track(np.zeros((5, 1), np.float16), np.arange(5) / 4 + 7, np.ones(5, bool))
    assert track_throughput(track) == Throughput(rows=5.0, media_s=1.25)
    empty = Track(np.zeros((0, 1), np.float16), np.zeros(0), np.zeros(0, bool))
    assert track_throughput(empty).seconds_for(9.0) is None


@pytest.mark.parametrize("content", ["", "[]", '{"cpu": 7}', '{"cpu": {"rows": -1}}', "[" * 10**5])
def test_damaged_measurements_are_replaced(tmp_path, content):
    (tmp_path / "throughput").mkdir()
    (tmp_path / "throughput" / "x.json").write_text(content)
    assert read_throughput(tmp_path, "x", "cpu") == Throughput()
    add_throughput(tmp_path, "x", "cpu", Throughput(1.0, 2.0, 3.0))
    assert read_throughput(tmp_path, "x", "cpu") == Throughput(1.0, 2.0, 3.0)


def test_crops_without_a_video_are_counted(options, tmp_path, make_crops):
    make_crops([1, 2, 3])
    clips = [Clip(id="timed", frames="crops", fps=2.0), Clip(id="untimed", frames="crops")]
    write_manifest(tmp_path / "m.jsonl", clips)
    media = plan_dry_run(tmp_path / "m.jsonl", options).sets[0].media
    assert (media.n_frames, media.media_s, media.n_unknown) == (6, 1.5, 1)
