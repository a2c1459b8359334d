"""Draws panels with matplotlib: one picture of all of them, or each as an SVG for the page.

The colours are four of Okabe and Ito's (2002), which people who see colours differently can tell apart, each with a
marker of its own. The same figures give the same bytes.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from llamacpp_tools.errors import MissingTool
from llamacpp_tools.report.panels import Panel, Series
from llamacpp_tools.results.schema import Mode
from llamacpp_tools.results.table import plain

INK = "#1d2126"
FAINT = "#c9ced6"
MUTED = "#5c6570"
PAPER = "#ffffff"
COLOURS: dict[Mode, str] = {"dense": "#59626e", "swa": "#0072b2", "mtp": "#d55e00", "swa+mtp": "#009e73"}
# What each colour is called in the page's style sheet, so that its themes can change it.
VARIABLES = {
    INK: "var(--ink)",
    FAINT: "var(--rule)",
    MUTED: "var(--muted)",
    **{colour: f"var(--{mode.replace('+', '-')})" for mode, colour in COLOURS.items()},
}
_MARKERS: dict[Mode, str] = {"dense": "o", "swa": "s", "mtp": "^", "swa+mtp": "D"}
_DASHES: tuple[Any, ...] = ("-", (0, (4, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
# Inches. A phone is as wide as one panel, so its text is as large there as it is drawn here.
_WIDTH = 4.5
_ROW = 0.3
_GAP = 0.25
_HEAD = 0.5
_DPI = 150
# Left, bottom, width and height in inches, from the figure's lower left corner.
Place = tuple[float, float, float, float]
_RC = {
    "svg.hashsalt": "llt",
    "svg.fonttype": "none",
    # A dollar sign in a file's text is no formula.
    "text.parse_math": False,
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.size": 9.0,
    "axes.facecolor": "none",
    "axes.edgecolor": FAINT,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.0,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "text.color": INK,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.0,
}


def picture(panels: Sequence[Panel], title: str, form: Literal["png", "svg"]) -> bytes:
    """All panels in one picture, two beside each other under their topics.

    Raises:
        MissingTool: matplotlib is not installed.
    """
    with _drawing(_RC):
        columns = min(2, len(panels))
        rows = [list(panels[at : at + columns]) for at in range(0, len(panels), columns)]
        heights = [max(_height(panel) for panel in row) for row in rows]
        figure = _figure(columns * (_WIDTH + _GAP) + _GAP, sum(heights) + _GAP * len(rows) + _HEAD)
        figure.text(
            _GAP / figure.get_figwidth(), 1 - 0.6 * _HEAD / figure.get_figheight(), plain(title),
            fontsize=13, fontweight="bold", va="center",
        )  # fmt: skip
        top = figure.get_figheight() - _HEAD
        for row, height in zip(rows, heights, strict=True):
            for column, panel in enumerate(row):
                own = _height(panel)
                left = _GAP + column * (_WIDTH + _GAP)
                _draw(figure, panel, (left, top - own, _WIDTH, own), with_topic=True)
            top -= height + _GAP
        return _saved(figure, form)


def inline_svg(panel: Panel, prefix: str) -> str:
    """One panel as an SVG element for a page: no colours of its own, ids that begin with `prefix`.

    Raises:
        MissingTool: matplotlib is not installed.
    """
    with _drawing(_RC | {"font.size": 10.5, "axes.titlesize": 11.0}):
        figure = _figure(_WIDTH, _height(panel))
        figure.patch.set_visible(False)
        _draw(figure, panel, (0.0, 0.0, _WIDTH, _height(panel)), with_topic=False)
        return _for_page(_saved(figure, "svg").decode(), prefix)


@contextmanager
def _drawing(settings: Any) -> Iterator[None]:
    try:
        import matplotlib
        import matplotlib.figure
    except ImportError:
        raise MissingTool(
            "plots and the page need matplotlib and jinja2, which are not here: pip install 'llamacpp_tools[report]'"
        ) from None
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # A letter that the font lacks is a box in the picture; that is no news for a terminal.
        warnings.filterwarnings("ignore", message="Glyph")
        yield


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), facecolor=PAPER)


def _height(panel: Panel) -> float:
    legend = 0.2 * len(panel.series) if _long_names(panel) else 0.2 * -(-len(panel.series) // 2)
    if panel.kind in ("dots", "stacks"):
        per_row = max(1.0, sum(1 for _ in panel.series) * 0.6) if _shared_rows(panel) else 1.0
        return 1.05 + _ROW * per_row * len(panel.rows) + (legend if _needs_legend(panel) else 0.0)
    return 2.5 + legend


def _saved(figure: Any, form: Literal["png", "svg"]) -> bytes:
    out = io.BytesIO()
    if form == "png":
        figure.savefig(out, format="png", dpi=_DPI, metadata={"Software": None})
        return out.getvalue()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    # The names of clip paths and markers are hashes over places; counted instead, they cannot differ by a last digit.
    svg = out.getvalue().decode()
    names = list(dict.fromkeys(re.findall(r'id="([pm][0-9a-f]{10})"', svg)))
    numbers = {name: f"{name[0]}{at}" for at, name in enumerate(names)}
    return _named_by(numbers, svg).encode()


def _named_by(names: dict[str, str], svg: str) -> str:
    if not names:
        return svg
    return re.sub(
        r'(id="|url\(#|href="#)([pm][0-9a-f]{10})(?=["\)])', lambda m: m[1] + names.get(m[2], m[2]), svg
    )


def _draw(figure: Any, panel: Panel, place: Place, with_topic: bool) -> None:
    left, bottom, width, height = place
    size = (figure.get_figwidth(), figure.get_figheight()) * 2
    axes = figure.add_axes(tuple(inches / whole for inches, whole in zip(place, size, strict=True)))
    title = " · ".join(part for part in (panel.topic if with_topic else "", panel.title) if part)
    axes.set_title(title)
    {"lines": _lines, "traces": _traces, "dots": _points, "stacks": _stacks}[panel.kind](axes, panel)
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    axes.tick_params(length=0)
    if _needs_legend(panel):
        handles, labels = axes.get_legend_handles_labels()
        corner = (left / size[0], bottom / size[1])
        legend = figure.legend(
            handles, labels, loc="lower left", bbox_to_anchor=corner, ncols=1 if _long_names(panel) else 2,
            labelcolor=INK, borderaxespad=0.2, borderpad=0.1,
        )  # fmt: skip
        below = legend.get_window_extent().height / figure.dpi + 0.08
        bottom, height = bottom + below, height - below
    _fit(axes, (left, bottom, width, height))


def _fit(axes: Any, place: Place) -> None:
    """Make the axes as large as their labels leave room for. (matplotlib's own layout engine is not used: the last
    digits of what its solver finds differ from run to run.)
    """
    figure = axes.figure
    left, bottom, width, height = place
    for _ in range(2):  # Other tick labels may be chosen at another size.
        whole, inner = axes.get_tightbbox(), axes.get_window_extent()
        margins = (inner.x0 - whole.x0, inner.y0 - whole.y0, whole.x1 - inner.x1, whole.y1 - inner.y1)
        west, south, east, north = (max(margin, 0.0) / figure.dpi + 0.03 for margin in margins)
        inches = (left + west, bottom + south, width - west - east, height - south - north)
        size = (figure.get_figwidth(), figure.get_figheight()) * 2
        axes.set_position([value / of for value, of in zip(inches, size, strict=True)])


def _lines(axes: Any, panel: Panel) -> None:
    for each in panel.series:
        dashes = _DASHES[each.variant % len(_DASHES)]
        look = {"color": COLOURS[each.mode], "marker": _MARKERS[each.mode], "linestyle": dashes}
        axes.errorbar(
            each.x, each.y, yerr=_errors(each), label=each.name, capsize=2.5, elinewidth=1, **look
        )  # fmt: skip
    places = sorted({x for each in panel.series for x in each.x})
    axes.set_xticks(places if len(places) <= 5 else [places[0], *places[-3:]], minor=False)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.margins(x=0.06)
    axes.set_ylim(0, 1.04 if panel.share else 1.08 * _highest(panel))
    axes.grid(visible=False, axis="x")


def _traces(axes: Any, panel: Panel) -> None:
    for each in panel.series:
        dashes = _DASHES[each.variant % len(_DASHES)]
        axes.plot(each.x, each.y, label=each.name, color=COLOURS[each.mode], linestyle=dashes, linewidth=1.2)
    axes.grid(visible=False, axis="x")


def _points(axes: Any, panel: Panel) -> None:
    shared = _shared_rows(panel)
    for at, each in enumerate(panel.series):
        # Where several modes stand in a row, each has a height of its own in it.
        shift = (at - (len(panel.series) - 1) / 2) * 0.2 if shared else 0.0
        axes.errorbar(
            each.y, [row + shift for row in each.x], xerr=_errors(each), label=each.name, color=COLOURS[each.mode],
            marker=_MARKERS[each.mode], linestyle="none", capsize=2.5, elinewidth=1,
        )  # fmt: skip
        if panel.line_at is None:
            axes.hlines(each.x, 0, each.y, color=COLOURS[each.mode], linewidth=4, alpha=0.25)
    _rows(axes, panel)
    axes.locator_params(axis="x", nbins=6)
    if panel.line_at is not None:
        axes.axvline(panel.line_at, color=MUTED, linewidth=1, linestyle=(0, (3, 2)))
        axes.margins(x=0.08)
    else:
        axes.set_xlim(0, 1.06 * _highest(panel))


def _stacks(axes: Any, panel: Panel) -> None:
    for at, each in enumerate(panel.series):
        colour = COLOURS[each.mode]
        totals = [low + high for low, high in zip(each.y, each.above, strict=True)]
        axes.barh(each.x, each.y, height=0.55, color=colour, alpha=0.45, label="" if at else "draft (faint)")
        axes.barh(
            each.x, each.above, left=each.y, height=0.55, color=colour, label="" if at else "verification"
        )
        errors = _errors(each, totals)
        if errors is not None:
            axes.errorbar(totals, each.x, xerr=errors, color=INK, linestyle="none", capsize=2.5, elinewidth=1)
    _rows(axes, panel)
    axes.set_xlim(left=0)


def _rows(axes: Any, panel: Panel) -> None:
    axes.set_yticks(range(len(panel.rows)), panel.rows)
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set_ylim(len(panel.rows) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")


def _errors(each: Series, values: Sequence[float] | None = None) -> list[list[float]] | None:
    """Distances to the ends of the intervals, 0 where a point has none; None where no point has one."""
    if not any(each.spans):
        return None
    pairs = [
        (0.0, 0.0) if span is None else (max(value - span[0], 0.0), max(span[1] - value, 0.0))
        for value, span in zip(values or each.y, each.spans, strict=True)
    ]
    return [[low for low, _ in pairs], [high for _, high in pairs]]


def _highest(panel: Panel) -> float:
    ends = [span[1] for each in panel.series for span in each.spans if span is not None]
    return max([*(y for each in panel.series for y in each.y), *ends])


def _shared_rows(panel: Panel) -> bool:
    rows = [row for each in panel.series for row in each.x]
    return len(set(rows)) < len(rows) or (panel.line_at is not None and len(panel.series) > 1)


def _needs_legend(panel: Panel) -> bool:
    if panel.kind == "dots":
        return _shared_rows(panel) or panel.line_at is not None
    return True


def _long_names(panel: Panel) -> bool:
    return max(len(each.name) for each in panel.series) > 22


def _for_page(svg: str, prefix: str) -> str:
    svg = svg[svg.index("<svg") :]
    # Its style sheet would hold for the whole page, and its metadata say nothing.
    svg = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}", svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(f": {colour}", f": {variable}")
    head, _, rest = svg.partition(">")
    head = re.sub(r'\s(width|height|version|xmlns:xlink|xmlns)="[^"]*"', "", head)
    return f'{head} aria-hidden="true" focusable="false">{rest.strip()}'
