"""The digest of the code that makes the numbers of a run: a change of it makes another run.

It is taken over syntax trees without docstrings and comments, so that words do not count.
"""

import ast
import hashlib
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

from features.canonical_json import canonical_sha256

ROOT = Path(__file__).parents[2]
ROOT_PACKAGE = "models"
MODULES = (
    "features/manifest/label_clock.py",
    "features/manifest/labels.py",
    "models/data",
    "models/heads",
    "models/metrics",
    "models/nn",
    "models/regions",
    "models/stages/pseudo_labels.py",
    "models/stages/text_prior.py",
    "models/training",
)
"""The modules and packages, from the root: all that the values of weights and scores pass."""


@cache
def code_by_module() -> Mapping[str, str]:
    """Return the sha256 of the syntax tree of each module; computed once per process."""
    paths = (ROOT / name for name in MODULES)
    files = sorted(
        file for path in paths for file in ([path] if path.is_file() else path.rglob("*.py"))
    )
    return MappingProxyType(
        {str(file.relative_to(ROOT)): digest_of_source(file.read_bytes()) for file in files}
    )


def code_of(head: object) -> dict[str, str]:
    """Return the sha256 of each module that makes the numbers of a head with this config.

    If the config is a plug-in's, these include all modules of its package.
    """
    return {**code_by_module(), **_code_of_package(type(head).__module__.partition(".")[0])}


def code_digest(head: object) -> str:
    """Return one sha256 of all modules that make the numbers of a head with this config."""
    return canonical_sha256(code_of(head))


@cache
def _code_of_package(name: str) -> Mapping[str, str]:
    if name == ROOT_PACKAGE or not (file := getattr(sys.modules[name], "__file__", None)):
        return {}
    path = Path(file)
    files = sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]
    base = path.parent.parent if path.name == "__init__.py" else path.parent
    return {str(each.relative_to(base)): digest_of_source(each.read_bytes()) for each in files}


def digest_of_source(source: bytes) -> str:
    """Return the sha256 of the syntax tree of a module, without docstrings and comments.

    The tree is written as source again, because its other forms differ between versions of Python.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):  # that of a lambda is no list
            body[:] = [each for each in body if not _is_string(each)] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()


def _is_string(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
