"""Records of decoding 1 are stale if their file is one that is read differently now."""

import shutil
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from features.clip import Clip
from features.encoders.ast import AstConfig
from features.encoders.clip import ClipConfig
from features.extraction.extract import ExtractionRun, extract_features
from features.extraction.options import ExtractionOptions
from features.extraction.plan import PlannedExtraction, plan_extraction
from features.extraction.shards import plan_shards, result_in_store
from features.freshness.media_digests import SourceDigests
from features.maintenance.status import status
from features.maintenance.why import render_why, why
from features.manifest.manifest import read_manifest, write_manifest
from features.media.decoder_version import DECODING
from features.store.commit import make_commit
from tests.helpers.field_media import (
    Sound,
    Video,
    draw,
    join,
    png_of_16_bits,
    steps,
    with_unknown_codec,
    without,
    write_media,
)

pytestmark = pytest.mark.slow

# of each clip whose record of decoding 1 is stale, the reason
STALE_PICTURES = {
    "turned": "turned or mirrored frames",
    "stretched": "pixels that are not square",
    "doubled": "timestamps that do not increase",
    "joined": "timestamps that do not increase",
    "below": "timestamps that do not increase",
    "thumbnail": "another video track",
    "deep-crops": "crops of more than 8 bits",
    "turned-crops": "turned or mirrored crops",
}
STALE_SOUND = {
    "losses": "audio that left its timestamps",
    "joined": "audio that left its timestamps",
    "below": "audio that left its timestamps",
    "spatial": "another audio track",
    "apart": "a video that does not start at 0",
}
PREFIX = "decoded by an earlier version; this one reads differently: "


def write_clips(folder: Path) -> Path:
    """Media of every kind that is read differently now, and some that is not; the manifest."""
    short, sound = Video(steps(12), options={"bf": "0"}), Sound((0.1,), 0.5)
    write_media(folder / "upright.mp4", short, sound)
    write_media(folder / "late.mkv", short, sound, start_s=3)
    below = {"avoid_negative_ts": "disabled"}
    write_media(
        folder / "below.mkv", Video(steps(50)), Sound((1.5,), 2.0), start_s=-1, options=below
    )
    write_media(folder / "turned.mp4", replace(short, matrix=(0, 1, -1, 0)), sound)
    write_media(folder / "stretched.mp4", replace(short, pixel_aspect=Fraction(4, 3)), sound)
    twice = [*steps(6), steps(6)[-1], *steps(12)[7:]]
    write_media(folder / "doubled.ts", replace(short, written_s=twice), sound, start_s=5)
    parts = [
        write_media(folder / name, short, sound, start_s=1) for name in ("joined.ts", "part.ts")
    ]
    join(*parts)
    still = Video(steps(1), "mjpeg", disposition=Disposition(0))
    write_media(folder / "thumbnail.mov", still, short, sound)
    with_unknown_codec(write_media(folder / "spatial.mp4", short, sound, sound))
    losses = Sound((0.1,), 1.0, "libopus", change=without(10, 20, 30))
    write_media(folder / "losses.mkv", Video(steps(25), options={"bf": "0"}), losses)
    write_media(folder / "apart.ts", short, start_s=1.4)
    write_media(folder / "apart.wav", replace(sound, codec="pcm_s16le"))
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("crops", "deep-crops", "turned-crops"):
        (folder / name).mkdir()
        for number, picture in enumerate(draw(3), 1):
            path = folder / name / f"{number:05d}.jpg"
            if name == "deep-crops":
                png_of_16_bits(path, picture[..., :1].astype(np.uint16) << 8)
            else:
                image = Image.fromarray(picture)
                image.save(path, "JPEG", **({"exif": exif} if name == "turned-crops" else {}))
    clips = [
        Clip(
            id=path.stem,
            video=path.name,
            audio="apart.wav" if path.stem == "apart" else None,
        )
        for path in sorted(folder.iterdir())
        if path.suffix in (".mp4", ".mkv", ".ts", ".mov") and path.stem != "part"
    ]
    crops = [Clip(id=f.name, frames=f.name, fps=25) for f in sorted(folder.iterdir()) if f.is_dir()]
    # of a video beside crops only the times are used: that it is turned changes nothing
    crops.append(Clip(id="timed", frames="crops", video="turned.mp4"))
    write_manifest(folder / "m.jsonl", [*clips, *crops])
    return folder / "m.jsonl"


@dataclass(frozen=True)
class Old:
    """A manifest, and a store with records of decoding 1."""

    manifest: Path
    options: ExtractionOptions

    @property
    def store(self) -> str:
        return self.options.store

    def plan(self, *encoders) -> PlannedExtraction:
        options = replace(self.options, encoders=encoders) if encoders else self.options
        return plan_extraction(read_manifest(self.manifest), options)


