"""The Python API, its page in the documentation, and the notebook there."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

import vaflow
from features.errors import InputError
from features.manifest.manifest import read_manifest, write_manifest
from features.store.feature_store import FeatureStore
from models.heads.dspl import DsplConfig
from models.plots.svg import PREDICTED, TRUTH
from models.runs.folder import PREDICTIONS
from models.runs.run_split import open_split
from tests.helpers.doc_blocks import blocks
from tests.helpers.synthetic import AST_SPEC, FRAME_S, N_FRAMES, plant

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[1] / "docs"
KEYS = {"window": 40, "stride": 30, "threads": 1, "device": "cpu"}


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    """A folder with `data/demo` as `make demo` leaves it, of planted features."""
    folder = tmp_path_factory.mktemp("python") / "data" / "demo"
    folder.mkdir(parents=True)
    plant(folder, ("train", "train", "val", "val"))
    train(folder, folder / "run")
    return folder


def train(demo: Path, run: Path, **keys):
    given = {"head": {"width": 8}, "train": KEYS | {"epochs": 1}} | keys
    return vaflow.train(
        manifest=demo / "manifest.jsonl", store=demo / "features.zarr", run=run, **given
    )


@pytest.fixture(scope="module")
def store(demo) -> vaflow.Store:
    return vaflow.open_store(demo / "features.zarr", demo / "manifest.jsonl")


def same(track, values, time_s, valid) -> bool:
    pairs = ((track.values, values), (track.time_s, time_s), (track.valid, valid))
    return all(np.array_equal(ours, theirs) for ours, theirs in pairs)


def test_importing_it_imports_nothing_heavy():
    script = "import sys, vaflow; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    heavy = {"numpy", "pandas", "pydantic", "torch", "zarr", "matplotlib", "yaml"}
    assert "vaflow" in loaded.stdout.split()
    assert not heavy & set(loaded.stdout.split())


def test_a_store_lists_its_streams_and_clips(store, demo):
    names = store.feature_sets
    assert list(names) == ["visual", "audio"]
    assert names["audio"] == AST_SPEC.name
    assert store.clips == ("train-0", "train-1", "val-2", "val-3")


def test_features_are_those_of_the_record(store, demo):
    record = FeatureStore.open(demo / "features.zarr").read(AST_SPEC.name, "val-2")
    for name in ("audio", AST_SPEC.name):
        track = store.features("val-2", name)
        assert same(track, record.values, record.time_s, record.valid)
    assert store.features("val-2").values.shape == (N_FRAMES, 16)


@pytest.mark.parametrize("stream", ["visual", "audio"])
def test_the_clock_of_labels_is_that_of_a_training(store, demo, stream):
    clips = open_split(demo / "run", None, None, "val").clips
    packed = clips.load(3).select(["val-2"])
    track = store.features("val-2", stream, clock="labels")
    assert len(track.time_s) == N_FRAMES + 1  # a label row beyond the last frame
    assert same(
        track, packed.embeddings(stream).numpy(), packed.time_s, packed[stream].valid.numpy()
    )


def test_a_rate_has_the_multiples_of_its_step(store):
    track = store.features("train-0", "audio", clock=10.0)
    last_s = FRAME_S * (N_FRAMES - 1)  # 5.16 s
    np.testing.assert_allclose(track.time_s, np.arange(52) / 10)
    assert track.time_s[-1] <= last_s < track.time_s[-1] + 0.1
    assert not np.signbit(track.time_s[0])
    own = store.features("train-0", "audio")  # at 0.05 s, 0.15 s, ...: each row lies half-way
    between = (own.values[:-1].astype(np.float32) + own.values[1:]) / 2
    np.testing.assert_allclose(track.values[1:51], between[:50], rtol=2e-3)


def test_features_come_to_the_times_of_another_set(store):
    audio = store.features("train-0", "audio")
    assert np.array_equal(store.features("train-0", "visual", clock="audio").time_s, audio.time_s)
    frames = store.features("train-0", "audio", clock="visual")
    assert np.array_equal(frames.time_s, store.features("train-0", "visual").time_s)


def test_rows_near_a_gap_are_not_valid(store):
    """Frames 40 to 45 of the first val clip have no face."""
    times = FRAME_S * np.array([38.5, 39.5, 45.5, 46.5])
    track = store.features("val-2", "visual", clock=times)
    assert track.valid.tolist() == [True, False, False, True]


@pytest.mark.parametrize(
    ("text", "lag_s", "expected_s"),
    [
        ("time_s,valence,arousal\n1.0,0.1,0.2\n2.5,0.1,0.3\n", 0.5, [0.5, 2.0]),
        ("start_s,end_s,valence,arousal\n1.0,2.0,0.1,0.2\n2.0,4.0,0,0\n", 0.0, [1.5, 3.0]),
    ],
)
def test_labels_with_times_are_a_clock(demo, tmp_path, text, lag_s, expected_s):
    (tmp_path / "labels.csv").write_text(text)
    (clip, *_) = read_manifest(demo / "manifest.jsonl").clips
    changes = {"labels": "labels.csv", "label_lag_s": lag_s}
    write_manifest(tmp_path / "m.jsonl", [clip.model_copy(update=changes)])
    store = vaflow.open_store(demo / "features.zarr", tmp_path / "m.jsonl")
    track = store.features(clip.id, "audio", clock="labels")
    np.testing.assert_allclose(track.time_s, expected_s)


def test_a_table_and_an_xarray_have_nan_for_no_input(store):
    track = store.features("val-2", "visual")
    table = store.features("val-2", "visual", as_="dataframe")
    assert (table.index.name, table.columns[-1]) == ("time_s", "visual_15")
    assert np.array_equal(table.index, track.time_s)
    assert table.isna().all(axis=1).tolist() == (~track.valid).tolist()
    cube = store.features("val-2", "visual", as_="xarray")
    assert (cube.dims, cube.name) == (("time_s", "feature"), "visual")
    assert cube.attrs["feature_set"] == store.feature_sets["visual"]
    for found in (table.to_numpy(), cube.values):
        np.testing.assert_array_equal(found[track.valid], track.values[track.valid])
    assert cube.sel(time_s=FRAME_S * 40, method="nearest").isnull().all()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"feature_set": "clip"}, r"no feature set 'clip'; .* has visual \(clip-"),
        ({"clock": "sound"}, "no feature set 'sound'"),
        ({"clock": 0}, "clock = 0; give a rate above 0 Hz"),
        ({"clock": [1.0, 1.0]}, "must increase strictly.*; sort the times, each once"),
        ({"clock": np.ones((1, 1))}, "times in one dimension"),
        ({"as_": "list"}, "as_ = 'list'; give arrays, dataframe or xarray"),
    ],
)
def test_what_features_refuse(store, keys, message):
    with pytest.raises(InputError, match=message):
        store.features("val-2", **keys)


def test_the_clock_of_labels_needs_a_manifest_with_labels(demo, tmp_path):
    with pytest.raises(InputError, match="needs a manifest: open_store"):
        vaflow.open_store(demo / "features.zarr").features("val-2", clock="labels")
    (clip, *_) = read_manifest(demo / "manifest.jsonl").clips
    write_manifest(tmp_path / "m.jsonl", [clip.model_copy(update={"labels": None})])
    with pytest.raises(InputError, match="clip 'train-0' has no labels"):
        vaflow.open_store(demo / "features.zarr", tmp_path / "m.jsonl").features(
            "train-0", clock="labels"
        )


@pytest.mark.parametrize("library", ["pandas", "xarray"])
def test_a_missing_library_is_named_with_the_command_that_installs_it(
    store, demo, monkeypatch, library
):
    monkeypatch.setitem(sys.modules, library, None)
    as_ = "dataframe" if library == "pandas" else "xarray"
    with pytest.raises(InputError, match=rf"needs {library}.*pip install -e '.\[notebook\]'"):
        store.features("val-2", as_=as_)
    if library == "pandas":
        with pytest.raises(InputError, match="needs pandas"):
            vaflow.predict(demo / "run")


def test_keys_may_be_nested_dotted_or_configs(demo):
    nested = train(demo, demo / "run")
    dotted = {"head.width": 8, **{f"train.{key}": value for key, value in KEYS.items()}}
    again = vaflow.train(
        manifest=demo / "manifest.jsonl",
        store=str(demo / "features.zarr"),
        run=demo / "run",
        **{**dotted, "train.epochs": 1},
    )
    config = train(demo, demo / "run", head=DsplConfig(width=8))
    assert {each.state for each in (nested, again, config)} == {"present"}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"epochs": 2}, "unknown key 'epochs'"),
        ({"train": {"epoch": 2}}, "unknown key 'train.epoch'; the nearest valid one is 'epochs'"),
        ({"train.epochs": "many"}, "train.epochs = 'many'"),
        ({"split": "val"}, "'split' is a key of other stages"),
    ],
)
def test_a_wrong_key_is_answered_as_on_the_command_line(demo, tmp_path, keys, message):
    with pytest.raises(InputError, match=message):
        train(demo, tmp_path / "run", **keys)
    assert not (tmp_path / "run").exists()


def test_predictions_of_cached_clips_are_those_of_score_head(demo):
    result = vaflow.score(demo / "run")
    assert result.score is not None
    assert result.score.n_clips == 2
    table = vaflow.predict(demo / "run")
    assert tuple(table.columns) == vaflow.COLUMNS
    with (demo / "run" / PREDICTIONS).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert table["clip"].tolist() == [row["clip"] for row in rows]
    assert table["frame"].tolist() == [int(row["frame"]) for row in rows]
    for name in vaflow.COLUMNS[2:]:
        np.testing.assert_allclose(table[name], [float(row[name]) for row in rows], atol=1e-6)
    one = vaflow.predict(demo / "run", clips=["val-3"])
    np.testing.assert_array_equal(one, table[table["clip"] == "val-3"])


def test_a_figure_shows_labels_and_prediction(demo):
    figure = vaflow.plot(demo / "run", "val-2")
    table = vaflow.predict(demo / "run", clips=["val-2"])
    for axes, name in zip(figure.axes, ("valence", "arousal"), strict=True):
        lines = {line.get_color(): line for line in axes.get_lines()}
        assert axes.get_ylabel() == name
        np.testing.assert_array_equal(lines[PREDICTED].get_ydata(), table[name])
        assert np.flatnonzero(np.isnan(lines[TRUTH].get_ydata())).tolist() == [10]
        (shaded,) = axes.collections
        (box,) = shaded.get_paths()
        at_s = box.vertices[:, 0]
        assert (at_s.min(), at_s.max()) == pytest.approx((40 * FRAME_S, 46 * FRAME_S))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clips": ["none"]}, "the split 'val' has no clip none; .* one of val-2, val-3"),
        ({"output": "out"}, "output: only with videos"),
        ({"people": 1}, "people: only with videos"),
    ],
)
def test_what_predict_refuses(demo, arguments, message):
    with pytest.raises(InputError, match=message):
        vaflow.predict(demo / "run", **arguments)
    with pytest.raises(InputError, match="are of clips with features: leave them out"):
        vaflow.predict(demo / "run", "video.mp4", split="val")


def test_the_code_of_the_page_runs(demo, monkeypatch):
    monkeypatch.chdir(demo.parents[1])
    page = [block for block in blocks(DOCS / "python.md") if block.language == "python"]
    assert len(page) == 3
    for block in page:
        exec(block.text, {})
    assert (demo / "worst.png").is_file()


def test_the_notebook_runs(demo):
    folder = demo.parents[1] / "docs"
    folder.mkdir()
    shutil.copy(DOCS / "notebook.ipynb", folder)
    notebook = nbformat.read(folder / "notebook.ipynb", as_version=4)
    source = [line for cell in notebook.cells if cell.cell_type == "code" for line in cell.source]
    assert "".join(source).count("\n") <= 25
    NotebookClient(notebook, resources={"metadata": {"path": str(folder)}}, timeout=300).execute()
    *_, last = notebook.cells
    shown = [set(output["data"]) for output in last.outputs if "data" in output]
    assert [kinds & {"image/png"} for kinds in shown] == [{"image/png"}]  # once
    assert json.loads((DOCS / "notebook.ipynb").read_text())["cells"][-1]["outputs"] == []
