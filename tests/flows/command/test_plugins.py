"""Plug-ins of other distributions: those of the docs, beside the project, and bad ones."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

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
RUN = "import sys; from flows.command.main import main; sys.exit(main(sys.argv[1:]))"


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


def vaflow(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(folder), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-c", RUN, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )


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


def test_the_plug_ins_of_the_docs_are_listed_and_keep_their_contracts(documented, make_video):
    listed = vaflow(documented, "plugins", "--json")
    assert listed.returncode == 0, listed.stdout + listed.stderr
    assert [(row["group"], row["name"], row["modality"]) for row in json.loads(listed.stdout)] == [
        ("vaflow.encoders", "mel", "audio"),
        ("vaflow.heads", "mlp", ""),
        ("vaflow.datasets", "clip_list", ""),
        ("vaflow.detectors", "skin", ""),
    ]
    assert {row["distribution"] for row in json.loads(listed.stdout)} == {"my-vaflow 1.0"}
    shown = vaflow(documented, "plugins").stdout
    assert "mel (my-vaflow 1.0, my_vaflow.mel:MelConfig): audio encoder" in shown
    assert "clip_list (my-vaflow 1.0, my_vaflow.clip_list:ClipListConfig): data set" in shown

    video = make_video("clip.mp4", sound=tone(2))
    (video.parent / "clip.csv").write_text("time_s,valence,arousal\n0,0.5,0.5\n1,0.1,0.2\n")
    rows = "id,video,labels,split\na,clip.mp4,clip.csv,val\n"
    (video.parent / "clips.csv").write_text(rows)
    for words, n_rules in {
        ("mel", "bands=8"): 8,
        ("skin", "min_side_px=20"): 8,
        ("clip_list", f"root={video.parent}"): 7,
        ("mlp", "width=32"): 9,
    }.items():
        checked = vaflow(documented, "check-plugin", *words)
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert f"{words[0]} keeps the contract ({n_rules} rules)" in checked.stdout


def test_the_plug_ins_of_the_docs_are_used(documented, make_video):
    video = make_video("clip.mp4", sound=tone(2))
    (video.parent / "clip.csv").write_text("time_s,valence,arousal\n0,0.5,0.5\n1,0.1,0.2\n")
    rows = "id,video,labels,split\na,clip.mp4,clip.csv,train\nb,clip.mp4,clip.csv,val\n"
    (video.parent / "clips.csv").write_text(rows)
    manifest = video.with_name("m.jsonl")
    indexed = vaflow(documented, "index", "clip_list", str(video.parent), "-o", str(manifest))
    assert indexed.returncode == 0, indexed.stdout + indexed.stderr
    store = str(video.with_name("s.zarr"))
    keys = [f"manifest={manifest}", f"store={store}"]
    encoders = "encoders=[{kind: mel}, {kind: pixels, faces: {detector: {kind: skin}}}]"
    extracted = vaflow(documented, "run", "extract-features", *keys, encoders)
    assert extracted.returncode == 0, extracted.stderr
    status = vaflow(documented, "status", store, str(manifest), "--json")
    assert {clip["state"] for clip in json.loads(status.stdout)["clips"]} == {"complete"}
    run = str(video.with_name("r"))
    head = "head={kind: mlp, width: 8, prompts: null}"
    trained = vaflow(
        documented, "run", "train-head", *keys, f"run={run}", head, "train.epochs=1",
        "streams={sound: SET}".replace("SET", next(
            path.name for path in Path(store).iterdir() if path.name.startswith("mel")
        )),
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    scored = vaflow(documented, "run", "score-head", f"run={run}")
    assert scored.returncode == 0, scored.stderr


def test_a_plug_in_that_cannot_be_used_is_named_and_changes_nothing_else(tmp_path):
    site = tmp_path / "site"
    for group in GROUPS:
        names = {"torn": f"torn_{group[7:]}", "odd": f"odd_{group[7:]}"}
        torn, odd = names.values()
        modules = {f"{torn}.py": "raise RuntimeError('no licence')", f"{odd}.py": "Config = 3"}
        points = {group: {name: f"{module}:Config" for name, module in names.items()}}
        install(site, f"bad-{group[7:]}", modules, points)
    listed = vaflow(site, "plugins")
    assert listed.returncode == 1
    for group, base in GROUPS.items():
        name = group[7:]
        where = f"torn (bad-{name} 1.0, torn_{name}:Config)"
        assert f"{where}: cannot be used: the plug-in 'torn' of" in listed.stdout
        assert f"odd_{name}:Config must be a subclass of {base}" in listed.stdout
    assert listed.stdout.count("(RuntimeError: no licence)") == len(GROUPS)
    words = ("run", "extract-features", "manifest=m", "store=s", "encoders=[{kind: torn}]")
    refused = vaflow(site, *words)
    assert refused.returncode == 2
    assert "the plug-in 'torn' cannot be used, `vaflow plugins` says why" in refused.stderr
    refused = vaflow(site, "index", "torn", "x", "-o", "m")
    assert refused.returncode == 2
    assert "cannot be imported (RuntimeError: no licence)" in refused.stderr
    for words in (("train-head", "head={kind: torn}", "run=r"), ("extract-features", FACES)):
        refused = vaflow(site, "run", *words, "manifest=m", "store=s")
        assert refused.returncode == 2
        assert "the plug-in 'torn' cannot be used" in refused.stderr, refused.stderr
    refused = vaflow(site, "check-plugin", "torn")
    assert "there is a plug-in 'torn' in vaflow.encoders, vaflow.heads" in refused.stderr
    assert "say which with --group GROUP" in refused.stderr
    refused = vaflow(site, "check-plugin", "torn", "--group", "vaflow.heads")
    assert "cannot be imported" in refused.stderr


def test_a_plug_in_that_is_not_installed_is_refused(documented):
    refused = vaflow(documented, "check-plugin", "mell")
    assert refused.returncode == 2
    assert (
        "no plug-in 'mell'; those that are installed are: mel, mlp, clip_list, skin."
        in refused.stderr
    )
    refused = vaflow(documented, "check-plugin", "mel", "bandss=8")
    assert "unknown key 'bandss'; the nearest valid one is 'bands'" in refused.stderr
    refused = vaflow(documented, "check-plugin", "clip_list")
    assert "check-plugin clip_list: the key 'root' is missing" in refused.stderr
    refused = vaflow(documented, "check-plugin", "mel", "--group", "vaflow.head")
    assert "there is no group 'vaflow.head'; the groups are vaflow.encoders, " in refused.stderr
