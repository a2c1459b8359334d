"""What a user does with the engine from Python, right and wrong, each in a process of its own.

`python -m tests.engine.uses NAME MANIFEST MODEL` prints one JSON document.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from llamacpp_tools.build.manifest import load
from llamacpp_tools.engine import Context, ContextOptions, Model, Recipe, Sampling, Session, SessionOptions
from llamacpp_tools.engine.bisect import Bisect
from llamacpp_tools.engine.control import Control, Why
from llamacpp_tools.engine.decode import PlainDecoder
from llamacpp_tools.engine.native_control import NativeControl
from llamacpp_tools.engine.sampling import Sampler
from llamacpp_tools.engine.state import parts_of, restore, save
from llamacpp_tools.errors import LltError
from llamacpp_tools.ffi.library import Library, open_library
from llamacpp_tools.workloads import MEASURED_SEED, prompt_tokens

SMALL = ContextOptions(n_ctx=1024, n_batch=256, n_ubatch=128, n_threads=1)
EXACT = ContextOptions(
    n_ctx=2048, n_batch=256, n_ubatch=128, n_threads=1, type_k="f32", type_v="f32", flash_attn="off"
)
PROMPT = "room 3 was checked at 14 and had no fault."


def opened(library: Library, path: Path, n_max: int | None = None, ignore_eos: bool = True) -> Session:
    return Session(library, path, SessionOptions(SMALL, n_max=n_max, ignore_eos=ignore_eos))


def text_of(session: Session, sampling: Sampling | None = None, n_predict: int = 60) -> list[int]:
    stream = session.generate(PROMPT, n_predict, sampling)
    assert "".join(stream) == session.model.detokenize(list(stream.done.tokens))
    return list(stream.done.tokens)


def seeds(library: Library, path: Path) -> Any:
    found: dict[str, Any] = {}
    for name, n_max in (("plain", None), ("mtp", 3)):
        with opened(library, path, n_max) as session:
            found[f"{name} greedy"] = [text_of(session), text_of(session, Sampling(top_k=1))]
            found[name] = [text_of(session, Sampling(seed=seed)) for seed in (1, 2, 1)]
            found[f"{name} greedy"].append(text_of(session))
    return found


def streams(library: Library, path: Path) -> Any:
    with opened(library, path, 3) as session:
        stream = session.generate(PROMPT, 40)
        pieces = list(stream)
        stop = stream.done.tokens[10]
        left = session.generate(PROMPT, 40, Sampling(seed=1))
        next(iter(left))
        stopped = session.generate(PROMPT, 40, stop=[stop])
        text = "".join(stopped)
        return {
            "pieces": pieces, "tokens": stream.done.tokens, "steps": len(stream.done.step_ns),
            "left": len(left.done.tokens), "again": text_of(session, n_predict=40), "stop": stop,
            "stopped": stopped.done.tokens, "text": text,
            "whole": session.model.detokenize(list(stopped.done.tokens[:-1])),
        }  # fmt: skip


def steered(library: Library, path: Path) -> Any:
    """Plain decode, then a draft length that steers itself, a text after a text and a turn after a turn."""
    found: dict[str, Any] = {}
    for name, options in (
        ("plain", SessionOptions(EXACT)),
        ("auto", SessionOptions(EXACT, n_max=6, auto=True)),
        ("profiled", SessionOptions(EXACT, n_max=6, auto=True)),
        ("none", SessionOptions(EXACT, n_max=0)),
    ):
        with Session(library, path, options) as session:
            texts, ties, calibrated = [], [], []
            if name == "profiled":
                session.profile(PROMPT)
            for _ in range(2):
                stream = session.generate(PROMPT, 150)
                list(stream)
                texts.append(stream.done.tokens)
                ties.append(stream.done.ties)
                calibrated.append(stream.done.step_why.count(Why.CALIBRATE))
            control = session.new_control()
            prompt = prompt_tokens("narrative", 200, session.model.tokenize, MEASURED_SEED)
            more = prompt_tokens("maintenance_log", 100, session.model.tokenize, MEASURED_SEED)
            filled = session.fill(prompt)
            first = session.go_on(filled, 200, control=control)
            second = session.go_on(session.add(filled, first, more), 200, control=control)
            # What the caches hold after two turns is what one prefill of it all gives.
            whole = session.fill([*prompt, *first.tokens, *more])
            found[name] = {
                "texts": [*texts, first.tokens, second.tokens], "ties": [*ties, first.ties, second.ties],
                "next": [second.tokens[0], whole.token],
                "drafted": sorted({*first.step_drafted, *second.step_drafted}),
                "why": len(first.step_why) == len(first.step_ns) if options.auto else first.step_why == (),
                "n_max": first.n_max, "calibrated": calibrated,
            }  # fmt: skip
    return found


def unprofiled(library: Library, path: Path) -> Any:
    """What a profile is refused for."""
    with (
        opened(library, path, 3) as fixed,
        Session(library, path, SessionOptions(SMALL, n_max=6, auto=True)) as auto,
    ):
        return {
            "fixed": refused(lambda: fixed.profile(PROMPT)),
            "empty": refused(lambda: auto.profile([])),
            "long": refused(lambda: auto.profile([1] * 950)),
        }


def turns(library: Library, path: Path) -> Any:
    """A turn that the model may end, and the next one after it: plain, and with drafts of 4."""
    found: dict[str, Any] = {}
    for name, n_max in (("plain", None), ("mtp", 4)):
        with Session(library, path, SessionOptions(EXACT, n_max=n_max, ignore_eos=False)) as session:
            tokenize = session.model.tokenize
            filled = session.fill(prompt_tokens("narrative", 200, tokenize, MEASURED_SEED))
            first = session.go_on(filled, 200)
            more = prompt_tokens("maintenance_log", 100, tokenize, MEASURED_SEED)
            second = session.go_on(session.add(filled, first, more), 60)
            found[name] = {
                "first": first.tokens, "second": second.tokens, "ties": [*first.ties, *second.ties],
                "drafted": first.step_drafted, "accepted": first.step_accepted,
            }  # fmt: skip
    return found


def told(library: Library, path: Path) -> Any:
    """Steps steered within their own call, and what Python's rules choose that are told the same times."""
    chosen, kinds = [], set()
    with Session(library, path, SessionOptions(ContextOptions(n_ctx=2560), n_max=6)) as session:
        filled = session.fill(prompt_tokens("maintenance_log", 200, session.model.tokenize, MEASURED_SEED))
        within, beside = NativeControl(library, 6), Control(6)
        token, pos, out = filled.token, filled.n_prompt, library.ffi.new("llama_token[]", 7)
        for _ in range(250):
            wanted = beside.choose()
            step = session.decoder.step(token, pos, out, 6, control=within)
            chosen.append([wanted, int(beside.why), step.n_drafted, step.why])
            kinds.add(step.why)
            beside.told(step.n_drafted, step.n_accepted, step.draft_ns, step.verify_ns)
            token, pos = out[step.n_tokens - 1], pos + step.n_tokens
        # A text that is to end lets the last draft be no longer than what is left of it.
        last = session.decoder.step(token, pos, out, 0, control=within)
    return {"chosen": chosen, "last": last.n_drafted, "own_ns": within.own_ns, "reasons": len(kinds)}


