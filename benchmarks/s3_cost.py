"""What an object store is asked, counted by a server on this machine, and what that would cost.

Two runs of a few clips and of more are made with the shipped encoders; what a further clip adds is
the difference. Prices are Amazon's list prices for S3 Standard in us-east-1 as commonly quoted
(https://aws.amazon.com/s3/pricing/), not looked up when this runs: give others where they differ.
"""

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.helpers.encoder_configs import DEMO_AST, DEMO_CLIP
from benchmarks.helpers.media_sets import MEDIA, Shape, make_set
from features.encoders.ast import AstConfig
from features.encoders.clip import ClipConfig
from features.extraction.extract import extract_features
from features.extraction.options import ExtractionOptions
from features.maintenance.status import status
from features.maintenance.verify import verify
from features.store.s3_client import filesystem

USD_A_THOUSAND = {"list": 0.005, "put": 0.005, "get": 0.0004, "head": 0.0004, "delete": 0.0}
USD_A_GB_MONTH = 0.023
FEW, MORE = 2, 6  # clips
SHAPE = Shape(2, fps=10)
WAIT_S = 60  # for the server
REQUEST = re.compile(r'"([A-Z]+) (\S+) HTTP/1\.[01]"')


@dataclass(frozen=True, slots=True)
class Asked:
    """Requests by kind: what every run asks, and what each clip adds."""

    once: Counter[str]
    each: dict[str, float]

    def of(self, n_clips: int) -> dict[str, float]:
        """Of a run over so many clips."""
        return {kind: self.once[kind] + n_clips * self.each[kind] for kind in USD_A_THOUSAND}


def cost_usd(requests: dict[str, float], prices: dict[str, float]) -> float:
    """What these requests cost."""
    return sum(n * prices[kind] / 1000 for kind, n in requests.items())


def asked() -> tuple[dict[str, Asked], int]:
    """What a run asks that finds nothing and stores all, one that finds all, and the commands.

    With both shipped encoders; and how many objects a clip has then.
    """
    counts: dict[str, dict[int, Counter[str]]] = {}
    objects = {}
    with tempfile.TemporaryDirectory() as scratch, _served(Path(scratch)) as log:
        for n_clips in (FEW, MORE):
            url = f"s3://bench/of-{n_clips}"
            ways = _ways(make_set(MEDIA, SHAPE, n_clips, n_files=2), url)
            for name, way in ways.items():
                before = _kinds(log)
                way()
                counts.setdefault(name, {})[n_clips] = _kinds(log) - before
            objects[n_clips] = len(filesystem(url).find(url.removeprefix("s3://")))
    per_clip = (objects[MORE] - objects[FEW]) // (MORE - FEW)
    return {name: _asked(found) for name, found in counts.items()}, per_clip


def _ways(manifest: Path, url: str) -> dict[str, Callable[[], object]]:
    """What is done to a store that is not there yet, in this order."""
    encoders = [ClipConfig(**DEMO_CLIP), AstConfig(**DEMO_AST)]
    options = ExtractionOptions(url, tuple(encoders), device="cpu")
    extract = partial(extract_features, manifest, options)
    look, read = partial(status, url, manifest), partial(verify, url)
    return {"extract": extract, "again": extract, "status": look, "verify": read}


def _asked(counts: dict[int, Counter[str]]) -> Asked:
    """What is asked once, and for each clip."""
    each = {
        kind: (counts[MORE][kind] - counts[FEW][kind]) / (MORE - FEW) for kind in USD_A_THOUSAND
    }
    once = Counter({kind: round(counts[FEW][kind] - FEW * n) for kind, n in each.items()})
    return Asked(once, each)


def _kinds(log: Path) -> Counter[str]:
    """Requests that the server has seen, by kind."""
    found: Counter[str] = Counter()
    for method, path in REQUEST.findall(log.read_text()):
        found["list" if method == "GET" and "list-type=" in path else method.lower()] += 1
    return found


@contextmanager
def _served(folder: Path) -> Iterator[Path]:
    """Within, an S3 server with a bucket is there for this process; its log."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "server.log"
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "XDG_STATE_HOME": str(folder / "state"),
    }
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log.open("w") as lines, subprocess.Popen(command, stdout=lines, stderr=lines) as server:
        try:
            until_s = time.monotonic() + WAIT_S
            while socket.socket().connect_ex(("127.0.0.1", port)):
                if server.poll() is not None or time.monotonic() > until_s:
                    raise SystemExit(f"the S3 server did not start:\n{log.read_text()}")
                time.sleep(0.1)
            from s3fs import S3FileSystem

            S3FileSystem().mkdir("bench")
            yield log
        finally:
            server.kill()
