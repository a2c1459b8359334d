"""What `llt model inspect` prints: as a document, and as text with two tables."""

from __future__ import annotations

import dataclasses
import shlex
from itertools import groupby
from typing import TYPE_CHECKING, Any

import typer

from llamacpp_tools.cli.output import stdout_console

if TYPE_CHECKING:
    from rich.table import Table

    from llamacpp_tools.models.header import GgufHeader
    from llamacpp_tools.models.inspect import Inspection


def as_document(found: Inspection) -> dict[str, Any]:
    """The inspection as JSON values; sizes in bytes, contexts in tokens."""
    header, start = found.header, found.start
    return {
        "path": str(header.path),
        "files": [str(path) for path in header.files],
        "arch": header.arch,
        "name": header.name,
        "n_bytes": header.file_size,
        "n_params": header.n_params,
        "n_ctx_train": header.n_ctx_train,
        "n_embd": header.n_embd,
        "n_vocab": header.n_vocab,
        "n_expert": header.n_expert,
        "n_expert_used": header.n_expert_used,
        "layers": {
            "full_attention": list(header.full_attention_layers),
            "recurrent": list(header.recurrent_layers),
            "mtp": list(range(header.n_layer, header.n_layer + header.n_layer_nextn)),
        },
        "has_trunk": header.has_trunk,
        "mtp": dataclasses.asdict(found.mtp) if found.mtp else None,
        "no_mtp": found.no_mtp,
        "no_recipe": found.no_recipe,
        "file_type": found.file_type,
        "types": [dataclasses.asdict(share) for share in found.types],
        "exact_kv": found.exact_kv,
        "left_out": list(found.left_out),
        "memory": [
            {
                "depth": row.depth,
                "mode": row.mode,
                "type_kv": row.type_kv,
                "weights": row.need.weights,
                "target_kv": row.need.target_kv,
                "recurrent": row.need.recurrent,
                "draft_kv": row.need.draft_kv,
                "compute": row.need.compute,
                "total": row.need.total,
            }
            for row in found.memory
        ],
        "free_bytes": found.free_bytes,
        "fits": [dataclasses.asdict(row) for row in found.fits],
        "start": dataclasses.asdict(start) | {"yaml": start.as_yaml(), "flags": list(start.as_flags())}
        if start
        else None,
    }


def print_text(found: Inspection, with_tensors: bool) -> None:
    """Print the inspection for a person."""
    header = found.header
    _facts(found)
    _mtp(found, with_tensors)
    if found.no_recipe:
        typer.echo(f"SWA:      no recipe: {found.no_recipe}")
    else:
        typer.echo(f"SWA:      the recipe applies to layers {_numbers(header.full_attention_layers)}")
    if found.memory:
        _memory(found)
    _start(found)


def size(count: int) -> str:
    """Bytes in the unit that gives three digits or so."""
    for unit, shift in (("GiB", 30), ("MiB", 20)):
        if count >= 1 << shift:
            return f"{count / (1 << shift):.{1 if count >= 10 << shift else 2}f} {unit}"
    return f"{count / 1024:.0f} KiB"


def _facts(found: Inspection) -> None:
    header = found.header
    files = f" in {len(header.files)} files" if len(header.files) > 1 else ""
    name = f", {header.name}" if header.name else ""
    typer.echo(f"{header.path}: {header.arch}{name}")
    typer.echo(
        f"size:     {size(header.file_size)}{files}, {_count(header.n_params)} weights, trained for "
        f"{header.n_ctx_train:,} tokens"
    )
    typer.echo(f"layers:   {_layers(header)}")
    types = ", ".join(f"{share.type_name} {share.n_tensors} ({size(share.n_bytes)})" for share in found.types)
    said = f"; the file says {found.file_type}" if found.file_type else "; the file names no type"
    typer.echo(f"tensors:  {types or 'none'}{said}")


