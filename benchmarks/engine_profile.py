"""Where the time of a decode step goes: the library's graph, our choice of a token, the call, the loop around it.

    python benchmarks/engine_profile.py

On the miniature, plain and with MTP, at a depth of 1,024. The step is timed whole by the engine itself; its parts are
timed alone, many thousand times, in the same process, and the library's share is what is left. What the interpreter's
profiler says of the loop is beside it: each call of it costs more under that profiler than it does without.
"""

from __future__ import annotations

import cProfile
import pstats
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

from common import machine, show, write_result
from miniature import library, model_facts

from llamacpp_tools.engine import ContextOptions, Session, SessionOptions
from llamacpp_tools.models.miniature import miniature
from llamacpp_tools.workloads import MEASURED_SEED, prompt_tokens

DEPTH, N_PREDICT, REPEATS = 1024, 512, 20_000


def alone_ns(call: Callable[[], Any]) -> float:
    """Nanoseconds of one call, the loop around it included."""
    begun = time.perf_counter_ns()
    for _ in range(REPEATS):
        call()
    return (time.perf_counter_ns() - begun) / REPEATS


def profiled(session: Session) -> dict[str, float]:
    """Of all time in `go_on`, the share of each function of ours under the interpreter's profiler."""
    filled = session.fill(prompt_of(session))
    profiler = cProfile.Profile()
    profiler.runcall(session.go_on, filled, N_PREDICT)
    stats: dict[Any, Any] = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    total = sum(row[2] for row in stats.values())
    own = {name: row[2] / total for (_, _, name), row in stats.items()}
    return {name: round(share, 4) for name, share in sorted(own.items(), key=lambda item: -item[1])[:6]}


def grown_bytes(session: Session) -> float:
    """Bytes of Python objects that are there after a generation and were not before it, for each step."""
    filled = session.fill(prompt_of(session))
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    done = session.go_on(filled, N_PREDICT)
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return (after - before) / len(done.step_ns)


def prompt_of(session: Session) -> list[int]:
    """The prompt of every measurement here."""
    return prompt_tokens("maintenance_log", DEPTH, session.model.tokenize, MEASURED_SEED)


def measured(session: Session) -> dict[str, Any]:
    """One mode's step and its parts, in nanoseconds."""
    lib, ffi, context = session.model.library.lib, session.model.library.ffi, session.target.handle
    filled = session.fill(prompt_of(session))
    session.go_on(filled, 32)
    filled = session.fill(prompt_of(session))
    begun = time.perf_counter_ns()
    done = session.go_on(filled, N_PREDICT)
    wall_ns = time.perf_counter_ns() - begun
    steps = len(done.step_ns)
    step_ns = done.decode_ns / steps
    logits = lib.llama_get_logits_ith(context, -1)
    n_vocab, banned = session.model.n_vocab, ffi.new("llama_token[]", sorted(session.model.end_tokens))
    call_ns = alone_ns(lambda: lib.llama_n_ctx(context))
    choice_ns = alone_ns(lambda: lib.llt_argmax(logits, n_vocab, banned, len(banned))) - call_ns
    rows = 1 + (sum(done.drafted) / steps if session.draft is not None else 0)
    return {
        "steps": steps,
        "tokens": done.n_stepped,
        "step_ns": round(step_ns),
        "call_ns": round(call_ns),
        "choice_ns": round(choice_ns * rows),
        "library_ns": round(step_ns - call_ns - choice_ns * rows),
        "loop_ns": round(wall_ns / steps - step_ns),
        "loop_over_step": round((wall_ns / steps - step_ns) / step_ns, 4),
        "python_bytes_kept_per_step": round(grown_bytes(session), 1),
        "profile": profiled(session),
    }


def main() -> None:
    facts, lib, found = machine(), library(), {}
    for name, n_max in (("plain", None), ("mtp", 3)):
        options = ContextOptions(n_ctx=DEPTH + N_PREDICT + 64)
        with Session(lib, miniature(), SessionOptions(options, n_max=n_max)) as session:
            found[name] = measured(session)
    what = "nanoseconds of a decode step of the miniature and of its parts; the loop is what Python does between steps"
    path = write_result(
        "engine-profile",
        {
            "what": what,
            "n_depth": DEPTH,
            "n_predict": N_PREDICT,
            **model_facts(),
            "modes": found,
            "machine": facts,
        },
    )
    for name, row in found.items():
        parts = [
            (key, f"{row[f'{key}_ns'] / 1e3:.1f} µs") for key in ("step", "library", "choice", "call", "loop")
        ]
        show(f"a step, {name}", parts)
    print(f"result: {path}")


if __name__ == "__main__":
    main()