@pytest.fixture(scope="module")
def extracted(tmp_path_factory, tiny_clip, tiny_ast) -> Old:
    """Made once, as an earlier version did; tests work on copies of the store."""
    folder = tmp_path_factory.mktemp("old")
    encoders = (ClipConfig(**tiny_clip), AstConfig(model=tiny_ast, hop_s=0.64))
    options = ExtractionOptions(str(folder / "s.zarr"), encoders, device="cpu", readers=1)
    manifest = write_clips(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("features.extraction.extract.DECODING", 1)
        result = extract_features(manifest, options)
    assert set(result.counts) == {"extracted"}, result.failed
    return Old(manifest, options)


@pytest.fixture
def old(extracted, tmp_path) -> Old:
    for name in ("s.zarr", "s.zarr.work"):
        shutil.copytree(extracted.manifest.parent / name, tmp_path / name)
    return Old(extracted.manifest, replace(extracted.options, store=str(tmp_path / "s.zarr")))


def stale(old: Old) -> dict[tuple[str, str], str]:
    """The reason of each stale clip by kind of the feature set; all others are complete."""
    report = status(old.store, old.manifest)
    assert set(report.counts) <= {"complete", "stale"}
    return {
        (clip.spec.split("-")[0], clip.clip): clip.reason
        for clip in report.clips
        if clip.state == "stale"
    }


EXPECTED = {
    (kind, clip): PREFIX + reason
    for kind, clips in (("clip", STALE_PICTURES), ("ast", STALE_SOUND))
    for clip, reason in clips.items()
}


def test_status_and_why_give_the_reason_for_each_file_that_is_read_differently(old):
    assert stale(old) == EXPECTED
    for clip in ("turned", "losses", "deep-crops"):
        lines = list(render_why(why(old.store, clip, old.manifest)))
        reason = PREFIX + (STALE_PICTURES | STALE_SOUND)[clip]
        assert sum(reason in line for line in lines) == 1
    assert all(answer.state == "complete" for answer in why(old.store, "upright", old.manifest))


def test_only_those_clips_are_extracted_again(old):
    result = extract_features(old.manifest, old.options)
    again = {
        (o.feature_set.split("-")[0], o.clip) for o in result.outcomes if o.state == "extracted"
    }
    assert again == set(EXPECTED)
    assert set(result.counts) == {"extracted", "present"}
    assert dict(result.reasons) == {"decoder changed": len(EXPECTED)}
    assert stale(old) == {}
    assert set(extract_features(old.manifest, old.options).counts) == {"present"}


def test_the_media_of_a_record_of_this_version_is_not_looked_at(old, tmp_path, monkeypatch):
    new = replace(old.options, store=str(tmp_path / "new.zarr"), only=("turned", "losses"))
    assert set(extract_features(old.manifest, new).counts) == {"extracted"}
    monkeypatch.setattr(SourceDigests, "changes", lambda *_: pytest.fail("the media was looked at"))
    assert set(extract_features(old.manifest, new).counts) == {"present"}


def test_a_record_without_a_version_is_of_decoding_1():
    assert make_commit({}, {}, {}, None).decoding == 1  # as vaflow 0.1 wrote them
    assert make_commit({}, {}, {"decoding": DECODING}, None).decoding == DECODING


def run(plan: PlannedExtraction, runtime) -> list:
    with closing(
        ExtractionRun(plan, plan.jobs_by_clip(), runtime, lambda: True).outcomes()
    ) as all_:
        return list(all_)


def test_what_another_process_extracted_meanwhile_is_not_extracted_again(old, runtime):
    pictures = old.options.encoders[0]
    first, second = old.plan(pictures), old.plan(pictures)
    assert {job[0].clip.id for job in first.jobs_by_clip()} == set(STALE_PICTURES)
    assert {outcome.state for outcome in run(first, runtime)} == {"extracted"}
    late = run(second, runtime)
    assert {outcome.clip: outcome.state for outcome in late} == dict.fromkeys(
        STALE_PICTURES, "present"
    )


def test_shards_hold_the_stale_clips_only(old, runtime):
    plan = old.plan(old.options.encoders[0])
    shards = plan_shards(plan, 1)
    assert {clip.id for shard in shards for clip in shard.clips.clips} == set(STALE_PICTURES)
    lost = result_in_store(plan, (), ["its worker died"], 0.0)  # the old records are no success
    assert {o.clip for o in lost.outcomes if o.state == "failed"} == set(STALE_PICTURES)
    for shard in shards:
        shard.extract(runtime, lambda _: None)
    done = result_in_store(plan, (), (), 0.0)
    states = {outcome.clip: outcome.state for outcome in done.outcomes}
    assert states == {
        clip.id: "extracted" if clip.id in STALE_PICTURES else "present"
        for clip in read_manifest(old.manifest).clips
    }
