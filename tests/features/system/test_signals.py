"""Signals that wait for the end of a section."""

import signal

import pytest

from features.system.signals import waiting_signals


@pytest.fixture
def received():
    """The signals that reach the handlers of this process."""
    seen = list[int]()
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    for each in before:
        signal.signal(each, lambda number, _: seen.append(number))
    yield seen
    for each, handler in before.items():
        signal.signal(each, handler)


def test_a_signal_waits_for_the_end_and_a_second_one_does_not(received):
    with waiting_signals() as has_arrived:
        assert not has_arrived()
        signal.raise_signal(signal.SIGTERM)
        assert has_arrived()
        assert received == []
    assert received == [signal.SIGTERM]
    with waiting_signals():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert received == [signal.SIGTERM, signal.SIGINT]
    assert received == [signal.SIGTERM, signal.SIGINT]


def test_a_signal_that_is_ignored_stays_ignored(received):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a worker of a pool
    with waiting_signals() as has_arrived:
        signal.raise_signal(signal.SIGINT)
        assert not has_arrived()
