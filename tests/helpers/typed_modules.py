"""The cache of the modules whose types jaxtyping checks, which several processes may share.

While jaxtyping imports a module, it has Python look for its own compiled form of whatever that
module imports: torch and the other libraries would be compiled in every process of the tests.
"""

import hashlib
import marshal
import os
from contextlib import suppress
from importlib.machinery import SourceFileLoader
from importlib.util import cache_from_source
from types import CodeType

import beartype
import jaxtyping
from jaxtyping import _import_hook

VERSIONS = f"{jaxtyping.__version__} {beartype.__version__}"


class CachingLoader(_import_hook._JaxtypingLoader):
    """Keeps the compiled form of a module by the digest of its source."""

    exec_module = SourceFileLoader.exec_module

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        source = self.get_data(path)
        identity = f"{VERSIONS} {self._typechecker.get_hash()} {path}\n"
        digest = hashlib.sha256(identity.encode() + source).digest()
        cached = cache_from_source(path, optimization="jaxtyping")
        with suppress(OSError):
            content = self.get_data(cached)
            if content.startswith(digest):
                return marshal.loads(content[len(digest) :])
        code = self.source_to_code(source, path)
        own = f"{cached}.{os.getpid()}"
        with suppress(OSError):  # a folder that cannot be written to
            os.makedirs(os.path.dirname(cached), exist_ok=True)
            with open(own, "wb") as file:
                file.write(digest + marshal.dumps(code))
            os.replace(own, cached)
        return code


def use_cache() -> None:
    """Have jaxtyping import modules through the cache."""
    _import_hook._JaxtypingLoader = CachingLoader
