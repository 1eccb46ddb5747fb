"""A good data set, store and run; ways to spoil a copy of them; checks of what stays."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
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
        crop(number)(folder)
    write_manifest(folder / "m.jsonl", clips)
    keys = {
        "manifest": "m.jsonl",
        "store": "s.zarr",
        "run": "r",
        "encoders": [
            {"kind": "clip", **tiny_clip},
            {"kind": "ast", "model": tiny_ast, "hop_s": 0.64},
        ],
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


# What stays -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Before:
    """The folder as it was spoiled, before the command."""

    folder: Path
    files: dict[str, str]
    """Digest of each file, by path."""


def before(folder: Path) -> Before:
    """The state of everything that a command could spoil."""
    return Before(folder, _files(folder))


def _files(folder: Path) -> dict[str, str]:
    """Every file of the folder but what a store remembers beside it, which is no record."""
    return {
        str(path.relative_to(folder)): sha256_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not {*path.parts} & NO_RECORDS
    }


def everything(was: Before) -> None:
    """Not a byte is other, and nothing new is there."""
    assert _files(was.folder) == was.files


def all_but(*clips: str) -> Callable[[Before], None]:
    """Not a byte is other but in the records of these clips; no debris; the run is as it was."""

    def check(was: Before) -> None:
        def kept(files: dict[str, str]) -> dict[str, str]:
            return {path: d for path, d in files.items() if not {*Path(path).parts} & {*clips}}

        assert kept(_files(was.folder)) == kept(was.files)

    return check


def both_sets(was: Before) -> None:
    """Both feature sets have their attributes; no record and nothing of the run is other."""
    all_but("zarr.json")(was)
    assert len(list(was.folder.glob("s.zarr/*/zarr.json"))) == 2


def the_store(was: Before) -> None:
    """The store is as it was; the run is another."""
    kept = [{p: d for p, d in f.items() if p[0] != "r"} for f in (was.files, _files(was.folder))]
    assert kept[0] == kept[1]


# Ways to spoil it -------------------------------------------------------------------------------


def nothing(_: Path) -> None:
    """It is good as it is."""


def several(*makes: Make) -> Make:
    """All of these."""
    return lambda folder: [make(folder) for make in makes]


def gone(name: str) -> Make:
    """Without this file or folder."""

    def make(folder: Path) -> None:
        path = found(folder, name)
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return make


def text(name: str, content: str | bytes) -> Make:
    """This content in the place of that file."""
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: found(folder, name).write_bytes(data)


def cut(name: str, share: float = 0.5) -> Make:
    """The first part of that file alone."""

    def make(folder: Path) -> None:
        whole = found(folder, name).read_bytes()
        found(folder, name).write_bytes(whole[: int(len(whole) * share)])

    return make


def found(folder: Path, name: str) -> Path:
    """A path, of which `clip-*` and `ast-*` name the feature sets."""
    matches = list(folder.glob(name))
    return matches[0] if matches else folder / name


def folder_at(name: str) -> Make:
    """A folder where there was none."""
    return lambda folder: (folder / name).mkdir(parents=True)


def line(number: int, **keys: object) -> Make:
    """Other keys in a line of the manifest."""

    def make(folder: Path) -> None:
        clips = [json.loads(one) for one in (folder / "m.jsonl").read_text().splitlines()]
        clips[number].update(keys)
        (folder / "m.jsonl").write_text("".join(json.dumps(one) + "\n" for one in clips))

    return make


def label_row(number: int, row: str, name: str = "c0.txt") -> Make:
    """Another row in an annotation, counted as its lines."""

    def make(folder: Path) -> None:
        rows = (folder / name).read_text().splitlines()
        rows[number - 1] = row
        (folder / name).write_text("\n".join(rows) + "\n")

    return make


def n_rows(number: int, name: str = "c0.txt") -> Make:
    """So many rows in an annotation."""
    rng = np.random.default_rng(1)
    return lambda folder: write_labels(folder / name, rng.uniform(-1, 1, (number, 2)))


def constant(*names: str) -> Make:
    """Annotations that say the same of every frame."""
    return several(*(text(n, "valence,arousal\n" + "0.5,-0.5\n" * N_FRAMES) for n in names))


def crop(number: int, side_px: int = 112) -> Make:
    """A face crop of this frame."""
    picture = Image.fromarray(draw_frames(1, number, side_px)[0])
    return lambda folder: picture.save(folder / "crops" / f"{number:05d}.jpg", quality=90)


def crops_from_zero(folder: Path) -> None:
    """Every crop one number too low."""
    for path in sorted((folder / "crops").iterdir()):
        path.rename(path.with_name(f"{int(path.stem) - 1:05d}.jpg"))


def crops_of_one_size(side_px: int) -> Make:
    """All crops again, of this size."""
    return several(*(crop(number, side_px) for number in range(1, N_FRAMES + 1) if number != 7))


def video(name: str = "c0.mp4", *, n_frames: int = N_FRAMES, n_samples: int | None = None) -> Make:
    """A container with a stream of so many pictures, and one of sound unless `n_samples` is None.

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

    return several(make, line(0, video=name))


