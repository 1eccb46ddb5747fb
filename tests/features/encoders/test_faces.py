"""Faces as a feature set, and a CLIP that encodes them, on a video of drawn people."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import zarr

from features.clip import Clip
from features.encoders.clip import ClipConfig
from features.encoders.faces import FacesConfig, FacesEncoder, FacesLayout
from features.errors import InputError
from features.extraction.extract import extract_features
from features.extraction.options import ExtractionOptions
from features.extraction.plan import resolve_frames
from features.faces.people import PeopleConfig, TrackSummary
from features.faces.record import N_COLUMNS, n_people, person_faces
from features.maintenance.status import status
from features.maintenance.verify import verify
from features.manifest.manifest import read_manifest, write_manifest
from features.media.alignment import AlignmentConfig
from features.media.crops import crop_files, read_image
from features.media.sampling import Sampling
from features.store.feature_store import FeatureStore
from features.store.hdf5 import export_h5, import_h5
from features.synthetic.drawing import Pose
from features.synthetic.people import draw_people
from features.timeline import FrameTimes
from tests.helpers.small_media import write_video

pytestmark = pytest.mark.slow

N_FRAMES = 30
ABSENT = np.arange(8, 12)  # frames in which the second person has left
SIZE_PX = (256, 192)
FACES = FacesConfig(people=PeopleConfig(max_people=2))


def frame(k):
    """Two people, the second smaller; she leaves and comes back."""
    poses = [Pose(70.0 + k, 95.0, 50.0), Pose(205.0, 80.0, 35.0)]
    return draw_people(poses[:1] if k in ABSENT else poses, SIZE_PX)


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """A folder with a manifest of two people in one video, and a video without a face."""
    folder = tmp_path_factory.mktemp("faces")
    two = np.stack([frame(k) for k in range(N_FRAMES)])
    write_video(folder / "two.mp4", time_s=np.arange(N_FRAMES) / 25, frames=two)
    empty = np.stack([draw_people((), SIZE_PX)] * 10)
    write_video(folder / "empty.mp4", time_s=np.arange(10) / 25, frames=empty)
    write_manifest(
        folder / "m.jsonl",
        [
            Clip(id="two", video="two.mp4"),
            Clip(id="two.2", video="two.mp4", person=2),
            Clip(id="two.3", video="two.mp4", person=3),
            Clip(id="empty", video="empty.mp4"),
        ],
    )
    return folder


@pytest.fixture(scope="module")
def extracted(media, tiny_clip):
    """The store with faces and embeddings of all clips, the config, and the outcomes."""
    config = ClipConfig(**tiny_clip, faces=FACES)
    options = ExtractionOptions(str(media / "s.zarr"), (config,), device="cpu")
    with pytest.MonkeyPatch.context() as patch:  # rows come in pieces, as those of a long video do
        patch.setattr("features.extraction.output_buffer.PIECE_BYTES", 8192)
        result = extract_features(media / "m.jsonl", options)
    return FeatureStore.open(media / "s.zarr"), config, options, result


def test_a_record_of_faces_has_a_place_for_each_person_in_every_frame(extracted):
    store, _, _, result = extracted
    assert {o.state for o in result.outcomes} == {"extracted"}
    assert sum("without crops: faces are found" in remark for remark in result.remarks) == 1
    record = store.read(FACES.spec().name, "two")

    assert record.values.shape == (N_FRAMES, 2 * N_COLUMNS)
    assert record.values.dtype == np.float32
    assert record.valid.all()  # every frame was looked at
    np.testing.assert_allclose(record.time_s, np.arange(N_FRAMES) / 25)
    assert n_people(record) == 2
    first, second = person_faces(record, 1), person_faces(record, 2)
    assert first.is_seen.all()
    np.testing.assert_array_equal(np.flatnonzero(~second.is_seen), ABSENT)
    middle = first.boxes_px[:, 0] + first.boxes_px[:, 2] / 2
    np.testing.assert_allclose(middle, 70 + np.arange(N_FRAMES), atol=6)
    assert set(first.tracks) == {1}
    assert not second.boxes_px[ABSENT].any()


def test_a_record_of_faces_opens_with_plain_zarr(extracted):
    store, _, _, _ = extracted
    group = zarr.open_group(store.backend.path(), mode="r")
    values = group[f"{FACES.spec().name}/two/values"][:]

    np.testing.assert_array_equal(values, store.read(FACES.spec().name, "two").values)
    assert group[FACES.spec().name].attrs["stored"] == "float32"


def test_a_video_is_searched_once_for_all_clips_of_its_people(media, monkeypatch):
    read: list[str] = []
    search = FacesEncoder.read

    def counted(self, source, decoder):
        read.append(source.clip_id)
        return search(self, source, decoder)

    monkeypatch.setattr(FacesEncoder, "read", counted)
    options = ExtractionOptions(str(media / "once.zarr"), (FACES,), device="cpu")
    result = extract_features(media / "m.jsonl", options)
    assert sorted(read) == ["empty", "two"]
    assert result.counts == {"extracted": 4}
    store, name = FeatureStore.open(media / "once.zarr"), FACES.spec().name
    first, second = store.commit(name, "two"), store.commit(name, "two.2")
    assert (second.files, second.source, second.note) == (first.files, first.source, first.note)
    assert [outcome.n_rows for outcome in result.outcomes].count(N_FRAMES) == 3

    read.clear()
    assert extract_features(media / "m.jsonl", options).counts == {"present": 4}
    forced = extract_features(media / "m.jsonl", replace(options, force=True))
    assert sorted(read) == ["empty", "two"]
    assert forced.reasons == {"forced": 4}


def test_clips_of_a_video_that_cannot_be_read_are_each_told(media, tmp_path):
    (tmp_path / "bad.mp4").write_bytes((media / "two.mp4").read_bytes()[:500])
    clips = [Clip(id=f"bad.{n}", video="bad.mp4", person=n) for n in (1, 2)]
    write_manifest(tmp_path / "m.jsonl", clips)
    options = ExtractionOptions(str(tmp_path / "s.zarr"), (FACES,), device="cpu")
    failed = extract_features(tmp_path / "m.jsonl", options).failed
    assert [outcome.clip for outcome in failed] == ["bad.1", "bad.2"]


def test_the_crops_of_a_person_are_encoded_and_frames_without_her_are_not_valid(extracted):
    store, config, _, _ = extracted
    name = config.spec().name
    first, second, third = (store.read(name, clip) for clip in ("two", "two.2", "two.3"))

    assert first.valid.all()
    np.testing.assert_array_equal(np.flatnonzero(~second.valid), ABSENT)
    assert not third.valid.any()  # there is no third person
    assert abs(first.values[0] - second.values[0]).max() > 0.01
    assert len(third.values) == N_FRAMES


def test_the_embedding_is_that_of_the_aligned_crop(extracted, media):
    from features.media.decoder import Decoder
    from features.media.limits import DEFAULT_LIMITS

    store, config, _, _ = extracted
    faces = person_faces(store.read(FACES.spec().name, "two"), 1)
    decoder = Decoder(DEFAULT_LIMITS)
    frames = decoder.frames(media / "two.mp4", None)
    image = next(frames)[3].copy()
    frames.close()
    decoder.close()
    encoder = config.build(torch.device("cpu"))
    crop = FACES.alignment.crop(image, faces.landmarks_px[3])
    expected = encoder.encode(encoder.preprocess([crop] * 16))[0]

    np.testing.assert_allclose(
        store.read(config.spec().name, "two").values[3], expected.numpy(), atol=2e-3
    )


def test_a_video_without_a_face_has_rows_that_are_not_valid_and_a_note(extracted):
    store, config, _, result = extracted
    record = store.read(FACES.spec().name, "empty")

    assert n_people(record) == 0
    assert record.valid.all()
    assert not store.read(config.spec().name, "empty").valid.any()
    assert "empty: no face in 10 frames" in result.notes()


def test_a_note_says_how_many_people_of_a_crowd_are_kept():
    crowd = [[TrackSummary(number, first_row=0)] for number in (1, 2, 3)]
    layout = FacesLayout(FrameTimes(np.array([0.0]), np.array([0])), crowd)
    encoder = FACES.build(torch.device("cpu"))
    _, note = encoder.assemble([encoder.blank(1)], layout)

    assert note == (
        "3 people were seen, and the 2 whose faces are largest are kept (faces.people.max_people)"
    )


def test_a_second_run_finds_nothing_to_do_and_the_store_knows_the_kind(extracted, media):
    store, _, options, _ = extracted
    again = extract_features(media / "m.jsonl", options)

    assert {o.state for o in again.outcomes} == {"present"}
    report = status(store.backend.path(), media / "m.jsonl")
    assert report.is_complete
    assert not report.unknown_kinds
    assert not verify(store.backend.path()).problems


def test_faces_survive_an_export_and_an_import(extracted, tmp_path):
    store, _, _, _ = extracted
    export_h5(store.backend.path(), tmp_path / "f.h5")
    import_h5(tmp_path / "f.h5", str(tmp_path / "copy.zarr"))
    copy = FeatureStore.open(tmp_path / "copy.zarr").read(FACES.spec().name, "two")

    np.testing.assert_array_equal(copy.values, store.read(FACES.spec().name, "two").values)


@pytest.mark.parametrize("sampling", [Sampling(every=4), Sampling(fps=6.25)])
def test_sampled_frames_are_cropped_at_their_own_rows(extracted, media, tiny_clip, sampling):
    store, every, _, _ = extracted
    config = ClipConfig(**tiny_clip, faces=FACES, sampling=sampling)
    options = ExtractionOptions(store.backend.path(), (config,), device="cpu", only=("two.2",))
    extract_features(media / "m.jsonl", options)
    sampled = store.read(config.spec().name, "two.2")
    full = store.read(every.spec().name, "two.2")

    expected = np.arange(N_FRAMES) % 4 == 0
    expected[ABSENT] = False
    np.testing.assert_array_equal(sampled.valid, expected)
    np.testing.assert_allclose(sampled.values[expected], full.values[expected], atol=2e-3)


def test_the_spec_says_whether_faces_are_encoded(tiny_clip):
    whole = ClipConfig(**tiny_clip).spec()
    faces = ClipConfig(**tiny_clip, faces=FACES).spec()
    other = FACES.model_copy(update={"alignment": FACES.alignment.model_copy(
        update={"margin": 0.25})})  # fmt: skip

    assert "faces" not in whole.preprocessing  # the digest of sets made before is the same
    assert faces.preprocessing["faces"]["set"] == FACES.spec().name
    wider = ClipConfig(**tiny_clip, faces=other).spec()
    assert len({whole.digest, faces.digest, wider.digest}) == 3
    assert other.spec() == FACES.spec()  # the same faces, cut out in another way


def test_faces_are_found_where_a_clip_has_a_video_and_no_crops(tiny_clip, tmp_path):
    config = ClipConfig(**tiny_clip)

    def resolved(frames_of, **clip):
        write_manifest(tmp_path / "m.jsonl", [Clip(id="a", **clip)])
        options = ExtractionOptions("s.zarr", (config,), frames=frames_of)
        return resolve_frames(read_manifest(tmp_path / "m.jsonl"), options).encoders

    assert resolved("faces", video="a.mp4") == (ClipConfig(**tiny_clip, faces=FacesConfig()),)
    assert resolved("whole", video="a.mp4") == (config,)
    assert resolved("faces", video="a.mp4", frames="crops") == (config,)
    assert resolved("faces", audio="a.wav") == (config,)


@pytest.fixture(scope="module")
def cropped(extracted, media):
    """A folder of crops of clips whose features were there, and the result of writing them."""
    _, _, options, _ = extracted
    options = replace(options, crops=media / "crops", only=("two", "two.2", "empty"))
    return media / "crops", extract_features(media / "m.jsonl", options)


def test_crops_are_written_without_encoding_again(cropped):
    folder, result = cropped

    assert {o.state for o in result.outcomes} == {"present"}
    assert result.remarks == (f"crops: 3 clips written to {folder}, 0 already there",)
    assert sorted(path.name for path in folder.iterdir()) == ["empty", "two", "two.2"]
    assert list(crop_files(folder / "two")) == list(range(1, N_FRAMES + 1))
    assert list(crop_files(folder / "two.2")) == [k + 1 for k in range(N_FRAMES) if k not in ABSENT]
    assert not crop_files(folder / "empty")
    assert read_image(folder / "two" / "00001.jpg").shape == (112, 112, 3)


def test_a_line_with_written_crops_gives_the_rows_of_the_video_within_the_loss_of_jpeg(
    cropped, extracted, media, tmp_path
):
    store, config, options, _ = extracted
    clips = [Clip(id=name, video="two.mp4", frames=f"crops/{name}") for name in ("two", "two.2")]
    write_manifest(media / "with-crops.jsonl", clips)
    options = replace(options, store=str(tmp_path / "s.zarr"))
    extract_features(media / "with-crops.jsonl", options)

    for name in ("two", "two.2"):
        of_crops = FeatureStore.open(tmp_path / "s.zarr").read(config.spec().name, name)
        of_video = store.read(config.spec().name, name)
        np.testing.assert_array_equal(of_crops.valid, of_video.valid)
        np.testing.assert_allclose(of_crops.time_s, of_video.time_s)
        loss = np.abs(of_crops.values - of_video.values)[of_video.valid].mean()
        other = np.abs(of_video.values[1:] - of_video.values[:-1])[of_video.valid[1:]].mean()
        assert loss < 0.01 * of_video.values[of_video.valid].std()
        assert loss < other / 3  # the crop of another frame would be farther


def test_crops_that_are_there_are_written_again_only_if_they_would_differ(
    cropped, extracted, media
):
    folder, _ = cropped
    _, config, options, _ = extracted
    options = replace(options, crops=folder, only=("two",))
    (folder / "two" / "00001.jpg").unlink()

    again = extract_features(media / "m.jsonl", options)
    assert again.remarks == (f"crops: 0 clips written to {folder}, 1 already there",)
    wider = FACES.model_copy(update={"alignment": AlignmentConfig(side_px=96)})
    encoders = (config.model_copy(update={"faces": wider}),)
    extract_features(media / "m.jsonl", replace(options, encoders=encoders))
    assert read_image(folder / "two" / "00001.jpg").shape == (96, 96, 3)


def test_a_folder_that_is_not_from_vaflow_is_left_alone(extracted, media, tmp_path):
    _, _, options, _ = extracted
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "mine.txt").write_text("keep")
    result = extract_features(
        media / "m.jsonl", replace(options, crops=tmp_path, only=("two", "two.2"))
    )

    [failed] = result.failed
    assert failed.clip == "two"
    assert "exists and is not from vaflow; remove it, or give another crops=DIR" in failed.detail
    assert (tmp_path / "two" / "mine.txt").read_text() == "keep"
    assert len(crop_files(tmp_path / "two.2")) == N_FRAMES - len(ABSENT)


def test_crops_need_one_way_of_cutting_faces_out(extracted, media, tiny_clip, tmp_path):
    _, config, options, _ = extracted
    whole = ClipConfig(**tiny_clip)
    other = ClipConfig(**tiny_clip, faces=FacesConfig(alignment=AlignmentConfig(margin=0.2)))

    for encoders, message in (
        ((whole,), "no faces are cut out"),
        ((config, other), "the encoders cut faces out in 2 ways; give one of them alone"),
    ):
        with pytest.raises(InputError, match=message):
            extract_features(
                media / "m.jsonl", replace(options, encoders=encoders, crops=tmp_path / "c")
            )
    assert not (tmp_path / "c").exists()
