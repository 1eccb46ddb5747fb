"""All kinds of bad input as a table: what is wrong, the command, its exit status, its message, and
what it leaves unchanged. Each row runs the command on a copy of a good set (bad_input.py)."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import yaml
from open_clip.model import CLIP
from safetensors.torch import save_file
from torch import nn

from flows.__main__ import ENDED
from flows.command.main import main
from tests.helpers.bad_input import (
    Before,
    Make,
    Scenario,
    all_but,
    all_of,
    before,
    both_sets,
    can_mount,
    create_folder,
    delete,
    edit_clip,
    edit_encoder,
    everything,
    flip_bit,
    number_crops_from_zero,
    run_in_a_process,
    set_attributes,
    set_head_format,
    set_label_row,
    the_store,
    truncate,
    unchanged,
    write,
    write_constant_labels,
    write_container,
    write_crop,
    write_crops_of_size,
    write_n_rows,
    write_pictures_only,
    write_sound_only,
    write_time_backwards,
)
from tests.helpers.small_media import TINY_CLIP

pytestmark = pytest.mark.slow

EXTRACT = "run extract-features -c e.yaml"
TRAIN = "run train-head -c e.yaml"
FOLDS = "run train-ensemble -c e.yaml run=folds folds=2"
SCORE = "run score-head -c e.yaml"
STATUS = "status s.zarr m.jsonl"


@dataclass(frozen=True)
class Row:
    """One row of the table."""

    name: str
    make: Make
    """Damages a copy of the good set."""
    command: str
    status: int
    says: str
    """A regular expression of stdout and stderr."""
    stays: Callable[[Before], None] = everything


A, B = "c0.mp4", '{"id": "a", "video": "c0.mp4"}\n'
DAMAGED = (
    "the features .* are damaged .* delete the folder s.zarr/clip-.*/c0 and run extract-features"
)

MEDIA = (
    Row("video missing", delete(A), EXTRACT, 1, "c0.mp4 cannot be read .No such file.*; correct"),
    Row(
        "video truncated",
        truncate(A),
        EXTRACT,
        1,
        "c0.mp4 cannot be decoded .Invalid data.*; replace",
    ),
    Row("video a text", write(A, "none"), EXTRACT, 1, "c0.mp4 cannot be decoded .*; replace"),
    Row("video of 0 bytes", write(A, ""), EXTRACT, 1, r"c0.mp4 is empty \(0 bytes\); replace"),
    Row(
        "video a folder",
        edit_clip(0, video="crops"),
        EXTRACT,
        1,
        r"crops cannot be read \(Is a dir",
    ),
    Row("sound only", write_sound_only, EXTRACT, 1, "c0.mp4 has no video; give", all_but("c0")),
    Row(
        "pictures only",
        write_pictures_only,
        EXTRACT,
        0,
        "note: c0: the clip has no sound",
        all_but("c0"),
    ),
    Row(
        "no frame",
        write_container(n_frames=0, n_samples=9999),
        EXTRACT,
        1,
        "no frame decodes",
        all_but("c0"),
    ),
    Row(
        "no frame, no sound",
        write_container(n_frames=0),
        EXTRACT,
        1,
        "no frame decodes",
        all_but("c0"),
    ),
    Row(
        "no packet at all",
        write_container("c0.mkv", n_frames=0),
        EXTRACT,
        1,
        "c0.mkv cannot be decoded .End",
    ),
    Row(
        "no packet of sound",
        write_container("c0.mkv"),
        EXTRACT,
        0,
        "c0: the clip has no sound",
        all_but("c0"),
    ),
    Row("sound of 10 ms", write_container(n_samples=441), EXTRACT, 0, "2 extracted", all_but("c0")),
    Row(
        "back in time",
        write_time_backwards,
        EXTRACT,
        0,
        "c0: the clock of the file jumps .1x.: its parts are joined",
        all_but("c0"),
    ),
    Row(
        "frames not a folder",
        edit_clip(1, frames=A),
        EXTRACT,
        1,
        "no such folder of crops; correct",
    ),
    Row("crops missing", delete("crops"), EXTRACT, 1, "crops: there is no such folder of crops"),
    Row(
        "no crop",
        all_of(delete("crops"), create_folder("crops")),
        EXTRACT,
        1,
        "crops holds no crop; ",
    ),
    Row(
        "crop missing",
        delete("crops/00009.jpg"),
        EXTRACT,
        0,
        "1 extracted, 7 already",
        all_but("c1"),
    ),
    Row(
        "crop corrupt",
        truncate("crops/00003.jpg"),
        EXTRACT,
        1,
        "00003.jpg is not a complete image .*; repl",
    ),
    Row(
        "crop of another size",
        write_crop(3, 256),
        EXTRACT,
        0,
        "1 extracted, 7 already",
        all_but("c1"),
    ),
    Row("crops of 96 px", write_crops_of_size(96), EXTRACT, 0, "1 extracted, 7 alr", all_but("c1")),
    Row(
        "crops from 0",
        number_crops_from_zero,
        EXTRACT,
        1,
        "00000.jpg: crops .* from 0, add 1 to each",
    ),
    Row("crops: 3 too many", write_crop(33), EXTRACT, 0, "1 extracted, 7 already", all_but("c1")),
    Row(
        "crops: 4 too many",
        write_crop(34),
        EXTRACT,
        1,
        "has crop 34, .* 30 frames; at most 3 more .*correct",
    ),
    Row(
        "crop not numbered",
        write("crops/a.jpg", "x"),
        EXTRACT,
        1,
        "a.jpg: crops are named 00001.jpg",
    ),
    Row("media gone, status", delete(A), STATUS, 1, "stale: c0 .*: the media that it was "),
)

LABELS = (
    Row(
        "wrong header",
        set_label_row(1, "arousal,valence"),
        TRAIN,
        2,
        "first line must be 'valence,a",
    ),
    Row(
        "a word",
        set_label_row(6, "0.1,happy"),
        TRAIN,
        2,
        "c0.txt, line 6: expected two .*'0.1,happy'",
    ),
    Row(
        "out of range",
        set_label_row(6, "0.1,1.2"),
        TRAIN,
        2,
        r"c0.txt, line 6: .* outside \[-1, 1\]",
    ),
    Row(
        "one -5 of two",
        set_label_row(6, "-5,0.2"),
        TRAIN,
        2,
        "line 6: .* both columns must have it",
    ),
    Row("no row", write("c0.txt", "valence,arousal\n"), TRAIN, 2, "c0.txt has a header but no row"),
    Row(
        "no file", delete("c0.txt"), TRAIN, 2, r"c0.txt cannot be read \(No such file.*correct `lab"
    ),
    Row(
        "no text", write("c0.txt", b"\xff\xfe"), TRAIN, 2, r"c0.txt cannot be read \(it is no text"
    ),
    Row(
        "no labels",
        edit_clip(0, labels=None),
        TRAIN,
        2,
        "1 clips to train on have no labels .*; give",
    ),
    Row("3 rows more", write_n_rows(33), TRAIN, 0, "train-head: 1 epochs", the_store),
    Row(
        "4 rows more",
        write_n_rows(34),
        TRAIN,
        2,
        "34 label rows but 30 .* at most 3.*max_length_mismatch=N",
    ),
    Row(
        "4 rows fewer",
        write_n_rows(26),
        TRAIN,
        2,
        "26 label rows but 30 .* at most 3.*max_length_mismatch=N",
    ),
    Row(
        "allowed",
        write_n_rows(34),
        f"{TRAIN} max_length_mismatch=4",
        0,
        "train-head: 1 epochs",
        the_store,
    ),
    Row(
        "5, 4 allowed",
        write_n_rows(35),
        f"{TRAIN} max_length_mismatch=4",
        2,
        "35 label .* by at most 4",
    ),
    Row(
        "scored",
        write_n_rows(34, "c2.txt"),
        SCORE,
        2,
        "clip 'c2': 34 label rows .*max_length_mismatch=N",
    ),
    Row(
        "scored, allowed",
        write_n_rows(34, "c2.txt"),
        f"{SCORE} max_length_mismatch=4",
        0,
        "64 labels",
        the_store,
    ),
    Row(
        "less than none",
        unchanged,
        f"{TRAIN} max_length_mismatch=-1",
        2,
        "max_length_mismatch = -1: .* equal",
    ),
    Row(
        "constant",
        write_constant_labels("c0.txt"),
        TRAIN,
        0,
        "note: c0: every ann.* same label",
        the_store,
    ),
    Row(
        "constant, scored",
        write_constant_labels("c3.txt"),
        SCORE,
        0,
        "note: c3: every annotat",
        the_store,
    ),
)

MANIFEST = (
    Row(
        "none",
        unchanged,
        f"{EXTRACT} manifest=n",
        2,
        "no manifest at n; `vaflow index .* -o n` writ",
    ),
    Row("empty", write("m.jsonl", "\n\n"), EXTRACT, 2, "m.jsonl has no line; a manifest holds"),
    Row("no text", write("m.jsonl", b"\xff\xfe"), EXTRACT, 2, r"m.jsonl is no text file \(UTF-8\)"),
    Row(
        "half a line",
        truncate("m.jsonl", 0.9),
        EXTRACT,
        2,
        "line 4: not JSON .* must be one object",
    ),
    Row(
        "an id twice",
        write("m.jsonl", B + B),
        EXTRACT,
        2,
        "line 2: the id 'a' is already in line 1",
    ),
    Row(
        "absolute",
        edit_clip(2, video="/v.mp4"),
        EXTRACT,
        2,
        "line 3: video = '/v.mp4': .* be relative",
    ),
    Row(
        "escaping",
        edit_clip(1, labels="x/../../l"),
        EXTRACT,
        2,
        "line 2: labels = .* stay inside it",
    ),
    Row(
        "unsafe id",
        edit_clip(3, id="../c3"),
        EXTRACT,
        2,
        "line 4: the id '../c3' is not safe as a name",
    ),
    Row(
        "misspelt key",
        edit_clip(0, vidoe="v"),
        EXTRACT,
        2,
        "line 1: unknown key 'vidoe'.*is 'video'",
    ),
    Row(
        "unknown split",
        edit_clip(0, split="dev"),
        EXTRACT,
        2,
        "line 1: split = 'dev': .*'train', 'val'",
    ),
    Row(
        "split not there",
        unchanged,
        f"{SCORE} split=vall",
        2,
        "only of train, val; the nearest is 'v",
    ),
    Row(
        "no split",
        all_of(*(edit_clip(k, split=None) for k in range(4))),
        TRAIN,
        2,
        "none of its clips",
    ),
)

CONFIG = (
    Row(
        "no file", unchanged, "run train-head -c n.yaml", 2, r"n.yaml cannot be read \(No such file"
    ),
    Row(
        "not YAML",
        write("e.yaml", "store: [a\nrun: r\n"),
        EXTRACT,
        2,
        "e.yaml is not YAML: line 2, column 4: expected",
    ),
    Row(
        "a tab", write("e.yaml", "a:\n\t- b\n"), EXTRACT, 2, "e.yaml is not YAML: line 2, column 1:"
    ),
    Row("no keys", write("e.yaml", ""), EXTRACT, 2, "must hold keys and values"),
    Row("bytes", write("e.yaml", b"\xff\xfe"), EXTRACT, 2, "it is not UTF-8 text"),
    Row(
        "value not YAML",
        unchanged,
        f"{EXTRACT} 'store={{'",
        2,
        "the value of 'store={' is not YAML: l",
    ),
    Row(
        "unknown key",
        unchanged,
        f"{EXTRACT} stroe=x",
        2,
        "unknown key 'stroe'; the nearest .* 'store'",
    ),
    Row(
        "unknown kind",
        edit_encoder(0, kind="clap"),
        EXTRACT,
        2,
        "kinds are clip, ast, .*the nearest is 'clip'",
    ),
    Row(
        "unknown head",
        unchanged,
        f"{TRAIN} head.kind=dsp",
        2,
        "head.kind = 'dsp': .*nearest is 'dspl'",
    ),
    Row(
        "kind missing",
        unchanged,
        f"{EXTRACT} 'encoders=[{{hop_s: 1}}]'",
        2,
        "'encoders.0.kind' is miss",
    ),
    Row(
        "unknown data set",
        unchanged,
        "index affwild . -o x.jsonl",
        2,
        "the nearest is 'affwild2'",
    ),
)

FLIPPED = flip_bit("s.zarr/clip-*/c0/values/c/0/0")
STORE = (
    Row(
        "none",
        unchanged,
        f"{TRAIN} store=n.zarr",
        2,
        "no feature store at n.zarr; `vaflow run extr",
    ),
    Row(
        "a file", unchanged, f"{EXTRACT} store=m.jsonl", 2, "m.jsonl exists and is no feature store"
    ),
    Row(
        "below a file", unchanged, f"{EXTRACT} store=m.jsonl/s", 2, "m.jsonl is no folder; give ano"
    ),
    Row(
        "another folder",
        unchanged,
        f"{EXTRACT} store=crops",
        2,
        "crops exists and is no feature st",
    ),
    Row("on the web", unchanged, f"{EXTRACT} store=gs://b/s", 2, "only folders of this machine"),
    Row(
        "later store",
        set_attributes("s.zarr", version=2),
        EXTRACT,
        2,
        "of version 2, this vaflow reads",
    ),
    Row(
        "later set",
        set_attributes("s.zarr/clip-*", mask=1),
        EXTRACT,
        2,
        "unknown key 'mask'.*; use the v",
    ),
    Row(
        "later set, status",
        set_attributes("s.zarr/clip-*", mask=1),
        STATUS,
        2,
        "unknown key 'mask'",
    ),
    Row(
        "later record",
        set_attributes("s.zarr/clip-*/c0", mask=1),
        EXTRACT,
        2,
        r"another .* \(mask\); us",
    ),
    Row(
        "later record, train",
        set_attributes("s.zarr/ast-*/c0", mask=1),
        TRAIN,
        2,
        r"another .* \(mask\)",
    ),
    Row(
        "set lost its attributes",
        delete("s.zarr/clip-*/zarr.json"),
        EXTRACT,
        0,
        "nothing to encode",
        both_sets,
    ),
    Row(
        "record half written",
        delete("s.zarr/clip-*/c0/zarr.json"),
        EXTRACT,
        0,
        "1 extracted",
        all_but("c0"),
    ),
    Row(
        "record lost a chunk",
        delete("s.zarr/clip-*/c0/values/c/0/0"),
        EXTRACT,
        0,
        "1 extracted",
        all_but("c0"),
    ),
    Row(
        "commit cut",
        truncate("s.zarr/clip-*/c0/zarr.json"),
        STATUS,
        1,
        "corrupt: c0 .* is damaged .*extr",
    ),
    Row(
        "a flipped bit",
        all_of(delete("s.zarr.work/banks"), FLIPPED),
        f"{TRAIN} force=true",
        1,
        DAMAGED,
    ),
    Row("flipped since it was packed", FLIPPED, f"{TRAIN} force=true", 0, "1 epochs", the_store),
    Row(
        "another spec",
        unchanged,
        f"{SCORE} store=new.zarr",
        2,
        "trained on clip-.* and ast-.*; extr",
    ),
)


def start_ensemble(folder: Path) -> None:
    """Leave what an ensemble leaves that is killed before its first member is trained."""
    (folder / "folds").mkdir()
    (folder / "folds" / "inputs").symlink_to(folder)


break_ensemble_record = all_of(start_ensemble, write("folds/ensemble.json", "{"))

RUN = (
    Row(
        "texts into a run",
        unchanged,
        "run zero-shot -c e.yaml output=r",
        2,
        "r holds files that do not belong to zero-shot; give another folder",
    ),
    Row(
        "texts without a folder",
        unchanged,
        "run zero-shot -c e.yaml",
        2,
        "the key 'output' is missing",
    ),
    Row(
        "texts without labels",
        all_of(edit_clip(0, labels=None), edit_clip(1, labels=None)),
        "run zero-shot -c e.yaml output=z match=train",
        2,
        "no row of the split 'train' is annotated; give its clips labels, or match = published",
    ),
    Row(
        "a file", unchanged, f"{TRAIN} run=m.jsonl", 2, "run = m.jsonl: m.jsonl is no folder; give"
    ),
    Row(
        "below a file", unchanged, f"{TRAIN} run=m.jsonl/r", 2, "m.jsonl is no folder; give another"
    ),
    Row(
        "another folder",
        unchanged,
        f"{TRAIN} run=crops",
        2,
        "crops holds files that do not belong to a run",
    ),
    Row(
        "no head",
        delete("r/head.safetensors"),
        SCORE,
        2,
        "there is no trained head at r.*; run train",
    ),
    Row(
        "half a head",
        truncate("r/head.safetensors"),
        SCORE,
        2,
        "is not a head of vaflow, or is damaged",
    ),
    Row(
        "half a head, again",
        truncate("r/head.safetensors"),
        TRAIN,
        0,
        "train-head: 1 epochs",
        the_store,
    ),
    Row(
        "later head",
        set_head_format("vaflow-head-2"),
        SCORE,
        2,
        "of format 'vaflow-head-2', this vaflow re",
    ),
    Row(
        "later head, train",
        set_head_format("vaflow-head-2"),
        TRAIN,
        2,
        "give another folder, or .* force=tr",
    ),
    Row(
        "config cut",
        write("r/config.yaml", "a: ["),
        SCORE,
        2,
        "not a config of train-head: line 1, col",
    ),
    Row(
        "later config",
        write("r/config.yaml", "run: r\nnew: 1\n"),
        SCORE,
        2,
        "unknown key 'new'.*train",
    ),
    Row(
        "other table", write("r/clips.json", '{"val": {"clips": [1]}}'), SCORE, 0, "CCC", the_store
    ),
)

ENSEMBLE = (
    Row("a head's folder", unchanged, f"{FOLDS} run=r", 2, "run = r holds a single head; give ano"),
    Row(
        "another folder", unchanged, f"{FOLDS} run=crops", 2, "crops holds files that do not belong"
    ),
    Row(
        "a file", unchanged, f"{FOLDS} run=m.jsonl", 2, "run = m.jsonl: m.jsonl is no folder; give"
    ),
    Row("one fold", unchanged, f"{FOLDS} folds=1", 2, "folds = 1: .*greater than or equal to 2"),
    Row("21 folds", unchanged, f"{FOLDS} folds=21", 2, "folds = 21: .*less than or equal to 20"),
    Row(
        "too few people", unchanged, f"{FOLDS} folds=5", 2, "the clips show 4 subjects, and a fold"
    ),
    Row(
        "one person",
        all_of(*(edit_clip(k, subject="a") for k in range(4))),
        FOLDS,
        2,
        "folds = 2: the clips show 1 subject, .*; give fewer folds, or clips of more people",
    ),
    Row("over what", unchanged, f"{FOLDS} over=test", 2, "over = 'test': .*'train' or 'train.val'"),
    Row(
        "no labels",
        edit_clip(2, labels=None),
        FOLDS,
        2,
        "1 clips to train on have no labels .*; give",
    ),
    Row(
        "begun",
        start_ensemble,
        f"{SCORE} run=folds",
        2,
        "in folds is not finished; run train-ensemble ag",
    ),
    Row(
        "begun, a head",
        start_ensemble,
        f"{TRAIN} run=folds",
        2,
        "run = folds holds an ensemble; give ano",
    ),
    Row(
        "no record",
        break_ensemble_record,
        f"{SCORE} run=folds",
        2,
        "ensemble.json is not JSON .*train-ens",
    ),
)

SENT = "image_location,valence,arousal\nc3/00001.jpg,0.1,-0.2\nc3/00002.jpg,0.3,-0.4\n"
HELD = "image_location,valence,arousal\n" + "".join(f"c3/{k:05d}.jpg,\n" for k in range(1, 34))
CHECK = "check-submission sent.txt --sample asked.txt"
SUBMIT = f"{SCORE} split=test sample=asked.txt"


def submission(content: str | bytes, asked: str | bytes = SENT) -> Make:
    """Write a submission and the sample that it is compared with."""
    return all_of(write("sent.txt", content), write("asked.txt", asked))


def sample(content: str, *, clip: int = 3) -> Make:
    """Write a sample, and make this clip the test split."""
    return all_of(write("asked.txt", content), edit_clip(clip, split="test"))


SUBMISSION = (
    Row(
        "as asked",
        submission(SENT),
        CHECK,
        0,
        "nothing is wrong; compared with the 2 rows of 1 clip",
    ),
    Row(
        "none", write("asked.txt", SENT), CHECK, 2, "sent.txt cannot be read .No such file.*; give"
    ),
    Row(
        "a folder",
        submission(SENT),
        f"{CHECK[:16]} r --sample asked.txt",
        2,
        "r cannot .*Is a direct",
    ),
    Row("no sample", write("sent.txt", SENT), CHECK, 2, "asked.txt cannot be read .No such file"),
    Row(
        "sample no text", submission(SENT, b"\xff"), CHECK, 2, "asked.txt is no text in UTF-8; give"
    ),
    Row(
        "sample a manifest",
        submission(SENT, B),
        CHECK,
        2,
        "asked.txt, line 1: a sample begins with",
    ),
    Row(
        "sample empty",
        submission(SENT, SENT[:31]),
        CHECK,
        2,
        "asked.txt has a header but no row; give",
    ),
    Row(
        "sample spoiled",
        submission(SENT, f"{SENT}c3\n"),
        CHECK,
        2,
        "line 4: 'c3' is no .*counted fr",
    ),
    Row(
        "sample twice",
        submission(SENT, SENT + SENT[31:]),
        CHECK,
        2,
        "line 4: 'c3/00001.jpg' stands",
    ),
    Row("bytes", submission(b"\xff"), CHECK, 1, "encoding: line 1: byte 0xff; .*in UTF-8: save it"),
    Row("0 bytes", submission(""), CHECK, 1, "empty: 0 bytes; .*\n.* 1 problem; compared with"),
    Row(
        "two at once",
        submission(SENT.replace("0.1", "-5").replace("0.4", "nan")),
        CHECK,
        1,
        "finite: line 3: arousal = '-nan'; .*\nrange: line 2: valence = '-5'; .*\n.* 2 problems",
    ),
    Row(
        "cut",
        submission(SENT[:53]),
        CHECK,
        1,
        "count: 1 rows, .*has 2; .*\nmissing: 'c3/00002.jpg'",
    ),
    Row("cut in a row", submission(SENT[:60]), CHECK, 1, "columns: line 3: 1 columns in 'c3/0000'"),
    Row(
        "no sample to score",
        edit_clip(3, split="test"),
        SUBMIT,
        2,
        "asked.txt cannot be read .No suc",
    ),
    Row("another clip", sample(HELD, clip=2), SUBMIT, 2, r"of 1 clip without a prediction \(c3\);"),
    Row("2 rows for 30 frames", sample(SENT), SUBMIT, 2, r"c3: at row 2 and frame 30\); at most 3"),
    Row("33 rows for 30", sample(HELD), SUBMIT, 0, r"note: .* 3 rows .*\(c3: 3\)", the_store),
    Row("34 rows for 30", sample(HELD + "c3/00034.jpg,\n"), SUBMIT, 2, "at row 34 and frame 30"),
    Row(
        "not compared",
        edit_clip(3, split="test"),
        f"{SCORE} split=test",
        0,
        "not compar",
        the_store,
    ),
    Row(
        "not of test", unchanged, f"{SCORE} sample=asked.txt force=true", 0, "left aside", the_store
    ),
)

TABLE = {"media": MEDIA, "labels": LABELS, "manifest": MANIFEST, "config": CONFIG}
TABLE |= {"store": STORE, "run": RUN, "ensemble": ENSEMBLE, "submission": SUBMISSION}
ROWS = [pytest.param(row, id=f"{kind}: {row.name}") for kind in TABLE for row in TABLE[kind]]


@pytest.fixture
def folder(good_set, tmp_path, monkeypatch) -> Path:
    shutil.copytree(good_set, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.parametrize("row", ROWS)
def test_bad_input(row, folder, capsys):
    assert_row(row, folder, capsys)


def assert_row(row: Row, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Check the exit status of a row's command, its message, and what it leaves unchanged."""
    if "another spec" in row.name:
        assert main(shlex.split(f"{EXTRACT} store=new.zarr encoders.1.hop_s=0.32")) == 0
        shutil.rmtree(next(folder.glob("new.zarr/clip-*")))
    row.make(folder)
    was = before(folder)
    capsys.readouterr()
    status = main(shlex.split(row.command))
    out, error = capsys.readouterr()
    assert status == row.status, error
    assert re.search(row.says, out + error), out + error
    assert "Traceback" not in error
    if status == 2:
        assert error.startswith("vaflow: ")
        assert len(error.splitlines()) == 1
    row.stays(was)


