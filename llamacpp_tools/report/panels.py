"""What is plotted of a result, as data: each panel is one small chart, drawn by `report.plots`.

Kept apart from the drawing, so that what a chart shows can be checked without reading a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from llamacpp_tools.advise.survival import survival
from llamacpp_tools.report.story import Story
from llamacpp_tools.results.groups import varying, word
from llamacpp_tools.results.schema import Cell, Mode
from llamacpp_tools.results.sheet import NAMES
from llamacpp_tools.results.table import plain

Kind = Literal["lines", "dots", "stacks", "traces"]
Span = tuple[float, float] | None
# A label longer than this would push the chart aside.
MOST_LETTERS = 34


@dataclass(frozen=True)
class Series:
    """One mode (with the values that vary) in a panel; `spans[i]` is the interval of `y[i]`.

    In a panel of stacks `y` is the lower part, `above` the upper one. In one of dots and stacks `x` counts rows.
    """

    name: str
    mode: Mode
    variant: int
    x: tuple[float, ...]
    y: tuple[float, ...]
    spans: tuple[Span, ...] = ()
    above: tuple[float, ...] = ()


@dataclass(frozen=True)
class Panel:
    """One small chart.

    Attributes:
        topic: the heading that it stands under.
        title: what tells it from the others under that heading; may be empty.
        x_label, y_label: with their units.
        rows: names of the rows of dots and stacks.
        line_at: a value to be marked, 1 for "as fast as dense".
        from_zero: the y axis begins at 0.
        share: y is a share, 0 to 1.
    """

    topic: str
    title: str
    kind: Kind
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    rows: tuple[str, ...] = ()
    line_at: float | None = None
    from_zero: bool = True
    share: bool = False

    @property
    def in_words(self) -> str:
        """For who cannot see it: what it shows and each figure."""
        said = "; ".join(f"{each.name}: {self._figures(each)}" for each in self.series)
        about = f"{self.topic}, {self.title}" if self.title else self.topic
        return f"{about}. {said}."

    def _figures(self, each: Series) -> str:
        if self.kind == "traces":
            return f"{min(each.y):.0f} to {max(each.y):.0f} {self.y_label}"
        unit = "" if self.share else f" {self.x_label if self.kind in ('dots', 'stacks') else self.y_label}"
        parts = []
        for at, (x, y) in enumerate(zip(each.x, each.y, strict=True)):
            where = self.rows[int(x)] if self.rows else f"{x:g}"
            value = f"{y:.3g}" if not each.above else f"{y:.3g} and {each.above[at]:.3g}"
            span = each.spans[at] if each.spans else None
            parts.append(f"{value}{unit} at {where}" + (f" ({span[0]:.3g} to {span[1]:.3g})" if span else ""))
        return ", ".join(parts)


@dataclass(frozen=True)
class Panels:
    """The panels of a result, and what could not be plotted, in sentences."""

    panels: tuple[Panel, ...]
    left_out: tuple[str, ...]


def panels(story: Story) -> Panels:
    """Everything that can be plotted of one result."""
    usable = [cell for cell in story.result.cells if cell.status == "ok"]
    free = [cell for cell in usable if cell.has_speed]
    made: list[Panel] = []
    left_out: list[str] = []
    for found, why in (
        (_speeds(free, "Decode speed", "decode_tps"), "No cell has a decode speed to plot."),
        (_speeds(free, "Prefill speed", "prefill_tps"), "No cell has a prefill speed to plot."),
        (_gains(story), "No mode can be compared with dense, so no gain is plotted."),
        (_survivals(free), "No cell has counts per draft position, so how far drafts get is not plotted."),
        (_costs(usable), "The time of a step was not split into draft and verification."),
        (_heat(free, "temperature_c"), "No temperature was logged, so none is plotted."),
        (_heat(free, "clock_mhz"), _no_clock(free)),
    ):
        made += found
        if not found:
            left_out.append(why)
    return Panels(tuple(made), tuple(left_out))


def _speeds(cells: Sequence[Cell], topic: str, metric: Literal["decode_tps", "prefill_tps"]) -> list[Panel]:
    known = [cell for cell in cells if getattr(cell, metric) is not None]
    found = []
    for workload in dict.fromkeys(cell.workload for cell in known):
        mine = [cell for cell in known if cell.workload == workload]
        depths = {cell.n_depth for cell in mine}
        if len(depths) > 1:
            series = tuple(
                Series(
                    name, here[0].mode, variant,
                    tuple(float(cell.n_depth) for cell in here),
                    tuple(float(getattr(cell, metric)) for cell in here),
                    tuple(_span(getattr(cell, f"{metric}_interval")) for cell in here),
                )
                for name, variant, here in _by_mode(mine)
            )  # fmt: skip
            found.append(Panel(topic, _short(workload), "lines", "depth, tokens", "t/s", series))
        else:
            title = f"{_short(workload)}, depth {depths.pop():,}"
            found.append(_dots(topic, title, mine, metric))
    return found


def _dots(topic: str, title: str, cells: Sequence[Cell], metric: str) -> Panel:
    named = _by_mode(cells)
    series = tuple(
        Series(
            name, mine[0].mode, variant, (float(row),), (float(getattr(mine[0], metric)),),
            (_span(getattr(mine[0], f"{metric}_interval")),),
        )
        for row, (name, variant, mine) in enumerate(named)
    )  # fmt: skip
    return Panel(topic, title, "dots", "t/s", "", series, tuple(name for name, _, _ in named))


def _gains(story: Story) -> list[Panel]:
    """Decode speed over dense, a row for each workload, a panel for each depth and set of values that vary."""
    found = []
    keys = dict.fromkeys((sheet.group.n_depth, sheet.group.suffix) for sheet in story.sheets)
    for depth, suffix in keys:
        mine = [
            sheet
            for sheet in story.sheets
            if (sheet.group.n_depth, sheet.group.suffix) == (depth, suffix)
            and any(line.dense for line in sheet.lines)
        ]
        lines = [
            (row, line)
            for row, sheet in enumerate(mine)
            for line in sheet.lines
            if line.dense is not None and line.mode != "dense"
        ]
        series = []
        for mode in NAMES:
            ours = [(row, line.dense) for row, line in lines if line.mode == mode and line.dense]
            if ours:
                rows, gains = zip(*ours, strict=True)
                at, ratios = tuple(map(float, rows)), tuple(gain.ratio for gain in gains)
                series.append(
                    Series(NAMES[mode], mode, 0, at, ratios, tuple(gain.interval for gain in gains))
                )
        if series:
            axes = mine[0].group.label.removeprefix(f"depth {depth}, {mine[0].group.workload}")
            names = tuple(_short(sheet.group.workload) for sheet in mine)
            title = _short(f"depth {depth:,}{axes}", 60)
            found.append(
                Panel("Decode speed over dense", title, "dots", "dense = 1", "", tuple(series), names, 1.0)
            )
    return found


def _survivals(cells: Sequence[Cell]) -> list[Panel]:
    lasting = {cell.id: each.s for cell in cells if (each := survival(cell)) is not None}
    known = [cell for cell in cells if cell.id in lasting]
    found = []
    for workload in dict.fromkeys(cell.workload for cell in known):
        mine = [cell for cell in known if cell.workload == workload]
        deepest = max(cell.n_depth for cell in mine)
        series = tuple(
            Series(
                name, here[0].mode, variant,
                tuple(float(k) for k in range(1, len(lasting[here[0].id]) + 1)),
                tuple(float(share) for share in lasting[here[0].id]),
            )
            for name, variant, here in _by_mode([cell for cell in mine if cell.n_depth == deepest])
        )  # fmt: skip
        title = f"{_short(workload)}, depth {deepest:,}"
        found.append(
            Panel(
                "How far drafts get", title, "lines", "drafted tokens", "accepted up to here", series,
                share=True,
            )
        )  # fmt: skip
    return found


def _costs(cells: Sequence[Cell]) -> list[Panel]:
    found = []
    for cell in cells:
        costs = sorted(cell.step_costs or [], key=lambda cost: cost.n_max)
        if costs:
            series = Series(
                NAMES[cell.mode], cell.mode, 0,
                tuple(float(row) for row in range(len(costs))),
                tuple(cost.draft_ms for cost in costs),
                tuple(_span(cost.step_ms_interval) for cost in costs),
                tuple(cost.verify_ms for cost in costs),
            )  # fmt: skip
            # A step costs the same whatever the text, so the title need not name it.
            title = f"{NAMES[cell.mode]}, depth {cell.n_depth:,}"
            rows = tuple(f"{cost.n_max} drafted" for cost in costs)
            found.append(Panel("What a step costs", title, "stacks", "ms", "", (series,), rows))
    split = [
        cell for cell in cells if cell.draft_ms is not None and cell.verify_ms is not None and cell.has_speed
    ]
    for key in dict.fromkeys((cell.workload, cell.n_depth) for cell in split):
        named = _by_mode([cell for cell in split if (cell.workload, cell.n_depth) == key])
        stacked = tuple(
            Series(
                name, here[0].mode, variant, (float(row),), (here[0].draft_ms or 0.0,), (None,),
                (here[0].verify_ms or 0.0,),
            )
            for row, (name, variant, here) in enumerate(named)
        )  # fmt: skip
        title = f"{_short(key[0])}, depth {key[1]:,}"
        found.append(
            Panel(
                "What a step costs", title, "stacks", "ms", "", stacked, tuple(name for name, _, _ in named)
            )
        )
    return found


def _heat(cells: Sequence[Cell], sensor: Literal["temperature_c", "clock_mhz"]) -> list[Panel]:
    topic, unit = ("Temperature", "°C") if sensor == "temperature_c" else ("Clock", "MHz")
    if len({value for cell in cells for _, value in _trace(cell, sensor)}) < 2:
        return []
    found = []
    for key in dict.fromkeys((cell.workload, cell.n_depth) for cell in cells):
        series = tuple(
            Series(
                name, here[0].mode, variant, tuple(at for at, _ in trace), tuple(value for _, value in trace)
            )
            for name, variant, here in _by_mode(
                [cell for cell in cells if (cell.workload, cell.n_depth) == key]
            )
            if (trace := _trace(here[0], sensor))
        )
        if series:
            title = f"{_short(key[0])}, depth {key[1]:,}"
            found.append(
                Panel(
                    topic,
                    title,
                    "traces",
                    "seconds of its rounds, one after the other",
                    unit,
                    series,
                    from_zero=False,
                )
            )
    return found


def _trace(cell: Cell, sensor: Literal["temperature_c", "clock_mhz"]) -> list[tuple[float, float]]:
    """A cell's sensor over its rounds laid end to end: what other modes did between them is left out."""
    found: list[tuple[float, float]] = []
    begin = 0.0
    for sample in cell.samples:
        if sample.heat is None or not sample.heat.at_s:
            continue
        values = zip(sample.heat.at_s, getattr(sample.heat, sensor), strict=False)
        found += [(begin + at, value) for at, value in values if value is not None]
        begin += max(sample.heat.at_s)
    return found


