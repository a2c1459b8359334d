"""`llt rpc-server`: upstream's RPC server from our own build, and beside it who it is."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from llamacpp_tools.rpc.address import DEFAULT_PORT, EVERY_ADDRESS, LOOPBACK

if TYPE_CHECKING:
    from llamacpp_tools.rpc.server import RpcServer

_WARNING = (
    "the protocol has neither encryption nor authentication: whoever reaches these ports can read the texts that are "
    "computed here, and may make this process run code of theirs"
)


def rpc_server(
    host: Annotated[
        str,
        typer.Option(
            "--host", help="The IPv4 address to listen on. Any but loopback is open to its network."
        ),
    ] = LOOPBACK,
    port: Annotated[
        int,
        typer.Option(
            "--port", help="The server's port; the next one says who it is. 0 for two that are free."
        ),
    ] = DEFAULT_PORT,
    cpu: Annotated[bool, typer.Option("--cpu", help="Serve from the CPU build [default].")] = False,
    vulkan: Annotated[bool, typer.Option("--vulkan", help="Serve from the Vulkan build.")] = False,
    cuda: Annotated[bool, typer.Option("--cuda", help="Serve from the CUDA build.")] = False,
    variant: Annotated[str, typer.Option("--variant", help="The build's variant.")] = "patched",
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads", min=1, max=4096, help="Threads of the CPU device [default: physical cores]."
        ),
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(
            "--device", help="Serve this device only, by upstream's name, e.g. Vulkan0 (repeatable)."
        ),
    ] = None,
    cache: Annotated[
        bool,
        typer.Option(
            "--cache", help="Keep large tensors that are sent under LLT_HOME, so that they travel once."
        ),
    ] = False,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print where and what it serves as one JSON document, then serve.")
    ] = False,
) -> None:
    """Hold layers of a model for a sweep on another machine, until Ctrl-C.

    The protocol has neither encryption nor authentication: listen on loopback and come through an SSH tunnel, or use a
    network on which you trust everybody. docs/rpc.md says how.
    """
    from llamacpp_tools.build import manifest
    from llamacpp_tools.errors import BadInput, Interrupted
    from llamacpp_tools.rpc.server import RpcServer, ServerOptions
    from llamacpp_tools.threads import auto_threads

    asked = [name for name, wanted in (("cpu", cpu), ("vulkan", vulkan), ("cuda", cuda)) if wanted]
    if len(asked) > 1:
        raise BadInput(f"--{asked[0]} and --{asked[1]} exclude each other: start two servers on two ports")
    where = LOOPBACK if host == "localhost" else host
    options = ServerOptions(where, port, threads or auto_threads(), tuple(device or ()), cache)
    build = manifest.find(asked[0] if asked else "cpu", variant, rpc=True)
    with RpcServer(build, options) as server:
        try:
            _say(server, options.is_loopback, json_output)
            server.wait()
        except KeyboardInterrupt:
            raise Interrupted(f"the RPC server on {server.address} was stopped") from None


def _say(server: RpcServer, is_loopback: bool, json_output: bool) -> None:
    from llamacpp_tools.cli.output import print_json
    from llamacpp_tools.rpc.server import as_json

    if json_output:
        print_json(as_json(server))
    else:
        known = server.identity
        typer.echo(
            f"RPC server on {server.address}; who it is, on {server.identity_address}; nothing else listens"
        )
        typer.echo(
            f"{known.variant} {known.pin} for {known.backend}, series {known.series_digest[:12]}, "
            f"protocol {known.protocol}, {known.n_threads} threads"
        )
        for each in known.devices:
            typer.echo(f"  {each.name}: {each.description}, {each.memory_bytes / 2**30:.1f} GiB")
        typer.echo(f"{_WARNING[0].upper()}{_WARNING[1:]}")
        address = f"THIS-MACHINE:{server.port}" if server.host == EVERY_ADDRESS else server.address
        typer.echo(f"in a sweep file: context: {{rpc: ['{address}']}}; Ctrl-C ends the server")
    if not is_loopback:
        typer.echo(f"WARNING: {server.host} is not loopback, and {_WARNING}", err=True)
    # A script that starts this waits for these lines.
    sys.stdout.flush()
