"""A good data set, store and run; ways to damage a copy; checks of what is left unchanged."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import av
import numpy as np
import yaml
from PIL import Image

from features.canonical_json import canonical
from features.clip import Clip
from features.manifest.manifest import write_manifest
from features.system.files import sha256_of
from flows.command.main import main
from tests.helpers.small_media import RATE_HZ, draw_frames, tone, write_video

N_FRAMES = 30
WITH_CROPS = "c1"
NO_RECORDS = {"locks", "banks", "quarantine", "throughput", "digests.sqlite"}  # beside a store
Make = Callable[[Path], object]


def write_good(folder: Path, tiny_clip: dict[str, str], tiny_ast: str) -> Path:
    """Four clips (c0, c1 train, c2, c3 val; c1 with crops but for frame 7), store s.zarr, run r."""
    rng, clips = np.random.default_rng(0), []
    for k in range(4):
        name = f"c{k}"
        time_s, frames = np.arange(N_FRAMES) / 25, draw_frames(N_FRAMES, k)
        write_video(folder / f"{name}.mp4", time_s=time_s, sound=tone(1.2, k), frames=frames)
        write_labels(folder / f"{name}.txt", rng.uniform(-1, 1, (N_FRAMES, 2)))
        split = "train" if k < 2 else "val"
        crops = "crops" if name == WITH_CROPS else None
        media = {"video": f"{name}.mp4", "frames": crops, "labels": f"{name}.txt"}
        clips.append(Clip(id=name, split=split, **media))
    (folder / "crops").mkdir()
    for number in {*range(1, N_FRAMES + 1)} - {7}:
        write_crop(number)(folder)
    write_manifest(folder / "m.jsonl", clips)
    keys = {
        "manifest": "m.jsonl",
        "store": "s.zarr",
        "run": "r",
        "encoders": [
            {"kind": "clip", **tiny_clip},
            {"kind": "ast", "model": tiny_ast, "hop_s": 0.64},
        ],
        "frames": "whole",
        "head": {"kind": "dspl", "width": 16},
        "train": {"epochs": 1, "window": 20, "stride": 10, "threads": 1, "device": "cpu"},
    }
    (folder / "e.yaml").write_text(yaml.safe_dump(keys))
    here = Path.cwd()
    os.chdir(folder)
    try:
        assert main(["run", "pipeline", "-c", "e.yaml"]) == 0
    finally:
        os.chdir(here)
    return folder


def write_labels(path: Path, va: np.ndarray) -> None:
    """An annotation with these rows."""
    path.write_text("valence,arousal\n" + "".join(f"{v:.3f},{a:.3f}\n" for v, a in va))


# What is unchanged ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Before:
    """The damaged folder before the command runs."""

    folder: Path
    files: dict[str, str]
    """Digest of each file, by path."""


def before(folder: Path) -> Before:
    """The state of everything that a command could damage."""
    return Before(folder, _files(folder))


def _files(folder: Path) -> dict[str, str]:
    """Digest of every file of the folder, except what a store keeps beside its records."""
    return {
        str(path.relative_to(folder)): sha256_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not {*path.parts} & NO_RECORDS
    }


def everything(was: Before) -> None:
    """Check that no byte has changed and no file is new."""
    assert _files(was.folder) == was.files


def all_but(*clips: str) -> Callable[[Before], None]:
    """Check that nothing has changed but the records of these clips."""

    def check(was: Before) -> None:
        def kept(files: dict[str, str]) -> dict[str, str]:
            return {path: d for path, d in files.items() if not {*Path(path).parts} & {*clips}}

        assert kept(_files(was.folder)) == kept(was.files)

    return check


def both_sets(was: Before) -> None:
    """Check that both feature sets have attributes, and that records and run are unchanged."""
    all_but("zarr.json")(was)
    assert len(list(was.folder.glob("s.zarr/*/zarr.json"))) == 2


def the_store(was: Before) -> None:
    """Check that the store is unchanged; the run may differ."""
    kept = [{p: d for p, d in f.items() if p[0] != "r"} for f in (was.files, _files(was.folder))]
    assert kept[0] == kept[1]


# Ways to damage it ------------------------------------------------------------------------------


def unchanged(_: Path) -> None:
    """Leave the good set as it is."""


def all_of(*makes: Make) -> Make:
    """Do all of these."""
    return lambda folder: [make(folder) for make in makes]


def delete(name: str) -> Make:
    """Delete this file or folder."""

    def make(folder: Path) -> None:
        path = path_of(folder, name)
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return make


def write(name: str, content: str | bytes) -> Make:
    """Write a file with this content."""
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: path_of(folder, name).write_bytes(data)


def truncate(name: str, share: float = 0.5) -> Make:
    """Keep only the first part of a file."""

    def make(folder: Path) -> None:
        whole = path_of(folder, name).read_bytes()
        path_of(folder, name).write_bytes(whole[: int(len(whole) * share)])

    return make


def path_of(folder: Path, name: str) -> Path:
    """The path; `clip-*` and `ast-*` stand for the names of the feature sets."""
    matches = list(folder.glob(name))
    return matches[0] if matches else folder / name


def create_folder(name: str) -> Make:
    """Create a folder."""
    return lambda folder: (folder / name).mkdir(parents=True)


def edit_clip(number: int, **keys: object) -> Make:
    """Change keys of a clip of the manifest, counted from 0."""

    def make(folder: Path) -> None:
        clips = [json.loads(one) for one in (folder / "m.jsonl").read_text().splitlines()]
        clips[number].update(keys)
        (folder / "m.jsonl").write_text("".join(json.dumps(one) + "\n" for one in clips))

    return make


def set_label_row(number: int, row: str, name: str = "c0.txt") -> Make:
    """Replace a line of an annotation, counted from 1."""

    def make(folder: Path) -> None:
        rows = (folder / name).read_text().splitlines()
        rows[number - 1] = row
        (folder / name).write_text("\n".join(rows) + "\n")

    return make


def write_n_rows(number: int, name: str = "c0.txt") -> Make:
    """Write an annotation of this number of rows."""
    rng = np.random.default_rng(1)
    return lambda folder: write_labels(folder / name, rng.uniform(-1, 1, (number, 2)))


def write_constant_labels(*names: str) -> Make:
    """Write annotations with the same label for every frame."""
    return all_of(*(write(n, "valence,arousal\n" + "0.5,-0.5\n" * N_FRAMES) for n in names))


def write_crop(number: int, side_px: int = 112) -> Make:
    """Write a face crop of this frame."""
    picture = Image.fromarray(draw_frames(1, number, side_px)[0])
    return lambda folder: picture.save(folder / "crops" / f"{number:05d}.jpg", quality=90)


def number_crops_from_zero(folder: Path) -> None:
    """Number the crops from 0 instead of 1."""
    for path in sorted((folder / "crops").iterdir()):
        path.rename(path.with_name(f"{int(path.stem) - 1:05d}.jpg"))


def write_crops_of_size(side_px: int) -> Make:
    """Write all crops again in this size."""
    return all_of(
        *(write_crop(number, side_px) for number in range(1, N_FRAMES + 1) if number != 7)
    )


def write_container(
    name: str = "c0.mp4", *, n_frames: int = N_FRAMES, n_samples: int | None = None
) -> Make:
    """Write a container with a video stream of `n_frames` and an audio stream of `n_samples`.

    A stream may have no packet at all.
    """

    def make(folder: Path) -> None:
        # the header must come before any packet, and may do so in fragments and in Matroska
        options = {"movflags": "empty_moov+frag_keyframe"} if name.endswith("mp4") else {}
        with av.open(str(folder / name), "w", options=options) as container:
            pictures = container.add_stream("libx264", rate=25)
            pictures.width = pictures.height = 64
            pictures.pix_fmt = "yuv420p"
            sound = container.add_stream("aac", rate=RATE_HZ, layout="mono")
            pictures.codec_context.open()
            sound.codec_context.open()
            container.start_encoding()
            for k, picture in enumerate(draw_frames(max(1, n_frames))[:n_frames]):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts = k
                container.mux(pictures.encode(frame))
            if n_frames:
                container.mux(pictures.encode())
            if n_samples:
                samples = tone(1.2)[None, :n_samples]
                block = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
                block.rate, block.pts = RATE_HZ, 0
                container.mux(sound.encode(block))
                container.mux(sound.encode())

    return all_of(make, edit_clip(0, video=name))


def write_sound_only(folder: Path) -> None:
    """Write a container with an audio stream only."""
    with av.open(str(folder / "c0.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=RATE_HZ, layout="mono")
        block = av.AudioFrame.from_ndarray(tone(1.2)[None], format="fltp", layout="mono")
        block.rate, block.pts = RATE_HZ, 0
        container.mux(stream.encode(block))
        container.mux(stream.encode())


def write_pictures_only(folder: Path) -> None:
    """Write a video without sound."""
    write_video(folder / "c0.mp4", time_s=np.arange(N_FRAMES) / 25)


def write_time_backwards(folder: Path) -> None:
    """Write two recordings into one transport stream: the second begins at 0 again."""
    part = write_video(folder / "part.ts", time_s=np.arange(N_FRAMES) / 25, sound=tone(1.2))
    (folder / "c0.ts").write_bytes(part.read_bytes() * 2)
    part.unlink()
    edit_clip(0, video="c0.ts")(folder)


def set_attributes(name: str, **changes: object) -> Make:
    """Change attributes of a zarr.json; a commit gets the digest that its writer would give it."""

    def make(folder: Path) -> None:
        path = path_of(folder, name) / "zarr.json"
        group = json.loads(path.read_bytes())
        inside = {**group["attributes"], **changes}
        if "digest" in inside:
            others = {key: value for key, value in inside.items() if key != "digest"}
            inside["digest"] = sha256(canonical(others)).hexdigest()
        path.write_bytes(canonical({**group, "attributes": inside}))

    return make


def flip_bit(name: str) -> Make:
    """Flip one bit of a file."""

    def make(folder: Path) -> None:
        data = bytearray(path_of(folder, name).read_bytes())
        data[len(data) // 2] ^= 1
        path_of(folder, name).write_bytes(data)

    return make


def set_head_format(format_name: str) -> Make:
    """Change the format that a head names."""

    def make(folder: Path) -> None:
        from safetensors import safe_open
        from safetensors.torch import load_file, save_file

        path = folder / "r" / "head.safetensors"
        with safe_open(path, "pt") as file:
            meta = json.loads(file.metadata()["vaflow"])
        save_file(load_file(path), path, {"vaflow": json.dumps({**meta, "format": format_name})})

    return make


def edit_encoder(index: int, **keys: str) -> Make:
    """Change keys of an encoder in e.yaml."""

    def make(folder: Path) -> None:
        config = yaml.safe_load((folder / "e.yaml").read_text())
        config["encoders"][index].update(keys)
        (folder / "e.yaml").write_text(yaml.safe_dump(config))

    return make


# Processes --------------------------------------------------------------------------------------


def can_mount() -> bool:
    """Whether a process may have its own mounts here."""
    if not (unshare := shutil.which("unshare")):
        return False
    done = subprocess.run(
        [unshare, "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
    )
    return done.returncode == 0


@dataclass(frozen=True)
class Scenario:
    """Commands in a folder, in this order."""

    folder: Path
    steps: list[str]
    """The words of a command; or, after a `!`, a line of shell, which must succeed."""
    limit_bytes: int | None = None
    """How large a file may grow meanwhile."""


STEPS = """
import contextlib, io, json, os, resource, shlex, sys
from flows.command.main import main

def limit_file_size(n_bytes):
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))

soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
ends = []
for folder, limit_bytes, steps in json.loads(sys.argv[1]):
    os.chdir(folder)
    ends.append([])
    for step in steps:
        if step.startswith("!"):
            assert os.system(step[1:]) == 0, step
            continue
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            limit_file_size(soft if limit_bytes is None else limit_bytes)
            status = main(shlex.split(step))
            limit_file_size(soft)
        ends[-1].append((status, said.getvalue()))
print(json.dumps(ends))
"""


def run_in_a_process(scenarios: list[Scenario]) -> list[list[tuple[int, str]]]:
    """Exit status and output of each command by scenario, from one process with its own mounts."""
    given = [(str(each.folder), each.limit_bytes, each.steps) for each in scenarios]
    mounts = any("mount" in step for each in scenarios for step in each.steps)
    done = subprocess.run(
        [*(["unshare", "-rm"] if mounts else []), sys.executable, "-c", STEPS, json.dumps(given)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [[(status, said) for status, said in each] for each in json.loads(done.stdout)]
