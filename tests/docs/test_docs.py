"""The documentation matches the code: its blocks run, its links and its tables are complete."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from features.clip import Clip
from features.media.limits import DecodeLimits
from flows.command.main import main
from models.heads.dspl import DsplConfig
from models.training.loss_config import LossConfig

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted(DOCS.rglob("*.md")),
    *(ROOT / folder / "README.md" for folder in ("configs", "flows", "data", "benchmarks")),
]
MARKED = re.compile(
    r"<!-- (run|edit|file: (?P<file>\S+)) -->\n```(?P<language>\w+)\n(?P<text>.*?)```", re.S
)
COMMAND = ".venv/bin/vaflow"
RUN_ALL = """
import json, sys
from flows.command.main import main
for words in json.loads(sys.argv[1]):
    if status := main(words):
        sys.exit(f"{words} ended with {status}")
"""


@dataclass(frozen=True)
class Block:
    """A marked block of a page."""

    language: str
    text: str
    file: Path | None
    """Where the block is to be written."""


def blocks(page: Path) -> Iterator[Block]:
    """The marked blocks of a page, in order."""
    for match in MARKED.finditer(page.read_text()):
        file = match["file"]
        yield Block(match["language"], match["text"], Path(file) if file else None)


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
