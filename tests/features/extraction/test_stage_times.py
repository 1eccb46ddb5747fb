import pytest

from features.extraction.stage_times import StageTimer


def measured(**seconds: float) -> str:
    meter = StageTimer(8)
    meter._began_s -= 10
    for stage, amount in seconds.items():
        meter.add(stage, amount, "clip-1" if stage == "encode" else None)
    for depth in (8, 8, 4):
        meter.note_depth(depth)
    assert meter.encode_s["clip-1"] == seconds.get("encode", 0)
    return meter.described()


@pytest.mark.parametrize(
    ("seconds", "pace"),
    [
        ({"encode": 9.0, "decode": 12.0}, "the encoder sets the pace"),
        ({"encode": 3.0, "decode": 12.0, "prepare": 4.0}, "decoding sets the pace"),
        ({"encode": 3.0, "decode": 2.0, "prepare": 14.0}, "preparing sets the pace"),
    ],
)
def test_it_says_which_stage_sets_the_pace(seconds, pace):
    line = measured(**seconds)
    assert pace in line
    assert line.startswith("stages, in 10.0 s: ")
    assert f"decoding {seconds.get('decode', 0):.1f} s" in line
    assert "6.7 of 8 places in the queue were taken" in line


def test_times_of_many_threads_add_up():
    meter = StageTimer(8)
    with meter.at("write"):
        pass
    meter.add("write", 1.0)
    assert 1.0 < meter.seconds["write"] < 1.1
