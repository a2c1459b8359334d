"""A worker that measures nothing: it behaves as FAKE_WORKER says, over the true protocol."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from llamacpp_tools.sweep.lifeline import tie_to_parent
from llamacpp_tools.sweep.protocol import (
    Done,
    EventWriter,
    Failure,
    Loaded,
    Progress,
    RoundSample,
    read_request,
)

ASSERT_LINE = (
    "/some/where/trees/d44f/src/llama-graph.cpp:2597: GGML_ASSERT(hparams.swa_type == LLAMA_SWA_TYPE_NONE "
    '&& "Use llama_kv_cache_iswa for SWA") failed'
)


def sample(spec, number):
    tokens = [(7 * i) % 50 for i in range(spec.n_predict)]
    steps = 2 if spec.mtp else 1
    n_steps = -(-spec.n_predict // steps)
    decode_ns = 1_000_000 * n_steps + 1000 * number
    return RoundSample(
        round=number,
        n_prompt=spec.n_depth,
        prefill_ns=10_000 * spec.n_depth + number,
        n_gen=spec.n_predict,
        decode_ns=decode_ns,
        step_ns=[decode_ns // n_steps] * n_steps,
        drafted=[n_steps, n_steps // 2] if spec.mtp else [],
        accepted=[n_steps // 2, n_steps // 4] if spec.mtp else [],
        n_steps=n_steps,
        tokens=tokens,
        text=" ".join(f"word{token}" for token in tokens),
    )


def measure(request, send):
    spec = request.spec
    cells = 256 if spec.swa else spec.n_ctx
    send(Progress("load", 0, 0, 1))
    send(Loaded(cells * 100, spec.n_max or 0, spec.n_ctx, "CPU", 2, model_size=43_000_000))
    for number in range(spec.rounds):
        send(Progress("prefill", number, spec.n_depth, spec.n_depth))
        send(sample(spec, number))
    send(Done(spec.rounds))


def misbehave(how, request, send):
    if how == "abort":
        print(ASSERT_LINE, file=sys.stderr, flush=True)
        os.abort()
    elif how == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "exit":
        sys.exit("the worker gave up")
    elif how == "oom":
        print("alloc_buffer: failed to allocate buffer of size 99", file=sys.stderr, flush=True)
        os.abort()
    elif how in ("bad_input", "load", "invalid"):
        send(Failure(how, f"told to say {how}"))
        sys.exit(2)
    elif how == "garbage":
        send.stream.write("no json at all\n")
        send.stream.flush()
        time.sleep(60)
    elif how == "noise":
        sys.stderr.write("x" * 300_000 + "\n" + ASSERT_LINE + "\n")
        sys.stderr.flush()
        os.abort()
    elif how == "half":
        send(Loaded(1, 0, 256, "CPU", 2))
        send(sample(request.spec, 0))
        print(ASSERT_LINE, file=sys.stderr, flush=True)
        os.abort()
    elif how == "short":
        send(sample(request.spec, 0))
        send(Done(1))
    elif how == "hang":
        note = Path(os.environ["FAKE_PIDS"])
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
        note.write_text(json.dumps([os.getpid(), child.pid]))
        send(Progress("load", 0, 0, 1))
        time.sleep(120)
    else:
        raise SystemExit(f"no such behaviour: {how}")


def main():
    send = EventWriter(os.fdopen(int(sys.argv[sys.argv.index("--events-fd") + 1]), "w"))
    request = read_request(sys.stdin)
    tie_to_parent(sys.stdin)
    # `swa+mtp=abort` misbehaves in that mode only, `abort` in every one.
    how = os.environ.get("FAKE_WORKER", "ok")
    only, _, what = how.rpartition("=")
    if how == "ok" or (only and only != request.spec.mode):
        measure(request, send)
    else:
        misbehave(what, request, send)


main()
