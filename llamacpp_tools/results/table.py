"""The 2x2s as rich tables, in the columns of the first published ones; stacked where a terminal is too narrow.

Labels and reasons come from files that others wrote: they are shown as text, never read as markup.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from llamacpp_tools.results.schema import Cell, Comparison, Mode
from llamacpp_tools.results.sheet import NOTHING, Gain, Line, Sheet, sheets

# C0 and C1 controls and what turns the direction of writing: a terminal or a page would obey them.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]+")


@dataclass(frozen=True)
class _Column:
    name: str
    show: Callable[[Line], Text]


def plain(text: str) -> str:
    """`text` on one line and without what a terminal would obey."""
    return _CONTROLS.sub(" ", text).strip()


def tables(
    cells: Sequence[Cell], comparisons: Sequence[Comparison] = (), modes: Sequence[Mode] = ()
) -> list[TwoByTwo]:
    """One table per 2x2; the reason of a row that is not ok stands among the result's caveats.

    Args:
        cells: the result's.
        comparisons: the result's; made from the cells where there are none.
        modes: those that were asked for; one without a cell is a row that says so.
    """
    return [TwoByTwo(sheet) for sheet in sheets(cells, comparisons, modes)]


class TwoByTwo:
    """One 2x2 that rich can print at any width; a gain's interval stands below it."""

    def __init__(self, sheet: Sheet) -> None:
        self.sheet = sheet

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        def fits(table: Table) -> bool:
            return Measurement.get(console, options.update(width=10_000), table).maximum <= options.max_width

        table = next(
            filter(fits, (_table(self.sheet, columns) for columns in (_COLUMNS, _COLUMNS[:-1]))), None
        )
        yield Text(plain(self.sheet.group.label), style="bold")
        if table is not None:
            yield table
        else:
            for line in self.sheet.lines:
                yield from _stacked(line)
        for mark, words in self.sheet.footnotes.items():
            yield Text(f"{mark} {words}", style="dim")


def _table(sheet: Sheet, columns: Sequence[_Column]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("mode", no_wrap=True)
    shown = [each for each in columns if any(each.show(line).plain != NOTHING for line in sheet.lines)]
    for column in shown:
        table.add_column(column.name, justify="right", no_wrap=True)
    for line in sheet.lines:
        table.add_row(Text(line.name), *(column.show(line) for column in shown), style=_style(line))
    return table


def _stacked(line: Line) -> RenderResult:
    status = "" if line.ok else f": {line.status}"
    yield Text(line.name + status, style=_style(line) or "")
    parts = [
        [("decode", line.decode, " t/s"), ("prefill", line.prefill, " t/s"), ("KV", line.kv_mib, " MiB")],
        [("vs dense", _words(line.dense), "")],
        [("MTP's gain", _words(line.own), "")],
        [("MTP's prefill", _words(line.own_prefill), ""), ("acceptance", line.acceptance, "")],
    ]
    for row in parts:
        said = ", ".join(f"{name} {value}{unit}" for name, value, unit in row if value != NOTHING)
        if said:
            yield Padding(Text(said), (0, 0, 0, 2), expand=False)


def _style(line: Line) -> str | None:
    if line.ok:
        return None
    return "red" if line.cell is not None else "dim"


def _gain(gain: Gain | None) -> Text:
    if gain is None:
        return Text(NOTHING)
    return Text(gain.marked + (f"\n{gain.span.replace(' to ', '..')}" if gain.span else ""))


def _words(gain: Gain | None) -> str:
    if gain is None:
        return NOTHING
    return gain.marked + (f" ({gain.span})" if gain.span else "")


_COLUMNS: tuple[_Column, ...] = (
    _Column("prefill\nt/s", lambda line: Text(line.prefill)),
    # Where there is no figure, the status says why.
    _Column("decode\nt/s", lambda line: Text(line.decode if line.ok else line.status)),
    _Column("vs dense", lambda line: _gain(line.dense)),
    _Column("MTP's\ngain", lambda line: _gain(line.own)),
    _Column("MTP's\nprefill", lambda line: Text(line.own_prefill.marked if line.own_prefill else NOTHING)),
    _Column("accept-\nance", lambda line: Text(line.acceptance)),
    _Column("KV\nMiB", lambda line: Text(line.kv_mib)),
)
