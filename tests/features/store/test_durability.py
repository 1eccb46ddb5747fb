"""Whatever happens to a run of extract-features, what is stored is whole, and a re-run completes.

The short of it runs always, the whole with `make torture`. A real power cut is not proven.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.clip import Source
from features.freshness.media_digests import SourceDigests
from features.spec import FeatureSpec

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[3] / "tests"


def run(script: str, folder: Path, *arguments: int) -> dict:
    """What a script of this folder counted."""
    done = subprocess.run(
        [sys.executable, str(TESTS / "helpers" / script), str(folder), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TESTS.parent), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("stride", [12, pytest.param(1, marks=pytest.mark.torture)])
def test_a_record_is_whole_after_a_kill_a_failure_or_a_full_disk_at_any_step(tmp_path, stride):
    ends = run("crash_publish.py", tmp_path, stride)
    assert ends["killed replaced"]["-9"] > 60 / max(1, stride // 4)  # steps of one publish
    assert set(ends) == {
        f"{way} {kind}"
        for way in ("killed", "full", "failing", "small")
        for kind in ("new", "replaced")
    }
    for way, met in ends.items():
        wanted = "-9" if way.startswith("killed") else "7"  # an error that names a path
        assert set(met) == {wanted, "0"}, way
        assert met[wanted] > 30 / stride, way


@pytest.mark.parametrize(
    # of the short form: one kill of each of the four calls
    ("n_kills", "n_processes"),
    [(4, 3), pytest.param(200, 8, marks=pytest.mark.torture)],
)
def test_runs_that_are_killed_or_run_together_encode_every_clip_once(
    tmp_path, n_kills, n_processes
):
    counted = run("toy_extraction.py", tmp_path, n_kills, n_processes)
    assert counted["kills"] == n_kills
    for n_outcomes, n_stored in counted["stored_after_outcomes"].items():
        assert n_stored >= int(n_outcomes)  # what is reported is stored
    assert counted["reads_together"] == 24
    assert counted["reads_of_holder"] == [23, 24]


# Keys ---------------------------------------------------------------------------------------------

words = st.text(max_size=5)
numbers = st.integers(-9, 9) | st.floats(-9, 9)
plain = st.recursive(
    words | numbers | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(words, plain, max_size=4)
fields = {
    "kind": st.from_regex(r"\A[a-z][a-z0-9]{0,5}\Z"),
    "model": objects,
    "weights_sha256": st.from_regex(r"\A[0-9a-f]{64}\Z"),
    "preprocessing": objects,
    "sampling": objects,
    "precision": st.sampled_from(["float32", "bfloat16"]),
    "epoch": st.integers(1, 99),
}
specs = st.builds(FeatureSpec, **fields)


def respelt(value, draw):
    """The same value with its keys in another order, and its whole numbers as floats or not."""
    if isinstance(value, dict):
        keys = draw(st.permutations(list(value)))
        return {key: respelt(value[key], draw) for key in keys}
    if isinstance(value, list):
        return [respelt(inner, draw) for inner in value]
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        return value
    return draw(st.sampled_from([int(value), float(value)]))


def same(a, b) -> bool:
    """Whether two JSON values are equal, where True is not 1 (to Python it is)."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@given(specs, st.sampled_from(list(fields)), st.data())
def test_each_field_of_a_spec_changed_alone_changes_the_key(spec, field, data):
    now = getattr(spec, field)
    changed = data.draw(fields[field].filter(lambda value: not same(value, now)))
    other = FeatureSpec(**{**spec.model_dump(), field: changed})
    assert other.digest != spec.digest
    assert other.name != spec.name


@given(specs, st.data())
def test_the_spelling_of_a_spec_does_not_change_the_key(spec, data):
    parts = {**spec.model_dump(), "epoch": spec.epoch}
    again = {name: respelt(part, data.draw) for name, part in parts.items()}
    again["epoch"] = int(again["epoch"])
    text = json.dumps(again, indent=data.draw(st.sampled_from([None, 1, 4])))
    assert FeatureSpec.model_validate(json.loads(text)).digest == spec.digest


def test_each_part_of_a_source_changed_alone_changes_its_digest_and_where_it_lies_does_not(
    tmp_path, make_crops
):
    def digests(source: Source):
        found = SourceDigests()
        return found.of(source, "visual"), found.of(source, "audio")

    def place(name: str) -> Source:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "v.mp4").write_bytes(b"video")
        (folder / "s.wav").write_bytes(b"sound")
        crops = make_crops([1, 2], f"{name}/crops")
        return Source("a", folder / "v.mp4", crops, folder / "s.wav", 25.0)

    def flip(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)

    here = place("here")
    before = digests(here)
    (tmp_path / "here").rename(tmp_path / "there")
    assert digests(place("here")) == before
    flip(here.video)
    assert digests(here)[0] != before[0]
    assert digests(here)[1] == before[1]  # the sound has a file of its own
    flip(here.video)
    flip(here.frames / "00002.jpg")
    assert digests(here)[0] != before[0]
    flip(here.frames / "00002.jpg")
    flip(here.audio)
    assert digests(here)[0] == before[0]
    assert digests(here)[1] != before[1]
    flip(here.audio)
    assert digests(here) == before
    assert digests(Source("b", here.video, here.frames, here.audio, 25.0))[0] == before[0]
    assert digests(Source("a", here.video, here.frames, here.audio, 24.0))[0] != before[0]
    assert digests(Source("a", here.video, None, here.audio, 25.0))[0] != before[0]