# Encoders -----------------------------------------------------------------------------------------


def save_clip(**vision: int) -> Make:
    """Save the weights of a CLIP of other sizes, and use them."""

    def make(folder: Path) -> None:
        other = {**TINY_CLIP, "vision_cfg": {**TINY_CLIP["vision_cfg"], **vision}}
        save_file(CLIP(**other).state_dict(), folder / "w.safetensors")

    return all_of(make, edit_encoder(0, pretrained="w.safetensors"))


def copy_ast(folder: Path, tiny_ast: str) -> Path:
    """Copy the AST into the folder, and use the copy."""
    shutil.copytree(tiny_ast, folder / "a")
    edit_encoder(1, model="a")(folder)
    return folder / "a"


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def small_vit() -> nn.Module:
    from transformers import ViTConfig, ViTModel

    return ViTModel(ViTConfig(**SMALL, intermediate_size=64, image_size=32))


def small_wav2vec2() -> nn.Module:
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    layers = {"conv_dim": (8,), "conv_kernel": (3,), "conv_stride": (2,)}
    config = Wav2Vec2Config(**SMALL, **layers, intermediate_size=64, num_feat_extract_layers=1)
    return Wav2Vec2Model(config)


OTHERS = {"vit": small_vit, "wav2vec2": small_wav2vec2}

