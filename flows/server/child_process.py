"""A Prefect command as a process that does not outlive its parent.

`python -m flows.server.child_process PID server start ...`, where PID is the parent. Usually
`flows.server.serve` ends its processes in order; this holds if it is killed itself.
"""

import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from os import getpid
from pathlib import Path

from features.media.worker.rlimits import die_with_parent


def tied_command(
    words: Sequence[str], env: Mapping[str, str], log: Path
) -> subprocess.Popen[bytes]:
    """Start the command in a new session, so that Ctrl-C does not reach it; it writes to `log`."""
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "flows.server.child_process", str(getpid()), *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=env,
        )


if __name__ == "__main__":
    die_with_parent(int(sys.argv.pop(1)))
    runpy.run_module("prefect", run_name="__main__", alter_sys=True)
