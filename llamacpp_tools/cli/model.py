"""`llt model`: what can be done with a model file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

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
    memory: Annotated[
        str,
        typer.Option(
            "--memory", help="What fits into this, such as a GPU's 24GiB [default: what is free here]."
        ),
    ] = "",
    tensors: Annotated[bool, typer.Option("--tensors", help="Name all tensors of the MTP block.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Say what a model is good for: layers, MTP head, memory by mode, what fits here, a recipe to begin with."""
    from llamacpp_tools.cli.modelview import as_document, print_text
    from llamacpp_tools.cli.output import print_json
    from llamacpp_tools.models.inspect import inspect as look
    from llamacpp_tools.models.memory import free_memory

    found = look(
        file,
        _size(memory) if memory else free_memory(),
        _numbers(depth),
        tuple(dict.fromkeys(_words(kv))),
        n_max,
    )
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
    from llamacpp_tools.cli.output import file_progress, print_json
    from llamacpp_tools.models.extract import extract_mtp as extract

    with file_progress(out) as progress:
        result = extract(file, out, progress)
    if json_output:
        print_json({**dataclasses.asdict(result), "path": str(result.path)})
    else:
        typer.echo(
            f"{result.path}: MTP block {', '.join(map(str, result.blocks))}, {len(result.tensors)} tensors, "
            f"{size(result.n_bytes)}, of which {size(result.shared_bytes)} are embeddings and output matrix that the "
            "trunk has, too"
        )