ENCODERS = (
    Row("clip wider", save_clip(width=128), EXTRACT, 2, "no weights of 'tiny-clip' .*; give"),
    Row("clip deeper", save_clip(layers=3), EXTRACT, 2, "no weights of 'tiny-clip' .*; give"),
    Row("clip shallower", save_clip(layers=1), EXTRACT, 2, "no weights of 'tiny-clip' .*; give"),
    Row(
        "a text",
        all_of(write("w.safetensors", "hi"), edit_encoder(0, pretrained="w.safetensors")),
        EXTRACT,
        2,
        "no weights",
    ),
    Row(
        "a pickle",
        all_of(write("w.pt", "hi"), edit_encoder(0, pretrained="w.pt")),
        EXTRACT,
        2,
        "w.pt is no safetensors file; .*weights_sha256=[0-9a-f]{64}",
    ),
    Row(
        "no such model",
        edit_encoder(0, model="ViT-B-61"),
        EXTRACT,
        2,
        "no such model; the nearest a",
    ),
    Row(
        "model of no sizes",
        all_of(
            write("q.json", '{"embed_dim": 1, "vision_cfg": 5}'), edit_encoder(0, model="q.json")
        ),
        EXTRACT,
        2,
        "it lacks vision_cfg.image_size, text_cfg.vocab",
    ),
    Row(
        "clip offline",
        edit_encoder(0, model="ViT-B-16-quickgelu", pretrained="openai"),
        EXTRACT,
        2,
        "They are open_clip_model.safetensors of https://huggingface.co/timm/vit_base_patch16_clip_"
        "224.openai: fetch .*encoders.0.pretrained=FILE",
    ),
    Row(
        "ast offline",
        edit_encoder(1, model="MIT/ast"),
        EXTRACT,
        2,
        "config.json, preprocessor_config.json, model.safetensors of https://huggingface.co/MIT/ast"
        ": fetch .*encoders.1.model=FOLDER",
    ),
)


