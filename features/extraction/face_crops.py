"""Writes the aligned faces of videos as jpg, in folders as `frames` of a manifest names them.

A pass of its own after the extraction, which decodes each video once more: so crops can also be had
of clips whose features are there, and nothing is encoded for them.
"""

import logging
import shutil
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Literal

from PIL import Image

from features.canonical_json import canonical_sha256
from features.clip import Clip
from features.encoders.faces import FacesConfig, aligned_crops
from features.errors import MediaError
from features.extraction.options import ExtractionOptions
from features.extraction.outcome import ExtractionResult, Outcome
from features.extraction.plan import check_crops, needs_faces, resolve_frames, source_with_faces
from features.extraction.runtime import Runtime
from features.manifest.manifest import Manifest
from features.media.decoder import Decoder
from features.store.feature_store import FeatureStore
from features.system.files import sync_folder, sync_tree
from features.timeline import FrameTimes

CROPS = "crops"  # in place of a feature set, in the outcome of a clip
MARK = ".vaflow"  # a file in each folder: what its crops were made of; hidden files are no crops
QUALITY = 95  # of JPEG, with colours at full resolution

log = logging.getLogger(__name__)


def with_crops(
    extraction: ExtractionResult,
    clips: Manifest,
    options: ExtractionOptions,
    should_continue: Callable[[], bool] = lambda: True,
) -> ExtractionResult:
    """The result, after the crops that `options.crops` asks for are written.

    Each folder appears when it is complete. One that is up to date is left as it is unless
    `options.force`; one that is not from vaflow fails its clip, as does a video that cannot be
    decoded again.
    """
    options = resolve_frames(clips, options)
    if options.crops is None or not should_continue():
        return extraction
    config, store = check_crops(options.crops, options), FeatureStore.open(options.store)
    writer = _CropWriter(options.crops, store, clips, config, force=options.force)
    wanted = [clip for clip in clips.select(options.only).clips if needs_faces(clip)]
    n_readers = min(options.n_readers, max(1, len(wanted)))
    free: SimpleQueue[Decoder] = SimpleQueue()

    def write(clip: Clip) -> str | Outcome:
        if not should_continue():
            return "left"
        decoder = free.get()
        try:
            return writer.write(clip, decoder)
        except MediaError as error:
            log.error("%s (crops): failed: %s", clip.id, error)
            return Outcome(clip.id, CROPS, "failed", str(error))
        finally:
            free.put(decoder)

    with (
        closing(Runtime()) as runtime,
        runtime.decoders(n_readers, options.limits) as decoders,
        ThreadPoolExecutor(n_readers, "crops") as pool,
    ):
        for decoder in decoders:
            free.put(decoder)
        ended = list(pool.map(write, wanted))
    counts = Counter(each for each in ended if isinstance(each, str))
    remark = f"crops: {counts['written']} clips written to {options.crops}, {counts['present']} "
    failed = tuple(each for each in ended if isinstance(each, Outcome))
    return replace(
        extraction,
        outcomes=extraction.outcomes + failed,
        remarks=(*extraction.remarks, f"{remark}already there"),
    )


@dataclass(frozen=True, slots=True)
class _CropWriter:
    """Writes the crops of one clip after another."""

    folder: Path
    store: FeatureStore
    clips: Manifest
    config: FacesConfig
    force: bool

    def write(self, clip: Clip, decoder: Decoder) -> Literal["written", "present", "left"]:
        """Write the crops of a clip, unless they are there or it has no record of faces."""
        name, folder = self.config.spec().name, self.folder / clip.id
        commit = self.store.commit(name, clip.id)
        if commit is None:
            return "left"  # its extraction failed, and reported it
        mark = canonical_sha256(
            {
                "faces": commit.files,
                "source": commit.source,
                "alignment": self.config.alignment.as_spec(),
                "person": clip.person or 1,
            }
        )
        if folder.exists():
            if not (folder / MARK).is_file():
                raise MediaError(
                    f"{folder} exists and is not from vaflow; remove it, or give another crops=DIR",
                    "crops",
                )
            if (folder / MARK).read_text() == mark and not self.force:
                return "present"
        part = self.folder / f".{clip.id}.part"
        shutil.rmtree(part, ignore_errors=True)  # of a killed run
        part.mkdir(parents=True)
        source = source_with_faces(self.clips, clip, self.store)
        try:
            with closing(aligned_crops(source, self.config, decoder)) as items:
                for item in items:
                    if not isinstance(item, FrameTimes):
                        for row, crop in zip(*item, strict=True):
                            path = part / f"{row + 1:05d}.jpg"
                            Image.fromarray(crop).save(path, quality=QUALITY, subsampling=0)
            (part / MARK).write_text(mark)
            sync_tree(part)
            shutil.rmtree(folder, ignore_errors=True)
            part.rename(folder)
            sync_folder(self.folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return "written"
