"""The command `predict` on all kinds of bad input, as in test_bad_input.py: status, message, and
that nothing changes but the output."""

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import yaml

from flows.command.main import main
from tests.helpers.bad_input import (
    Before,
    Make,
    all_but,
    all_of,
    before,
    create_folder,
    everything,
    truncate,
    unchanged,
    write,
    write_container,
    write_pictures_only,
    write_sound_only,
)
from tests.helpers.field_media import Sound, Video, steps, write_media

pytestmark = pytest.mark.slow

ONE = "predict r c0.mp4 -o out --frames whole"
Stays = Callable[[Before], None]
OUT = all_but("out")


def repeat_video(folder: Path) -> None:
    """The same name in two folders and in another case, names that are not ASCII, other files."""
    for name in ("a/talk.mp4", "b/Talk.mp4", "b/ü 你好 'x'.mp4", "a/notes.txt", "b/.hidden.mp4"):
        path = folder / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "c0.mp4", path)


def lose_store(folder: Path) -> None:
    """A run whose training's store is gone."""
    config = yaml.safe_load((folder / "r" / "config.yaml").read_text())
    (folder / "r" / "config.yaml").write_text(yaml.safe_dump(config | {"store": "gone.zarr"}))


def write_without_timestamps(folder: Path) -> None:
    """A video in AVI, which keeps no presentation times, with B-frames."""
    write_media(folder / "c0.avi", Video(steps(30), options={"bf": "2"}))


def write_silence(folder: Path) -> None:
    """A video whose sound is silent, mirrored and turned."""
    track = Video(steps(30), matrix=(0, 1, 1, 0))
    write_media(folder / "c0.mp4", track, Sound(beeps_s=(), seconds=1.2))


TABLE: dict[str, tuple[Make, str, int, str, Stays]] = {
    "no video given": (
        unchanged,
        "predict r -o out --frames whole",
        2,
        "needs a RUN and videos",
        everything,
    ),
    "video missing": (
        unchanged,
        "predict r none.mp4 -o out --frames whole",
        2,
        "there is no video at none.mp4; give a file, a folder, or a pattern",
        everything,
    ),
    "folder without videos": (
        unchanged,
        "predict r crops -o out --frames whole",
        2,
        "no video in crops: its 29 files have other suffixes",
        everything,
    ),
    "no run": (
        unchanged,
        "predict crops c0.mp4 -o out",
        2,
        "there is no trained head at crops/head.safetensors; run train-head",
        everything,
    ),
    "output of something else": (
        unchanged,
        "predict r c0.mp4 -o crops",
        2,
        "crops holds files that are no predictions .00001.jpg and others.; give another folder",
        everything,
    ),
    "output a file": (
        unchanged,
        "predict r c0.mp4 -o m.jsonl",
        2,
        "output = m.jsonl: m.jsonl is no folder; give another path",
        everything,
    ),
    "record damaged": (
        all_of(create_folder("out"), write("out/predictions.json", "{")),
        ONE,
        2,
        "predictions.json is not JSON .*; delete the folder, or give another",
        everything,
    ),
    "record of another kind": (
        all_of(create_folder("out"), write("out/predictions.json", '{"videos": 3}')),
        ONE,
        2,
        "predictions.json is no record of predictions; delete",
        everything,
    ),
    "record of a later version": (
        all_of(create_folder("out"), write("out/predictions.json", '{"format": "x-2"}')),
        ONE,
        2,
        "a record of predictions of format 'x-2', this vaflow reads 'vaflow-predictions-1'",
        everything,
    ),
    "encoders not at hand": (
        all_of(write("r/provenance.json", "{}"), lose_store),
        ONE,
        2,
        "r reads the features clip-.* and ast-.*not at hand; give .* encoders=.* or -c",
        everything,
    ),
    "unknown format": (unchanged, f"{ONE} format=xls", 2, "format = 'xls': .*csv", everything),
    "no number of people": (
        unchanged,
        f"{ONE} --people 0",
        2,
        "people = 0: Input should be 'all' or 'largest'; or: .* greater than or equal to 1$",
        everything,
    ),
    "key longer than a file name": (
        unchanged,
        f"{ONE} encoders=[{'x' * 300}]",
        2,
        "encoders.*: there is no such kind|encoders.* = 'x",
        everything,
    ),
    "unknown key": (unchanged, f"{ONE} overlai=true", 2, "no video at overlai=true", everything),
    "text": (
        unchanged,
        "predict r m.jsonl -o out --frames whole",
        1,
        "m: .*m.jsonl cannot be decoded",
        OUT,
    ),
    "sound only": (write_sound_only, ONE, 1, "c0: .*c0.mp4 has no video; give", OUT),
    "no frame": (write_container(n_frames=0, n_samples=9999), ONE, 1, "no frame decodes", OUT),
    "no sound": (write_pictures_only, ONE, 0, "note: c0: the clip has no sound", OUT),
    "no timestamps": (
        write_without_timestamps,
        "predict r c0.avi -o out --frames whole",
        0,
        "note: c0: .*timestamps unusable: constant rate of 25 frames a second",
        OUT,
    ),
    "one of two truncated": (
        truncate("c0.mp4"),
        "predict r c0.mp4 c1.mp4 -o out --frames whole",
        1,
        "1 videos predicted .30 frames., 0 up to date, 1 failed; .* these failed:\n"
        "  c0: .*c0.mp4 cannot be decoded .Invalid data.*; replace",
        OUT,
    ),
    "equal names, other names, other files": (
        repeat_video,
        "predict r in 'in/b/*.mp4' -o out --format json --frames whole",
        0,
        "predict: 3 videos predicted .90 frames., .*\n  left out, .* of videos: notes.txt",
        OUT,
    ),
}