@pytest.mark.parametrize("row", ENCODERS, ids=lambda row: row.name)
def test_encoders_that_do_not_fit_are_refused_before_anything_is_written(
    row, folder, capsys, monkeypatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert_row(replace(row, command=f"{row.command} store=new.zarr"), folder, capsys)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 64}, "lacks weights of the AST in a/config.json, or has them in another"),
        ({"num_hidden_layers": 3}, "lacks weights of the AST .*, layers.2"),
        (
            {"num_hidden_layers": 1},
            "has weights that the AST in a/config.json does not have, .*s.1",
        ),
        ({"hidden_size": "many"}, "a/config.json is no config of an AST .*expected int, got str"),
        ([], "a/config.json holds no JSON object"),
        ("vit", "a/config.json is the config of a 'vit', not of an AST"),
        ("wav2vec2", "a/config.json is the config of a 'wav2vec2', not of an AST"),
    ],
    ids=str,
)
def test_a_folder_without_a_valid_ast_is_refused_before_anything_is_written(
    change, message, folder, tiny_ast, capsys
):
    place = copy_ast(folder, tiny_ast)
    if isinstance(change, str):
        OTHERS[change]().save_pretrained(place)
    else:
        fields = json.loads((place / "config.json").read_text())
        changed = {**fields, **change} if isinstance(change, dict) else change
        (place / "config.json").write_text(json.dumps(changed))
    capsys.readouterr()
    row = Row("", unchanged, f"{EXTRACT} store=new.zarr", 2, message)
    assert_row(row, folder, capsys)


