"""A worker that measures nothing: it behaves as FAKE_WORKER says, over the true protocol.

`FAKE_WORKER=swa=abort` misbehaves in that mode only, `abort` in every one; `abort@1` at round 1, not when it loads.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from llamacpp_tools.sweep.lifeline import orders
from llamacpp_tools.sweep.protocol import (
    Done,
    EventWriter,
    Failure,
    Loaded,
    Progress,
    RoundSample,
    decode_order,
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


def load(request, send):
    spec = request.spec
    cells = 256 if spec.swa else spec.n_ctx
    send(Progress("load", 0, 0, 1))
    send(Loaded(cells * 100, spec.n_max or 0, spec.n_ctx, "CPU", 2, model_size=43_000_000))


def measure(request, send, number):
    send(Progress("prefill", number, request.spec.n_depth, request.spec.n_depth))
    time.sleep(float(os.environ.get("FAKE_ROUND_S", "0")))
    send(sample(request.spec, number))


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
    elif how == "other":
        send(sample(request.spec, 77))
        time.sleep(60)
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
    rounds = orders(sys.stdin)
    only, _, what = os.environ.get("FAKE_WORKER", "ok").rpartition("=")
    what, _, at = what.partition("@")
    bad = what != "ok" and only in ("", request.spec.mode)
    if bad and not at:
        misbehave(what, request, send)
    load(request, send)
    count = 0
    for line in rounds:
        order = decode_order(line)
        if bad and order.number == int(at):
            misbehave(what, request, send)
        measure(request, send, order.number)
        count += 1
    send(Done(count))


main()
