"""`vaflow predict` on real videos: people, faces, frames, times and files.

The values mean nothing: there is no head that was trained on real faces.
"""

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from scipy.signal import correlate

from tests.helpers.bad_input import write_good
from tests.helpers.browser import chromium
from tests.helpers.small_media import write_video

pytestmark = pytest.mark.real

PHOTOS = {  # video of a photograph, which people in it
    "five": ("multi_face.jpg", 5),
    "profile": ("45-m7-di-ph.jpg", 1),
    "alpha": ("Image_with_alpha.png", 1),
    "astronaut": ("astronaut.png", 1),
    "landscape": ("free-mountain-vector-01.jpg", 0),
}
PHOTO_FRAMES = 6
PHOTO_PX = 800
ALWAYS_SEEN = ("single_face", "WolfgangLanger_Pexels", "carphone_pristine")
SEEN_ROWS = {"face_noface": range(72), "noface_face": range(96, 168)}  # between cuts, by eye
WITHOUT_FACE = ("no_face", "landscape")
ONE_PERSON = (*ALWAYS_SEEN, *SEEN_ROWS)
WITH_SOUND = ("single_face", "WolfgangLanger_Pexels", *SEEN_ROWS)
SILENT = "WolfgangLanger_Pexels"
RATE_HZ = 16_000
IN_STEP_S = 0.02


@dataclass(frozen=True)
class Predicted:
    """What the command said and wrote."""

    videos: dict[str, Path]
    output: Path
    status: int
    said: str

    def rows(self, name: str) -> list[dict[str, str]]:
        """The rows of the table of a video."""
        with (self.output / f"{name}.csv").open(encoding="utf-8", newline="") as lines:
            return list(csv.DictReader(lines))

    def overlay(self, name: str) -> Path:
        """The overlay of a video."""
        return self.output / f"{name}.overlay.mp4"


@pytest.fixture(scope="module")
def predicted(real_files, tmp_path_factory) -> Predicted:
    """Of all videos by one command, with a head that was trained for a moment on nothing."""
    folder = tmp_path_factory.mktemp("real")
    (folder / "good").mkdir()
    encoders = {"model": "vaflow-rn-small", "pretrained": "rendered"}, "vaflow-ast-small"
    run = write_good(folder / "good", *encoders) / "r"
    videos: dict[str, Path] = {}
    for path in real_files.values():
        if path.suffix in (".mp4", ".mov"):
            videos[path.stem] = Path(shutil.copy(path, folder))
    for name, (file, _) in PHOTOS.items():
        photo = Image.open(real_files[file]).convert("RGB")
        photo.thumbnail((PHOTO_PX, PHOTO_PX))
        even = np.asarray(photo)[: photo.height // 2 * 2, : photo.width // 2 * 2]
        videos[name] = write_video(
            folder / f"{name}.mp4",
            time_s=np.arange(PHOTO_FRAMES) / 25,
            frames=np.stack([even] * PHOTO_FRAMES),
        )
    command = [sys.executable, "-m", "flows", "predict", run, *videos.values()]
    command += ["-o", folder / "out", "--overlay", "--device", "cpu"]
    ended = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, cwd=Path.cwd()
    )
    return Predicted(videos, folder / "out", ended.returncode, ended.stdout + ended.stderr)


def times_of(path: Path) -> np.ndarray:
    """The presentation times of the frames of a video, by ffprobe or else by PyAV."""
    if ffprobe := shutil.which("ffprobe"):
        entries = "-select_streams v:0 -show_entries frame=best_effort_timestamp_time -of json"
        command = [ffprobe, "-v", "error", *entries.split(), str(path)]
        answer = subprocess.run(command, capture_output=True, check=True).stdout
        frames = json.loads(answer)["frames"]
        return np.array([float(frame["best_effort_timestamp_time"]) for frame in frames])
    with av.open(str(path)) as container:
        return np.array([frame.time for frame in container.decode(video=0)])


def test_the_status_tells_that_videos_without_a_face_failed(predicted):
    assert predicted.status == 1, predicted.said
    n_good = len(predicted.videos) - len(WITHOUT_FACE)
    assert f"predict: {n_good} videos predicted" in predicted.said
    for name in WITHOUT_FACE:
        n_frames = len(times_of(predicted.videos[name]))
        assert f"  {name}: no face was found in its {n_frames} frames" in predicted.said
        assert not list(predicted.output.glob(f"{name}.*"))
    assert "Traceback" not in predicted.said