# Long, and indexed --------------------------------------------------------------------------------


def test_a_long_manifest_is_read_to_its_first_bad_line(folder, capsys):
    n_lines = 20_000
    lines = (
        f'{{"id": "c{k}", "video": "videos/{k}.mp4", "split": "train"}}\n' for k in range(n_lines)
    )
    (folder / "m.jsonl").write_text("".join(lines) + '{"id": "x", "video": "/x"}\n')
    row = Row("", unchanged, EXTRACT, 2, f"line {n_lines + 1}: video = '/x': .* must be relative")
    assert_row(row, folder, capsys)


def test_a_clip_whose_rows_are_far_from_its_frames_is_left_out_of_the_index_unless_allowed(
    folder, capsys
):
    for name, n in (("near", 33), ("far", 34)):
        place = folder / "set" / "VA_Estimation_Challenge" / "Train_Set"
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "c0.mp4", folder / "set" / f"{name}.mp4")
        write_n_rows(n, f"set/VA_Estimation_Challenge/Train_Set/{name}.txt")(folder)
    index = "index affwild2 set -o i.jsonl"
    written = all_but("i.jsonl")
    says = r"left out: far: 34 rows, but 30 frames \(\+4\); at most 3 .*--max-length-mismatch N"
    for row in (
        Row("", unchanged, index, 1, says, written),
        Row("", unchanged, f"{index} --max-length-mismatch 4", 0, "index: 2 clips", written),
        Row("", unchanged, f"{index} --max-length-mismatch -1", 2, "mismatch = -1: .*equal to 0"),
        Row("", write_constant_labels("set/VA_Estimation_Challenge/Train_Set/near.txt"), index, 1,
            "note: near: every row has the same label; is it a placeholder", written),
    ):  # fmt: skip
        assert_row(row, folder, capsys)


