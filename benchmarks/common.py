"""What the benchmarks share: the machine in words, the result file, the table."""

from __future__ import annotations

import datetime
import json
import platform
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

import llamacpp_tools
from llamacpp_tools.files import write_text_atomic
from llamacpp_tools.processor import cpu_info
from llamacpp_tools.results.provenance import checkout_state
from llamacpp_tools.stack.git import Git

ROOT = Path(__file__).resolve().parent.parent


def machine() -> dict[str, Any]:
    """What a reader needs to judge a time: processor, memory, load, versions; no name, no path."""
    commit, dirty = checkout_state(ROOT / "llamacpp_tools")
    return {
        "cpu_info": cpu_info(),
        "cpu_count": psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "load_average": round(psutil.getloadavg()[0], 2),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "git": Git(ROOT).text("version"),
        "llt_version": llamacpp_tools.__version__,
        "llt_commit": commit,
        "checkout_dirty": dirty,
    }


def write_result(name: str, result: dict[str, Any]) -> Path:
    """Write `results/benchmarks/NAME.json`."""
    path = ROOT / "results" / "benchmarks" / f"{name}.json"
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    text = json.dumps({"schema": 1, "benchmark": name, "date": date, **result}, indent=2) + "\n"
    write_text_atomic(path, text)
    return path


def show(title: str, rows: list[tuple[str, str]]) -> None:
    """Print a table of two columns."""
    table = Table("what", "value", title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
