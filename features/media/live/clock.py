"""The clock of a live stream: presentation times that go on where timestamps jump."""

from typing import Literal

from features.media.clock import MAX_STEP_BACK_S, MAX_STEP_FORWARD_S
from features.timeline import LONE_FRAME_S

MAX_PAUSE_S = 600.0  # where a format's clock does not start again, a longer pause is a jump, too

TrackKind = Literal["video", "audio"]


class LiveClock:
    """Presentation times of the frames of both tracks, without knowing what comes.

    A track's clock jumps if its times go back by more than 0.1 s or forward by more than a pause.
    It then goes on from its last time, or is shifted as the other track was at its own jump, so
    that both stay in step. Frames of video get increasing times. With `from_zero`, the first frame
    is at 0, whatever its timestamp.
    """

    def __init__(self, *, may_restart: bool, from_zero: bool = False) -> None:
        self._from_zero = from_zero
        self._max_pause_s = MAX_STEP_FORWARD_S if may_restart else MAX_PAUSE_S
        self._shift_s: dict[TrackKind, float] = {"video": 0.0, "audio": 0.0}
        self._last_s: dict[TrackKind, float] = {}
        self._step_s = LONE_FRAME_S
        self.n_jumps = 0

    def video_s(self, stamp_s: float | None) -> float:
        """Return the time of the next frame; one without a usable timestamp is a step later."""
        last_s = self._last_s.get("video")
        time_s = self._time_s("video", stamp_s, self._step_s)
        if last_s is not None:
            if time_s > last_s:
                self._step_s = time_s - last_s
            else:
                time_s = last_s + self._step_s
        self._last_s["video"] = time_s
        return time_s

    def audio_s(self, stamp_s: float | None, duration_s: float) -> float:
        """Return the time of the next frame of audio, which lasts so long."""
        time_s = self._time_s("audio", stamp_s, 0.0)
        self._last_s["audio"] = time_s + duration_s
        return time_s

    def _time_s(self, track: TrackKind, stamp_s: float | None, step_s: float) -> float:
        last_s = self._last_s.get(track)
        if stamp_s is None:
            return 0.0 if last_s is None else last_s + step_s
        if self._from_zero and not self._last_s:
            self._shift_s = {"video": -stamp_s, "audio": -stamp_s}
        time_s = stamp_s + self._shift_s[track]
        if last_s is None or self._is_usual(time_s - last_s):
            return time_s
        other: TrackKind = "audio" if track == "video" else "video"
        shift_s = self._shift_s[other]
        if shift_s == self._shift_s[track] or not self._is_usual(stamp_s + shift_s - last_s):
            shift_s = last_s + step_s - stamp_s
            self.n_jumps += 1
        self._shift_s[track] = shift_s
        return stamp_s + shift_s

    def _is_usual(self, step_s: float) -> bool:
        return -MAX_STEP_BACK_S <= step_s <= self._max_pause_s