@pytest.mark.parametrize("name", [*ONE_PERSON, *(n for n in PHOTOS if n not in WITHOUT_FACE)])
def test_every_frame_has_a_row_with_the_time_that_ffprobe_tells(predicted, name):
    time_s = times_of(predicted.videos[name])
    rows = predicted.rows(name)
    for person in {row["person"] for row in rows}:
        own = [row for row in rows if row["person"] == person]
        assert [int(row["frame"]) for row in own] == list(range(1, len(time_s) + 1))
        found_s = [float(row["time_s"]) for row in own]
        np.testing.assert_allclose(found_s, time_s, atol=2e-6)  # both have six decimals


@pytest.mark.parametrize("name", ONE_PERSON)
def test_there_is_one_person(predicted, name):
    assert {row["person"] for row in predicted.rows(name)} == {"1"}


@pytest.mark.parametrize("name", ALWAYS_SEEN)
def test_the_face_is_found_in_nearly_every_frame(predicted, name):
    seen = [row["valid"] == "1" and row["face_w"] != "" for row in predicted.rows(name)]
    assert np.mean(seen) >= 0.95


@pytest.mark.parametrize("name", SEEN_ROWS)
def test_a_face_that_comes_or_goes_is_found_only_where_it_is(predicted, name):
    seen = [row["valid"] == "1" for row in predicted.rows(name)]
    is_there = [row in SEEN_ROWS[name] for row in range(len(seen))]
    assert np.mean(np.array(seen) == is_there) >= 0.98


@pytest.mark.parametrize("name", [name for name, (_, n) in PHOTOS.items() if n])
def test_the_people_of_a_photograph_are_counted(predicted, name):
    rows = predicted.rows(name)
    _, n_people = PHOTOS[name]
    assert {row["person"] for row in rows} == {str(number + 1) for number in range(n_people)}
    assert {row["valid"] for row in rows} == {"1"}


@pytest.mark.parametrize("name", ONE_PERSON)
def test_the_overlay_has_the_frames_of_the_source_at_their_times(predicted, name):
    found_s, time_s = (times_of(p) for p in (predicted.overlay(name), predicted.videos[name]))
    np.testing.assert_allclose(found_s, time_s, atol=1e-4)


@pytest.mark.parametrize("name", WITH_SOUND)
def test_the_sound_of_the_overlay_is_in_step(predicted, name):
    source, overlay = (sound_of(path) for path in (predicted.videos[name], predicted.overlay(name)))
    if name == SILENT:
        assert not source.any()
        assert not overlay.any()
        assert len(overlay) == pytest.approx(len(source), abs=IN_STEP_S * RATE_HZ)
        return
    alike = correlate(overlay, source)
    lag_s = (int(np.argmax(alike)) - (len(source) - 1)) / RATE_HZ
    assert abs(lag_s) < IN_STEP_S, lag_s
    assert alike.max() > 0.9 * np.linalg.norm(source) * np.linalg.norm(overlay)


def sound_of(path: Path) -> np.ndarray:
    """The sound of a file from time 0 on, mono at `RATE_HZ`; silent where there is none."""
    time_s: list[np.ndarray] = []
    samples: list[np.ndarray] = []
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            assert frame.format.name == "fltp"
            samples.append(frame.to_ndarray().mean(0))
            time_s.append(frame.time + np.arange(frame.samples) / frame.sample_rate)
    end_s = time_s[-1][-1]
    grid_s = np.arange(0, end_s, 1 / RATE_HZ)
    return np.interp(grid_s, np.concatenate(time_s), np.concatenate(samples), left=0)


@pytest.fixture(scope="module")
def window(predicted, tmp_path_factory) -> Iterator:
    with chromium(tmp_path_factory.mktemp("profile")) as window:
        window.set_script_timeout(120)
        window.get((predicted.output / "index.html").as_uri())
        yield window


PLAY = """
const [name, done] = arguments;
const video = document.querySelector(`video[src="${name}.overlay.mp4"]`);
const tell = (what) => done({
    what, duration_s: video.duration, height: video.videoHeight,
    frames: video.getVideoPlaybackQuality().totalVideoFrames,
    sound: video.webkitAudioDecodedByteCount, error: video.error && video.error.message});
video.addEventListener("ended", () => tell("ended"));
video.addEventListener("error", () => tell("error"));
video.muted = true;
video.play().catch((reason) => tell(String(reason)));
"""


@pytest.mark.browser
@pytest.mark.parametrize("name", ["single_face", "face_noface", "carphone_pristine"])
def test_the_overlay_plays_in_a_browser(predicted, window, name):
    played = window.execute_async_script(PLAY, name)
    assert (played["what"], played["error"]) == ("ended", None)
    time_s = times_of(predicted.videos[name])
    assert played["duration_s"] == pytest.approx(time_s[-1], abs=0.2)
    assert played["frames"] > len(time_s) / 2  # a busy machine may drop some
    assert (played["sound"] > 0) == (name in WITH_SOUND)
