"""A plant's maintenance log: the most predictable text there is, the best case for drafting.

The rounds of one station follow each other in the same order with the same words; only the clock and a
few readings move, and those within narrow steps.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from llamacpp_tools.workloads.grammar import generator

TASK = ""

_ROUND = (
    "pump A inspected, pressure {bar} bar, temperature {temp} C, no leak found",
    "pump B inspected, pressure {bar} bar, temperature {temp} C, no leak found",
    "filter bank 1 checked, differential pressure 0.{diff} bar, within limits",
    "filter bank 2 checked, differential pressure 0.{diff} bar, within limits",
    "compressor oil level {oil} percent, within limits, no action needed",
    "conveyor belt tension checked, reading {tension} N, within limits",
    "bearing 3 greased, vibration 1.{vib} mm/s, within limits",
    "emergency stop tested, response 0.2 s, test passed",
    "cooling water flow {flow} l/min, within limits, no action needed",
    "round closed by operator {operator}, no defects open, next round in 30 minutes",
)


def chunks(seed: int) -> Iterator[str]:
    """One inspection round of ten lines after the other, thirty minutes apart, for ever."""
    rng = generator("maintenance_log", seed)
    day, minute = 1, 0
    while True:
        yield _round(rng, day, minute)
        minute += 30
        if minute >= 24 * 60:
            day, minute = day + 1, 0


def _round(rng: random.Random, day: int, minute: int) -> str:
    lines = []
    for at, template in enumerate(_ROUND):
        clock = minute + at
        text = template.format(
            bar=rng.choice(("4.1", "4.2")),
            temp=rng.choice(("61", "62")),
            diff=rng.choice(("31", "32")),
            oil=rng.choice(("84", "85")),
            tension=rng.choice(("410", "412")),
            vib=rng.choice(("4", "5")),
            flow=rng.choice(("118", "119")),
            operator=1 + minute // 480,
        )
        lines.append(f"[day {day:04d} {clock // 60:02d}:{clock % 60:02d}] {text}.\n")
    return "".join(lines)
