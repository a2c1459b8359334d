"""How long a worker may be silent before it is taken to hang: many times what this cell itself took so far."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from llamacpp_tools.sweep.cell import CellSpec
from llamacpp_tools.sweep.protocol import WARMUP_TOKENS, Event, Loaded, Phase, Progress

# What a chunk of prompt took, or a step, may rightly take this many times as long when the machine stutters.
FACTOR = 20.0
FLOOR_S = 60.0
# Nothing is known of a cell that has not begun to compute: a large file may come from a slow disk.
LOAD_FLOORS = 10.0
LOAD_BYTES_PER_S = 20e6


@dataclass
class Patience:
    """Learns from every event of one worker.

    Attributes:
        spec: the cell that it measures.
        model_bytes: size of the model's file.
        floor_s: never give up before this many seconds of silence.
        factor: how many times the longest silence so far is still taken for work.
    """

    spec: CellSpec
    model_bytes: int
    floor_s: float = FLOOR_S
    factor: float = FACTOR
    phase: Phase = "load"
    _heard: float = field(default_factory=time.monotonic)
    _longest: dict[str, float] = field(default_factory=dict)

    def take(self, event: Event, now: float | None = None) -> None:
        """An event has come at `now` (monotonic seconds, by default this moment)."""
        now = time.monotonic() if now is None else now
        self._longest[self.phase] = max(self._longest.get(self.phase, 0.0), now - self._heard)
        self._heard = now
        if isinstance(event, Progress):
            self.phase = event.phase
        elif isinstance(event, Loaded):
            # What follows, the workload's text and its tokens, was timed by nobody.
            self.phase = "keep"

    def wait(self, now: float | None = None) -> None:
        """An order was sent: silence counts from here."""
        self._heard = time.monotonic() if now is None else now

    def silent_s(self, now: float | None = None) -> float:
        """Seconds since the last event."""
        return (time.monotonic() if now is None else now) - self._heard

    @property
    def limit_s(self) -> float:
        """Seconds of silence in this phase after which the worker is taken to hang."""
        if self.phase in ("load", "warmup", "keep"):
            return LOAD_FLOORS * self.floor_s + self.model_bytes / LOAD_BYTES_PER_S
        chunk = min(self.spec.n_batch, self.spec.n_depth) / WARMUP_TOKENS if self.phase == "prefill" else 1.0
        usual = max(self._longest.get(self.phase, 0.0), self._longest.get("warmup", 0.0) * chunk)
        return max(self.floor_s, self.factor * usual)

    def reason(self) -> str:
        """Why the worker was given up, in words."""
        usual = self._longest.get(self.phase)
        known = f", where {usual:.1f} s was the longest silence before" if usual else ""
        return f"no word from the worker for {self.limit_s:.0f} s during {self.phase}{known}"
