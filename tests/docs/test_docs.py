"""The documentation matches the code: its blocks run, its links and its tables are complete."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pytest

from features.clip import Clip
from features.media.limits import DecodeLimits
from flows.command.main import main
from models.heads.dspl import DsplConfig
from models.training.loss_config import LossConfig
from tests.helpers.doc_blocks import blocks

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted(DOCS.rglob("*.md")),
    *(ROOT / folder / "README.md" for folder in ("configs", "flows", "data", "benchmarks")),
]
COMMAND = ".venv/bin/vaflow"
RUN_ALL = """
import json, sys
from flows.command.main import main
for words in json.loads(sys.argv[1]):
    if status := main(words):
        sys.exit(f"{words} ended with {status}")
"""


def commands(script: str) -> Iterator[list[str]]:
    """The arguments of each `vaflow` command of a shell block."""
    for line in script.replace("\\\n", " ").splitlines():
        program, *words = shlex.split(line)
        assert program == COMMAND, f"a test runs only {COMMAND}, not {line!r}"
        yield words


def apply_edit(folder: Path, diff: str) -> None:
    """Apply a diff without line numbers; each old text occurs once in its file."""
    header, *lines = diff.splitlines()
    path = folder / header.removeprefix("--- a/")
    old = "\n".join(line[1:] for line in lines if line[:1] in (" ", "-"))
    new = "\n".join(line[1:] for line in lines if line[:1] in (" ", "+"))
    text = path.read_text()
    assert text.count(old) == 1, f"{path} does not have once:\n{old}"
    path.write_text(text.replace(old, new))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of the code and the configs, in which Getting started was followed."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("features", "models", "flows", "configs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "data").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in blocks(DOCS / "getting_started.md"):
            if block.language == "python":
                exec(block.text, {})
                continue
            for words in commands(block.text):
                assert main(words) == 0, words
    return folder


@pytest.mark.slow
def test_getting_started_leads_to_a_scored_head(checkout):
    assert {path.name for path in (checkout / "data" / "runs" / "quick").iterdir()} >= {
        "config.yaml",
        "head.safetensors",
        "metrics.jsonl",
        "predictions.csv",
        "provenance.json",
        "report.html",
        "scores.json",
    }


@pytest.mark.slow
def test_own_data_leads_from_a_table_and_videos_to_a_scored_head(checkout, monkeypatch, capsys):
    page = list(blocks(DOCS / "own_data.md"))
    folder = checkout / "data" / "mine"
    (folder / "videos").mkdir(parents=True)
    videos = cycle(sorted((checkout / "data" / "quick").rglob("*.mp4")))
    for name in ("anna", "ben", "chloe", "dev", "eva"):
        shutil.copy(next(videos), folder / "videos" / f"{name}.mp4")
    monkeypatch.chdir(checkout)
    n_commands = 0
    for block in page:
        if block.file:
            block.file.write_text(block.text)
        elif block.language == "bash":
            for words in commands(block.text):
                assert main(words) == 0, words
                n_commands += 1
        else:
            assert set(block.text.splitlines()) <= set(capsys.readouterr().out.splitlines())

    assert n_commands == 5
    assert json.loads((folder / "run" / "scores.json").read_text())["val"]["n_frames"] == 2 * 3
    assert (folder / "run" / "report.html").is_file()
    assert "late_fusion" in capsys.readouterr().out


@pytest.mark.slow
def test_what_extending_adds_is_extracted_and_trained(checkout):
    calls: list[list[str]] = []
    for block in blocks(DOCS / "extending.md"):
        if block.file:
            (checkout / block.file).write_text(block.text)
        elif block.language == "diff":
            apply_edit(checkout, block.text)
        else:
            calls += commands(block.text)

    ended = subprocess.run(  # a new process imports the extended code, of the folder it is in
        [sys.executable, "-c", RUN_ALL, json.dumps(calls)],
        cwd=checkout,
        capture_output=True,
        text=True,
    )

    assert ended.returncode == 0, ended.stderr
    runs = checkout / "data" / "runs"
    for name in ("mel", "lstm", "huber", "mlp"):
        assert (runs / name / "head.safetensors").is_file(), name
    assert len((checkout / "data" / "clip_list.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_exists(page):
    text = page.read_text()
    for target in re.findall(r"\]\((?!https?:)([^)#\s]+)[^)]*\)", text):
        assert (page.parent / target).exists(), target
    created = {str(block.file) for block in blocks(page)}
    for path in re.findall(
        r"(?<![\w/])((?:configs|features|models|flows|tests)/[\w/.-]+\.\w+)", text
    ):
        assert path in created or (ROOT / path).exists(), path


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("data_format", Clip.model_fields),
        ("operations", DecodeLimits.model_fields),
        ("heads", DsplConfig.model_fields.keys() - {"kind"}),
        ("heads", LossConfig.model_fields),
    ],
)
def test_every_field_is_described(page, names):
    described = set(re.findall(r"`(\w+)`", (DOCS / f"{page}.md").read_text()))
    assert described >= set(names)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
