"""The runtime of a process, with real locks and pretended GPUs."""

import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch

from features.encoders.clip import ClipConfig
from features.errors import InputError, MediaError
from features.extraction.runtime import Runtime
from features.media.limits import DEFAULT_LIMITS
from features.system.devices import acquire_device, first_free_lock, torch_device
from features.system.locks import try_lock


@pytest.fixture
def gpus(monkeypatch, tmp_path):
    """Have torch report two GPUs."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr(
        "torch.cuda.get_device_properties", lambda n: SimpleNamespace(uuid=f"GPU-{n}")
    )
    monkeypatch.setattr("features.system.devices.gettempdir", lambda: str(tmp_path))


def test_each_runtime_takes_a_free_gpu_and_the_next_one_waits(gpus, caplog, monkeypatch):
    first, second = Runtime("cuda"), Runtime("auto")
    assert (first.device, second.device) == (torch.device("cuda:0"), torch.device("cuda:1"))
    waited = []

    def wait(_):
        waited.append(1)
        if len(waited) == 3:
            second.close()

    monkeypatch.setattr("features.system.devices.time.sleep", wait)
    assert Runtime("cuda").device == torch.device("cuda:1")
    assert len(waited) == 3
    assert [record.message for record in caplog.records] == [
        "another extraction holds each of the 2 GPUs; this one waits for it to end"
    ]


def test_a_gpu_with_a_number_is_the_one_that_is_locked(gpus, tmp_path):
    device, lock = acquire_device(torch_device("cuda:1"))
    assert device == torch.device("cuda:1")
    assert lock is not None
    assert try_lock(lock.path) is None
    assert Runtime("cuda").device == torch.device("cuda:0")


def test_a_missing_gpu_is_refused_by_its_number(gpus):
    with pytest.raises(InputError, match=r"device=cuda:2, but torch finds 2 GPUs, counted from"):
        torch_device("cuda:2")


def test_a_gpu_is_refused_if_there_is_none():
    with pytest.raises(InputError, match="device=cuda:0, but torch finds no GPU"):
        torch_device("cuda:0")


def test_the_cpu_is_not_locked():
    assert acquire_device(torch.device("cpu")) == (torch.device("cpu"), None)


def test_the_first_free_lock_is_taken(tmp_path):
    paths = [tmp_path / f"{k}.lock" for k in range(3)]
    taken = try_lock(paths[0])
    index, lock = first_free_lock(paths, lambda: pytest.fail("one is free"))
    assert (index, lock.path) == (1, paths[1])
    assert taken is not None


def test_an_encoder_is_loaded_once(runtime, tiny_clip, monkeypatch):
    config = ClipConfig(**tiny_clip)
    encoder = runtime.encoder(config)
    assert runtime.encoder(ClipConfig(**tiny_clip)) is encoder
    runtime.close()
    assert runtime.encoder(config) is not encoder


def pids(decoders) -> list[int]:
    return [decoder.client.pid for decoder in decoders]


def read_in_a_thread(decoder, video) -> None:
    """Read in a thread that ends, which starts the decoding process if there is none."""
    thread = threading.Thread(target=decoder.probe, args=(video,))
    thread.start()
    task = Path(f"/proc/self/task/{thread.native_id}")
    thread.join()
    while task.exists():  # the kernel ends it after Python does, and signals its children then
        time.sleep(0.01)
    assert decoder.probe(video).n_frames == 50


def test_decoders_and_their_processes_are_reused(runtime, make_video):
    video = make_video()
    with runtime.decoders(2, DEFAULT_LIMITS) as decoders:
        read_in_a_thread(decoders[0], video)
        first = pids(decoders)
    with runtime.decoders(1, DEFAULT_LIMITS) as decoders:
        assert pids(decoders) == first[:1]
    with runtime.decoders(3, DEFAULT_LIMITS) as decoders:
        assert pids(decoders)[:2] == first
    runtime.close()
    assert not any(psutil.pid_exists(pid) for pid in first)


def test_a_decoding_process_outlives_the_thread_that_started_it(runtime, make_video):
    video = make_video()
    with runtime.decoders(1, DEFAULT_LIMITS) as (decoder,):
        decoder.probe(video)
        os.kill(decoder.client.pid, signal.SIGKILL)  # as a crash does
        with pytest.raises(MediaError, match="was ended by SIGKILL"):
            decoder.probe(video)
        read_in_a_thread(decoder, video)
        before = pids([decoder])
        assert decoder.probe(video).n_frames == 50
        assert pids([decoder]) == before


def test_other_limits_and_a_failure_make_new_decoders(runtime, make_video):
    with runtime.decoders(1, DEFAULT_LIMITS) as decoders:
        first = decoders
    other = DEFAULT_LIMITS.model_copy(update={"frames": 10})
    with runtime.decoders(1, other) as decoders:
        with pytest.raises(MediaError, match=r"limits\.frames"):
            decoders[0].probe(make_video())
        assert decoders != first
        first = decoders

    def fail() -> None:
        with runtime.decoders(1, other) as decoders:
            assert decoders == first
            decoders[0].client.stop()  # as `prefetch` does when a reader fails
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    with runtime.decoders(1, other) as (decoder,):
        assert decoder.probe(make_video(time_s=np.arange(9) / 25)).n_frames == 9