def forced(library: Library, path: Path) -> Any:
    found = []
    with opened(library, path, 4) as session:
        for accepts in ([0], [4], [0, 2, 4]):
            stream = session.generate(PROMPT, 81, accepts=accepts)
            list(stream)
            done = stream.done
            found.append([len(done.tokens), len(done.step_ns), done.drafted, done.accepted])
    return found


def refused(what: Callable[[], Any]) -> str:
    try:
        what()
    except (ValueError, LltError) as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was said"


def closes(library: Library, path: Path) -> Any:
    """Everything is closed through its parent, then used."""
    model = Model(library, path)
    context = Context(model, SMALL)
    decoder = PlainDecoder(context)
    sampler = Sampler(model, Sampling(), [1])
    decoder.sample_with(sampler)
    out = library.ffi.new("llama_token[]", 1)
    token = decoder.prefill([10, 11, 12])
    sampler.close()
    said = {"a closed sampler": refused(lambda: decoder.step(token, 3, out))}
    decoder.sample_with(None)
    model.close()
    said |= {
        "tokenize": refused(lambda: model.tokenize("x")),
        "piece": refused(lambda: model.piece(3)),
        "description": refused(lambda: model.description),
        "context": refused(context.clear),
        "bytes": refused(lambda: context.memory_bytes),
        "step": refused(lambda: decoder.step(token, 3, out)),
        "sample": refused(lambda: decoder.sample_with(None)),
        "a context on it": refused(lambda: Context(model, SMALL)),
    }
    for each in (decoder, context, model, sampler, model):
        each.close()
    session = opened(library, path, 3)
    stream = session.generate(PROMPT, 40)
    pieces = iter(stream)
    next(pieces)
    session.close()
    said["a stream"] = refused(lambda: next(pieces))
    said["a session"] = refused(lambda: list(session.generate(PROMPT)))
    # A child alone keeps what it was made from.
    kept = Context(Model(library, path), SMALL)
    gc.collect()
    kept.clear()
    kept.close()
    # Nobody else closes it: a handle that is only dropped is a leak, which `make sanitize` finds.
    kept.model.close()
    return said


