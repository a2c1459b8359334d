"""What one process of llama-cpp-python measures: `python benchmarks/other_binding.py < REQUEST`, a JSON document.

Run by `engine_speed.py` with an interpreter that has llama-cpp-python; it imports nothing of ours. The loop is the
binding's own `Llama.generate`, greedy.
"""

from __future__ import annotations

import itertools
import json
import sys
import time

import llama_cpp


def main() -> None:
    asked = json.load(sys.stdin)
    model = llama_cpp.Llama(
        asked["model"],
        n_ctx=asked["n_ctx"],
        n_batch=asked["n_batch"],
        n_ubatch=asked["n_ubatch"],
        n_threads=asked["n_threads"],
        n_threads_batch=asked["n_threads"],
        verbose=False,
    )

    def generated(prompt: list[int], count: int) -> tuple[list[int], int]:
        """Tokens, and the time from the first of them to the last."""
        tokens = model.generate(prompt, temp=0.0)
        first = next(tokens)
        begun = time.perf_counter_ns()
        rest = list(itertools.islice(tokens, count - 1))
        return [first, *rest], time.perf_counter_ns() - begun

    generated(asked["prompt"][:1] * 16, 16)
    model.reset()
    tokens, decode_ns = generated(asked["prompt"], asked["n_predict"])
    found = {"version": llama_cpp.__version__, "tokens": tokens, "n": len(tokens) - 1, "decode_ns": decode_ns}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
