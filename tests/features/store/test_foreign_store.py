"""Malicious stores: all digests are right, and they are refused before zarr opens them."""

import ast
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zarr

from features.canonical_json import canonical
from features.errors import InputError, StoreError
from features.store.commit import encode_group
from features.store.feature_store import FeatureStore
from features.store.layout import METADATA
from features.system.files import sha256_of
from tests.helpers.small_stores import SOURCE, SPEC, make_track, same, state_of

HERE = Path(__file__).parents[3]


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    store = FeatureStore.open(tmp_path / "s.zarr", create=True)
    store.write(SPEC, "a", make_track(), source=SOURCE, provenance={})
    return store


@pytest.fixture
def record(store) -> Path:
    return store.path / SPEC.name / "a"


@pytest.fixture
def no_zarr(monkeypatch):
    """Fail if zarr opens an array."""

    def never(*_, **__):
        raise AssertionError("zarr was given a record that should have been refused")

    monkeypatch.setattr(zarr, "open_array", never)
    monkeypatch.setattr(zarr, "open_group", never)


def recommit(record: Path, **changes: Any) -> None:
    """Commit the files as they are now, as the author of a malicious store would."""
    attributes = json.loads((record / METADATA).read_bytes())["attributes"]
    del attributes["digest"]
    attributes["files"] = {name: _digest(record / name) for name in attributes["files"]}
    attributes |= changes
    digest = hashlib.sha256(canonical(attributes)).hexdigest()
    (record / METADATA).write_bytes(encode_group({**attributes, "digest": digest}))


def _digest(path: Path) -> str:
    return sha256_of(path) if path.is_file() else "0" * 64


def test_a_recommitted_record_is_read(store, record):
    recommit(record)
    assert same(store.read(SPEC.name, "a"), make_track())


ZSTD = {"name": "zstd", "configuration": {"level": 0, "checksum": False}}
CRC = {"name": "crc32c"}
LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}


def grid(*chunk: int) -> dict[str, Any]:
    return {"name": "regular", "configuration": {"chunk_shape": list(chunk)}}


METADATA_OF_VALUES = [
    ({"codecs": [LITTLE, ZSTD]}, "another codecs"),
    ({"codecs": [LITTLE]}, "another codecs"),
    ({"codecs": [{"name": "sharding_indexed", "configuration": {}}]}, "another codecs"),
    ({"codecs": [{"name": "bytes", "configuration": {"endian": "big"}}, CRC]}, "another codecs"),
    ({"data_type": "float32"}, "it must have"),
    ({"data_type": "variable_length_bytes"}, "another data_type"),
    ({"data_type": {"name": "numpy.datetime64"}}, "another data_type"),
    ({"fill_value": 0}, "another fill_value"),
    ({"node_type": "group"}, "another node_type"),
    ({"zarr_format": 2}, "another zarr_format"),
    ({"storage_transformers": [{"name": "x"}]}, "another storage_transformers"),
    ({"chunk_key_encoding": {"name": "v2"}}, "another chunk_key_encoding"),
    ({"attributes": {"a": 1}}, "another attributes"),
    ({"must_understand": True}, "the key 'must_understand'"),
    ({"shape": [10**7 + 1, 3], "chunk_grid": grid(5, 3)}, "at most 10000000 rows"),
    ({"shape": [5, 70_000], "chunk_grid": grid(5, 70_000)}, "at most 10000000 rows"),
    ({"shape": [10**7, 60_000], "chunk_grid": grid(5, 60_000)}, "bytes"),
    ({"shape": [10**7, 3], "chunk_grid": grid(10**7, 3)}, "whole rows, and 4194304 bytes"),
    ({"shape": [10**7, 3], "chunk_grid": grid(1, 3)}, "has chunks of"),
    ({"shape": [5, 3], "chunk_grid": grid(5, 1)}, "whole rows"),
    ({"shape": [5, 3], "chunk_grid": grid(0, 3)}, "whole rows"),
    ({"shape": [5, 3], "chunk_grid": grid(6, 3)}, "whole rows"),
    ({"shape": [5], "chunk_grid": grid(5)}, "it has 2 axes"),
    ({"shape": [5, 4], "chunk_grid": grid(5, 4)}, "has 34 bytes; it must have 44"),
    ({"shape": [6, 3], "chunk_grid": grid(5, 3)}, "values/c/1/0 is missing"),
    ({"shape": [True, 3]}, "is no shape"),
    ({"shape": [-1, 3]}, "is no shape"),
    ({"shape": None}, "is no shape"),
]


@pytest.mark.parametrize(("changes", "message"), METADATA_OF_VALUES, ids=lambda v: str(v)[:60])
def test_metadata_that_vaflow_does_not_write_is_refused_before_zarr_opens_it(
    store, record, no_zarr, changes, message
):
    path = record / "values" / METADATA
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **changes}))
    recommit(record)
    with pytest.raises(StoreError, match=message):
        store.read(SPEC.name, "a")


@pytest.mark.parametrize(
    "name",
    [
        "../../../x",
        "/etc/passwd",
        "values/../../x",
        "values/c/00/0",
        "zarr.json",
        "values/c/0\n",
        "",
    ],
)
def test_a_commit_that_names_files_elsewhere_is_refused(store, record, no_zarr, name):
    files = {**store.commit(SPEC.name, "a").files, name: "0" * 64}
    recommit(record, files=files)
    assert state_of(store, "a", SOURCE)[0] == "corrupt"
    with pytest.raises(StoreError, match="is not the commit of a record"):
        store.read(SPEC.name, "a")


