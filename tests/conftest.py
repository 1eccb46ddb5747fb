"""What tests share: small real media, and small seeded encoders of the real classes."""

import gc
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

# `make test` runs one process per core, in which more threads would wait for each other.
# The variables reach the commands that tests start, too.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

# A background job of a script is started with SIGINT ignored, and what tests start would inherit it
# (test_parallel.py and test_decoder.py interrupt such processes).
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Modules are imported by the thousand while tests are collected, and none is garbage.
gc.disable()

# What pytest and jaxtyping compile while tests are collected is kept for the next process, which
# would take 10 s for it. Commands that tests start keep nothing, as some of them are killed.
sys.dont_write_bytecode = False
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"

import pytest
from hypothesis import settings
from threadpoolctl import threadpool_limits

from tests.helpers import typed_modules

typed_modules.use_cache()

# Without a deadline, a busy machine passes, too. The same examples in every run: a test fails with
# the change that breaks it. `pytest --hypothesis-profile=random` draws others.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("random", deadline=None, max_examples=1000)
settings.load_profile("repeatable")

# In the first process jaxtyping's plugin has loaded numpy by now, which reads the variables once.
threadpool_limits(1)


# A fixture imports what it needs: torch and transformers take seconds, and the process that only
# hands out tests to the others needs neither.


LONGEST = (  # in the order of their duration; a file that is missing here only starts later
    "test_deployments.py",
    "test_flows.py",
    "test_bad_input.py",
    "test_dask_shards.py",
    "test_train_ensemble.py",
    "test_s3.py",
    "test_durability.py",
)
ONE_SERVER = (  # use the fixture `server`
    "test_flows.py",
    "test_artifacts.py",
    "test_logs.py",
    "test_names.py",
    "test_dask_shards.py",
)


MARKS = re.compile(r"^pytestmark = (?:.*\n)*?(?=\n|\Z)", re.MULTILINE)  # of a whole module


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import a module only to leave all its tests out: it takes longer than most tests."""
    left_out = re.findall(r"\bnot (\w+)", config.option.markexpr)
    if not left_out or collection_path.suffix != ".py":
        return None
    found = MARKS.search(collection_path.read_text())
    return any(found and re.search(rf"\bmark\.{name}\b", found[0]) for name in left_out) or None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest modules first, then the slow ones: the last one to end is then short."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}

    def rank(item: pytest.Item) -> tuple[int, bool]:
        name = item.path.name
        return LONGEST.index(name) if name in LONGEST else len(LONGEST), item.path not in slow

    items.sort(key=rank)  # stable: the order is kept otherwise


def pytest_collection_finish() -> None:
    """Spare garbage collections the millions of objects that were imported."""
    gc.freeze()
    gc.enable()
    sys.dont_write_bytecode = True


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """Give the files that need a Prefect server to the same process, which then starts only one."""
    from xdist.scheduler import LoadFileScheduling

    class OneServerScheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "server" if Path(file).name in ONE_SERVER else file

    return OneServerScheduling(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.fixture(scope="session", autouse=True)
def fsync_without_waiting() -> Iterator[None]:
    """Spare the tests the wait for the disk, milliseconds for each file that is published.

    It is of use only against a power cut, which no test makes. The commands that tests start wait.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)  # which refuses what is no open file, too
        yield


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory) -> dict[str, str]:
    """`model` and `pretrained` of a seeded CLIP, as local files."""
    import torch
    from open_clip.model import CLIP
    from safetensors.torch import save_file

    from tests.helpers.small_media import TINY_CLIP

    folder = tmp_path_factory.mktemp("tiny_clip")
    (folder / "tiny-clip.json").write_text(json.dumps(TINY_CLIP))
    torch.manual_seed(0)
    save_file(CLIP(**TINY_CLIP).state_dict(), folder / "tiny-clip.safetensors")
    return {
        "model": str(folder / "tiny-clip.json"),
        "pretrained": str(folder / "tiny-clip.safetensors"),
    }


