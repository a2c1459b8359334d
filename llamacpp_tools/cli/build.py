"""`llt build`: libllama and the shim, proved, described by a manifest."""

from __future__ import annotations

from typing import Annotated

import typer

from llamacpp_tools.cli.rebase import Json, Onto, Patches, SourceOption, Without


def build(
    cpu: Annotated[bool, typer.Option("--cpu", help="The CPU backend only [default].")] = False,
    vulkan: Annotated[bool, typer.Option("--vulkan", help="With -DGGML_VULKAN=ON.")] = False,
    cuda: Annotated[bool, typer.Option("--cuda", help="With -DGGML_CUDA=ON.")] = False,
    rpc: Annotated[
        bool,
        typer.Option(
            "--rpc", help="Also the RPC backend and its server, as a build of its own: docs/rpc.md."
        ),
    ] = False,
    variant: Annotated[str, typer.Option("--variant", help="patched or stock.")] = "patched",
    tools: Annotated[
        bool,
        typer.Option("--tools", help="Also llama-bench, -server, -cli, -completion and -quantize."),
    ] = False,
    onto: Onto = None,
    source: SourceOption = None,
    patches: Patches = None,
    without: Without = None,
    json_output: Json = False,
) -> None:
    """Build libllama from the pin and the series; a second call with nothing changed does nothing."""
    from llamacpp_tools.build import toolchain
    from llamacpp_tools.build.build import build as run
    from llamacpp_tools.build.options import VARIANTS, BuildOptions
    from llamacpp_tools.cli.output import print_json, step_progress
    from llamacpp_tools.cli.rebase import load
    from llamacpp_tools.errors import BadInput
    from llamacpp_tools.models.shelf import proof_model
    from llamacpp_tools.stack.rebase import rebase
    from llamacpp_tools.stack.series import Series, upstream_folder
    from llamacpp_tools.stack.source import slug
    from llamacpp_tools.stack.upstream import load_upstream

    asked = [name for name, wanted in (("cpu", cpu), ("vulkan", vulkan), ("cuda", cuda)) if wanted]
    if len(asked) > 1:
        raise BadInput(f"--{asked[0]} and --{asked[1]} exclude each other: build one after the other")
    if variant not in VARIANTS:
        raise BadInput(f"--variant {variant}: there are {' and '.join(VARIANTS)}")
    backend = asked[0] if asked else "cpu"
    found = toolchain.require(backend)
    upstream, series = load(patches, without)
    if variant == "stock":
        series = Series(series.folder, ())
    name = variant + "".join(f"-without-{left_out}" for left_out in series.without)
    # A build of another version never takes the place of the pin's, be it that of `--onto` or a series' own.
    version, pin = onto or upstream.pin, load_upstream(upstream_folder(series.folder)).pin
    name += f"-onto-{slug(version)}" if version != pin else ""
    words = f"{name} for {backend}{' with RPC' if rpc else ''}"
    with step_progress(f"building {words}") as progress:
        progress(0, 0, "getting upstream and applying the series")
        stack = rebase(upstream, series, onto, source)
        made = run(stack, BuildOptions(backend, name, tools, rpc), found, proof_model, progress)
    if json_output:
        print_json({"manifest": str(made.path), **made.data})
        return
    described = made.manifest
    typer.echo(
        f"{described.variant} {described.pin} for {described.backend}{' with RPC' if rpc else ''}: {made.library}"
    )
    typer.echo(
        f"HEAD {described.head}, series {described.series_digest[:12]}, sha256 {described.library_sha256[:12]}"
    )
    if described.mitigation != "none":
        typer.echo(f"built with {described.mitigation}, because {described.mitigation_reason}")