@pytest.fixture
def folder(good_set, tmp_path, monkeypatch) -> Path:
    shutil.copytree(good_set, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.parametrize("name", TABLE)
def test_bad_input(name, folder, capsys):
    make, command, status, says, stays = TABLE[name]
    make(folder)
    was = before(folder)
    capsys.readouterr()
    ended = main(shlex.split(command))
    captured = capsys.readouterr()
    said = captured.out + captured.err
    assert ended == status, said
    assert re.search(says, said), said
    assert "Traceback" not in said
    stays(was)


def test_outputs_of_equal_names_differ_and_hidden_files_are_no_videos(folder, capsys):
    repeat_video(folder)
    assert main(shlex.split("predict r in -o out --format json --frames whole")) == 0
    videos = json.loads((folder / "out" / "predictions.json").read_text())["videos"]
    assert [entry["name"] for entry in videos.values()] == ["talk", "b-Talk", "ü 你好 'x'"]
    assert len({(folder / "out" / f"{e['name']}.json").read_text() for e in videos.values()}) == 1
    page = (folder / "out" / "index.html").read_text()
    assert 'href="%C3%BC%20%E4%BD%A0%E5%A5%BD%20%27x%27.json"' in page


def test_a_video_that_fails_now_loses_its_earlier_files(folder, capsys):
    assert main(shlex.split(ONE)) == 0
    assert (folder / "out" / "c0.csv").is_file()
    truncate("c0.mp4")(folder)
    assert main(shlex.split(ONE)) == 1
    assert "c0: " in capsys.readouterr().err
    left = {path.name for path in (folder / "out").iterdir() if path.is_file()}
    assert left == {"predictions.json", "index.html"}
    assert "cannot be decoded" in (folder / "out" / "index.html").read_text()


def test_the_overlay_of_a_silent_turned_and_mirrored_video_is_upright(folder, capsys):
    write_silence(folder)
    assert main(shlex.split(f"{ONE} --overlay")) == 0
    with av.open(str(folder / "out" / "c0.overlay.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.height > stream.codec_context.width - 180 == 48  # 64 x 48, turned
        times = [frame.time for frame in container.decode(stream)]
    np.testing.assert_allclose(times, steps(30), atol=1e-4)


@pytest.mark.parametrize("name", ["take #2", "anna: one", "2026-01-31", "[x]", "null", "it's"])
def test_output_and_store_are_paths_and_no_yaml(name, folder):
    command = ["predict", "r", "c0.mp4", "-o", name, "--store", f"{name}.zarr", "--frames", "whole"]
    assert main(command) == 0
    assert (folder / name / "c0.csv").is_file()
    assert (folder / f"{name}.zarr").is_dir()
