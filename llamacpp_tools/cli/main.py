"""`llt`: the verbs, and the one place where an error becomes a sentence and an exit code."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from typing import Annotated

import typer

from llamacpp_tools import __version__
from llamacpp_tools.cli import (
    acceptance,
    advise,
    build,
    cluster,
    compare,
    doctor,
    drift,
    model,
    patches,
    rebase,
    report,
    rpcserver,
    sanity,
    sweep,
    worker,
)
from llamacpp_tools.errors import Interrupted, LltError

Verb = Callable[..., None]

app = typer.Typer(
    name="llt",
    help="Carry patches on a pinned llama.cpp, build it, and measure which decode levers pay.",
    epilog="Example: llt rebase && llt build --cpu && llt sweep configs/quickstart.yaml",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _interruptible(verb: Verb) -> Verb:
    # Typer turns Ctrl-C into its own abort with exit code 1; the contract says 130.
    @wraps(verb)
    def run_verb(*args: object, **options: object) -> None:
        try:
            verb(*args, **options)
        except KeyboardInterrupt:
            raise Interrupted("stopped; run the same command again to go on") from None
        except BrokenPipeError:
            # The reader of our output (`| head`) is gone; that is no error of ours. Typer would end with 1.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    return run_verb


def _add(name: str, verb: Verb, example: str) -> None:
    app.command(name, epilog=f"Example: {example}")(_interruptible(verb))


def _add_group(name: str, group: typer.Typer) -> None:
    for command in group.registered_commands:
        assert command.callback is not None
        command.callback = _interruptible(command.callback)
    app.add_typer(group, name=name)


_add("doctor", doctor.doctor, "llt doctor --json")
_add("rebase", rebase.rebase, "llt rebase --check --onto v0.5.0")
_add("drift", drift.drift, "llt drift --to v0.5.0")
_add("build", build.build, "llt build --vulkan --tools")
_add("rpc-server", rpcserver.rpc_server, "llt rpc-server --port 50052")
_add("sweep", sweep.sweep, "llt sweep configs/quickstart.yaml --dry-run")
_add(
    "report",
    report.report,
    "llt report results/reference/qwen3.6-mtp-swa.json --format html --out report.html",
)
_add("compare", compare.compare, "llt compare before.json after.json --fail-over 2%")
_add("advise", advise.advise, "llt advise results/NAME.json --measure")
_add("acceptance", acceptance.acceptance, "llt acceptance miniature --class log --class code --lookahead 6")
_add("sanity", sanity.sanity, "llt sanity --fail-over 5%")
_add("worker", worker.worker, "llt worker tls://lab:8786 --certs certs --name strix")
_add_group("cluster", cluster.app)
_add_group("model", model.app)
_add_group("patches", patches.app)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"llt {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Log everything, and show a traceback on an error.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is being done.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and end."),
    ] = False,
) -> None:
    """Options that stand before the verb."""
    level = logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr, force=True)
    if debug:
        os.environ["LLT_DEBUG"] = "1"


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and end the process with the contract's exit code."""
    # `timeout` and service managers send SIGTERM: the same clean end as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    status = run(arguments)
    # A second Ctrl-C that comes while the interpreter ends would make its status one of a killed process.
    for late in (signal.SIGINT, signal.SIGTERM):
        signal.signal(late, signal.SIG_IGN)
    sys.exit(status)


def run(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code: 0 done, 1 a check said no, 2 bad input, 3 lacking, 130 stopped."""
    try:
        app(args=arguments, prog_name="llt")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    except LltError as error:
        return _failed(str(error), error.exit_code)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        return _failed(f"{error.strerror or error}{where}", 1)
    return 0


def _failed(sentence: str, status: int) -> int:
    if os.environ.get("LLT_DEBUG"):
        logging.getLogger(__name__).exception("the error in full")
    print(f"llt: {sentence}", file=sys.stderr)
    return status


if __name__ == "__main__":
    main()
