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
    help="Look into model files, take their MTP block out, and write random-weight ones.",
    epilog="Example: llt model inspect Qwen3.6-35B-A3B-MTP.gguf",
    rich_markup_mode=None,
)


@app.command(epilog="Example: llt model inspect Qwen3.6-35B-A3B-MTP.gguf --depth 32768,131072")
def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A GGUF file, or any part of a split one.")],
    depth: Annotated[
        str,
        typer.Option("--depth", help="Contexts in tokens, such as 8192,131072 [default: up to training]."),
    ] = "",
    kv: Annotated[str, typer.Option("--kv", help="Types of the KV caches.")] = "f16,q8_0,q4_1",
    n_max: Annotated[int, typer.Option("--n-max", help="Tokens of the longest draft.")] = 3,
    tensors: Annotated[bool, typer.Option("--tensors", help="Name all tensors of the MTP block.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Say what a model is good for: layers, MTP head, memory by mode, what fits here, a recipe to begin with."""
    from llamacpp_tools.cli.modelview import as_document, print_text
    from llamacpp_tools.cli.output import print_json
    from llamacpp_tools.models.inspect import inspect as look
    from llamacpp_tools.models.memory import free_memory

    found = look(file, free_memory(), _numbers(depth), tuple(dict.fromkeys(_words(kv))), n_max)
    if json_output:
        print_json(as_document(found))
    else:
        print_text(found, tensors)


@app.command("extract-mtp", epilog="Example: llt model extract-mtp Qwen3.6-35B-A3B-MTP.gguf --out mtp.gguf")
def extract_mtp(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A GGUF file, or any part of a split one.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write.")],
    json_output: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Write the MTP block as a file of its own: a draft model for `llama-server -md OUT --spec-type draft-mtp`."""
    from llamacpp_tools.cli.modelview import size
    from llamacpp_tools.cli.output import print_json
    from llamacpp_tools.models.extract import extract_mtp as extract

    with _progress(out) as progress:
        result = extract(file, out, progress)
    if json_output:
        print_json({**dataclasses.asdict(result), "path": str(result.path)})
    else:
        typer.echo(
            f"{result.path}: MTP block {', '.join(map(str, result.blocks))}, {len(result.tensors)} tensors, "
            f"{size(result.n_bytes)}, of which {size(result.shared_bytes)} are embeddings and output matrix that the "
            "trunk has, too"
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


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(text: str) -> list[int]:
    from llamacpp_tools.errors import BadInput

    words = _words(text)
    odd = next((word for word in words if not (word.isascii() and word.isdecimal())), None)
    if odd is not None:
        raise BadInput(f"--depth takes numbers of tokens such as 8192,131072, not {odd!r}")
    return [int(word) for word in words]


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