@pytest.mark.parametrize("name", ["values/c/0/0", "valid/zarr.json"])
def test_a_commit_that_omits_a_file_is_refused(store, record, no_zarr, name):
    files = dict(store.commit(SPEC.name, "a").files)
    del files[name]
    recommit(record, files=files)
    with pytest.raises(StoreError, match="names other files than such a record has"):
        store.read(SPEC.name, "a")


@pytest.mark.parametrize(
    "changes",
    [{"note": 7}, {"source": []}, {"files": {"values/zarr.json": "x"}}, {"provenance": 1}],
)
def test_a_commit_with_wrong_types_is_refused(store, record, changes):
    recommit(record, **changes)
    with pytest.raises(StoreError, match=f"is not the commit .*{next(iter(changes))}"):
        store.commit(SPEC.name, "a")


def linked(name: str) -> Callable[[Path], None]:
    """Replace a part of the store by a link to it."""

    def spoil(root: Path) -> None:
        path = root / name.replace("SET", SPEC.name)
        path.rename(root.parent / "elsewhere")
        path.symlink_to(root.parent / "elsewhere")

    return spoil


LINKS = ["SET", "SET/a", "SET/a/zarr.json", "SET/a/values", "SET/a/values/c/0", "SET/a/valid/c/0"]


@pytest.mark.parametrize("name", LINKS)
def test_links_are_not_followed(store, no_zarr, name):
    linked(name)(store.path)
    with pytest.raises(StoreError, match="link"):
        FeatureStore.open(store.path).read(SPEC.name, "a")
    if name in ("SET/a", "SET/a/zarr.json", "SET/a/valid/c/0"):  # links that a header shows
        state = state_of(store, "a", SOURCE)
        assert state[0] == "corrupt"
        assert "link" in state[1]


@pytest.mark.parametrize("name", ["zarr.json", "values/zarr.json", "values/c/0/0"])
def test_a_pipe_is_refused_and_not_waited_for(store, record, no_zarr, name):
    (record / name).unlink()
    os.mkfifo(record / name)
    assert state_of(store, "a", SOURCE)[0] == "corrupt"
    with pytest.raises(StoreError, match="no file"):
        store.read(SPEC.name, "a")


def test_metadata_that_is_too_large_or_too_deep_is_refused(store, record):
    for content, message in ((b" " * (8 * 2**20 + 1), "8388609 bytes"), (b"[" * 10**6, "nested")):
        (record / METADATA).write_bytes(content)
        with pytest.raises(StoreError, match=message):
            store.read(SPEC.name, "a")
        (store.path / METADATA).rename(store.path / "kept")
        (store.path / METADATA).write_bytes(content)
        with pytest.raises(StoreError, match=message):
            FeatureStore.open(store.path)
        (store.path / "kept").rename(store.path / METADATA)


def test_an_extra_array_is_ignored_and_a_chunk_that_is_too_long_is_refused(store, record):
    zarr.open_group(record / "other", mode="w")
    assert same(store.read(SPEC.name, "a"), make_track())
    with (record / "values/c/0/0").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(StoreError, match="has 35 bytes; it must have 34"):
        store.read(SPEC.name, "a")


def test_arrays_of_different_lengths_are_refused(store, record):
    store.write(SPEC, "b", make_track(6), source=SOURCE, provenance={})
    for name in ("zarr.json", "c/0"):
        (store.path / SPEC.name / "b" / "valid" / name).replace(record / "valid" / name)
    recommit(record)
    with pytest.raises(StoreError, match="different lengths"):
        store.read(SPEC.name, "a")


def test_no_name_leads_out_of_the_store(store):
    for names in ((SPEC.name, "../a"), (SPEC.name, ".."), ("..", "a"), (SPEC.name, "a/values")):
        with pytest.raises(InputError, match="is no name of a"):
            store.read(*names)


def test_metadata_of_root_and_set_must_be_canonical(store):
    for folder in (store.path, store.path / SPEC.name):
        path = folder / METADATA
        content = path.read_bytes()
        path.write_bytes(content.replace(b'"zarr_format":3', b'"zarr_format": 3'))
        with pytest.raises(StoreError, match="was changed since it was written; .*--repair"):
            FeatureStore.open(store.path).feature_sets()
        path.write_bytes(content)
    assert FeatureStore.open(store.path).feature_sets() == {SPEC.name: SPEC}


UNSAFE = ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal")


def test_nothing_is_unpickled():
    """Reading weights, stores or runs executes nothing in them."""
    unsafe = []
    for path in [
        p for package in ("features", "models", "flows") for p in (HERE / package).rglob("*.py")
    ]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                given = {word.arg: ast.unparse(word.value) for word in node.keywords}
                name = ast.unparse(node.func)
                bad = given.get("allow_pickle", "False") != "False"
                bad |= name == "torch.load" and given.get("weights_only") != "True"
                bad |= given.get("weights_only", "True") != "True"
                bad |= name.rpartition(".")[0] in UNSAFE or name in ("eval", "exec")
                if bad:
                    unsafe.append(f"{path.relative_to(HERE)}:{node.lineno}: {name}")
    assert unsafe == []
