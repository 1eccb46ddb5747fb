"""The rendered set on disk: its shape, its awkward cases, and that a seed is all it depends on."""

import dataclasses
import itertools
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from features.errors import InputError
from features.synthetic import dataset_writer as writer
from features.synthetic import is_rendered, render
from features.synthetic.dataset_writer import ANNOTATIONS, SAMPLE_NAME, row_times_s, write_video
from features.synthetic.plan import CASES, plan_set
from features.synthetic.video_writer import frame_times_s
from flows.command.main import main

pytestmark = pytest.mark.slow

CLIPS, SECONDS, SEED = 12, 1.2, 5


@dataclasses.dataclass(frozen=True)
class Rendered:
    """A set on disk with the plan it came from."""

    folder: Path
    done: tuple[tuple[int, int], ...]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    """The smallest set that has every case."""
    folder = tmp_path_factory.mktemp("rendered") / "set"
    done: list[tuple[int, int]] = []
    render(
        folder,
        clips=CLIPS,
        seconds=SECONDS,
        seed=SEED,
        workers=2,
        on_clip=lambda n, total: done.append((n, total)),
    )
    return Rendered(folder, tuple(done))


def annotations(folder: Path) -> dict[str, str]:
    return {path.stem: path.read_text() for path in (folder / ANNOTATIONS).rglob("*.txt")}


def videos(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in (folder / "videos").rglob("*.*")}


def crops(folder: Path) -> dict[str, set[int]]:
    """The numbers of the crops of each clip, whatever folder they are nested in."""
    found: dict[str, set[int]] = {}
    for path in (folder / "cropped_aligned").rglob("*.jpg"):
        found.setdefault(path.parent.name, set()).add(int(path.stem))
    return found


