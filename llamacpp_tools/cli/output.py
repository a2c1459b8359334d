"""What every verb prints the same way: one JSON document, or progress on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from llamacpp_tools.build.cmake import Progress
    from llamacpp_tools.models.gguffile import Progress as FileProgress


WIDE = 160


def print_json(document: Any) -> None:
    """Print one JSON document on stdout, and nothing else there."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def stdout_console() -> Console:
    """A rich console on stdout; wide where that is no terminal, so that a file or a pipe gets whole words."""
    from rich.console import Console

    class Quiet(Console):
        def on_broken_pipe(self) -> None:
            # rich would end with 1, which says that a check failed; `cli.main` knows what this is.
            raise BrokenPipeError

    is_narrow_by_guess = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Quiet(width=WIDE if is_narrow_by_guess else None)


def stderr_console() -> Console:
    """A rich console on stderr, where progress and log go."""
    from rich.console import Console

    return Console(stderr=True)


@contextmanager
def step_progress(what: str) -> Iterator[Progress]:
    """A progress bar on stderr, fed with (steps done, steps in all, what); plain lines where it is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

    console = stderr_console()
    if not console.is_terminal:
        yield _plain_progress(what)
        return
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, TextColumn("{task.fields[doing]}"), console=console, transient=True) as bar:
        task = bar.add_task(what, total=None, doing="")
        yield lambda done, total, doing: bar.update(
            task, completed=done, total=total or None, doing=doing[:48]
        )


def _plain_progress(what: str) -> Progress:
    """A line for about every tenth of the work, for logs and CI."""
    last = [-1]

    def tell(done: int, total: int, doing: str) -> None:
        tenth = 10 * done // total if total else -2
        if tenth != last[0]:
            last[0] = tenth
            print(f"{what}: {done}/{total}" if total else f"{what}: {doing}", file=sys.stderr, flush=True)

    return tell


@contextmanager
def file_progress(path: Path | str) -> Iterator[FileProgress | None]:
    """A bar on stderr from the first byte of a file on, where that is a terminal; nothing elsewhere."""
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = stderr_console()
    if not console.is_terminal:
        yield None
        return
    what = TextColumn("{task.description}", markup=False)
    bar = Bar(what, BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=console, transient=True)
    task = bar.add_task(f"writing {path}", total=None)

    def tell(done: int, total: int) -> None:
        bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield tell
    finally:
        bar.stop()