# Disks and limits ---------------------------------------------------------------------------------

NO_MOUNTS = "a process may not have its own mounts here"


@dataclass(frozen=True)
class Ended:
    """A copy of the good set after a scenario, and what its commands ended with."""

    folder: Path
    was: Before
    commands: list[tuple[int, str]]


@pytest.fixture(scope="module")
def limited(good_set, tmp_path_factory) -> dict[str, Ended]:
    """The scenarios of full disks and limits, in one process: it takes seconds to start.

    Those that need mounts are left out if a process may not have its own.
    """
    read_only = tmp_path_factory.mktemp("read-only") / "copy"
    steps = {
        "file size": [f"{EXTRACT} store=new.zarr", f"{TRAIN} run=new"],
        "full disk": [
            "!mkdir disk && mount -t tmpfs -o size=200k tmpfs disk",
            f"{EXTRACT} store=disk/s.zarr",
            "status disk/s.zarr m.jsonl",
            f"{TRAIN} store=disk/s.zarr run=new",
            '!mount -o remount,size=50m disk && test -z "$(ls disk/s.zarr.work/staging)"',
            f"{EXTRACT} store=disk/s.zarr",
            f"{EXTRACT} store=disk/s.zarr",
            "!umount disk && mount -t tmpfs -o size=4k tmpfs disk",
            f"{TRAIN} run=disk/r",
        ],
        "read-only": [
            "!mount --bind . . && mount -o remount,ro,bind .",
            f"{EXTRACT} store={read_only}/s.zarr",
            f"{TRAIN} run={read_only}/r",
            f"{SCORE} run={read_only}/r",
            f"{TRAIN} run={read_only}/r train.seed=3",
            f"{SCORE} run={read_only}/r force=true",
            f"{EXTRACT} store={read_only}/s.zarr encoders.1.hop_s=0.32",
        ],
    }
    if not can_mount():
        del steps["full disk"], steps["read-only"]
    scenarios = []
    for name in steps:
        copy = read_only if name == "read-only" else tmp_path_factory.mktemp("limited") / "copy"
        shutil.copytree(good_set, copy)
        if copy == read_only:
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(copy)
                assert (
                    main(shlex.split(TRAIN)) == 0
                )  # its config names the copy's paths from now on
        limit_bytes = 512 if name == "file size" else None
        scenarios.append(Scenario(copy, steps[name], limit_bytes))
    was = [before(scenario.folder) for scenario in scenarios]
    ends = run_in_a_process(scenarios)
    return {
        name: Ended(scenario.folder, *found)
        for name, scenario, *found in zip(steps, scenarios, was, ends, strict=True)
    }