def sound_only(folder: Path) -> None:
    """A container without a stream of pictures, called a video."""
    with av.open(str(folder / "c0.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=RATE_HZ, layout="mono")
        block = av.AudioFrame.from_ndarray(tone(1.2)[None], format="fltp", layout="mono")
        block.rate, block.pts = RATE_HZ, 0
        container.mux(stream.encode(block))
        container.mux(stream.encode())


def pictures_only(folder: Path) -> None:
    """A video without sound."""
    write_video(folder / "c0.mp4", time_s=np.arange(N_FRAMES) / 25)


def timestamps_that_go_back(folder: Path) -> None:
    """Two recordings one after the other in one transport stream: the second begins at 0 again."""
    part = write_video(folder / "part.ts", time_s=np.arange(N_FRAMES) / 25, sound=tone(1.2))
    (folder / "c0.ts").write_bytes(part.read_bytes() * 2)
    part.unlink()
    line(0, video="c0.ts")(folder)


def attributes(name: str, **changes: object) -> Make:
    """Other attributes in a zarr.json; a commit with its digest, as its writer would make it."""

    def make(folder: Path) -> None:
        path = found(folder, name) / "zarr.json"
        group = json.loads(path.read_bytes())
        inside = {**group["attributes"], **changes}
        if "digest" in inside:
            from features.store.commit import _digest

            inside["digest"] = _digest({k: v for k, v in inside.items() if k != "digest"})
        path.write_bytes(canonical({**group, "attributes": inside}))

    return make


def flipped(name: str) -> Make:
    """One bit of a file the other way."""

    def make(folder: Path) -> None:
        data = bytearray(found(folder, name).read_bytes())
        data[len(data) // 2] ^= 1
        found(folder, name).write_bytes(data)

    return make


def head_of(format_name: str) -> Make:
    """A head that says it is of this format."""

    def make(folder: Path) -> None:
        from safetensors import safe_open
        from safetensors.torch import load_file, save_file

        path = folder / "r" / "head.safetensors"
        with safe_open(path, "pt") as file:
            meta = json.loads(file.metadata()["vaflow"])
        save_file(load_file(path), path, {"vaflow": json.dumps({**meta, "format": format_name})})

    return make


def encoder(index: int, **keys: str) -> Make:
    """Other keys of an encoder in e.yaml; a file of the folder where it begins with `./`."""

    def make(folder: Path) -> None:
        config = yaml.safe_load((folder / "e.yaml").read_text())
        config["encoders"][index].update(keys)
        (folder / "e.yaml").write_text(yaml.safe_dump(config))

    return make


# Processes --------------------------------------------------------------------------------------


def can_mount() -> bool:
    """Whether a process may have mounts of its own here."""
    if not (unshare := shutil.which("unshare")):
        return False
    done = subprocess.run(
        [unshare, "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
    )
    return done.returncode == 0


STEPS = """
import contextlib, io, json, os, shlex, sys
from flows.command.main import main
ends = []
for step in sys.argv[1:]:
    if step.startswith("!"):
        assert os.system(step[1:]) == 0, step
        continue
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = main(shlex.split(step))
    ends.append((status, said.getvalue()))
print(json.dumps(ends))
"""


def in_a_process(folder: Path, *steps: str, limit: str = ":") -> list[tuple[int, str]]:
    """Exit status and words of each command, in one process with mounts and a limit of its own.

    A step that begins with `!` is one of the shell.
    """
    shell = ["sh", "-c", f'{limit}; exec "$0" "$@"', sys.executable, "-c", STEPS, *steps]
    own_mounts = ["unshare", "-rm"] if any("mount" in step for step in steps) else []
    done = subprocess.run(
        [*own_mounts, *shell], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
