import pytest

from features.extraction.stage_times import StageTimer


class Clock:
    """A clock that the test sets."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize(
    ("seconds", "bottleneck"),
    [
        ({"encode": 9.0, "decode": 12.0}, "the encoder sets the pace"),
        ({"encode": 3.0, "decode": 12.0, "prepare": 4.0}, "decoding sets the pace"),
        ({"encode": 3.0, "decode": 2.0, "prepare": 14.0}, "preparing sets the pace"),
    ],
)
def test_the_summary_names_the_bottleneck(seconds, bottleneck):
    clock = Clock()
    timer = StageTimer(8, clock)
    for stage, amount in seconds.items():
        timer.add(stage, amount, "clip-1" if stage == "encode" else None)
    for depth in (8, 8, 4):
        timer.add_depth(depth)
    clock.now_s = 10.0

    summary = timer.summary()

    assert bottleneck in summary
    assert summary.startswith("stages, in 10.0 s: ")
    assert f"decoding {seconds['decode']:.1f} s" in summary
    assert "6.7 of 8 places in the queue were taken" in summary
    assert timer.encode_s["clip-1"] == seconds["encode"]


def test_measured_and_added_times_of_a_stage_are_summed():
    clock = Clock()
    timer = StageTimer(8, clock)
    with timer.measure("write"):
        clock.now_s = 2.5
    timer.add("write", 1.0)
    assert timer.seconds["write"] == 3.5
