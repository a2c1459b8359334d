"""The 2x2s as rich tables, in the columns of the first published ones."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich import box
from rich.table import Table

from llamacpp_tools.results.groups import Group, groups
from llamacpp_tools.results.schema import Cell, Comparison, Mode

NAMES: dict[Mode, str] = {"dense": "dense", "swa": "SWA only", "mtp": "dense + MTP", "swa+mtp": "SWA + MTP"}
NOTHING = "-"
DOUBT = " ?"
_GAIN = 3


def tables(cells: Sequence[Cell], comparisons: Sequence[Comparison] = ()) -> list[Table]:
    """One table per 2x2; the reason of a row that is not ok stands among the result's caveats.

    A gain that the rounds do not show to be one carries a question mark.
    """
    doubtful = {
        each.cell
        for each in comparisons
        if each.metric == "decode_tps" and each.to_mode == "dense" and each.verdict == "no difference shown"
    }
    return [_table(group, doubtful) for group in groups(cells)]


def against(cell: Cell, dense: Cell | None) -> str:
    """Decode speed against dense as a signed percentage; a dash where there is nothing to compare."""
    if dense is None or dense is cell or dense.status != "ok" or cell.status != "ok":
        return NOTHING
    if not cell.decode_tps or not dense.decode_tps:
        return NOTHING
    return f"{cell.decode_tps / dense.decode_tps - 1:+.1%}"


def _table(group: Group, doubtful: Collection[str]) -> Table:
    table = Table(title=group.label, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.caption_justify = "left"
    table.add_column("mode", no_wrap=True)
    for name in ("prefill t/s", "decode t/s", "vs dense", "acceptance", "KV MiB"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    dense = group.cells.get("dense")
    for mode in NAMES:
        cell = group.cells.get(mode)
        if cell is not None:
            row = _row(cell, dense)
            if cell.id in doubtful:
                row[_GAIN] += DOUBT
                table.caption = "? no difference shown at 95 %"
            table.add_row(*row, style=None if cell.status == "ok" else "red")
    return table


def _row(cell: Cell, dense: Cell | None) -> list[str]:
    figures = cell.status == "ok"
    return [
        NAMES[cell.mode],
        _number(cell.prefill_tps, 1) if figures else NOTHING,
        _number(cell.decode_tps, 2) if figures else NOTHING,
        against(cell, dense),
        _number(cell.acceptance, 3) if figures else NOTHING,
        _number(cell.kv_bytes / 2**20 if cell.kv_bytes else None, 1),
        cell.status,
    ]


def _number(value: float | None, digits: int) -> str:
    return f"{value:.{digits}f}" if value is not None else NOTHING
