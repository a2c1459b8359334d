"""A result as the rows that `llama-bench -o jsonl` and `-o sql` print, for upstream's `scripts/compare-llama-bench.py`.

A cell's decode speed is a `tg` row at its depth, its prefill speed a `pp` row at depth 0. llama-bench knows no mode
and no workload, and its script compares two `build_commit`s and averages whatever its other columns do not tell apart.
So what a row was measured on stands in `model_type`, which the script shows, matches by and never averages over:
`MODEL [analysis, swa+mtp]`, with the values that vary. With `by_mode` the mode is the build instead, so that the
script compares modes: `-b dense__ -c swa+mtp`.

The script matches rows by columns that llt has no counterpart for, and a null matches nothing in SQL: those hold what
llama-bench prints when nothing is asked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from llamacpp_tools.errors import BadInput
from llamacpp_tools.report.panels import axes_of
from llamacpp_tools.report.story import Story
from llamacpp_tools.results.groups import varying, word
from llamacpp_tools.results.schema import Cell, Mode
from llamacpp_tools.results.table import plain

# The script cuts all builds to the shortest one's length, so the modes' names are equally long.
BUILD_OF_MODE: dict[Mode, str] = {
    "dense": "dense__",
    "swa": "swa____",
    "mtp": "mtp____",
    "swa+mtp": "swa+mtp",
}
# Columns of llama-bench's own that a label need not repeat.
_OWN_COLUMNS = {"n_ubatch", "n_batch", "type_k", "type_v", "flash_attn", "n_gpu_layers", "threads"}

Row = dict[str, Any]
# In llama-bench's order: name, SQL type, and what it prints when nothing is asked.
FIELDS: tuple[tuple[str, str, Any], ...] = (
    ("build_commit", "TEXT", "unknown"), ("build_number", "INTEGER", 0), ("cpu_info", "TEXT", ""),
    ("gpu_info", "TEXT", ""), ("backends", "TEXT", ""), ("model_filename", "TEXT", ""), ("model_type", "TEXT", ""),
    ("model_size", "INTEGER", 0), ("model_n_params", "INTEGER", 0), ("n_batch", "INTEGER", 2048),
    ("n_ubatch", "INTEGER", 512), ("n_threads", "INTEGER", 0), ("cpu_mask", "TEXT", "0x0"),
    ("cpu_strict", "INTEGER", False), ("poll", "INTEGER", 50), ("type_k", "TEXT", "f16"), ("type_v", "TEXT", "f16"),
    ("n_gpu_layers", "INTEGER", -1), ("n_cpu_moe", "INTEGER", 0), ("split_mode", "TEXT", "layer"),
    ("main_gpu", "INTEGER", 0), ("no_kv_offload", "INTEGER", False), ("flash_attn", "INTEGER", -1),
    ("devices", "TEXT", "auto"), ("tensor_split", "TEXT", "0.00"), ("tensor_buft_overrides", "TEXT", "none"),
    ("use_mmap", "INTEGER", True), ("use_direct_io", "INTEGER", False), ("embeddings", "INTEGER", False),
    ("no_op_offload", "INTEGER", 0), ("no_host", "INTEGER", False), ("fit_target", "INTEGER", 0),
    ("fit_min_ctx", "INTEGER", 0), ("n_prompt", "INTEGER", 0), ("n_gen", "INTEGER", 0), ("n_depth", "INTEGER", 0),
    ("test_time", "TEXT", ""), ("avg_ns", "INTEGER", 0), ("stddev_ns", "INTEGER", 0), ("avg_ts", "REAL", 0.0),
    ("stddev_ts", "REAL", 0.0),
)  # fmt: skip


def rows(stories: Sequence[Story], by_mode: bool = False) -> list[Row]:
    """One row per measured speed, with `samples_ns` and `samples_ts` beside llama-bench's columns.

    Args:
        stories: the results; a cell that is not ok, or that accepted what it was told to, has no row.
        by_mode: the mode is the build, for comparing modes of one result.

    Raises:
        BadInput: several results with `by_mode`: rows of two machines or builds would be averaged.
    """
    if by_mode and len(stories) > 1:
        raise BadInput("modes are compared within one result; name one")
    return [row for story in stories for row in _result(story, by_mode)]


def to_jsonl(found: Sequence[Row]) -> str:
    """A line per row."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found)