def stamps(path: Path) -> tuple[list[int | None], Fraction]:
    """Each decoded frame's pts, and the clock they are counted on."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        return [frame.pts for frame in container.decode(video)], video.time_base


def test_every_annotation_has_a_video_with_crops_and_the_rows_its_case_asks_for(rendered):
    labels, films, faces = (
        annotations(rendered.folder),
        videos(rendered.folder),
        crops(rendered.folder),
    )
    excesses = set()
    for plan in plan_set(clips=CLIPS, seconds=SECONDS, seed=SEED):
        n_frames = len(stamps(films[plan.stem])[0])
        assert n_frames == len(frame_times_s(plan, SEED))
        for name in plan.clip_names:
            assert faces[name]
            assert faces[name] <= set(range(1, n_frames + 1))
            assert (len(faces[name]) < n_frames) == plan.case.gaps
            assert (name in labels) == (plan.split != "test")
            if name in labels:
                header, *rows = labels[name].splitlines()
                assert header == "valence,arousal"
                assert len(rows) - n_frames == plan.case.excess
                assert ("-5,-5" in rows) == plan.case.invalid
                excesses.add(len(rows) - n_frames)
    assert excesses >= {-1, 0, 1, 2}


def test_progress_counts_every_clip_once(rendered):
    assert rendered.done[-1] == (CLIPS, CLIPS)
    assert [n for n, _ in rendered.done] == sorted({n for n, _ in rendered.done})


def test_labels_are_within_range_or_invalid(rendered):
    for text in annotations(rendered.folder).values():
        rows = np.array([[float(x) for x in row.split(",")] for row in text.splitlines()[1:]])
        invalid = (rows == -5).all(axis=1)
        assert np.abs(rows[~invalid]).max() <= 1


def test_constant_rates_of_25_30_and_ntsc_are_in_the_containers(rendered):
    rates = set()
    for plan in plan_set(clips=CLIPS, seconds=SECONDS, seed=SEED):
        pts, tick_s = stamps(videos(rendered.folder)[plan.stem])
        if not plan.case.variable and not plan.case.avi:
            assert {b - a for a, b in itertools.pairwise(pts)} == {1 / plan.case.rate / tick_s}
            rates.add(plan.case.rate)
    assert rates >= {Fraction(25), Fraction(30), Fraction(30000, 1001)}


def test_a_variable_rate_is_variable_and_its_stamps_are_the_planned_ones(rendered):
    plan = next(p for p in plan_set(clips=CLIPS, seconds=SECONDS, seed=SEED) if p.case.variable)
    pts, tick_s = stamps(videos(rendered.folder)[plan.stem])
    assert len(set(np.diff(np.array(pts)).tolist())) > 5
    np.testing.assert_allclose(np.array(pts) * float(tick_s), frame_times_s(plan, SEED), atol=1e-9)


def test_the_avi_has_b_frames_and_unusable_timestamps(rendered):
    path = next((rendered.folder / "videos").rglob("*.avi"))
    with av.open(str(path)) as container:
        kinds = {av.video.frame.PictureType(f.pict_type).name for f in container.decode(video=0)}
    assert "B" in kinds
    pts, _ = stamps(path)
    assert None in pts or min(np.diff(np.array(pts))) <= 0


def test_one_video_is_without_sound_and_the_others_sound_as_long_as_they_show(rendered):
    silent = []
    for plan in plan_set(clips=CLIPS, seconds=SECONDS, seed=SEED):
        with av.open(str(videos(rendered.folder)[plan.stem])) as container:
            if not container.streams.audio:
                silent.append(plan.stem)
                continue
            n_samples = sum(frame.samples for frame in container.decode(audio=0))
            last_s = frame_times_s(plan, SEED)[-1]
            assert n_samples / container.streams.audio[0].rate == pytest.approx(last_s, abs=0.15)
    assert silent == [
        p.stem for p in plan_set(clips=CLIPS, seconds=SECONDS, seed=SEED) if not p.case.sound
    ]
    assert len(silent) == 1


def test_a_pair_shares_its_video_and_its_split(rendered):
    labels, films, faces = (
        annotations(rendered.folder),
        videos(rendered.folder),
        crops(rendered.folder),
    )
    left = next(name for name in labels if name.endswith("_left"))
    stem = left.removesuffix("_left")
    assert stem in films
    assert stem not in labels
    assert left not in films
    assert {left, f"{stem}_right"} <= faces.keys()
    folders = {p.parent for p in rendered.folder.rglob(f"{stem}_*.txt")}
    assert len(folders) == 1
    assert labels[left] != labels[f"{stem}_right"]


def test_crops_are_nested_once_more_lie_in_a_batch_folder_and_beside_debris(rendered):
    root = rendered.folder / "cropped_aligned"
    assert list(root.glob("cropped_aligned/*/00001.jpg"))
    assert list(root.glob("batch1/*/00001.jpg"))
    assert (root / ".DS_Store").is_file()
    assert list(root.glob("*/*/.DS_Store"))
    for path in list(root.rglob("*.jpg"))[::97]:
        with Image.open(path) as picture:
            assert picture.size == (112, 112)


def test_the_sample_lists_every_frame_of_the_test_videos_in_order(rendered):
    header, *rows = (rendered.folder / SAMPLE_NAME).read_text().splitlines()
    assert header == "image_location,valence,arousal"
    wanted = [
        f"{name}/{k:05d}.jpg,"
        for plan in plan_set(clips=CLIPS, seconds=SECONDS, seed=SEED)
        if plan.split == "test"
        for name in plan.clip_names
        for k in range(1, len(stamps(videos(rendered.folder)[plan.stem])[0]) + 1)
    ]
    assert wanted
    assert rows == wanted


def test_the_same_seed_gives_the_same_labels_whatever_the_workers(tmp_path):
    one, two = (tmp_path / f"by-{workers}" for workers in (1, 2))
    for workers, folder in ((1, one), (2, two)):
        render(folder, clips=3, seconds=1.0, seed=SEED, workers=workers)
    assert annotations(one) == annotations(two)
    assert (one / SAMPLE_NAME).read_text() == (two / SAMPLE_NAME).read_text()


def test_another_seed_gives_other_labels(rendered, tmp_path):
    render(tmp_path / "two", clips=2, seconds=1.0, seed=SEED + 1, workers=1)
    firsts = {text.splitlines()[1] for text in annotations(tmp_path / "two").values()}
    assert not firsts & {text.splitlines()[1] for text in annotations(rendered.folder).values()}


def test_extra_rows_follow_at_the_median_step_and_a_missing_one_is_the_last():
    times_s = np.array([0.0, 0.1, 0.2, 0.5])
    # median step 0.1
    np.testing.assert_allclose(row_times_s(times_s, 2), [0.0, 0.1, 0.2, 0.5, 0.6, 0.7])
    np.testing.assert_allclose(row_times_s(times_s, -1), [0.0, 0.1, 0.2])


@pytest.mark.parametrize("clips", [2, 3, 4, 6, 7, 8, 12, 14, 24, 40, 41])
def test_a_set_of_any_size_has_its_clips_and_both_annotated_splits(clips):
    for seed in range(6):
        plans = plan_set(clips=clips, seconds=5.0, seed=seed)
        names = [name for plan in plans for name in plan.clip_names]
        assert len(names) == len(set(names)) == clips
        people = {s: sum(len(p.levels) for p in plans if p.split == s) for s in ("train", "val")}
        assert people["train"] >= 1
        assert people["val"] == max(1, round(clips / 3))


def test_the_default_set_validates_on_at_least_twelve_subjects():
    plans = plan_set(
        clips=writer.DEFAULT_CLIPS, seconds=writer.DEFAULT_SECONDS, seed=writer.DEFAULT_SEED
    )
    assert sum(plan.split == "val" for plan in plans) >= 12
    assert all(plan.case in CASES or len(plan.levels) == 1 for plan in plans)


def test_twelve_clips_hold_every_case():
    plans = plan_set(clips=12, seconds=5.0, seed=0)
    assert [plan.case for plan in plans[: len(CASES)]] == list(CASES)
    assert all(plan.split != "test" for plan in plans[: len(CASES)])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"clips": 1}, "clips is 1; it must be at least 2"),
        ({"seconds": 0.5}, "seconds is 0.5; it must be from 1 to 3600"),
        ({"seconds": float("nan")}, "seconds is nan; it must be from 1 to 3600"),
        ({"seed": -1}, "seed is -1; it must be at least 0"),
    ],
)
def test_numbers_that_no_set_can_have_are_refused_before_anything_is_written(
    tmp_path, wrong, message
):
    numbers = {"clips": 2, "seconds": 1.0, "seed": 0} | wrong
    with pytest.raises(InputError, match=message):
        render(tmp_path / "set", **numbers)
    assert not list(tmp_path.iterdir())


def test_a_set_of_other_numbers_or_of_another_edition_is_not_taken_for_this_one(
    rendered, monkeypatch
):
    numbers = {"clips": CLIPS, "seconds": SECONDS, "seed": SEED}
    assert is_rendered(rendered.folder, **numbers)
    for name in numbers:
        assert not is_rendered(rendered.folder, **{**numbers, name: numbers[name] + 1})
    monkeypatch.setattr("features.synthetic.dataset_writer.EDITION", 99)
    assert not is_rendered(rendered.folder, **numbers)
    assert not is_rendered(rendered.folder / "nowhere", **numbers)


def test_the_demo_refuses_a_set_that_is_not_its_own(tmp_path, capsys):
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "mine.txt").write_text("mine")
    for words in (["demo"], ["demo", "--control", "face"]):
        assert main([*words, "--folder", str(tmp_path)]) == 2
        assert "holds a set other than the demo's" in capsys.readouterr().err
    assert (tmp_path / "dataset" / "mine.txt").read_text() == "mine"


def test_a_folder_that_exists_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(InputError, match="exists, and a set needs a new folder; remove it"):
        render(tmp_path, clips=2, seconds=1.0, seed=0)
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/set\.part cannot be created"):
        render(tmp_path / "file" / "set", clips=2, seconds=1.0, seed=0)


@pytest.fixture
def failing_second_video(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def fail_later(folder: Path, plan: object, seed: int) -> None:
        if plan.index == 1:
            raise OSError(28, os.strerror(28))
        write_video(folder, plan, seed)

    monkeypatch.setattr(writer, "write_video", fail_later)
    return


def test_a_render_that_fails_leaves_nothing_behind(tmp_path, failing_second_video):
    with pytest.raises(OSError, match="No space left"):
        render(tmp_path / "set", clips=3, seconds=1.0, seed=0, workers=1)
    assert not list(tmp_path.iterdir())


def test_what_a_killed_render_left_is_removed(tmp_path):
    (tmp_path / "set.part" / "videos").mkdir(parents=True)
    (tmp_path / "set.part" / "videos" / "old.mp4").write_text("half")
    render(tmp_path / "set", clips=2, seconds=1.0, seed=0, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert not list(tmp_path.rglob("old.mp4"))
