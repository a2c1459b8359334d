"""What is told of a sweep over boxes as it goes on."""

from __future__ import annotations

from llamacpp_tools.sweep.runner import Sinks


class BoxSinks(Sinks):
    """Does nothing by itself. The base's `event` comes for notes alone: phases come by box."""

    def joined(self, box: str, words: str, rounds: int) -> None:
        """A box takes part; `rounds` are what it alone has to measure, 0 where boxes share the work."""

    def left(self, box: str, why: str) -> None:
        """A box does not take part any more, or never did."""

    def doing(self, box: str, what: str, done: int, total: int) -> None:
        """How far a box is; 0 in all for what cannot be counted."""

    def waiting(self, why: str) -> None:
        """No box can go on for now."""
