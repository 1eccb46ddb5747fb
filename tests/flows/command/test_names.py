"""Names that file systems have, from the manifest to all that shows them."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from plotly.offline import get_plotlyjs
from prefect.client.orchestration import get_client

from features.clip import Clip
from features.encoders.clip import ClipConfig
from features.errors import Incomplete
from features.manifest.manifest import read_manifest, write_manifest
from features.store.feature_store import FeatureStore
from flows.command.main import main
from flows.extract import extract_features
from models.runs.folder import REPORT
from tests.helpers.bad_input import write_labels
from tests.helpers.small_media import draw_frames, tone, write_video
from tests.helpers.small_stores import SOURCE, SPEC, make_track

pytestmark = pytest.mark.slow

NAMES = (
    "Screen Recording at 4.05.12\u202fPM",  # as macOS writes it
    "a\u202egnp",  # a terminal shows the end backwards
    "\U0001f600 smile",
    "e\u0301te\u0301",
    "back\\slash",
    "caf\udce9",  # in Latin-1: the byte E9
    "\u2028line",
)
BAD = "bad\u202e\u202f\udce9.mp4"
SHOWN_BAD = r"bad\u202e\u202f\udce9.mp4"
FOLDER, SHOWN_FOLDER = "data \u202f\udcff", r"data \u202f\udcff"
N_FRAMES = 20
HEAD = 'head={"kind": "dspl", "width": 8}'
TRAIN = 'train={"epochs": 1, "window": 10, "stride": 5, "threads": 1, "device": "cpu"}'


def write_clips(folder: Path) -> None:
    """Clips c0 to c6 in m.jsonl, and bad.jsonl with one more, whose video is a GIF."""
    folder.mkdir()
    rng, clips = np.random.default_rng(0), []
    for k, name in enumerate(NAMES):
        made = write_video(
            folder / f"{k}.mp4",
            time_s=np.arange(N_FRAMES) / 25,
            sound=tone(0.8, k),
            frames=draw_frames(N_FRAMES, k),
        )
        made.rename(folder / f"{name}.mp4")
        write_labels(folder / f"{name}.txt", rng.uniform(-1, 1, (N_FRAMES, 2)))
        split = "train" if k % 2 else "val"
        clips.append(Clip(id=f"c{k}", split=split, video=f"{name}.mp4", labels=f"{name}.txt"))
    (folder / BAD).write_bytes(b"GIF89a" + bytes(100))
    write_manifest(folder / "m.jsonl", clips)
    write_manifest(folder / "bad.jsonl", [*clips, Clip(id="bad", video=BAD)])


@pytest.fixture(scope="module")
def encoders(tiny_clip, tiny_ast) -> str:
    ast = {"kind": "ast", "model": tiny_ast, "hop_s": 0.64}
    return json.dumps([{"kind": "clip", **tiny_clip}, ast])


@pytest.fixture(scope="module")
def folder(tmp_path_factory, encoders) -> Path:
    """The clips, their store s.zarr and a trained run r."""
    folder = tmp_path_factory.mktemp("names") / FOLDER
    write_clips(folder)
    words = [*keys(folder, encoders), f"run={folder / 'r'}", HEAD, TRAIN]
    assert main(["run", "pipeline", *words]) == 0
    assert main(["run", "extract-features", *keys(folder, encoders, "bad.jsonl")]) == 1
    return folder


def keys(folder: Path, encoders: str, manifest: str = "m.jsonl") -> list[str]:
    return [
        f"manifest={folder / manifest}",
        f"store={folder / 's.zarr'}",
        f"encoders={encoders}",
        "frames=whole",
        "device=cpu",
    ]


def shown(capfd, *words: object, status: int = 0) -> str:
    """What a command prints, all of it printable."""
    capfd.readouterr()
    assert main([str(word) for word in words]) == status
    captured = capfd.readouterr()
    text = captured.out + captured.err
    assert text.replace("\n", "").isprintable()
    return text


def test_every_clip_is_extracted_trained_on_and_scored(folder):
    store = FeatureStore.open(folder / "s.zarr")
    assert len(store.feature_sets()) == 2
    for name in store.feature_sets():
        assert list(store.clip_ids(name)) == [f"c{k}" for k in range(len(NAMES))]
    assert (folder / "r" / "head.safetensors").is_file()
    assert [clip.video for clip in read_manifest(folder / "m.jsonl").clips] == [
        f"{name}.mp4" for name in NAMES
    ]


def test_the_names_are_escaped_wherever_the_command_prints_them(folder, encoders, capfd):
    store, bad = folder / "s.zarr", folder / "bad.jsonl"
    metrics = folder / "x.prom"
    words = [*keys(folder, encoders, "bad.jsonl"), "--metrics", metrics]
    text = shown(capfd, "run", "extract-features", *words, status=1)
    assert f"{SHOWN_FOLDER}/{SHOWN_BAD} is a GIF file" in text
    assert 'state="quarantined"} 1.0' in metrics.read_text()
    assert SHOWN_BAD in shown(capfd, "status", store, bad, status=1)
    assert SHOWN_BAD in shown(capfd, "why", store, "bad", "--manifest", bad, status=1)
    assert f"verify: {store.parent.parent}/{SHOWN_FOLDER}/s.zarr" in shown(capfd, "verify", store)
    assert SHOWN_FOLDER in shown(capfd, "gc", store)
    assert "c5" in shown(capfd, "ls", store)
    assert "provenance" in shown(capfd, "info", store, "c5")
    assert SHOWN_FOLDER in shown(capfd, "report", folder / "r")
    missing = shown(capfd, "status", store, folder / "no\nvaflow: forged.jsonl", status=2)
    assert r"no\nvaflow: forged.jsonl; `vaflow index" in missing
    assert missing.count("\n") == 1


def test_json_stays_json(folder, capfd):
    text = shown(capfd, "status", folder / "s.zarr", folder / "bad.jsonl", "--json", status=1)
    assert text.isascii()
    bad = [each["reason"] for each in json.loads(text)["clips"] if each["clip"] == "bad"]
    assert len(bad) == 2
    assert all(SHOWN_BAD in reason for reason in bad)


def test_the_report_is_printable(folder):
    page = (folder / "r" / REPORT).read_text(encoding="utf-8").replace(get_plotlyjs(), "")
    assert page.replace("\n", "").replace("\t", "").isprintable()
    assert SHOWN_FOLDER in page


def test_a_store_is_exported_and_imported(folder, capfd):
    output, other = folder / "x\udce9\u202f.h5", folder / "other\udce9.zarr"
    text = shown(capfd, "export", folder / "s.zarr", output)
    assert rf"{SHOWN_FOLDER}/x\udce9\u202f.h5" in text
    assert "14 records written" in shown(capfd, "import-h5", output, other)


def test_a_foreign_store_cannot_forge_a_line(tmp_path, capfd):
    forged = "ok\nvaflow: nothing is wrong\x1b[2K\u202e\udce9"
    store = FeatureStore.open(tmp_path / "s.zarr", create=True)
    store.write(SPEC, "a", make_track(), source=SOURCE, provenance={"reason": forged}, note=forged)
    for words in (["info", "a"], ["why", "a"], ["stats"]):
        text = shown(capfd, words[0], tmp_path / "s.zarr", *words[1:])
        assert not [line for line in text.splitlines() if line.startswith("vaflow: ")]
    assert r"\x1b[2K\u202e\udce9" in shown(capfd, "info", tmp_path / "s.zarr", "a")


def test_words_on_the_command_line_are_escaped_in_the_usage_error(capfd):
    with pytest.raises(SystemExit) as raised:
        main(["ls", "store", "extra\u202e\nvaflow: forged"])
    assert raised.value.code == 2
    assert r"unrecognized arguments: extra\u202e\nvaflow: forged" in capfd.readouterr().err


def test_a_flow_logs_the_names_to_its_server(server, folder, tiny_clip, tmp_path):
    store = tmp_path / "s.zarr"
    (tmp_path / "link").symlink_to(folder)  # Prefect's own parameters must be UTF-8
    with pytest.raises(Incomplete, match="is a GIF file"):
        extract_features(
            manifest=tmp_path / "link" / "bad.jsonl",
            store=str(store),
            encoders=(ClipConfig(**tiny_clip),),
            only=("bad", "c0"),
            frames="whole",
            device="cpu",
        )
    logging.getLogger("prefect.flow_runs").handlers[0].flush()
    with get_client(sync_client=True) as client:
        [run] = [r for r in client.read_flow_runs() if r.parameters.get("store") == str(store)]
        assert run.state is not None
        assert SHOWN_BAD in (run.state.message or "")
        messages = [log.message for log in client.read_logs(limit=200)]
    assert any(SHOWN_BAD in message for message in messages)