def _no_clock(cells: Sequence[Cell]) -> str:
    seen = {value for cell in cells for _, value in _trace(cell, "clock_mhz")}
    if len(seen) == 1:
        return f"The clock said {seen.pop():,.0f} MHz throughout, so it is not plotted."
    return "No clock was logged, so none is plotted."


def _by_mode(cells: Sequence[Cell]) -> list[tuple[str, int, list[Cell]]]:
    """The cells as lines: (name, which variant of its mode, cells by depth), in the modes' order."""
    axes = varying(cells)
    keys: dict[tuple[Mode, tuple[object, ...]], list[Cell]] = {}
    for cell in sorted(cells, key=lambda cell: cell.n_depth):
        keys.setdefault((cell.mode, tuple(axes_of(cell, axes).values())), []).append(cell)
    found: list[tuple[str, int, list[Cell]]] = []
    for mode in NAMES:
        ours = [mine for (of, _), mine in keys.items() if of == mode]
        for variant, mine in enumerate(ours):
            named = ", ".join(f"{name} {word(value)}" for name, value in axes_of(mine[0], axes).items())
            found.append(
                (f"{NAMES[mode]}, {named}" if named and len(ours) > 1 else NAMES[mode], variant, mine)
            )
    return found


def axes_of(cell: Cell, axes: Sequence[str]) -> dict[str, object]:
    """The cell's values of `axes`, without those that its mode does not have."""
    values = ((name, getattr(cell, name)) for name in axes)
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in values
        if value is not None
    }


def _span(interval: Sequence[float] | None) -> Span:
    return (interval[0], interval[1]) if interval else None


def _short(text: str, most: int = MOST_LETTERS) -> str:
    text = plain(text)
    return text if len(text) <= most else text[: most - 1] + "…"
