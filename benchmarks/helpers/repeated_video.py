"""A video of any length, which is a short one over and over."""

from pathlib import Path

import av

PAUSE_S = 0.2  # between repetitions: a packet may be due before the first frame


def repeat(video: Path, stream: Path, seconds: float) -> list[tuple[float, int]]:
    """Write the video over and over as MPEG-TS; returns the time and the last byte of frames."""
    due: list[tuple[float, int]] = []
    with av.open(str(stream), "w", format="mpegts", options={"flush_packets": "1"}) as container:
        with av.open(str(video)) as source:
            streams = {s.index: container.add_stream_from_template(s) for s in source.streams}
        start_s = 0.0
        while start_s < seconds:
            end_s = start_s
            with av.open(str(video)) as source:
                for packet in source.demux():
                    if packet.dts is None or packet.time_base is None:
                        continue
                    shift = round(start_s / packet.time_base)
                    packet.pts, packet.dts = (packet.pts or 0) + shift, packet.dts + shift
                    time_s = float(packet.pts * packet.time_base)
                    end_s = max(end_s, time_s + float((packet.duration or 0) * packet.time_base))
                    is_video = packet.stream.type == "video"
                    packet.stream = streams[packet.stream.index]
                    container.mux(packet)
                    if is_video:
                        due.append((time_s, stream.stat().st_size))
            start_s = end_s + PAUSE_S
    return due
