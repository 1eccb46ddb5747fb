"""The pictures of a report: which frames they are of, and what is said when there are none."""

import base64
import io
from dataclasses import replace

import av
import numpy as np
import pytest
from PIL import Image

from features.manifest.manifest import read_manifest, write_manifest
from models.heads.dspl import DsplConfig
from models.report.thumbnails import HEIGHT_PX, PER_CLIP, thumbnails_of
from models.runs.run_split import open_split, read_split
from models.stages.train_head import train_head
from models.training.config import TrainConfig
from tests.helpers.synthetic import FRAME_S, N_FRAMES, plant

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    planted = plant(folder, ("train", "train", "val", "val"))
    train_head(
        manifest=planted.manifest,
        store=planted.store,
        run=folder / "run",
        head=DsplConfig(width=8),
        train=TrainConfig(epochs=1, window=40, stride=30, batch_size=4, threads=1),
    )
    return read_split(open_split(folder / "run", None, None, "val"))


@pytest.fixture
def with_media(split, tmp_path):
    """Return a function that gives the clips of val other media."""
    content = read_manifest(split.source.manifest)

    def changed(**media):
        path = split.source.manifest.with_name("with_media.jsonl")
        clips = [clip.model_copy(update=media.get(clip.id, {})) for clip in content.clips]
        write_manifest(path, clips)
        return replace(split, source=replace(split.source, manifest=path))

    return changed


def pictures(sheet: str) -> np.ndarray:
    """The brightness of the middle of each picture of a sheet."""
    data = base64.b64decode(sheet.removeprefix("data:image/jpeg;base64,"))
    image = np.asarray(Image.open(io.BytesIO(data)).convert("L"), dtype=float)
    assert image.shape[0] == HEIGHT_PX
    return image[HEIGHT_PX // 2]


def test_crops_are_those_of_the_frames_and_what_cannot_be_read_is_said(split, with_media):
    folder = split.source.manifest.parent / "crops"
    folder.mkdir()
    for row in range(N_FRAMES):  # its brightness is its row
        Image.new("L", (32, 32), row).save(folder / f"{row + 1:05d}.jpg")
    changed = with_media(**{"val-2": {"frames": "crops"}, "val-3": {"frames": "none"}})
    found, note = thumbnails_of(changed, "crops")
    assert set(found) == {"val-2"}
    assert "No thumbnails of 1 of 2 clips, whose media cannot be read here: " in note
    assert "none" in note
    own = found["val-2"]
    assert len(own.time_s) == PER_CLIP - 1  # the last row is beyond the last frame
    middle = pictures(own.sheet)[own.width_px // 2 :: own.width_px]
    rows = np.array(own.time_s) / FRAME_S
    np.testing.assert_allclose(middle, rows, atol=4)  # JPEG
    assert not set(np.round(rows)) & {40, 41, 42, 43, 44, 45}  # planted: without a face


def test_a_video_is_decoded_only_if_asked_for(split, with_media):
    path = split.source.manifest.parent / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for row in range(N_FRAMES):
            image = np.full((64, 64, 3), row, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    changed = with_media(**{"val-2": {"frames": None, "video": "a.mp4"}})
    found, note = thumbnails_of(changed, "crops")
    assert found == {}
    assert "No thumbnails of 2 of 2 clips: they have no folder of face crops" in note
    assert "`vaflow report RUN --thumbnails all`" in note
    found, _ = thumbnails_of(changed, "all")
    own = found["val-2"]
    middle = pictures(own.sheet)[own.width_px // 2 :: own.width_px]
    np.testing.assert_allclose(middle, np.array(own.time_s) / FRAME_S, atol=8)
    assert thumbnails_of(changed, "none") == ({}, "No thumbnails: they were not asked for.")
