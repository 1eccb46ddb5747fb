"""The comparison of trained runs, and its page as a file."""

from collections.abc import Sequence
from pathlib import Path

from features.errors import InputError
from features.printable import printable
from features.system.files import write_atomic
from models.comparison.compare import RunComparison, compare_runs
from models.data.data_sets import Manifests, Stores


def compare(
    runs: Sequence[Path],
    *,
    output: Path | None = None,
    manifest: Manifests | None = None,
    store: Stores | None = None,
) -> RunComparison:
    """Compare runs with the first of them, and write the page to `output` if it is given.

    Raises as `compare_runs` does, and `InputError` if the page cannot be put there.
    """
    if output and (output.is_dir() or not output.parent.is_dir()):
        raise InputError(f"{output} cannot hold the page; name a file in a folder that exists")
    comparison = compare_runs(runs, manifest, store)
    if output:
        from models.comparison.html import comparison_page  # imports matplotlib, which is slow

        write_atomic(output, printable(comparison_page(comparison)).encode())
    return comparison
