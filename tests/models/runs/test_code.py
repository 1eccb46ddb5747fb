"""What the digest of the code covers, and what it does not."""

import importlib
import subprocess
from pathlib import Path

import pytest

from features.system import provenance
from models.heads.dspl import DsplConfig
from models.runs import code
from models.runs.code import MODULES, ROOT, code_by_module, code_digest, code_of, digest_of_source

SOURCE = (ROOT / "models/nn/fusion.py").read_bytes()
WORDS = """
# A comment.
def double(x):
    \"\"\"Return twice x.\"\"\"
    return 2 * x


class Width:
    \"\"\"A width.\"\"\"

    rows: int = 3
    \"\"\"Rows.\"\"\"
"""


def test_words_and_line_breaks_do_not_change_the_digest():
    bare = "def double(x):\n  return (2\n    * x)\nclass Width:\n  rows: int = 3"
    assert digest_of_source(WORDS.encode()) == digest_of_source(bare.encode())


@pytest.mark.parametrize(("old", "new"), [("2 * x", "3 * x"), ("= 3", "= 4"), ("(x)", "(x=1)")])
def test_what_is_computed_changes_the_digest(old, new):
    assert digest_of_source(WORDS.replace(old, new).encode()) != digest_of_source(WORDS.encode())


def test_each_line_of_the_forward_pass_of_fusion_changes_the_digest():
    lines = SOURCE.decode().splitlines()
    whole, n_changed = digest_of_source(SOURCE), 0
    for k, line in enumerate(lines):
        if line.strip().startswith("return ") and line.rstrip()[-1] not in "([{,":
            indent = line[: len(line) - len(line.lstrip())]
            other = [*lines[:k], f"{indent}return None", *lines[k + 1 :]]
            assert digest_of_source("\n".join(other).encode()) != whole, line
            n_changed += 1
    assert n_changed > 5


def test_the_digest_covers_all_modules_that_make_numbers(tmp_path, monkeypatch):
    found = {**code_by_module()}
    for package in ("nn", "heads", "training", "regions", "data", "metrics"):
        files = {
            f"models/{package}/{file.name}" for file in (ROOT / "models" / package).glob("*.py")
        }
        assert files <= found.keys()
    assert all((ROOT / name).exists() for name in MODULES)

    before = code_digest(DsplConfig())
    monkeypatch.setattr(code, "ROOT", tmp_path)
    for name in found:
        copy = tmp_path / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((ROOT / name).read_bytes())
    code_by_module.cache_clear()
    try:
        assert code_digest(DsplConfig()) == before
        (tmp_path / "models/nn/fusion.py").write_bytes(SOURCE + b"\nWIDTH = 1\n")
        code_by_module.cache_clear()
        assert code_digest(DsplConfig()) != before
    finally:
        code_by_module.cache_clear()


def test_the_package_of_a_plug_in_is_part_of_the_code_of_its_heads(tmp_path, monkeypatch):
    package = tmp_path / "other_head"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "net.py").write_text("WIDTH = 1\n")
    (package / "config.py").write_text("class Config:\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    head = importlib.import_module("other_head.config").Config()
    assert code_of(head).keys() - code_by_module() == {
        f"other_head/{name}.py" for name in ("__init__", "config", "net")
    }
    before = code_digest(head)
    (package / "net.py").write_text("WIDTH = 2\n")
    code._code_of_package.cache_clear()
    assert code_digest(head) != before


def test_the_changes_of_a_checkout_are_kept_as_a_patch_and_those_of_another_one_are_not(
    tmp_path, monkeypatch
):
    def git(*words: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True)

    (tmp_path / "a.py").write_text("x = 1\n")
    git("init")
    git("add", "a.py")
    git("commit", "-m", "First")
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    changes, commit = (ask.__wrapped__ for ask in (provenance.git_changes, provenance.git_commit))
    assert changes() == b""
    assert len(commit()) == 40

    (tmp_path / "a.py").write_text("x = 2\n")
    assert b"-x = 1\n+x = 2\n" in changes()
    assert commit().endswith("+changes")
    inside = tmp_path / "site-packages"
    inside.mkdir()
    monkeypatch.setattr(provenance, "ROOT", Path(inside))
    assert (changes(), commit()) == (b"", None)
