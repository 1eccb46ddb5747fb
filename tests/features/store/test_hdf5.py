import json

import h5py
import numpy as np
import pytest

from features.canonical_json import canonical
from features.errors import InputError, StoreError, VaflowError
from features.maintenance.verify import verify
from features.store.feature_store import FeatureStore
from features.store.hdf5 import export_h5, import_h5
from tests.helpers.small_stores import (
    SOURCE,
    SPEC,
    TRACKS,
    content,
    make_track,
    read_silently_wrong,
    same,
    write_tracks,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A store that tests only read."""
    return write_tracks(tmp_path_factory.mktemp("whole") / "s.zarr")


@pytest.fixture
def exported(whole, tmp_path):
    assert export_h5(str(whole), tmp_path / "out.h5") == len(TRACKS)
    return tmp_path / "out.h5"


def test_a_round_trip_gives_the_same_store_file_by_file(whole, exported, tmp_path):
    ended = import_h5(exported, str(tmp_path / "back.zarr"))
    assert ended.written == tuple(f"{SPEC.name}/{clip}" for clip in sorted(TRACKS))
    assert content(tmp_path / "back.zarr") == content(whole)
    again = import_h5(exported, str(tmp_path / "back.zarr"))
    assert (again.written, again.present) == ((), ended.written)


def test_an_export_has_the_documented_layout(exported):
    with h5py.File(exported) as file:
        record = file[f"{SPEC.name}/a"]
        np.testing.assert_array_equal(record["values"][:], make_track().values)
        np.testing.assert_array_equal(record["time_s"][:], make_track().time_s)
        np.testing.assert_array_equal(record["valid"][:], make_track().valid)
        assert (record["values"].dtype, record["valid"].dtype) == (np.float16, np.bool_)
        assert record["values"].fletcher32
        commit = json.loads(record["commit"][()])
        assert commit["source"] == SOURCE
        assert commit["provenance"] == {"by": "a test"}
        assert json.loads(file[f"{SPEC.name}/empty/commit"][()])["note"] == "the clip has no sound"
        assert json.loads(file[f"{SPEC.name}/spec"][()]) == SPEC.model_dump(mode="json")


def test_only_the_given_clips_are_exported(whole, tmp_path):
    assert export_h5(str(whole), tmp_path / "one.h5", ["a"]) == 1
    assert import_h5(tmp_path / "one.h5", str(tmp_path / "b.zarr")).written == (f"{SPEC.name}/a",)
    with pytest.raises(StoreError, match="no features .* of clip 'z'; run extract-features"):
        export_h5(str(whole), tmp_path / "none.h5", ["a", "z"])
    assert sorted(path.name for path in tmp_path.glob("*.h5*")) == [
        "one.h5"
    ]  # the second left no file


def test_another_record_of_a_clip_is_kept(exported, tmp_path):
    store = FeatureStore.open(tmp_path / "b.zarr", create=True)
    store.write(SPEC, "a", make_track(seed=5), source=SOURCE, provenance={})
    ended = import_h5(exported, str(store.path))
    assert ended.kept == (f"{SPEC.name}/a",)
    assert len(ended.written) == len(TRACKS) - 1
    assert same(store.read(SPEC.name, "a"), make_track(seed=5))


def replaced(name, **settings):
    """Write a dataset of the record with other data or settings."""

    def spoil(file):
        old = file[f"{SPEC.name}/a/{name}"][()]
        del file[f"{SPEC.name}/a/{name}"]
        file.create_dataset(f"{SPEC.name}/a/{name}", **{"data": old, **settings})

    return spoil


def linked(link):
    def spoil(file):
        del file[f"{SPEC.name}/a/values"]
        file[f"{SPEC.name}/a/values"] = link

    return spoil


def sparse(file):
    del file[f"{SPEC.name}/a/values"]
    file.create_dataset(f"{SPEC.name}/a/values", shape=(10**6, 600), dtype="f2", chunks=(100, 600))


def recommitted(**changes):
    def spoil(file):
        commit = {**json.loads(file[f"{SPEC.name}/a/commit"][()]), **changes}
        del file[f"{SPEC.name}/a/commit"]
        file[f"{SPEC.name}/a/commit"] = np.bytes_(canonical(commit))

    return spoil


def virtual(file):
    del file[f"{SPEC.name}/a/values"]
    layout = h5py.VirtualLayout(shape=(5, 3), dtype="f2")
    layout[:] = h5py.VirtualSource("other.h5", "x", shape=(5, 3))
    file.create_virtual_dataset(f"{SPEC.name}/a/values", layout)


def outside(file):
    del file[f"{SPEC.name}/a/values"]
    file.create_dataset(
        f"{SPEC.name}/a/values", shape=(5, 3), dtype="f2", external=[("/etc/passwd", 0, 30)]
    )


OTHERS = {
    "compressed": (replaced("values", compression="gzip"), "is compressed"),
    "objects": (replaced("values", data="x", dtype=h5py.string_dtype()), "is no array of float16"),
    "float32": (replaced("values", dtype="f4"), "is no array of float16"),
    "flat": (replaced("values", data=np.zeros(15, np.float16)), "has the shape"),
    "wide": (replaced("values", data=np.zeros((1, 70_000), np.float16)), "has the shape"),
    "large chunks": (
        replaced("values", data=np.zeros((3000, 900), np.float16), chunks=(3000, 900)),
        "has chunks of",
    ),
    "other numbers": (replaced("values", data=make_track(seed=8).values), "is not what its record"),
    "other lengths": (
        replaced("valid", data=np.ones(6, bool)),
        "one row per step|Type-check error",
    ),
    "not finite": (replaced("time_s", data=np.full(5, np.nan)), "must be finite"),
    "claims without bytes": (sparse, "claims 1200000000 bytes and stores"),
    "soft link": (linked(h5py.SoftLink("/")), "a link to elsewhere"),
    "external link": (linked(h5py.ExternalLink("/etc/passwd", "x")), "a link to elsewhere"),
    "virtual": (virtual, "lies in other files"),
    "raw file": (outside, "lies in other files"),
    "too much": (lambda file: file.create_group(f"{SPEC.name}/a/more"), "'more', which does not"),
    "bad id": (lambda file: file.create_group(f"{SPEC.name}/.x"), "'.x', which does not"),
    "bad set": (lambda file: file.create_group("x"), "'x', which does not"),
    "no commit": (lambda file: file.pop(f"{SPEC.name}/a/commit"), "is missing"),
    "commit a number": (replaced("commit", data=7), "is no text"),
    "commit changed": (recommitted(note="mine"), "is not what was exported"),
    "commit of more": (recommitted(more=1), "unexpected keyword"),
    "format": (lambda file: file.attrs.update(format="x"), "no export of a feature store"),
    "version": (lambda file: file.attrs.update(version=2), "version 2, this vaflow reads"),
    "no version": (lambda file: file.attrs.pop("version"), "it has no version"),
}


@pytest.mark.parametrize(("spoil", "message"), OTHERS.values(), ids=OTHERS)
def test_a_file_that_export_does_not_write_is_refused(exported, tmp_path, spoil, message):
    with h5py.File(exported, "r+") as file:
        spoil(file)
    with pytest.raises(InputError, match=message):
        import_h5(exported, str(tmp_path / "back.zarr"))
    if (tmp_path / "back.zarr").exists():
        assert verify(tmp_path / "back.zarr").problems == ()
        assert read_silently_wrong(tmp_path / "back.zarr") == []


def test_a_file_that_is_no_hdf5_is_refused(tmp_path, exported):
    (tmp_path / "text.h5").write_text("dear")
    for path in (tmp_path / "text.h5", tmp_path / "none.h5", tmp_path):
        with pytest.raises(InputError, match="is no HDF5 file"):
            import_h5(path, str(tmp_path / "back.zarr"))
    exported.write_bytes(exported.read_bytes()[:5000])
    with pytest.raises(InputError, match="is damaged"):
        import_h5(exported, str(tmp_path / "back.zarr"))


def assert_no_flip_is_silent(exported, whole, folder, seeds):
    right, data = content(whole), exported.read_bytes()
    for seed in seeds:
        rng = np.random.default_rng(seed)
        spoiled = bytearray(data)
        spoiled[rng.integers(len(data))] ^= 1 << rng.integers(8)
        exported.write_bytes(bytes(spoiled))
        store = folder / f"{seed}.zarr"
        try:
            import_h5(exported, str(store))
        except VaflowError:
            continue
        got = content(store)
        assert all(right[name] == got[name] for name in got), seed  # the bit was padding


def test_a_flipped_bit_is_found_or_changes_nothing(exported, whole, tmp_path):
    assert_no_flip_is_silent(exported, whole, tmp_path, range(25))


@pytest.mark.torture
def test_each_of_five_hundred_flipped_bits_is_found_or_changes_nothing(exported, whole, tmp_path):
    assert_no_flip_is_silent(exported, whole, tmp_path, range(500))


def test_names_that_are_no_utf_8_stay_in_the_provenance(tmp_path):
    store = FeatureStore.open(tmp_path / "s.zarr", create=True)
    named = {"command": "vaflow caf\udce9\u202e"}
    store.write(SPEC, "a", make_track(), source=SOURCE, provenance=named, note="from caf\udce9")
    commit = store.commit(SPEC.name, "a")
    assert commit is not None
    assert (commit.provenance, commit.note) == (named, "from caf\udce9")
    output = tmp_path / "caf\udce9.h5"
    assert export_h5(str(tmp_path / "s.zarr"), output) == 1
    import_h5(output, str(tmp_path / "back.zarr"))
    assert content(tmp_path / "back.zarr") == content(tmp_path / "s.zarr")
    assert not verify(str(tmp_path / "back.zarr")).problems
