"""Encoders of other distributions: the one of the docs, beside the project, and bad ones."""

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
RUN = "import sys; from flows.command.main import main; sys.exit(main(sys.argv[1:]))"


def install(folder: Path, name: str, module: str, entry_points: dict[str, str]) -> None:
    """Put a distribution into a folder of the import path, as pip does."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name.replace('-', '_')}.py").write_text(module)
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{kind} = {target}" for kind, target in entry_points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[vaflow.encoders]", *lines, ""]))


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
    """The plug-in that the docs show, with the entry points of its pyproject.toml."""
    module = re.search(r"<!-- file: features/encoders/mel.py -->\n```python\n(.*?)```", PAGE, re.S)
    project = re.search(r"<!-- plugin -->\n```toml\n(.*?)```", PAGE, re.S)
    assert module is not None
    assert project is not None
    table = tomllib.loads(project[1])["project"]
    points = table["entry-points"]["vaflow.encoders"]
    install(tmp_path / "site", table["name"], module[1], points)
    return tmp_path / "site"


def test_the_plug_in_of_the_docs_is_listed_checked_and_extracted(documented, make_video):
    listed = vaflow(documented, "plugins", "--json")
    assert listed.returncode == 0, listed.stderr
    [row] = json.loads(listed.stdout)
    assert (row["name"], row["modality"], row["problem"]) == ("mel", "audio", "")
    assert row["distribution"] == "mel-encoder 1.0"

    checked = vaflow(documented, "check-plugin", "mel", "bands=8")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "mel keeps the contract (8 rules)" in checked.stdout

    video = make_video("clip.mp4", sound=tone(2))
    manifest = video.with_name("m.jsonl")
    manifest.write_text(json.dumps({"id": "a", "video": "clip.mp4"}) + "\n")
    store = str(video.with_name("s.zarr"))
    keys = [f"manifest={manifest}", f"store={store}", "encoders=[{kind: mel, bands: 8}]"]
    extracted = vaflow(documented, "run", "extract-features", *keys)
    assert extracted.returncode == 0, extracted.stderr
    assert "1 extracted" in extracted.stdout + extracted.stderr
    status = vaflow(documented, "status", store, str(manifest), "--json")
    assert [clip["state"] for clip in json.loads(status.stdout)["clips"]] == ["complete"]


def test_a_plug_in_that_cannot_be_used_is_named_and_changes_nothing_else(tmp_path):
    site = tmp_path / "site"
    install(site, "torn", "raise RuntimeError('no licence')", {"torn": "torn:Config"})
    install(site, "odd", "Config = 3", {"odd": "odd:Config"})
    listed = vaflow(site, "plugins")
    assert listed.returncode == 1
    assert "torn (torn 1.0, torn:Config): cannot be used: " in listed.stdout
    assert "(RuntimeError: no licence)" in listed.stdout
    assert "must be a subclass of features.encoders.base.EncoderConfig" in listed.stdout
    words = ("run", "extract-features", "manifest=m", "store=s", "encoders=[{kind: torn}]")
    refused = vaflow(site, *words)
    assert refused.returncode == 2
    assert "the plug-in 'torn' cannot be used, `vaflow plugins` says why" in refused.stderr


def test_a_plug_in_that_is_not_installed_is_refused(documented):
    refused = vaflow(documented, "check-plugin", "mell")
    assert refused.returncode == 2
    assert "no plug-in 'mell'; those that are installed are: mel." in refused.stderr
    refused = vaflow(documented, "check-plugin", "mel", "bandss=8")
    assert "unknown key 'bandss'; the nearest valid one is 'bands'" in refused.stderr