@pytest.fixture(scope="session")
def tiny_ast(tmp_path_factory) -> str:
    """The folder of a seeded AST with windows of 1.28 s."""
    import torch
    from transformers import ASTConfig, ASTFeatureExtractor, ASTModel

    from tests.helpers.small_media import TINY_AST

    folder = tmp_path_factory.mktemp("tiny_ast")
    torch.manual_seed(0)
    ASTModel(ASTConfig(**TINY_AST)).save_pretrained(folder)
    ASTFeatureExtractor(max_length=TINY_AST["max_length"]).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def decoder():
    """A process that decodes, as readers have one."""
    from features.media.decoder import Decoder
    from features.media.limits import DecodeLimits

    with closing(Decoder(DecodeLimits())) as process:
        yield process


@pytest.fixture(scope="session")
def kept_runtime():
    """A runtime on the CPU that is never closed, as that of a Dask worker: it keeps its decoding
    processes for the next extraction, each of which takes half a second to start."""
    from features.extraction.runtime import Runtime

    class KeptRuntime(Runtime):
        is_free = True

        def encoder(self, config):
            return config.build(self.device)  # a test may have changed the weights

        def close(self):
            self.is_free = True

    runtime = KeptRuntime("cpu")
    yield runtime
    Runtime.close(runtime)


@pytest.fixture(scope="session")
def kept_decoder():
    """A function that gives a decoder with some limits, the same each time; it is never closed."""
    from features.media.decoder import Decoder
    from features.media.limits import DecodeLimits

    class KeptDecoder(Decoder):
        def close(self) -> None:
            """Keep the process for the next one who asks."""

    made: dict[DecodeLimits, Decoder] = {}
    yield lambda limits: made.setdefault(limits, KeptDecoder(limits))  # starts no process yet
    for decoder in made.values():
        Decoder.close(decoder)


@pytest.fixture(scope="module", autouse=True)
def keep_decoders(request) -> Iterator[None]:
    """Extractions on the CPU in the process of the tests share `kept_runtime`, and all that asks a
    decoder only a few questions, such as `status`, shares `kept_decoder`."""
    if "features.extraction.extract" not in sys.modules:  # no test that was collected extracts
        yield
        return
    from features.extraction.runtime import Runtime
    from features.system.devices import torch_device

    kept = request.getfixturevalue("kept_runtime")

    def free_runtime(name):
        if torch_device(name).type != "cpu" or not kept.is_free:
            return Runtime(name)
        kept.is_free = False
        return kept

    with pytest.MonkeyPatch.context() as patch:
        for module in ("extract", "shards"):
            patch.setattr(f"features.extraction.{module}.Runtime", free_runtime)
        for module in (
            "datasets.affwild2",
            "datasets.entries",
            "extraction.dry_run",
            "freshness.media_digests",
        ):
            patch.setattr(f"features.{module}.Decoder", request.getfixturevalue("kept_decoder"))
        yield


@pytest.fixture(scope="session")
def good_set(tmp_path_factory, tiny_clip, tiny_ast) -> Path:
    """Four clips with store and run, which takes seconds to make: tests work on copies of it."""
    from tests.helpers.bad_input import write_good

    return write_good(tmp_path_factory.mktemp("good"), tiny_clip, tiny_ast)


@pytest.fixture
def runtime():
    """A runtime on the CPU that has loaded nothing."""
    from features.extraction.runtime import Runtime

    with closing(Runtime("cpu")) as runtime:
        yield runtime


@pytest.fixture(scope="session")
def server():
    """A temporary Prefect server, which takes ten seconds to start."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def make_video(tmp_path) -> Callable[..., Path]:
    """Write an H.264 video with given timestamps, and AAC sound if samples are given."""
    from tests.helpers.small_media import write_video

    def make(name: str = "clip.mp4", **contents) -> Path:
        return write_video(tmp_path / name, **contents)

    return make


@pytest.fixture
def make_crops(tmp_path) -> Callable[..., Path]:
    """Write crops for the given frame numbers."""
    from PIL import Image

    from tests.helpers.small_media import draw_frames

    def make(numbers: list[int], name: str = "crops", seed: int = 0, side_px: int = 112) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        pictures = draw_frames(max(numbers), seed, side_px)
        for number in numbers:
            Image.fromarray(pictures[number - 1]).save(folder / f"{number:05d}.jpg", quality=95)
        return folder

    return make


@pytest.fixture(scope="session")
def inputs():
    """What a head is built from."""
    from tests.helpers.small_heads import head_inputs

    return head_inputs()