def test_a_full_disk_is_one_line_and_the_rest_resumes_when_there_is_room(limited):
    if "full disk" not in limited:
        pytest.skip(f"{NO_MOUNTS}; the limit on a file's size stands for it")
    full, half, after, missing, again, run = limited["full disk"].commands
    assert full[0] == 1
    assert re.fullmatch(
        r"vaflow: disk/s.zarr/\S+/c\d: No space left on device; make room .* what is done is k.*\n",
        full[1],
    )
    assert half[0] == 1
    assert re.search(r"\d complete", half[1])
    assert "corrupt" not in half[1]
    assert (after[0], missing[0], again[0]) == (1, 0, 0)
    assert re.search(r"[1-7] extracted, [1-7] already there, 0 failed", missing[1])
    assert "nothing to encode" in again[1]
    assert run[0] == 1
    assert re.fullmatch(r"vaflow: \S*disk/r\S*: No space left on device; make room .*\n", run[1])


def test_a_file_that_may_not_grow_is_one_line(limited, monkeypatch):
    ended = limited["file size"]
    shared = "the memory shared with the decoding process"  # the limit applies to it, too
    for (status, said), what in zip(ended.commands, (shared, r"\S*new\S*"), strict=True):
        assert status == 1
        assert re.fullmatch(rf"vaflow: {what}: File too large; .* `ulimit -f`.* is kept\n", said)
    monkeypatch.chdir(ended.folder)
    shutil.rmtree("new")
    all_but("new.zarr", "new.zarr.work")(ended.was)
    assert main(shlex.split(f"{EXTRACT} store=new.zarr")) == 0