@app.command(epilog="Example: llt model synth --shape qwen3.6-35b-a3b --n-layer 4 --n-expert 16 --dtype q4_0")
def synth(
    shape: Annotated[
        str, typer.Option("--shape", help="tiny, tiny-dense, tiny-next, qwen3.6-35b-a3b or qwen3.6-27b.")
    ] = "tiny",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write [default: ./SHAPE-sSEED-DTYPE.gguf].")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Same shape, seed and type: same bytes.")] = 0,
    dtype: Annotated[
        str,
        typer.Option(
            "--dtype",
            help="Type of the matrices: f32, f16, bf16, q8_0, q5_1, q5_0, q4_1 or q4_0 [default: f32, of the large "
            "shapes q4_0].",
        ),
    ] = "",
    header_only: Annotated[
        bool,
        typer.Option("--header-only", help="No weights: a sparse file to inspect, which takes no room."),
    ] = False,
    n_layer: Annotated[
        int | None, typer.Option("--n-layer", help="Layers of the trunk.", rich_help_panel="Sizes")
    ] = None,
    n_nextn: Annotated[
        int | None, typer.Option("--n-nextn", help="MTP blocks, 0 or 1.", rich_help_panel="Sizes")
    ] = None,
    n_embd: Annotated[
        int | None, typer.Option("--n-embd", help="Width of the residual stream.", rich_help_panel="Sizes")
    ] = None,
    n_head: Annotated[
        int | None, typer.Option("--n-head", help="Query heads.", rich_help_panel="Sizes")
    ] = None,
    n_head_kv: Annotated[
        int | None, typer.Option("--n-head-kv", help="Key and value heads.", rich_help_panel="Sizes")
    ] = None,
    head_dim: Annotated[
        int | None, typer.Option("--head-dim", help="Size of an attention head.", rich_help_panel="Sizes")
    ] = None,
    ssm_k_heads: Annotated[
        int | None,
        typer.Option("--ssm-k-heads", help="Key heads of a recurrent layer.", rich_help_panel="Sizes"),
    ] = None,
    ssm_v_heads: Annotated[
        int | None, typer.Option("--ssm-v-heads", help="Its value heads.", rich_help_panel="Sizes")
    ] = None,
    ssm_head_dim: Annotated[
        int | None, typer.Option("--ssm-head-dim", help="Size of its heads.", rich_help_panel="Sizes")
    ] = None,
    full_interval: Annotated[
        int | None,
        typer.Option(
            "--full-interval", help="Every how many-th layer has full attention.", rich_help_panel="Sizes"
        ),
    ] = None,
    n_vocab: Annotated[int | None, typer.Option("--n-vocab", help="Tokens.", rich_help_panel="Sizes")] = None,
    n_ctx_train: Annotated[
        int | None,
        typer.Option("--n-ctx-train", help="Tokens it is said to be trained for.", rich_help_panel="Sizes"),
    ] = None,
    n_ff: Annotated[
        int | None, typer.Option("--n-ff", help="Width of a dense FFN.", rich_help_panel="Sizes")
    ] = None,
    n_expert: Annotated[
        int | None, typer.Option("--n-expert", help="Experts.", rich_help_panel="Sizes")
    ] = None,
    n_expert_used: Annotated[
        int | None, typer.Option("--n-expert-used", help="Experts for a token.", rich_help_panel="Sizes")
    ] = None,
    n_ff_exp: Annotated[
        int | None, typer.Option("--n-ff-exp", help="Width of an expert.", rich_help_panel="Sizes")
    ] = None,
    n_ff_shexp: Annotated[
        int | None, typer.Option("--n-ff-shexp", help="Width of the shared expert.", rich_help_panel="Sizes")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Write a random-weight GGUF of a given shape: real in size and speed, nonsense in what it says."""
    from llamacpp_tools.cli.output import file_progress, print_json
    from llamacpp_tools.models.reshape import reshaped
    from llamacpp_tools.models.shapes import shape_named
    from llamacpp_tools.models.shelf import file_stem
    from llamacpp_tools.models.synth import synth as write_model
    from llamacpp_tools.models.synth import synth_header

    sizes = {
        name: value
        for name, value in {
            "n_layer": n_layer,
            "n_nextn": n_nextn,
            "n_embd": n_embd,
            "n_head": n_head,
            "n_head_kv": n_head_kv,
            "head_dim": head_dim,
            "ssm_k_heads": ssm_k_heads,
            "ssm_v_heads": ssm_v_heads,
            "ssm_head_dim": ssm_head_dim,
            "full_interval": full_interval,
            "n_vocab": n_vocab,
            "n_ctx_train": n_ctx_train,
            "n_ff": n_ff,
            "n_expert": n_expert,
            "n_expert_used": n_expert_used,
            "n_ff_exp": n_ff_exp,
            "n_ff_shexp": n_ff_shexp,
        }.items()
        if value is not None
    }
    wanted = reshaped(shape_named(shape), sizes)
    path = out or Path(f"{file_stem(wanted, seed, dtype)}.gguf")
    if header_only:
        result = synth_header(wanted, path, seed, dtype)
    else:
        with file_progress(path) as progress:
            result = write_model(wanted, path, seed, dtype, progress)
    if json_output:
        facts = {**dataclasses.asdict(result), "path": str(result.path)}
        said = {"shape": wanted.name, "arch": wanted.arch, "seed": seed, "dtype": dtype or wanted.dtype}
        print_json({**said, **facts})
        return
    digest = f"sha256 {result.sha256}" if result.sha256 else "sparse, no weights"
    typer.echo(
        f"{result.path}: {wanted.arch}, {result.n_params / 1e6:.1f} M weights, "
        f"{result.n_bytes / 1e6:.1f} MB, {digest}"
    )


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _size(text: str) -> int:
    from llamacpp_tools.errors import BadInput
    from llamacpp_tools.sizes import size_in_bytes

    try:
        return size_in_bytes(text)
    except ValueError as error:
        raise BadInput(f"--memory {error}") from None


def _numbers(text: str) -> list[int]:
    from llamacpp_tools.errors import BadInput

    words = _words(text)
    odd = next((word for word in words if not (word.isascii() and word.isdecimal())), None)
    if odd is not None:
        raise BadInput(f"--depth takes numbers of tokens such as 8192,131072, not {odd!r}")
    return [int(word) for word in words]
