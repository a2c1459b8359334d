"""The lab's tables in a terminal, for `llt acceptance` and `llt report`."""

from __future__ import annotations

from rich import box
from rich.table import Table

from llamacpp_tools.acceptance.grids import Grid


def grid_table(grid: Grid) -> Table:
    """One table of the lab, its note below it."""
    table = Table(
        title=grid.title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), caption=grid.note,
        caption_justify="left",
    )  # fmt: skip
    for at, name in enumerate(grid.heads):
        table.add_column(name, justify="left" if at < grid.texts else "right", overflow="fold")
    for rows in grid.sections:
        for row in rows:
            table.add_row(*row)
        table.add_section()
    return table
