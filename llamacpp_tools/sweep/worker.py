"""The process that measures one cell: `python -m llamacpp_tools.sweep.worker --events-fd N`.

It reads one request from stdin, opens the mode, measures each round and sends what it saw as events. A fault
it can name becomes an error event; one it cannot (an assert, a segfault) ends the process, and the executor
reads the reason from how it ended.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from pathlib import Path

from llamacpp_tools.build.manifest import load
from llamacpp_tools.engine.context import ContextOptions, OutOfMemory
from llamacpp_tools.engine.generate import Generation
from llamacpp_tools.engine.model import ALL_LAYERS
from llamacpp_tools.engine.recipe import Recipe
from llamacpp_tools.engine.session import Session, SessionOptions
from llamacpp_tools.errors import BadInput, LltError
from llamacpp_tools.ffi.library import open_library
from llamacpp_tools.models.kvbytes import recurrent_bytes
from llamacpp_tools.sweep.cell import CellSpec
from llamacpp_tools.sweep.lifeline import tie_to_parent
from llamacpp_tools.sweep.protocol import (
    Done,
    EventWriter,
    Failure,
    Loaded,
    Progress,
    Request,
    RoundSample,
    read_request,
)
from llamacpp_tools.workloads.cut import prompt_tokens

WARMUP_TOKENS = 64
WARMUP_STEPS = 4


def main(arguments: list[str] | None = None) -> int:
    """Measure the cell of the request on stdin; the exit status is 0 unless the pipe itself failed."""
    parser = argparse.ArgumentParser(description="measures one cell; started by `llt sweep`")
    parser.add_argument("--events-fd", type=int, required=True)
    events_fd = parser.parse_args(arguments).events_fd
    with os.fdopen(events_fd, "w", encoding="utf-8") as stream:
        send = EventWriter(stream)
        request = read_request(sys.stdin)
        tie_to_parent(sys.stdin)
        try:
            measure(request, send)
        except OutOfMemory as error:
            send(Failure("oom", str(error)))
        except BadInput as error:
            send(Failure("bad_input", str(error)))
        except LltError as error:
            send(Failure("load", str(error)))
        except MemoryError:
            send(Failure("oom", "the worker ran out of memory"))
    return 0


def measure(request: Request, send: EventWriter) -> None:
    """Open the mode, warm it up, measure every round.

    Raises:
        LltError: the mode cannot be opened, or a decode failed.
    """
    spec = request.spec
    build = load(Path(request.manifest))
    begun = time.perf_counter_ns()
    send(Progress("load", 0, 0, 1))
    with Session(open_library(build), Path(request.model), session_options(spec)) as session:
        send(_loaded(session, spec, time.perf_counter_ns() - begun))
        prompt = prompt_tokens(spec.workload, spec.n_depth, session.model.tokenize, request.prompt_seed)
        session.run(prompt[:WARMUP_TOKENS], WARMUP_STEPS + (spec.n_max or 0))
        for number in range(spec.rounds):
            send(_round(session, spec, prompt, number, send))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    send(Done(spec.rounds, peak))


def session_options(spec: CellSpec) -> SessionOptions:
    """The engine's options for a cell."""
    flash = {True: "on", False: "off", "auto": "auto"}[spec.flash_attn]
    context = ContextOptions(
        n_ctx=spec.n_ctx,
        n_batch=spec.n_batch,
        n_ubatch=spec.n_ubatch,
        type_k=spec.type_k,
        type_v=spec.type_v,
        flash_attn=flash,  # type: ignore[arg-type]
        n_threads=threads(spec),
    )
    return SessionOptions(
        context=context,
        recipe=Recipe(spec.window, spec.full_layers or ()) if spec.window is not None else None,
        n_max=spec.n_max,
        p_min=spec.p_min or 0.0,
        n_gpu_layers=ALL_LAYERS if spec.n_gpu_layers == "all" else spec.n_gpu_layers,
        ignore_eos=spec.ignore_eos,
    )


def threads(spec: CellSpec) -> int:
    """Threads to use: what was asked, or the physical cores that this process may run on."""
    if spec.threads != "auto":
        return spec.threads
    import psutil

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, psutil.cpu_count(logical=False) or allowed)


def _loaded(session: Session, spec: CellSpec, load_ns: int) -> Loaded:
    model = session.model
    devices = model.devices()
    on_gpu = len(devices) > 1 and spec.n_gpu_layers != 0
    target = session.target
    recurrent = recurrent_bytes(model.header, target.n_rs_seq)
    return Loaded(
        kv_bytes=target.memory_bytes - recurrent,
        n_rs_seq=target.n_rs_seq,
        n_ctx=target.n_ctx,
        device=devices[0] if on_gpu else devices[-1],
        n_threads=target.options.n_threads,
        model_size=model.n_bytes,
        model_n_params=model.n_params,
        backends=",".join(model.backends()),
        gpu_info=", ".join(devices[:-1]) if on_gpu else "",
        load_ns=load_ns,
    )


def _round(
    session: Session, spec: CellSpec, prompt: list[int], number: int, send: EventWriter
) -> RoundSample:
    done = session.run(
        prompt,
        spec.n_predict,
        lambda filled, total: send(Progress("prefill", number, filled, total)),
        lambda made: send(Progress("decode", number, made, spec.n_predict)),
    )
    return _sample(session, done, prompt, number)


def _sample(session: Session, done: Generation, prompt: list[int], number: int) -> RoundSample:
    tokens = list(done.tokens)
    return RoundSample(
        round=number,
        n_prompt=len(prompt),
        prefill_ns=done.prefill_ns,
        n_gen=done.n_stepped,
        decode_ns=done.decode_ns,
        step_ns=list(done.step_ns),
        drafted=list(done.drafted),
        accepted=list(done.accepted),
        n_steps=len(done.step_ns),
        tokens=tokens,
        text=session.model.detokenize(tokens),
    )


if __name__ == "__main__":
    sys.exit(main())
