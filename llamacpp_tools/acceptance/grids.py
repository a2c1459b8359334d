"""The tables of the lab as rows of text, decided once; terminal and Markdown only set them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llamacpp_tools.results.lookahead import ClassLookahead, Lookahead, Return

NOTHING = "-"


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
        title: what it shows.
        heads: the columns' names; the first `texts` of them hold words, the others figures.
        sections: rows, in groups.
        note: how to read it.
    """

    title: str
    heads: Sequence[str]
    sections: Sequence[Sequence[Sequence[str]]]
    note: str = ""
    texts: int = 1


def grids(found: Lookahead) -> list[Grid]:
    """All tables that the lab's figures fill."""
    told = [each for each in found.classes if each.runs]
    if not told:
        return [_plain(found)]
    made = [_lookaheads(found, told), _histogram(found, told), _verdicts(told)]
    return [*made, _returns(found, told)]


def _plain(found: Lookahead) -> Grid:
    rows = [[each.name, _number(each.plain_tps, 2), each.reason or "ok"] for each in found.classes]
    return Grid("plain decode, nothing drafted", ["class", "t/s", "how it went"], [rows])


def _lookaheads(found: Lookahead, told: Sequence[ClassLookahead]) -> Grid:
    ahead = [f"+{k}" for k in range(1, found.lookahead + 1)]
    sections = [
        [
            [each.name, "accepted", *_shares(each.accepted, each.positions)],
            ["", "right", *_shares(each.agreed, each.positions)],
        ]
        for each in told
    ]
    note = (
        "share of the positions of a plain greedy text; accepted: all drafts up to that lookahead were right; right: "
        "that draft was, whatever became of those before it"
    )
    return Grid("drafts that come true, by lookahead", ["class", "", *ahead], sections, note, texts=2)


def _histogram(found: Lookahead, told: Sequence[ClassLookahead]) -> Grid:
    heads = ["class", "positions", *map(str, range(found.lookahead + 1)), "mean"]
    rows = [
        [
            each.name,
            str(each.positions),
            *_shares(each.histogram, each.positions),
            f"{sum(each.runs) / each.positions:.2f}",
        ]
        for each in told
    ]
    note = f"share of the positions; {found.lookahead} stands for {found.lookahead} or more"
    return Grid("accepted length", heads, [rows], note)


def _verdicts(told: Sequence[ClassLookahead]) -> Grid:
    heads = ["class", "verdict", "n_max", "gain", "acceptance", "break-even"]
    rows = []
    for each in told:
        best = next((row for row in each.returns if row.n_max == each.best), None)
        rows.append(
            [
                each.name,
                each.verdict or NOTHING,
                str(best.n_max) if best else NOTHING,
                _gain(best) if best else NOTHING,
                f"{best.acceptance:.3f}" if best else NOTHING,
                _number(best.break_even, 2) if best else NOTHING,
            ]
        )
    note = (
        "at the draft length with the greatest gain over plain decode, of those shown to gain if there are any; "
        "acceptance is accepted over drafted there"
    )
    return Grid("verdict", heads, [rows], note, texts=2)


def _returns(found: Lookahead, told: Sequence[ClassLookahead]) -> Grid:
    heads = ["class", "n_max", "accept", "tok/step", "step/T(1)", "step ms", "t/s", "gain"]
    groups = [(each.name, each.returns) for each in told]
    if len(told) > 1:
        groups.append(("all classes", found.together))
    sections = [
        [
            [
                name if at == 0 else "",
                str(row.n_max),
                f"{row.acceptance:.3f}",
                f"{row.tokens_per_step:.2f}",
                _with_span(row.cost, row.cost_interval),
                _number(row.step_ms, 2),
                _number(row.tps, 1),
                _gain(row),
            ]
            for at, row in enumerate(returns)
        ]
        for name, returns in groups
    ]
    return Grid("return on investment", heads, sections, _of_plain(found))


def _of_plain(found: Lookahead) -> str:
    if found.token_ms is None:
        return "no cost was measured"
    plain = (
        "accept: accepted over drafted; step/T(1): what a step costs in tokens of plain decode; intervals at 95 %. "
        f"Plain decode: 1 token a step, T(1) {found.token_ms:.2f} ms, {1e3 / found.token_ms:.1f} t/s"
    )
    if found.idle is None:
        return plain
    return f"{plain}; with MTP loaded and nothing drafted a token costs {found.idle - 1:+.1%}"


def _shares(counts: Sequence[int], whole: int) -> list[str]:
    return [f"{count / whole:.1%}" for count in counts]


def _gain(row: Return) -> str:
    if row.gain is None:
        return NOTHING
    if row.gain_interval is None:
        return f"{row.gain - 1:+.1%}"
    low, high = row.gain_interval
    # As `llt report` has it: the interval in per cent, too.
    return f"{row.gain - 1:+.1%} ({100 * (low - 1):+.0f}..{100 * (high - 1):+.0f})"


def _with_span(value: float | None, span: Sequence[float] | None) -> str:
    if value is None:
        return NOTHING
    return f"{value:.2f} ({span[0]:.2f}..{span[1]:.2f})" if span else f"{value:.2f}"


def _number(value: float | None, digits: int) -> str:
    return f"{value:.{digits}f}" if value is not None else NOTHING
