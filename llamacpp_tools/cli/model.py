"""`llt model`: what can be done with a model file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from llamacpp_tools.models.gguffile import Progress

app = typer.Typer(
    no_args_is_help=True,
    help="Write model files for tests and measurements.",
    epilog="Example: llt model synth --shape tiny --out tiny.gguf",
    rich_markup_mode=None,
)


@app.command(epilog="Example: llt model synth --shape tiny-dense --seed 1 --out dense.gguf")
def synth(
    shape: Annotated[
        str, typer.Option("--shape", help="tiny, tiny-dense, tiny-next or qwen3.6-35b-a3b.")
    ] = "tiny",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write [default: ./SHAPE-sSEED-DTYPE.gguf].")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Same shape, seed and type: same bytes.")] = 0,
    dtype: Annotated[str, typer.Option("--dtype", help="Type of the matrices: f32, f16 or q8_0.")] = "f32",
    json_output: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Write a random-weight GGUF of a given shape: real in size and speed, nonsense in what it says."""
    from llamacpp_tools.cli.output import print_json
    from llamacpp_tools.models.shapes import shape_named
    from llamacpp_tools.models.synth import synth as write_model

    wanted = shape_named(shape)
    path = out or Path(f"{shape}-s{seed}-{dtype}.gguf")
    with _progress(path) as progress:
        result = write_model(wanted, path, seed, dtype, progress)
    if json_output:
        facts = {**dataclasses.asdict(result), "path": str(result.path)}
        print_json({"shape": shape, "arch": wanted.arch, "seed": seed, "dtype": dtype, **facts})
    else:
        typer.echo(
            f"{result.path}: {wanted.arch}, {result.n_params / 1e6:.1f} M weights, "
            f"{result.n_bytes / 1e6:.1f} MB, sha256 {result.sha256}"
        )


@contextmanager
def _progress(path: Path) -> Iterator[Progress | None]:
    """A bar on stderr where that is a terminal; nothing elsewhere."""
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    from llamacpp_tools.cli.output import stderr_console

    console = stderr_console()
    if not console.is_terminal:
        yield None
        return
    what = TextColumn("{task.description}", markup=False)
    columns = (what, BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task(f"writing {path}", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
