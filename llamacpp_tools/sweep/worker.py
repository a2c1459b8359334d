"""The process that measures one cell: `python -m llamacpp_tools.sweep.worker --events-fd N`.

It reads one request from stdin, opens the mode, then measures a round for each order that comes and sends what it
saw as events. A fault it can name becomes an error event; one it cannot (an assert, a segfault) ends the process,
and the executor reads the reason from how it ended.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llamacpp_tools.build.manifest import Build, load
from llamacpp_tools.engine.bisect import Bisect
from llamacpp_tools.engine.context import ContextOptions
from llamacpp_tools.engine.generate import Filled, Generation
from llamacpp_tools.engine.model import ALL_LAYERS, OutOfMemory
from llamacpp_tools.engine.recipe import Recipe
from llamacpp_tools.engine.session import Session, SessionOptions
from llamacpp_tools.errors import BadInput, LltError
from llamacpp_tools.ffi.library import open_library
from llamacpp_tools.models.kvbytes import recurrent_bytes
from llamacpp_tools.sweep.cell import CellSpec
from llamacpp_tools.sweep.depthstate import Damaged, DepthStates, Kept, NotKept
from llamacpp_tools.sweep.forced import Schedule, forced_schedule
from llamacpp_tools.sweep.lifeline import orders
from llamacpp_tools.sweep.protocol import (
    WARMUP_TOKENS,
    Done,
    EventWriter,
    Failure,
    Loaded,
    Note,
    Progress,
    Request,
    RoundOrder,
    RoundSample,
    decode_order,
    distinct,
    read_request,
)
from llamacpp_tools.threads import auto_threads
from llamacpp_tools.workloads.cut import TURN_TOKENS, prompt_tokens, turns_of

WARMUP_STEPS = 4
# A round that restores its depth measures no prefill: its warm-up only has to touch every weight.
WARMUP_RESTORED = 16


def main(arguments: list[str] | None = None) -> int:
    """Measure the cell of the request on stdin; the exit status is 0 unless the pipe itself failed."""
    parser = argparse.ArgumentParser(description="measures one cell; started by `llt sweep`")
    parser.add_argument("--events-fd", type=int, required=True)
    events_fd = parser.parse_args(arguments).events_fd
    with os.fdopen(events_fd, "w", encoding="utf-8") as stream:
        send = EventWriter(stream)
        request = read_request(sys.stdin)
        rounds = (decode_order(line) for line in orders(sys.stdin))
        try:
            measure(request, rounds, send)
        except OutOfMemory as error:
            send(Failure("oom", str(error)))
        except BadInput as error:
            send(Failure("bad_input", str(error)))
        except LltError as error:
            send(Failure("load", str(error)))
        except MemoryError:
            send(Failure("oom", "the worker ran out of memory"))
    return 0


def measure(request: Request, rounds: Iterable[RoundOrder], send: EventWriter) -> None:
    """Open the mode, then measure a round for each order.

    Raises:
        LltError: the mode cannot be opened, or a decode failed.
    """
    spec = request.spec
    build = load(Path(request.manifest))
    begun = time.perf_counter_ns()
    send(Progress("load", 0, 0, 1))
    with contextlib.ExitStack() as stack:
        session = stack.enter_context(
            Session(open_library(build), Path(request.model), session_options(spec))
        )
        send(_loaded(session, spec, time.perf_counter_ns() - begun))
        tokenize, seed = session.model.tokenize, request.prompt_seed
        prompt = prompt_tokens(spec.workload, spec.n_depth, tokenize, seed)
        turns = [prompt_tokens(turn, TURN_TOKENS, tokenize, seed) for turn in turns_of(spec.workload)[1:]]
        bench = stack.enter_context(_Bench(request, build, session, prompt, turns, send))
        count = 0
        for order in rounds:
            send(bench.round(order))
            count += 1
        # Freeing what a large model takes is nothing that anybody has to wait for.
        send(Done(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


class _Bench(contextlib.AbstractContextManager["_Bench"]):
    """An open mode and its prompt, measured round by round; `turns` are what a conversation goes on with."""

    def __init__(
        self,
        request: Request,
        build: Build,
        session: Session,
        prompt: list[int],
        turns: list[list[int]],
        send: EventWriter,
    ) -> None:
        self._spec = request.spec
        self._turns = turns
        self._session = session
        self._prompt = prompt
        self._send = send
        spec = request.spec
        self._schedule = (
            forced_schedule(spec.n_max or 0, spec.n_predict)
            if spec.forced
            else Schedule(drafts=[], accepts=[])
        )
        self._kept: Kept | None = None
        self._states = DepthStates(Path(request.states), request.states_cap) if request.states else None
        self._key = _state_key(request, build, session, prompt) if self._states else {}

    def __exit__(self, *_: object) -> None:
        if self._kept is not None:
            self._kept.close()

    def round(self, order: RoundOrder) -> RoundSample:
        """Warm up, fill the depth, generate; each part with its time."""
        spec, session, clock = self._spec, self._session, time.perf_counter_ns
        begun = clock()
        if order.warm:
            self._send(Progress("warmup", order.number, 0, 1))
            tokens = WARMUP_TOKENS if order.prefill else WARMUP_RESTORED
            session.run(self._prompt[:tokens], WARMUP_STEPS + (spec.n_max or 0))
        kept = None if order.prefill else self._find(order.number)
        restore_ns = 0
        if kept is not None:
            at = clock()
            filled = kept.restore(session)
            restore_ns = clock() - at
        else:
            filled = self._prefill(order)
        self._send(Progress("decode", order.number, 0, spec.n_predict))
        if spec.traced:
            trace = session.watch(filled, spec.n_predict - (spec.n_max or 0), self._tick(order.number))
            parts, predicted = [trace.made], trace.predicted
        else:
            parts, predicted = self._generate(filled, order.number), ()
        measured = (restore_ns if kept else filled.prefill_ns) + sum(part.decode_ns for part in parts)
        sample = self._sample(order, parts, restore_ns if kept else None, clock() - begun - measured)
        return self._with_drafts(sample, predicted) if predicted else sample

    def _generate(self, filled: Filled, number: int) -> list[Generation]:
        """The round's tokens, those of each turn of a conversation apart."""
        spec, session = self._spec, self._session
        # One for all turns, and a new one each round: a round knows nothing that it did not find out itself.
        control = session.new_control()
        parts: list[Generation] = []
        left = spec.n_predict
        for turns_left in range(len(self._turns) + 1, 0, -1):
            if parts:
                filled = session.add(filled, parts[-1], self._turns[-turns_left])
            wanted = left // turns_left
            tick = self._tick(number, spec.n_predict - left)
            parts.append(session.go_on(filled, wanted, tick, **self._schedule, control=control))
            left -= wanted
        return parts

    def _tick(self, number: int, before: int = 0) -> Callable[[int], None]:
        total = self._spec.n_predict
        return lambda made: self._send(Progress("decode", number, before + made, total))

    def _with_drafts(self, sample: RoundSample, predicted: Sequence[int]) -> RoundSample:
        model = self._session.model
        # Part of a character stays readable, and two parts stay different.
        pieces = [
            model.piece(token).decode("utf-8", "backslashreplace")
            for token in distinct(sample.tokens, predicted)
        ]
        return replace(sample, predicted=list(predicted), pieces=pieces)

    def _find(self, number: int) -> Kept | None:
        if self._kept is None and self._states is not None:
            self._send(Progress("keep", number, 0, 1))
            try:
                self._kept = self._states.find(self._key)
            except Damaged as error:
                self._send(Note(str(error)))
        return self._kept

    def _prefill(self, order: RoundOrder) -> Filled:
        number = order.number
        self._send(Progress("prefill", number, 0, len(self._prompt)))
        filled = self._session.fill(
            self._prompt, lambda done, total: self._send(Progress("prefill", number, done, total))
        )
        if self._states is not None and (order.renew or self._find(number) is None):
            self._send(Progress("keep", number, 0, 1))
            try:
                kept = self._states.keep(self._key, filled, self._session)
                if self._kept is not None:
                    self._kept.close()
                self._kept = kept
            except NotKept as error:
                self._send(Note(str(error)))
                self._states = None
        return filled

    def _sample(
        self, order: RoundOrder, parts: list[Generation], restore_ns: int | None, other_ns: int
    ) -> RoundSample:
        tokens = [token for part in parts for token in part.tokens]
        step_ns = [ns for part in parts for ns in part.step_ns]
        return RoundSample(
            round=order.number,
            n_prompt=len(self._prompt),
            prefill_ns=parts[0].prefill_ns,
            n_gen=sum(part.n_stepped for part in parts),
            decode_ns=sum(step_ns),
            step_ns=step_ns,
            drafted=[sum(counts) for counts in zip(*(part.drafted for part in parts), strict=True)],
            accepted=[sum(counts) for counts in zip(*(part.accepted for part in parts), strict=True)],
            step_drafted=[n for part in parts for n in part.step_drafted],
            step_accepted=[n for part in parts for n in part.step_accepted],
            step_draft_ns=[ns for part in parts for ns in part.step_draft_ns],
            step_why=[why for part in parts for why in part.step_why],
            ties=_ties(parts),
            n_steps=len(step_ns),
            tokens=tokens,
            text=self._session.model.detokenize(tokens),
            filled="prefill" if restore_ns is None else "restored",
            restore_ns=restore_ns or 0,
            other_ns=max(0, other_ns),
        )


