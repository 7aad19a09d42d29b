"""Clocks: programs that are compared take turns, and every figure is a median with its spread."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax

_SHORTEST_SAMPLE = 0.02  # seconds: short calls are repeated, so that the clock is no issue
_MOST_ROUNDS = 30


@dataclass(frozen=True)
class Timing:
    """Seconds of one call.

    Attributes
    ----------
    median, minimum
        Wall seconds over the samples.
    spread
        Interquartile range over median.
    cpu
        Median CPU seconds of the whole process, all threads.
    samples
        How many.
    """

    median: float
    minimum: float
    spread: float
    cpu: float
    samples: int


def summarise(wall: list[float], cpu: list[float]) -> Timing:
    """Median, minimum and spread of samples."""
    median = statistics.median(wall)
    if len(wall) > 1:
        low, _, high = statistics.quantiles(wall, n=4, method="inclusive")
    else:
        low = high = median
    return Timing(
        median=median,
        minimum=min(wall),
        spread=(high - low) / median,
        cpu=statistics.median(cpu),
        samples=len(wall),
    )


def take_turns(
    calls: Mapping[str, Callable[[], Any]], *, seconds: float, least_rounds: int = 3
) -> dict[str, Timing]:
    """Time several programs in turns (A B C A B C ...), so that a busy moment meets all of them.

    Parameters
    ----------
    calls
        Name to program; JAX arrays that it returns are waited for.
    seconds
        Roughly how long the whole comparison may last; a fast program is called more often.
    least_rounds
        Samples that even a slow program gets.
    """
    share = seconds / len(calls)
    repeats, rounds = {}, {}
    for name, call in calls.items():
        jax.block_until_ready(call())  # the first call may still allocate
        first, _ = _sample(call, 1)
        repeats[name] = max(1, min(50, round(_SHORTEST_SAMPLE / first)))
        affordable = int(share / (first * repeats[name]))
        rounds[name] = min(_MOST_ROUNDS, max(least_rounds, affordable))
    wall: dict[str, list[float]] = {name: [] for name in calls}
    cpu: dict[str, list[float]] = {name: [] for name in calls}
    most = max(rounds.values())
    for turn in range(most):
        for name, call in calls.items():
            # Spread the few samples of a slow program evenly over the comparison.
            if (turn + 1) * rounds[name] // most > turn * rounds[name] // most:
                seconds_wall, seconds_cpu = _sample(call, repeats[name])
                wall[name].append(seconds_wall)
                cpu[name].append(seconds_cpu)
    return {name: summarise(wall[name], cpu[name]) for name in calls}


def _sample(call: Callable[[], Any], repeats: int) -> tuple[float, float]:
    began, began_cpu = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        jax.block_until_ready(call())
    wall, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    return wall / repeats, cpu / repeats
