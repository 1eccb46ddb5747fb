"""A device that is held: with locks that are real, and GPUs that are not."""

import os
import signal
import threading
import time
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
    """Two GPUs, as far as torch can tell."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr(
        "torch.cuda.get_device_properties", lambda n: SimpleNamespace(uuid=f"GPU-{n}")
    )
    monkeypatch.setattr("features.system.devices.gettempdir", lambda: str(tmp_path))


def test_each_process_takes_a_gpu_of_its_own_and_the_next_waits(gpus, caplog, monkeypatch):
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
    said = [record.message for record in caplog.records]
    assert said == ["another extraction holds each of the 2 GPUs; this one waits for it to end"]


def test_a_gpu_that_is_named_is_the_one_that_is_held(gpus, tmp_path):
    device, lock = acquire_device(torch_device("cuda:1"))
    assert device == torch.device("cuda:1")
    assert lock is not None
    assert try_lock(lock.path) is None
    assert Runtime("cuda").device == torch.device("cuda:0")


def test_a_gpu_that_is_not_there_is_named(gpus):
    with pytest.raises(InputError, match=r"device=cuda:2, but torch finds 2 GPUs, counted from"):
        torch_device("cuda:2")


def test_without_a_gpu_it_is_said():
    with pytest.raises(InputError, match="device=cuda:0, but torch finds no GPU"):
        torch_device("cuda:0")


def test_the_cpu_is_shared():
    assert acquire_device(torch.device("cpu")) == (torch.device("cpu"), None)


def test_the_first_free_lock_is_taken(tmp_path):
    paths = [tmp_path / f"{k}.lock" for k in range(3)]
    taken = try_lock(paths[0])
    place, lock = first_free_lock(paths, lambda: pytest.fail("one is free"))
    assert (place, lock.path) == (1, paths[1])
    assert taken is not None


def test_an_encoder_is_loaded_once(station, tiny_clip, monkeypatch):
    config = ClipConfig(**tiny_clip)
    found = station.encoder(config)
    assert station.encoder(ClipConfig(**tiny_clip)) is found
    station.close()
    assert station.encoder(config) is not found


def pids(decoders) -> list[int]:
    return [decoder.client.pid for decoder in decoders]


def read_in_a_thread(decoder, video) -> None:
    """Which has the process started, where there is none, by a thread that ends."""
    thread = threading.Thread(target=decoder.probe, args=(video,))
    thread.start()
    thread.join()
    assert decoder.probe(video).n_frames == 50


def test_decoders_and_their_processes_are_kept_for_whoever_comes_next(station, make_video):
    video = make_video()
    with station.decoders(2, DEFAULT_LIMITS) as decoders:
        read_in_a_thread(decoders[0], video)
        first = pids(decoders)
    with station.decoders(1, DEFAULT_LIMITS) as decoders:
        assert pids(decoders) == first[:1]
    with station.decoders(3, DEFAULT_LIMITS) as decoders:
        assert pids(decoders)[:2] == first
    station.close()
    assert not any(psutil.pid_exists(pid) for pid in first)


def test_a_decoder_outlives_the_thread_that_had_it_started(station, make_video):
    video = make_video()
    with station.decoders(1, DEFAULT_LIMITS) as (decoder,):
        decoder.probe(video)
        os.kill(decoder.client.pid, signal.SIGKILL)  # as a crash does
        with pytest.raises(MediaError, match="was ended by SIGKILL"):
            decoder.probe(video)
        read_in_a_thread(decoder, video)
        before = pids([decoder])
        time.sleep(0.3)
        assert decoder.probe(video).n_frames == 50
        assert pids([decoder]) == before


def test_other_limits_and_a_failure_make_new_decoders(station, make_video):
    with station.decoders(1, DEFAULT_LIMITS) as decoders:
        first = decoders
    other = DEFAULT_LIMITS.model_copy(update={"frames": 10})
    with station.decoders(1, other) as decoders:
        with pytest.raises(MediaError, match=r"limits\.frames"):
            decoders[0].probe(make_video())
        assert decoders != first
        first = decoders

    def ends() -> None:
        with station.decoders(1, other) as decoders:
            assert decoders == first
            decoders[0].client.stop()  # as one is that reads when another fails
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ends()
    with station.decoders(1, other) as (decoder,):
        assert decoder.probe(make_video(time_s=np.arange(9) / 25)).n_frames == 9
