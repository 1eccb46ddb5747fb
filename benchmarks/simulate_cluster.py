"""Shards of clips on workers that die and lag, event by event: how long a run of many hours takes.

A worker takes the next shard when it is free. When it dies, clips that it committed stay; those in
its hands are lost, and the shard goes back to the end of the queue with the rest, which is noticed
after some time. The worker comes back later.
"""

import heapq
from collections import deque
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

SPREAD = 0.8  # standard deviation of the logarithm of the durations


@dataclass(frozen=True, slots=True)
class Fleet:
    """Workers, and what befalls them."""

    n_workers: int
    media_s_per_s: float
    """Seconds of media that a worker extracts in a second."""
    hours_between_deaths: float
    """Of one worker, on average; the time to the next has no memory."""
    noticed_s: float = 60.0
    """Until a dead worker's shard is given to another."""
    back_s: float = 300.0
    """Until a dead worker is there again, its encoders loaded."""
    start_s: float = 60.0
    """Until encoders are loaded at first."""
    shard_s: float = 2.0
    """What each shard costs beside its clips: to plan it, to fill and to empty the line."""
    in_hand: int = 16
    """Clips that are begun and not committed."""
    lagging: float = 0.05
    """Share of workers that are slow ..."""
    times_slower: float = 2.0
    """... by this."""


@dataclass(frozen=True, slots=True)
class Course:
    """How a run went."""

    wall_s: float
    ideal_s: float
    """Of as many workers that neither die nor lag nor wait."""
    n_deaths: int
    redone: int
    """Clips that were begun more than once."""


def durations_s(n_clips: int, mean_s: float, rng: np.random.Generator) -> Float64[np.ndarray, "N"]:
    """How long clips are: lognormal, with this mean."""
    return rng.lognormal(np.log(mean_s) - SPREAD**2 / 2, SPREAD, n_clips)


def simulated(
    shards_s: list[Float64[np.ndarray, "_"]], fleet: Fleet, rng: np.random.Generator
) -> Course:
    """The course of a run over shards, each the durations of its clips."""
    queue = deque(shard / fleet.media_s_per_s for shard in shards_s)  # seconds of work
    work_s = sum(float(shard.sum()) for shard in queue)
    slowness = np.ones(fleet.n_workers)
    slowness[: round(fleet.lagging * fleet.n_workers)] = fleet.times_slower
    dies_s = fleet.start_s + _lives(fleet, rng, fleet.n_workers)
    returned: list[tuple[float, int, Float64[np.ndarray, "_"]]] = []  # (when, order, what is left)
    free = [(fleet.start_s, worker) for worker in range(fleet.n_workers)]
    heapq.heapify(free)
    end_s, n_deaths, redone = 0.0, 0, 0
    while queue or returned:
        now_s, worker = heapq.heappop(free)
        while returned and returned[0][0] <= now_s:
            queue.append(heapq.heappop(returned)[2])
        if not queue:  # all that is left is on dead workers
            heapq.heappush(free, (returned[0][0], worker))
            continue
        if dies_s[worker] <= now_s:  # it died while it waited
            heapq.heappush(free, (now_s + fleet.back_s, worker))
            dies_s[worker] = now_s + fleet.back_s + _lives(fleet, rng, 1)[0]
            continue
        shard = queue.popleft()
        done_s = now_s + fleet.shard_s + np.cumsum(shard) * slowness[worker]
        if done_s[-1] <= dies_s[worker]:
            end_s = max(end_s, float(done_s[-1]))
            heapq.heappush(free, (float(done_s[-1]), worker))
            continue
        n_deaths += 1
        n_done = int(np.searchsorted(done_s, dies_s[worker]))
        n_committed = max(0, n_done + 1 - fleet.in_hand)
        redone += n_done + 1 - n_committed
        heapq.heappush(returned, (dies_s[worker] + fleet.noticed_s, n_deaths, shard[n_committed:]))
        back_s = float(dies_s[worker]) + fleet.back_s
        heapq.heappush(free, (back_s, worker))
        dies_s[worker] = back_s + _lives(fleet, rng, 1)[0]
    return Course(end_s, work_s / fleet.n_workers, n_deaths, redone)


def _lives(fleet: Fleet, rng: np.random.Generator, n: int) -> Float64[np.ndarray, "N"]:
    """Seconds that so many workers live."""
    return rng.exponential(3600 * fleet.hours_between_deaths, n)