def bad(library: Library, path: Path) -> Any:
    with opened(library, path) as session:
        return {
            "empty": refused(lambda: session.generate("")),
            "long": refused(lambda: session.generate([5] * 1000, 100)),
            "token": refused(lambda: session.generate([5, -1])),
            "none": refused(lambda: session.generate(PROMPT, 0)),
            "accepts": refused(lambda: session.generate(PROMPT, accepts=[1])),
            "before": refused(lambda: session.generate(PROMPT).done),
            "rounded up": refused(lambda: session.generate([5] * 1020, 10)),
            "stop": refused(lambda: session.generate(PROMPT, stop="\n")),  # type: ignore[arg-type]
            "n_ctx": refused(lambda: ContextOptions(n_ctx=0)),
            "flash_attn": refused(lambda: ContextOptions(n_ctx=8, flash_attn="yes")),  # type: ignore[arg-type]
            "n_max": refused(lambda: SessionOptions(SMALL, n_max=-1)),
            "a draft larger than a batch": refused(
                lambda: SessionOptions(ContextOptions(n_ctx=64, n_batch=4), n_max=4)
            ),
            "p_min": refused(lambda: SessionOptions(SMALL, n_max=1, p_min=2)),
            "seed": refused(lambda: Sampling(seed=-1)),
            "temperature": refused(lambda: Sampling(temperature=0)),
            "top_p": refused(lambda: Sampling(top_p=0)),
        }


def small(library: Library, path: Path) -> Any:
    """A context smaller than what libllama rounds it up to, filled to its last token; the path as a text."""
    found = []
    for n_max in (None, 3):
        options = SessionOptions(ContextOptions(n_ctx=300, n_threads=1), n_max=n_max)
        with Session(library, str(path), options) as session:
            prompt = [10 + n % 200 for n in range(290)]
            stream = session.generate(prompt, 10)
            list(stream)
            said = refused(lambda session=session, prompt=prompt: session.generate(prompt, 11))
            found.append([len(stream.done.tokens), said])
    return found


def watches(library: Library, path: Path) -> Any:
    """A text plain, watched, truly drafted with three lengths, and watched with each switch to bisect a fault."""
    context = ContextOptions(
        n_ctx=1024, n_batch=256, n_ubatch=128, n_threads=1, flash_attn="off", type_k="f32", type_v="f32"
    )
    n_predict, lookahead = 120, 4
    with Session(library, path, SessionOptions(context)) as session:
        prompt = prompt_tokens("maintenance_log", 300, session.model.tokenize, MEASURED_SEED)
        plain = session.run(prompt, n_predict + lookahead)
        told = refused(lambda: session.watch(session.fill(prompt), n_predict))
    found: dict[str, Any] = {"plain": plain.tokens, "refused": told}
    with Session(library, path, SessionOptions(context, n_max=lookahead)) as session:
        ticks: list[int] = []
        trace = session.watch(session.fill(prompt), n_predict, ticks.append)
        again = session.watch(session.fill(prompt), n_predict)
        found |= {
            "tokens": trace.made.tokens,
            "again": again.made.tokens == trace.made.tokens and again.predicted == trace.predicted,
            "runs": trace.runs, "predicted": trace.predicted, "drafted": trace.made.step_drafted, "ticks": ticks,
            "times": [len(trace.made.step_ns), min(trace.made.step_draft_ns)],
        }  # fmt: skip
        found["true"] = {}
        for n_max in (1, 2, 4):
            done = session.go_on(session.fill(prompt), n_predict, drafts=(n_max,))
            found["true"][n_max] = [done.tokens, done.step_drafted, done.step_accepted]
        found["room"] = refused(lambda: session.watch(session.fill(prompt), 721))
        own = session.watch(session.fill(prompt), n_predict, given=trace.made.tokens)
        other = prompt_tokens("narrative", n_predict + lookahead, session.model.tokenize, MEASURED_SEED)
        told_of = session.watch(session.fill(prompt), n_predict, given=other)
        found["given"] = {
            "own": own.made.tokens == trace.made.tokens and own.predicted == trace.predicted,
            "other": other, "tokens": told_of.made.tokens, "runs": told_of.runs, "predicted": told_of.predicted,
            "short": refused(lambda: session.watch(session.fill(prompt), n_predict, given=other[:-1])),
            "odd": refused(lambda: session.watch(session.fill(prompt), n_predict, given=[*other[:-1], -1])),
        }  # fmt: skip
    for name, bisect in (("no history", Bisect(history=False)), ("before", Bisect(before_norm=True))):
        with Session(library, path, SessionOptions(context, n_max=lookahead, bisect=bisect)) as session:
            trace = session.watch(session.fill(prompt), n_predict)
            found[name] = [trace.made.tokens, trace.runs]
    return found


