"""A plant's maintenance log: the most predictable text there is, the best case for drafting.

The rounds of one station follow each other in the same order with the same words; only the clock and a
few readings move, and those within narrow steps.
"""

from __future__ import annotations

import random
import re
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
_READINGS = {
    "bar": ("4.1", "4.2"),
    "temp": ("61", "62"),
    "diff": ("31", "32"),
    "oil": ("84", "85"),
    "tension": ("410", "412"),
    "vib": ("4", "5"),
    "flow": ("118", "119"),
}
_OPERATORS = ("1", "2", "3")


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
        readings = {name: rng.choice(values) for name, values in _READINGS.items()}
        text = template.format(**readings, operator=1 + minute // 480)
        lines.append(f"[day {day:04d} {clock // 60:02d}:{clock % 60:02d}] {text}.\n")
    return "".join(lines)


def _line() -> re.Pattern[str]:
    values = _READINGS | {"operator": _OPERATORS}
    allowed = {name: f"(?:{'|'.join(map(re.escape, each))})" for name, each in values.items()}
    # Blanks and dots of a template stand for themselves, its braces for any of the values.
    texts = "|".join(
        "".join(
            allowed[part[1:-1]] if part.startswith("{") else re.escape(part)
            for part in _PARTS.findall(template)
        )
        for template in _ROUND
    )
    return re.compile(rf"\[day \d{{4}} (?:[01]\d|2[0-3]):[0-5]\d\] (?:{texts})\.")


_PARTS = re.compile(r"\{\w+\}|[^{]+")
# Any line that a log can hold, without its end.
LINE = _line()