def _layers(header: GgufHeader) -> str:
    if not header.has_trunk:
        return f"only the MTP block {header.n_layer}: a draft model for `llama-server -md`"
    parts = [f"{len(header.full_attention_layers)} full attention ({_numbers(header.full_attention_layers)})"]
    if header.recurrent_layers:
        parts.append(f"{len(header.recurrent_layers)} recurrent ({_numbers(header.recurrent_layers)})")
    if header.n_layer_nextn:
        last = header.n_layer + header.n_layer_nextn
        parts.append(f"{header.n_layer_nextn} MTP ({_numbers(range(header.n_layer, last))})")
    return ", ".join(parts)


def _mtp(found: Inspection, with_tensors: bool) -> None:
    if found.mtp is None:
        typer.echo(f"MTP:      no head: {found.no_mtp}")
        return
    block = found.mtp
    typer.echo(
        f"MTP:      {len(block.tensors)} tensors, {size(block.n_bytes)}; of its own: {', '.join(block.nextn)}"
    )
    if with_tensors:
        for name in block.tensors:
            typer.echo(f"          {name}{' (nextn)' if name in block.nextn else ''}")


def _memory(found: Inspection) -> None:
    first = {row.mode: row.need for row in reversed(found.memory)}
    states = "; ".join(
        f"{size(need.recurrent)} with {modes}" for need, modes in _by_state(first) if need.recurrent
    )
    typer.echo(f"state:    recurrent, whatever the context: {states or 'none'}")
    for name in found.left_out:
        typer.echo(f"note:     no {name} caches: the heads of this model cannot be packed into its blocks")
    if not found.exact_kv:
        typer.echo("note:     every layer counted as full attention: a window of the model's own takes less")
    types = list(dict.fromkeys(row.type_kv for row in found.memory))
    caches = _table("context", "mode", *types)
    for depth, rows in groupby(found.memory, key=lambda row: row.depth):
        shown = f"{depth:,}"
        for mode, cells in groupby(rows, key=lambda row: row.mode):
            caches.add_row(shown, mode, *(size(row.need.kv) for row in cells))
            shown = ""
    fitting = _table("mode", *types)
    for mode, contexts in groupby(found.fits, key=lambda row: row.mode):
        fitting.add_row(mode, *(f"{row.depth:,}" if row.depth else "none" for row in contexts))
    console = stdout_console()
    typer.echo("\nCaches and state by context and type of the caches, the draft context's included:")
    console.print(caches)
    typer.echo(
        f"Greatest context in the {size(found.free_bytes)} of memory, with weights "
        f"({size(found.memory[0].need.weights)}) and buffers:"
    )
    console.print(fitting)


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column, justify="left" if column == "mode" else "right", no_wrap=True)
    return table


def _by_state(needs: dict[str, Any]) -> list[tuple[Any, str]]:
    """Modes gathered by how much recurrent state they keep."""
    gathered: dict[int, list[str]] = {}
    for mode in reversed(needs):
        gathered.setdefault(needs[mode].recurrent, []).append(mode)
    return [(needs[modes[0]], ", ".join(modes)) for modes in gathered.values()]


def _start(found: Inspection) -> None:
    if found.start is None:
        return
    if found.start.published:
        why = "published for Qwen3.6-35B-A3B, which has this shape"
    elif found.start.window is not None:
        why = "the shares that were published for Qwen3.6-35B-A3B; a beginning, to be measured"
    else:
        why = "a beginning, to be measured"
    typer.echo(f"To begin with ({why}), in a sweep file:\n")
    typer.echo(found.start.as_yaml())
    words = ["llama-server", "-m", str(found.header.files[0]), *found.start.as_flags()]
    typer.echo(f"\nand with the patched llama-server:\n\n{shlex.join(words)}")


def _numbers(layers: Any) -> str:
    """Layer numbers, runs of three or more as first-last."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    parts = [f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(str(layer) for layer in run) for run in runs]
    return ",".join(parts) or "none"


def _count(number: int) -> str:
    return f"{number / 1e9:.2f} G" if number >= 1e9 else f"{number / 1e6:.1f} M"