def interrupts(library: Library, path: Path) -> Any:
    """Ctrl-C in the one decode of a long prompt, and the same session afterwards; then a handler that says nothing."""
    options = ContextOptions(n_ctx=16384, n_batch=16384, n_ubatch=512, n_threads=1)
    sent: list[float] = []
    # What a shell starts in the background inherits a SIGINT that is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def send() -> None:
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    with Session(library, path, SessionOptions(options)) as session:
        prompt = [10 + n % 200 for n in range(12000)]
        before = text_of(session)
        threading.Timer(0.2, send).start()
        try:
            session.fill(prompt)
            ended = "nothing happened"
        except KeyboardInterrupt:
            ended = "KeyboardInterrupt"
        lag_s = time.monotonic() - sent[0]
        handler = signal.getsignal(signal.SIGINT)
        after = text_of(session)
        heard: list[int] = []
        signal.signal(signal.SIGINT, lambda *_: heard.append(1))
        threading.Timer(0.2, send).start()
        quiet = refused(lambda: session.fill(prompt))
        os.kill(os.getpid(), signal.SIGINT)
        return {
            "lag_s": lag_s, "ended": ended, "same": before == after, "quiet": quiet,
            "heard": len(heard), "handler": handler is signal.default_int_handler,
        }  # fmt: skip


def threads(library: Library, path: Path) -> Any:
    """A thread other than the main one generates, and the library's log goes to a handler that raises."""

    class Raising(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("a handler's own fault")

    logging.getLogger("llamacpp_tools.libllama").addHandler(Raising(logging.DEBUG))
    logging.getLogger("llamacpp_tools.libllama").setLevel(logging.DEBUG)
    found: list[Any] = []

    def work() -> None:
        with opened(library, path) as session:
            found.append(text_of(session))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    work()
    return found


def restores(library: Library, path: Path) -> Any:
    """The largest difference of the logits after a prefill and after its state was put back, by window and draft."""
    found = {}
    for window in (None, 256):
        for n_max in (None, 2):
            recipe = Recipe(window, (11,)) if window else None
            options = SessionOptions(ContextOptions(n_ctx=1024, n_ubatch=128), recipe, n_max)
            with Session(library, path, options) as session:
                filled = session.fill([10 + 7 * n % 190 for n in range(700)])
                parts = parts_of(session)
                state = memoryview(bytearray(parts.total))
                save(session, parts, state)
                wanted, tokens = _logits(session, filled.token, 700)
                restore(session, parts, state)
                again, same = _logits(session, filled.token, 700)
            difference = float(np.abs(wanted - again).max())
            found[f"{window} {n_max}"] = [difference, tokens == same, len(set(tokens))]
    return found


def _logits(session: Session, token: int, pos: int) -> tuple[Any, list[int]]:
    ffi, lib, n_vocab = session.model.library.ffi, session.model.library.lib, session.model.n_vocab
    out = ffi.new("llama_token[]", 8)
    rows, tokens = [], [token]
    for _ in range(40):
        step = session.decoder.step(tokens[-1], pos, out, session.options.n_max or 0)
        row = lib.llama_get_logits_ith(session.target.handle, -1)
        rows.append(np.frombuffer(ffi.buffer(row, 4 * n_vocab), np.float32).copy())
        tokens += ffi.unpack(out, step.n_tokens)
        pos += step.n_tokens
    return np.array(rows), tokens


def main() -> int:
    name, manifest, model = sys.argv[1:]
    library = open_library(load(Path(manifest)))
    print(json.dumps(globals()[name](library, Path(model))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