def test_a_read_only_store_and_run_serve_what_is_there_and_refuse_the_rest(limited):
    if "read-only" not in limited:
        pytest.skip(f"{NO_MOUNTS}, and root may write where rights forbid it")
    *served, new, score, lacking = limited["read-only"].commands
    assert [status for status, _ in served] == [0, 0, 0]
    assert [status for status, _ in (new, score, lacking)] == [1, 1, 1]
    assert re.fullmatch(r"vaflow: run = .*/r cannot be written to .*; give another .*\n", new[1])
    assert re.fullmatch(r"vaflow: \S*clips.json: Read-only .*: give a path .*\n", score[1])
    assert re.fullmatch(r"vaflow: store = .* cannot be written to .*; give .*\n", lacking[1])
    everything(limited["read-only"].was)


# Ctrl-C -------------------------------------------------------------------------------------------

STARTED = """
import os, signal, sys
from flows.__main__ import run

def reached():
    print("reached", flush=True)

def on_signal_set(*handler):
    set_handler(*handler)
    signal.signal = set_handler
    reached()

def on_import(event, arguments):
    if event == "import" and arguments[0] == moment:
        try:
            reached()
            signal.pause()
        except KeyboardInterrupt:
            os.abort()  # as torch does if that is raised where its C++ code calls Python

set_handler, moment = signal.signal, sys.argv.pop(1)
if moment == "handler set":  # before that, Ctrl-C is Python's own affair
    signal.signal = on_signal_set
else:
    sys.addaudithook(on_import)
sys.exit(run())
"""
MORE_CLIPS = 20  # enough that the work goes on while it is interrupted


@contextmanager
def started(folder: Path, command: str, moment: str) -> Iterator[subprocess.Popen[str]]:
    """The command in its own process group, after it has reached the moment."""
    child = subprocess.Popen(
        [sys.executable, "-c", STARTED, moment, *shlex.split(command)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "reached\n"
        yield child
    finally:
        if child.poll() is None:  # the test has failed
            os.killpg(child.pid, signal.SIGKILL)
            child.communicate()


def interrupt(child: subprocess.Popen[str], send: Callable[[int, int], None]) -> str:
    """Send SIGINT; returns the stderr of the command, which must end with status 130."""
    send(child.pid, signal.SIGINT)
    _, error = child.communicate(timeout=120)
    assert child.returncode == 130, error
    return error


SAID = "interrupted; what is done is kept, the rest resumes"
EXTRACT_NEW = f"{EXTRACT} store=new.zarr"


def only_sound(folder: Path) -> None:
    """Leave CLIP out of e.yaml: a process takes seconds to import open_clip."""
    config = yaml.safe_load((folder / "e.yaml").read_text())
    del config["encoders"][0]
    (folder / "e.yaml").write_text(yaml.safe_dump(config))


@pytest.mark.parametrize("module", ["flows.command.run", "torch._C"])
def test_ctrl_c_while_a_module_is_imported_is_exit_130(folder, module):
    was = before(folder)
    with started(folder, f"{TRAIN} run=new", module) as child:
        assert interrupt(child, os.killpg) == f"{SAID}\n"
    everything(was)


def test_ctrl_c_in_an_extraction_is_exit_130_and_the_rest_resumes(folder, capsys):
    only_sound(folder)
    for k in range(MORE_CLIPS):
        line_of = (folder / "m.jsonl").read_text().splitlines()[k % 4]
        with (folder / "m.jsonl").open("a") as lines:
            lines.write(line_of.replace(f'"c{k % 4}"', f'"d{k}"') + "\n")

    with started(folder, EXTRACT_NEW, "handler set") as child:
        while not list(folder.glob("new.zarr/*/*/zarr.json")):
            assert child.poll() is None, child.communicate()
            time.sleep(0.01)
        assert interrupt(child, os.killpg) == f"{SAID}\n"  # as a terminal, to its processes, too

    main(["status", "new.zarr", "m.jsonl"])
    assert "corrupt" not in capsys.readouterr().out
    for name in ("staging", "locks"):
        assert not list((folder / "new.zarr.work" / name).iterdir())
    assert main(shlex.split(EXTRACT_NEW)) == 0
    assert main(["status", "new.zarr", "m.jsonl"]) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_training_that_is_interrupted_says_what_is_saved_in_lines_of_json(folder, number):
    endless = "train.epochs=100000 train.patience=100000 head.prompts=null --log-format json"
    with started(folder, f"{TRAIN} run=new {endless}", "handler set") as child:
        assert child.stderr is not None
        while "epoch 1: val mean CCC" not in (logged := child.stderr.readline()):
            assert logged
        child.send_signal(number)  # as `kill`
        _, error = child.communicate(timeout=120)
    *_, kept, last = (json.loads(line)["message"] for line in error.splitlines())
    assert child.returncode == 128 + number
    assert last == f"{ENDED[number]}; what is done is kept, the rest resumes"

    state = torch.load(folder / "new/training/last.pt", weights_only=True)
    n, step = len(state["epochs"]), state["step"]
    after = f"step {step} of {state['n_steps']} of epoch {n + 1}" if step else f"epoch {n}"
    ended = "1 epoch has" if n == 1 else f"{n} epochs have"
    where = "new/training/last.pt: the same command goes on from there"
    assert kept == f"{ended} ended; the state after {after} is saved in {where}"
    assert len((folder / "new/training/metrics.jsonl").read_text().splitlines()) == n
    assert main(shlex.split(f"{TRAIN} run=new")) == 0
