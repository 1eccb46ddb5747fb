import gc
import subprocess
import sys

import pytest

from features.system.memory import gc_paused

QUESTION = """
import resource
from features.system.memory import keep_freed_memory

def faults() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        bytes(48 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

{keep}
faults()
print(faults())
"""


def faults(keep: str) -> int:
    """Pages that the system clears for twenty blocks of 48 MB, one after the other."""
    asked = [sys.executable, "-c", QUESTION.format(keep=keep)]
    return int(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)


def test_what_is_freed_is_taken_again_without_a_new_page():
    assert faults("assert keep_freed_memory()") * 10 < faults("")


def test_the_collector_is_paused_inside_and_restored_afterwards():
    assert gc.isenabled()
    with gc_paused(), gc_paused():
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    try:
        with pytest.raises(ZeroDivisionError), gc_paused():
            raise ZeroDivisionError
        assert not gc.isenabled()
    finally:
        gc.enable()
