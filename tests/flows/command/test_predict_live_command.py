"""The command `predict --live`: lines on stdout, the summary on stderr, and what it refuses."""

import json
import os
import re
import shlex
import shutil
import signal
import threading
from pathlib import Path

import av
import pytest

from flows.command.main import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def causal(tmp_path_factory, good_set) -> Path:
    folder = shutil.copytree(good_set, tmp_path_factory.mktemp("live") / "good")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(shlex.split("run train-head -c e.yaml run=causal head.windows=causal")) == 0
    return folder


@pytest.fixture
def folder(causal, monkeypatch, capsys) -> Path:
    monkeypatch.chdir(causal)
    capsys.readouterr()
    return causal


def test_a_file_is_written_as_json_lines_and_summed_up(folder, capsys):
    assert main(shlex.split("predict causal --live c0.mp4 --frames whole")) == 0
    captured = capsys.readouterr()
    lines = [json.loads(line) for line in captured.out.splitlines()]
    assert [line["frame"] for line in lines] == list(range(1, 31))
    assert list(lines[0]) == [
        "frame", "time_s", "person", "box", "valid", "valence", "arousal", "region",
        "region_probability", "delay_s",
    ]  # fmt: skip
    assert all(line["valid"] and abs(line["valence"]) <= 1 for line in lines)
    assert all(line["delay_s"] > 0 for line in lines)
    assert "live: a frame waits up to 0.95 s for the sound around it" in captured.err
    says = r"30 frames in, 30 predicted \(30 with somebody\), 0 dropped; .* frames a second; delay"
    assert re.search(says, captured.err)


def test_a_signal_ends_a_stream_with_its_rows_and_the_summary(folder, capsys, tmp_path):
    """The pipe stays open: without the signal the command would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    ended = threading.Event()

    def record() -> None:
        with (tmp_path / "pipe").open("wb") as pipe:
            pipe.write((folder / "c0.mkv").read_bytes())
            os.kill(os.getpid(), signal.SIGTERM)
            ended.wait()

    with av.open("c0.mp4") as source, av.open("c0.mkv", "w") as copy:
        streams = {s.index: copy.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                copy.mux(packet)
    writer = threading.Thread(target=record)
    writer.start()
    try:
        status = main(shlex.split(f"predict causal --live {tmp_path / 'pipe'} --frames whole"))
    finally:
        ended.set()
        writer.join()
    assert status == 0
    captured = capsys.readouterr()
    n_rows = len(captured.out.splitlines())
    assert f" frames in, {n_rows} predicted" in captured.err


REFUSED = {
    "a dense head": ("predict r --live c0.mp4", "train one with head.windows=causal"),
    "an output": ("predict causal --live c0.mp4 -o out", "--output: not with --live"),
    "a key": ("predict causal --live c0.mp4 overlay=true", "overlay: not with --live"),
    "videos": ("predict causal c0.mp4 --live c1.mp4", "needs a RUN and no videos, and 2 words"),
    "nothing": ("predict causal --live none.mkv", "none.mkv cannot be read .No such file"),
    "no pause": ("predict causal --live c0.mp4 --follow 0", "follow = 0: must be more than 0"),
    "no stream": ("predict causal c0.mp4 -o out --follow", "are of a stream: give it with --live"),
    "no folder": ("predict causal c0.mp4", "needs a folder to write to: -o OUT"),
    "no run": ("predict crops --live c0.mp4", "no trained head at crops/head.safetensors"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name, folder, capsys):
    command, says = REFUSED[name]
    assert main(shlex.split(command)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.search(says, captured.err), captured.err
