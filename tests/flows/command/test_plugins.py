"""Plug-ins of other distributions: those of the docs, beside the project, and bad ones."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.helpers.small_media import tone

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "extending.md").read_text()
GROUPS = {
    "vaflow.encoders": "features.encoders.base.EncoderConfig",
    "vaflow.heads": "models.heads.config.HeadConfig",
    "vaflow.datasets": "features.datasets.base.DatasetConfig",
    "vaflow.detectors": "features.faces.detector.DetectorConfig",
}
FACES = "encoders=[{kind: pixels, faces: {detector: {kind: torn}}}]"
RUN = """
import contextlib, io, json, sys
from flows.command.main import main

ends = []
for words in json.loads(sys.argv[1]):
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        status = main(words)
    ends.append((status, out.getvalue(), error.getvalue()))
print(json.dumps(ends))
"""


def install(
    folder: Path, name: str, modules: dict[str, str], entry_points: dict[str, dict[str, str]]
) -> None:
    """Put a distribution into a folder of the import path, as pip does."""
    for module, text in modules.items():
        (folder / module).parent.mkdir(exist_ok=True, parents=True)
        (folder / module).write_text(text)
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = []
    for group, points in entry_points.items():
        lines += [f"[{group}]", *(f"{kind} = {target}" for kind, target in points.items()), ""]
    (info / "entry_points.txt").write_text("\n".join(lines))


class Ended(NamedTuple):
    """What a command ended with."""

    status: int
    out: str
    error: str


def vaflow(folder: Path, *commands: Sequence[str]) -> list[Ended]:
    """Run commands in a new process, which takes seconds to start and finds the plug-ins."""
    path = os.pathsep.join([str(folder), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(commands)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [Ended(*each) for each in json.loads(done.stdout)]


@pytest.fixture
def documented(tmp_path) -> Path:
    """The plug-ins that the docs show, with the entry points of their pyproject.toml."""
    files = re.findall(r"<!-- file: (\S+\.py) -->\n```python\n(.*?)```", PAGE, re.S)
    project = re.search(r"<!-- plugin -->\n```toml\n(.*?)```", PAGE, re.S)
    assert project is not None
    table = tomllib.loads(project[1])["project"]
    modules = {
        f"my_vaflow/{Path(file).name}": text.replace("models.heads.mlp", "my_vaflow.mlp")
        for file, text in files
    }
    install(tmp_path / "site", table["name"], modules, table["entry-points"])
    return tmp_path / "site"


def test_the_plug_ins_of_the_docs_are_listed_keep_their_contracts_and_are_used(
    documented, make_video
):
    video = make_video("clip.mp4", sound=tone(2))
    folder, manifest = video.parent, video.with_name("m.jsonl")
    (folder / "clip.csv").write_text("time_s,valence,arousal\n0,0.5,0.5\n1,0.1,0.2\n")
    rows = "id,video,labels,split\na,clip.mp4,clip.csv,train\nb,clip.mp4,clip.csv,val\n"
    (folder / "clips.csv").write_text(rows)
    n_rules = {
        ("mel", "bands=8"): 8,
        ("skin", "min_side_px=20"): 8,
        ("clip_list", f"root={folder}"): 7,
        ("mlp", "width=32"): 9,
    }
    store, run = str(folder / "s.zarr"), f"run={folder / 'r'}"
    keys = [f"manifest={manifest}", f"store={store}"]
    encoders = "encoders=[{kind: mel}, {kind: pixels, faces: {detector: {kind: skin}}}]"
    listed, shown, *checks, indexed, extracted, status = vaflow(
        documented,
        ["plugins", "--json"],
        ["plugins"],
        *(["check-plugin", *words] for words in n_rules),
        ["index", "clip_list", str(folder), "-o", str(manifest)],
        ["run", "extract-features", *keys, encoders],
        ["status", store, str(manifest), "--json"],
    )

    assert listed.status == 0, listed
    assert [(row["group"], row["name"], row["modality"]) for row in json.loads(listed.out)] == [
        ("vaflow.encoders", "mel", "audio"),
        ("vaflow.heads", "mlp", ""),
        ("vaflow.datasets", "clip_list", ""),
        ("vaflow.detectors", "skin", ""),
    ]
    assert {row["distribution"] for row in json.loads(listed.out)} == {"my-vaflow 1.0"}
    assert "mel (my-vaflow 1.0, my_vaflow.mel:MelConfig): audio encoder" in shown.out
    assert "clip_list (my-vaflow 1.0, my_vaflow.clip_list:ClipListConfig): data set" in shown.out
    for (words, n), checked in zip(n_rules.items(), checks, strict=True):
        assert checked.status == 0, checked
        assert f"{words[0]} keeps the contract ({n} rules)" in checked.out
    assert indexed.status == 0, indexed
    assert extracted.status == 0, extracted
    assert {clip["state"] for clip in json.loads(status.out)["clips"]} == {"complete"}

    (mel,) = (path.name for path in Path(store).glob("mel-*"))
    head = ["head={kind: mlp, width: 8, prompts: null}", "train.epochs=1"]
    trained, scored = vaflow(  # another process, which has only the names in the files
        documented,
        ["run", "train-head", *keys, run, *head, f"streams={{sound: {mel}}}"],
        ["run", "score-head", run],
    )
    assert trained.status == 0, trained
    assert scored.status == 0, scored


def test_a_plug_in_that_cannot_be_used_is_named_and_changes_nothing_else(tmp_path):
    site = tmp_path / "site"
    for group in GROUPS:
        names = {"torn": f"torn_{group[7:]}", "odd": f"odd_{group[7:]}"}
        torn, odd = names.values()
        modules = {f"{torn}.py": "raise RuntimeError('no licence')", f"{odd}.py": "Config = 3"}
        points = {group: {name: f"{module}:Config" for name, module in names.items()}}
        install(site, f"bad-{group[7:]}", modules, points)
    extraction = ["run", "extract-features", "manifest=m", "store=s"]
    training = ["run", "train-head", "manifest=m", "store=s", "run=r"]
    listed, encoder, data_set, head, detector, several, one = vaflow(
        site,
        ["plugins"],
        [*extraction, "encoders=[{kind: torn}]"],
        ["index", "torn", "x", "-o", "m"],
        [*training, "head={kind: torn}"],
        [*extraction, FACES],
        ["check-plugin", "torn"],
        ["check-plugin", "torn", "--group", "vaflow.heads"],
    )

    assert listed.status == 1
    for group, base in GROUPS.items():
        name = group[7:]
        where = f"torn (bad-{name} 1.0, torn_{name}:Config)"
        assert f"{where}: cannot be used: the plug-in 'torn' of" in listed.out
        assert f"odd_{name}:Config must be a subclass of {base}" in listed.out
    assert listed.out.count("(RuntimeError: no licence)") == len(GROUPS)
    for refused in (encoder, head, detector):
        assert refused.status == 2
        assert "the plug-in 'torn' cannot be used, `vaflow plugins` says why" in refused.error
    assert data_set.status == 2
    assert "cannot be imported (RuntimeError: no licence)" in data_set.error
    assert "there is a plug-in 'torn' in vaflow.encoders, vaflow.heads" in several.error
    assert "say which with --group GROUP" in several.error
    assert "cannot be imported" in one.error


def test_a_plug_in_that_is_not_installed_is_refused(documented):
    unknown, key, lacking, group = vaflow(
        documented,
        ["check-plugin", "mell"],
        ["check-plugin", "mel", "bandss=8"],
        ["check-plugin", "clip_list"],
        ["check-plugin", "mel", "--group", "vaflow.head"],
    )
    assert unknown.status == 2
    assert (
        "no plug-in 'mell'; those that are installed are: mel, mlp, clip_list, skin."
        in unknown.error
    )
    assert "unknown key 'bandss'; the nearest valid one is 'bands'" in key.error
    assert "check-plugin clip_list: the key 'root' is missing" in lacking.error
    assert "there is no group 'vaflow.head'; the groups are vaflow.encoders, " in group.error