def _ties(parts: Sequence[Generation]) -> list[int]:
    begins = itertools.accumulate((len(part.tokens) for part in parts), initial=0)
    return [begin + at for begin, part in zip(begins, parts, strict=False) for at in part.ties]


def _state_key(request: Request, build: Build, session: Session, prompt: list[int]) -> dict[str, Any]:
    """What a kept prefill and its time depend on; the length of a draft, on which generation alone does, is not."""
    spec = request.spec
    tokens = ",".join(str(token) for token in prompt).encode()
    own = {"rpc": request.servers} if spec.rpc else {}
    return {
        **own,
        "model": request.model_sha256,
        "libraries": build.manifest.code_sha256,
        "device": session.model.devices(),
        "driver": request.driver,
        "n_threads": session.target.options.n_threads,
        "prompt": hashlib.sha256(tokens).hexdigest(),
        "n_depth": spec.n_depth,
        "n_ubatch": spec.n_ubatch,
        "n_batch": spec.n_batch,
        "type_k": spec.type_k,
        "type_v": spec.type_v,
        "flash_attn": spec.flash_attn,
        "n_gpu_layers": spec.n_gpu_layers,
        "window": spec.window,
        "full_layers": list(spec.full_layers or ()),
        "mtp": spec.mtp,
        "ignore_eos": spec.ignore_eos,
        # What the MTP block keeps of a prompt; a key from before there was another way stays valid.
        **({"before_norm": True} if spec.before_norm else {}),
    }


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
        n_threads=auto_threads() if spec.threads == "auto" else spec.threads,
    )
    return SessionOptions(
        context=context,
        recipe=Recipe(spec.window, spec.full_layers or ()) if spec.window is not None else None,
        n_max=spec.n_max,
        auto=spec.auto,
        p_min=spec.p_min or 0.0,
        n_gpu_layers=ALL_LAYERS if spec.n_gpu_layers == "all" else spec.n_gpu_layers,
        ignore_eos=spec.ignore_eos,
        bisect=Bisect(spec.draft_history, spec.before_norm),
        rpc=spec.rpc,
    )


def _loaded(session: Session, spec: CellSpec, load_ns: int) -> Loaded:
    model = session.model
    devices = model.devices()
    on_gpu = len(devices) > 1 and spec.n_gpu_layers != 0
    layers = model.layers() if spec.rpc else None
    name = devices[0] if on_gpu else devices[-1]
    target = session.target
    recurrent = recurrent_bytes(model.header, target.n_rs_seq)
    return Loaded(
        kv_bytes=target.memory_bytes - recurrent,
        n_rs_seq=target.n_rs_seq,
        n_ctx=target.n_ctx,
        device=", ".join(layers) if layers else name,
        n_threads=target.options.n_threads,
        model_size=model.n_bytes,
        model_n_params=model.n_params,
        backends=",".join(model.backends()),
        gpu_info=", ".join(devices[:-1]) if on_gpu else "",
        load_ns=load_ns,
        layers=layers,
    )


if __name__ == "__main__":
    sys.exit(main())
