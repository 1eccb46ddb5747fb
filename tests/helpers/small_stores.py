"""Small stores for tests."""

from itertools import product
from pathlib import Path

import numpy as np

from features.canonical_json import JsonObject
from features.clip import Clip, Track
from features.errors import VaflowError
from features.freshness import quarantine
from features.freshness.clip_state import clip_state
from features.freshness.media_digests import SourceDigests
from features.manifest.manifest import read_manifest, write_manifest
from features.media import decoder_version
from features.spec import FeatureSpec
from features.store.feature_store import FeatureStore

SPEC = FeatureSpec(
    kind="clip",
    model={"name": "none"},
    weights_sha256="0" * 64,
    preprocessing={"size": 32},
    sampling={"rows": "every frame"},
    precision="float32",
)
SOURCE = {"video": "a" * 64}


def make_track(n_rows: int = 5, width: int = 3, seed: int = 0) -> Track:
    values = np.random.default_rng(seed).standard_normal((n_rows, width)).astype(np.float16)
    valid = np.ones(n_rows, bool)
    valid[1:2] = False
    values[~valid] = 0
    return Track(values, np.arange(n_rows) / 25, valid)


def state_of(store: FeatureStore, clip_id: str, source: JsonObject) -> tuple[str, str]:
    """The state of a clip's record against its media, and the reason."""
    found = clip_state(store, SPEC.name, clip_id, source, decoder_version.decoder_version())
    return found.state, found.reason


def same(a: Track, b: Track) -> bool:
    return all(
        np.array_equal(getattr(a, part), getattr(b, part)) for part in ("values", "time_s", "valid")
    )


ZEROS = Track(np.zeros((4, 3), np.float16), np.arange(4.0), np.zeros(4, bool))
EMPTY = Track(np.zeros((0, 3), np.float16), np.zeros(0), np.zeros(0, bool))
TRACKS = {"a": make_track(), "large": make_track(3000, 900), "zeros": ZEROS, "empty": EMPTY}


def write_tracks(root: Path) -> Path:
    """A store of one feature set with `TRACKS`."""
    store = FeatureStore.open(root, create=True)
    for clip, track in TRACKS.items():
        note = None if len(track.values) else "the clip has no sound"
        store.write(SPEC, clip, track, source=SOURCE, provenance={"by": "a test"}, note=note)
    return root


def files(root: Path) -> list[Path]:
    """Every file of a store."""
    return sorted(path for path in root.rglob("*") if path.is_file())


def content(root: Path) -> dict[str, bytes]:
    """Every byte of a store, by path inside it."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files(root)}


def read_silently_wrong(root: Path) -> list[str]:
    """The clips of `TRACKS` that are read without an error, but differ from what was written."""
    try:
        store = FeatureStore.open(root)
        names = list(store.feature_sets())
    except VaflowError:
        return []
    wrong = []
    for name, (clip, track) in product(names, TRACKS.items()):
        try:
            if not same(store.read(name, clip), track):
                wrong.append(clip)
        except VaflowError:
            continue
    return wrong


def write_clips(folder: Path) -> Path:
    """Write clips a, b and c with media and a manifest m.jsonl; a and b have features in s.zarr."""
    store = FeatureStore.open(folder / "s.zarr", create=True)
    clips = [Clip(id=name, video=f"{name}.mp4") for name in "abc"]
    write_manifest(folder / "m.jsonl", clips)
    for clip in clips:
        (folder / f"{clip.id}.mp4").write_text(f"pictures {clip.id}")
    for name in "ab":
        store.write(SPEC, name, make_track(), source=source_of(folder, name), provenance={})
    return folder


def source_of(folder: Path, name: str) -> JsonObject:
    """The digests of a clip's media as it is now."""
    manifest = read_manifest(folder / "m.jsonl")
    clip = next(clip for clip in manifest.clips if clip.id == name)
    return SourceDigests().of(manifest.source(clip), "visual")


def send_away(folder: Path, name: str, extractor: str | None = None) -> None:
    """Put a clip with its present media into quarantine."""
    quarantine.write_entry(
        folder / "s.zarr.work",
        SPEC.name,
        name,
        code="damaged",
        message="moov atom not found",
        source=source_of(folder, name),
        decoder=decoder_version.DecoderVersion(extractor)
        if extractor
        else decoder_version.decoder_version(),
    )
