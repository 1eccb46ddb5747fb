import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from features.errors import VaflowError
from features.system import parallel as processes
from features.system.parallel import map_in_processes

WAITS = """
import multiprocessing, sys, time
from features.system.parallel import map_in_processes
if __name__ == "__main__":
    print("begun", flush=True)
    try:
        list(map_in_processes(time.sleep, [1, 60, 60, 60]))
    except KeyboardInterrupt:
        print("left", len(multiprocessing.active_children()), flush=True)
        raise SystemExit(130)
"""


def test_ctrl_c_ends_the_processes_at_once(tmp_path):
    (tmp_path / "waits.py").write_text(WAITS)
    child = subprocess.Popen(
        [sys.executable, str(tmp_path / "waits.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=Path(processes.__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(processes.__file__).parents[2])},
    )
    assert child.stdout.readline() == "begun\n"
    time.sleep(2)
    os.killpg(child.pid, signal.SIGINT)  # as a terminal does
    out, error = child.communicate(timeout=30)
    assert child.returncode == 130
    assert out.startswith("left ")
    assert "Traceback" not in error


def test_results_come_in_the_order_of_the_items():
    assert list(map_in_processes(abs, [-3, 2, -1])) == [3, 2, 1]


def test_a_process_that_is_killed_is_one_message():
    with pytest.raises(VaflowError, match="was killed .*; run the same again: what is done is kep"):
        list(map_in_processes(os._exit, [9]))


def test_another_thread_than_the_first_may_start_processes():
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.extend(map_in_processes(abs, [-1])))
    thread.start()
    thread.join()
    assert found == [1]
