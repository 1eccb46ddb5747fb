import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from features.errors import VaflowError
from features.system.parallel import map_in_processes

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).parents[3]

SLEEPS = """
import time
from features.system.parallel import map_in_processes
if __name__ == "__main__":
    try:
        for _ in map_in_processes(time.sleep, [0, 600, 600, 600]):
            print("one result", flush=True)
    except KeyboardInterrupt:
        raise SystemExit(130)
"""


def test_sigint_ends_the_processes_at_once(tmp_path):
    (tmp_path / "sleeps.py").write_text(SLEEPS)
    child = subprocess.Popen(
        [sys.executable, str(tmp_path / "sleeps.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )
    assert child.stdout.readline() == "one result\n"  # so all processes were started
    os.killpg(child.pid, signal.SIGINT)  # as a terminal does
    _, error = child.communicate(timeout=300)  # the items would sleep for longer
    assert child.returncode == 130
    assert "KeyboardInterrupt" not in error  # of a process; Python itself may fail to close a pipe


def test_results_are_in_the_order_of_the_items():
    assert list(map_in_processes(abs, [-3, 2, -1])) == [3, 2, 1]


def test_a_killed_process_is_reported_in_one_message():
    with pytest.raises(VaflowError, match="was killed .*; run the same again: what is done is kep"):
        list(map_in_processes(os._exit, [9]))


def test_a_thread_other_than_the_main_one_can_start_processes():
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.extend(map_in_processes(abs, [-1])))
    thread.start()
    thread.join()
    assert found == [1]