def to_sql(found: Sequence[Row]) -> str:
    """The table, if it is not there, and an insert per row, for `sqlite3 FILE`."""
    columns = ",\n".join(f"  {name} {kind}" for name, kind, _ in FIELDS)
    names = ", ".join(name for name, _, _ in FIELDS)
    inserts = [
        f"INSERT INTO llama_bench ({names}) VALUES ({', '.join(_quoted(row[name]) for name, _, _ in FIELDS)});\n"
        for row in found
    ]
    return f"CREATE TABLE IF NOT EXISTS llama_bench (\n{columns}\n);\n\n" + "".join(inserts)


def _result(story: Story, by_mode: bool) -> Iterator[Row]:
    usable = [cell for cell in story.result.cells if cell.status == "ok" and cell.has_speed]
    if not by_mode:
        axes = [name for name in varying(usable) if name not in _OWN_COLUMNS]
        for cell in usable:
            label = [cell.workload, cell.mode, *(f"{k} {word(v)}" for k, v in axes_of(cell, axes).items())]
            yield from _speeds(story, cell, label, None)
        return
    for sheet in story.sheets:
        # A dense row stands beside each set of values, or those would have nothing to be compared with.
        axes_words = [f"{k} {word(v)}" for k, v in sheet.group.axes.items() if k not in _OWN_COLUMNS]
        for line in sheet.lines:
            if line.ok and line.cell is not None:
                label = [sheet.group.workload, *axes_words]
                yield from _speeds(story, line.cell, label, BUILD_OF_MODE[line.mode])


def _speeds(story: Story, cell: Cell, label: Sequence[str], build: str | None) -> Iterator[Row]:
    known = story.result.provenance
    name = known.model_filename or story.result.model
    common = {
        "build_commit": build or known.build_commit,
        "build_number": known.build_number,
        "cpu_info": known.cpu_info,
        "gpu_info": known.gpu_info,
        "backends": known.backends,
        "model_filename": name,
        "model_type": f"{name} [{', '.join(label)}]",
        "model_size": known.model_size,
        "model_n_params": known.model_n_params,
        "n_batch": cell.n_batch,
        "n_ubatch": cell.n_ubatch,
        "n_threads": cell.n_threads,
        "type_k": cell.type_k,
        "type_v": cell.type_v,
        "n_gpu_layers": None if cell.n_gpu_layers == "all" else cell.n_gpu_layers,
        "flash_attn": None if cell.flash_attn in (None, "auto") else int(bool(cell.flash_attn)),
        "test_time": story.result.date,
    }
    if cell.prefill_tps is not None:
        speed = cell.prefill_avg_ts if cell.prefill_avg_ts is not None else cell.prefill_tps
        tokens = cell.n_prompt or cell.n_depth
        timed = (speed, cell.prefill_stddev_ts, cell.prefill_samples_ns, cell.prefill_samples_ts)
        yield _row(common | {"n_prompt": tokens}, tokens, *timed)
    tokens = cell.n_gen or cell.n_predict or 0
    if cell.decode_tps is not None and tokens:
        speed = cell.avg_ts if cell.avg_ts is not None else cell.decode_tps
        # What was asked for, as llama-bench has it: two modes of one sweep then match, whatever they produced.
        test = {"n_gen": cell.n_predict or tokens, "n_depth": cell.n_depth}
        yield _row(common | test, tokens, speed, cell.stddev_ts, cell.samples_ns, cell.samples_ts)


def _row(
    known: Row,
    tokens: int,
    speed: float,
    spread: float | None,
    samples_ns: Sequence[int],
    samples_ts: Sequence[float],
) -> Row:
    times = samples_ns or [round(tokens / speed * 1e9)]
    middle = sum(times) / len(times)
    apart = (sum((each - middle) ** 2 for each in times) / (len(times) - 1)) ** 0.5 if len(times) > 1 else 0.0
    timed = {
        "avg_ns": round(middle),
        "stddev_ns": round(apart),
        "avg_ts": speed,
        "stddev_ts": spread or 0.0,
    }
    own = {key: plain(value) if isinstance(value, str) else value for key, value in (known | timed).items()}
    row = {name: usual if own.get(name) is None else own[name] for name, _, usual in FIELDS}
    return row | {"samples_ns": list(samples_ns), "samples_ts": list(samples_ts)}


def _quoted(value: Any) -> str:
    text = str(int(value)) if isinstance(value, bool) else str(value)
    return "'" + text.replace("'", "''") + "'"
