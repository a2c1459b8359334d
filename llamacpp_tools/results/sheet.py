"""A 2x2 as the figures that are shown of it, the same for a terminal, a page and a file.

A gain is a comparison of the document as a percentage: the median of the rounds' ratios with its interval, so it may
differ a little from what the two speeds of the table divide to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llamacpp_tools.results.compare import compare
from llamacpp_tools.results.groups import Group, groups
from llamacpp_tools.results.schema import Cell, Comparison, Mode

NAMES: dict[Mode, str] = {"dense": "dense", "swa": "SWA only", "mtp": "dense + MTP", "swa+mtp": "SWA + MTP"}
# What a drafting mode is without its draft: the article's "own baseline".
OWN: dict[Mode, Mode] = {"mtp": "dense", "swa+mtp": "swa"}
NOTHING = "-"
MISSING = "missing"
DOUBT = "?"
CONFOUNDED = "*"
FOOTNOTES = {
    DOUBT: "no difference shown at 95 %",
    CONFOUNDED: "confounded: the two texts are not equally varied, or it is not known that they are, so they may not"
    " be equally hard to draft for",
}
# An interval narrower than this many points is worth a decimal.
_FINE_BELOW = 10.0

_Pair = tuple[str, str, str]


@dataclass(frozen=True)
class Gain:
    """One speed over another.

    Attributes:
        ratio: 1.14 for 14 % faster.
        interval: of the ratio, None where there are not two rounds to pair.
        rounds: how many were paired, 0 for published figures.
        doubtful: the interval, or the rank test, does not tell the ratio from 1.
        confounded: the two cells' texts are not, or may not be, equally hard to draft for.
    """

    ratio: float
    interval: tuple[float, float] | None = None
    rounds: int = 0
    doubtful: bool = False
    confounded: bool = False

    @property
    def percent(self) -> str:
        """`+13.6%`."""
        return _signed(self.ratio, 1) + "%"

    @property
    def span(self) -> str:
        """`+1.9 to +16.1`, in per cent; empty without an interval."""
        if self.interval is None:
            return ""
        low, high = self.interval
        digits = 1 if 100 * (high - low) < _FINE_BELOW else 0
        return f"{_signed(low, digits)} to {_signed(high, digits)}"

    @property
    def marks(self) -> str:
        """The keys of `FOOTNOTES` that hold for it."""
        return DOUBT * self.doubtful + CONFOUNDED * self.confounded

    @property
    def marked(self) -> str:
        """`+13.6% ?`."""
        return f"{self.percent} {self.marks}".rstrip()


@dataclass(frozen=True)
class Line:
    """One mode of a 2x2; `cell` is None where the result has others of the kind but not this one.

    `own` is the gain in decode speed over the same mode without the draft, `own_prefill` that in prefill speed, which
    is what the draft costs there.
    """

    mode: Mode
    cell: Cell | None
    dense: Gain | None = None
    own: Gain | None = None
    own_prefill: Gain | None = None

    @property
    def name(self) -> str:
        """The mode for people."""
        return NAMES[self.mode]

    @property
    def ok(self) -> bool:
        """Whether its figures may be used."""
        return self.cell is not None and self.cell.status == "ok"

    @property
    def status(self) -> str:
        """The cell's status, `missing` without a cell."""
        return self.cell.status if self.cell is not None else MISSING

    @property
    def prefill(self) -> str:
        """Tokens per second, one decimal."""
        return number(self.cell.prefill_tps if self.cell and self.ok else None, 1)

    @property
    def decode(self) -> str:
        """Tokens per second, two decimals."""
        return number(self.cell.decode_tps if self.cell and self.ok else None, 2)

    @property
    def acceptance(self) -> str:
        """Accepted over drafted, three decimals."""
        return number(self.cell.acceptance if self.cell and self.ok else None, 3)

    @property
    def kv_mib(self) -> str:
        """The KV cache in MiB, also of a cell that failed after loading."""
        return number(self.cell.kv_bytes / 2**20 if self.cell and self.cell.kv_bytes else None, 1)


@dataclass(frozen=True)
class Sheet:
    """One 2x2 with its gains, a line for each mode that the result has anywhere."""

    group: Group
    lines: tuple[Line, ...]

    @property
    def footnotes(self) -> dict[str, str]:
        """What the marks in it mean; empty without marks."""
        marks = "".join(
            gain.marks for line in self.lines for gain in (line.dense, line.own, line.own_prefill) if gain
        )
        return {mark: words for mark, words in FOOTNOTES.items() if mark in marks}


def sheets(
    cells: Sequence[Cell], comparisons: Sequence[Comparison] = (), modes: Sequence[Mode] = ()
) -> list[Sheet]:
    """Every 2x2 of `cells`.

    Args:
        cells: those whose acceptance was forced have no speed of their own and are left out.
        comparisons: made here where there are none, as a sweep that did not finish has none.
        modes: those that were asked for; the modes of `cells` always count.
    """
    free = [cell for cell in cells if cell.has_speed]
    found: dict[_Pair, Comparison] = {
        (each.metric, each.cell, each.to): each for each in (comparisons or compare(free)) if each.ratio > 0
    }
    wanted = {cell.mode for cell in free} | set(modes)
    return [
        Sheet(group, tuple(_line(group, mode, found) for mode in NAMES if mode in wanted))
        for group in groups(free)
    ]


def number(value: float | None, digits: int) -> str:
    """The value with that many decimals, a dash where there is none."""
    return f"{value:.{digits}f}" if value is not None else NOTHING


def _line(group: Group, mode: Mode, found: dict[_Pair, Comparison]) -> Line:
    cell = group.cells.get(mode)
    if cell is None:
        return Line(mode, None)

    def gain(metric: str, to_mode: Mode | None) -> Gain | None:
        to = group.cells.get(to_mode) if to_mode else None
        each = found.get((metric, cell.id, to.id)) if to else None
        if each is None:
            return None
        span = (each.interval[0], each.interval[1]) if each.interval else None
        return Gain(each.ratio, span, each.rounds, each.verdict == "no difference shown", each.confounded)

    own = OWN.get(mode)
    return Line(mode, cell, gain("decode_tps", "dense"), gain("decode_tps", own), gain("prefill_tps", own))


def _signed(ratio: float, digits: int) -> str:
    return f"{100 * (ratio - 1):+.{digits}f}"
