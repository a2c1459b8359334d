"""A report as rows (CSV, one per cell) and as one JSON document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from llamacpp_tools.report.facts import differences, facts
from llamacpp_tools.report.story import Story, Verdict
from llamacpp_tools.results.schema import Cell
from llamacpp_tools.results.sheet import Gain, Line, Sheet

REPORT_SCHEMA = 1
# Lists have a column of their own in the result file only; a row is flat.
_LISTS = {name for name, field in Cell.model_fields.items() if "list" in str(field.annotation)} - {
    "full_layers", "notes",
    "prefill_tps_interval", "decode_tps_interval",
}  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_BUILD = ("build_commit", "build_number", "cpu_info", "gpu_info", "backends", "model_filename", "model_size",
          "model_n_params")  # fmt: skip


def frame(stories: Sequence[Story]) -> pd.DataFrame:
    """One row per cell of each result: llama-bench's columns, the cell's own, and its gains.

    `result` is the file; an interval is two columns, `_low` and `_high`; a gain is a ratio.
    """
    return pd.DataFrame([row for story in stories for row in _rows(story)])


def csv(stories: Sequence[Story]) -> str:
    """`frame` as CSV, an empty field where there is no figure."""
    # Nullable columns: a count that one cell lacks stays a whole number.
    rows = frame(stories).convert_dtypes()
    return str(rows.map(_no_formula).to_csv(index=False, lineterminator="\n"))


def _no_formula(value: Any) -> Any:
    """A spreadsheet would run a text that begins like a formula; with an apostrophe before it, it shows it."""
    return "'" + value if isinstance(value, str) and value[:1] in _FORMULA else value


def as_json(stories: Sequence[Story]) -> dict[str, Any]:
    """The report as JSON values: what the tables and the sentences say, without the rounds."""
    return {
        "schema": REPORT_SCHEMA,
        "results": [_result(story) for story in stories],
        "differences": [{"name": each.name, "values": list(each.values)} for each in differences(stories)],
    }


def _rows(story: Story) -> list[dict[str, Any]]:
    known = story.result.provenance
    lines = {line.cell.id: line for sheet in story.sheets for line in sheet.lines if line.cell is not None}
    build = {name: getattr(known, name) for name in _BUILD}
    start = {"result": str(story.path), "experiment": story.result.experiment, "test_time": story.result.date}
    return [start | build | _cell(cell) | _gains(lines.get(cell.id)) for cell in story.result.cells]


def _cell(cell: Cell) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, value in cell.model_dump(mode="json", exclude=_LISTS | {"output_text"}).items():
        if name.endswith("_interval"):
            row |= _interval(name.removesuffix("_interval"), value)
        elif name == "full_layers":
            row[name] = None if value is None else ",".join(map(str, value)) or "none"
        else:
            row[name] = "; ".join(value) if name == "notes" else value
    return row


def _gains(line: Line | None) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, gain in _named(line).items():
        row[name] = gain.ratio if gain else None
        row |= _interval(name, gain.interval if gain else None)
        if name != "prefill_vs_own":
            row |= {f"{name}_doubtful": gain.doubtful if gain else None}
            row |= {f"{name}_confounded": gain.confounded if gain else None}
    return row


def _named(line: Line | None) -> dict[str, Gain | None]:
    return {
        "decode_vs_dense": line.dense if line else None,
        "decode_vs_own": line.own if line else None,
        "prefill_vs_own": line.own_prefill if line else None,
    }


def _interval(name: str, value: Sequence[float] | None) -> dict[str, float | None]:
    low, high = value or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def _result(story: Story) -> dict[str, Any]:
    result = story.result
    return {
        "result": str(story.path),
        "name": story.name,
        "experiment": result.experiment,
        "status": result.status,
        "date": result.date,
        "verdicts": [_verdict(each) for each in story.verdicts],
        "tables": [_table(sheet) for sheet in story.sheets],
        "findings": story.findings,
        "without_figures": [
            {"mode": each.mode, "n_depth": each.n_depth, "workload": each.workload, "status": each.status,
             "reason": each.reason}
            for each in story.troubles
        ],
        "caveats": story.caveats,
        "facts": facts(result),
    }  # fmt: skip


def _verdict(found: Verdict) -> dict[str, Any]:
    return {
        "n_depth": found.sheet.group.n_depth,
        "workload": found.sheet.group.workload,
        "axes": _axes(found.sheet),
        "fastest": found.line.mode,
        "decode_vs_dense": _gain(found.gain),
        "remark": found.remark,
    }


def _table(sheet: Sheet) -> dict[str, Any]:
    return {
        "n_depth": sheet.group.n_depth,
        "workload": sheet.group.workload,
        "axes": _axes(sheet),
        "rows": [_line(line) for line in sheet.lines],
    }


def _axes(sheet: Sheet) -> dict[str, Any]:
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in sheet.group.axes.items()
    }


def _line(line: Line) -> dict[str, Any]:
    cell = line.cell if line.ok else None
    return {
        "mode": line.mode,
        "status": line.status,
        "prefill_tps": cell.prefill_tps if cell else None,
        "decode_tps": cell.decode_tps if cell else None,
        "acceptance": cell.acceptance if cell else None,
        "kv_bytes": line.cell.kv_bytes if line.cell else None,
        **{name: _gain(gain) for name, gain in _named(line).items()},
    }


def _gain(gain: Gain | None) -> dict[str, Any] | None:
    if gain is None:
        return None
    return {
        "ratio": gain.ratio,
        "interval": list(gain.interval) if gain.interval else None,
        "rounds": gain.rounds,
        "doubtful": gain.doubtful,
        "confounded": gain.confounded,
    }
