"""Is what the miniature writes whole: log lines, JSON records, code that tokenizes, words that vary?

python benchmarks/miniature_text.py [--texts N]
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import tokenize
from collections.abc import Callable
from typing import Any

from common import machine, show, write_result
from miniature import library, model_facts, opened, recipe

from llamacpp_tools.workloads import MEASURED_SEED, distinct_word_ratio, names, prompt_tokens
from llamacpp_tools.workloads.extraction import TASK as EXTRACTION_TASK
from llamacpp_tools.workloads.maintenance_log import LINE

DEPTH = 1024
N_PREDICT = 600
# The log comes back to a line after some 370 tokens, so a short piece of it is as varied as any text.
RATIO_TOKENS = 2400
RATIO_KINDS = ("maintenance_log", "analysis", "narrative", "thinking")
KEYS = {"order", "name", "town", "item", "count", "price", "date", "paid_by", "address"}
RECORD_HEAD = EXTRACTION_TASK.splitlines()[-1]


def whole_lines(text: str) -> list[str]:
    """The lines that were finished, empty ones left out; the first goes on from the prompt."""
    return [line for line in text.split("\n")[:-1] if line.strip()]


def log_lines(text: str) -> tuple[int, int]:
    """(lines of the log's grammar, lines)."""
    # The prompt ends in the middle of a line, whose beginning is not here.
    lines = whole_lines(text)[1:]
    return sum(LINE.fullmatch(line) is not None for line in lines), len(lines)


def records(text: str) -> tuple[int, int]:
    """(records that parse and have the nine keys, records)."""
    lines = whole_lines(RECORD_HEAD + text)

    def is_record(line: str) -> bool:
        try:
            return bool(json.loads(line).keys() == KEYS)
        except (ValueError, AttributeError):
            return False

    return sum(map(is_record, lines)), len(lines)


def code(text: str) -> tuple[int, int]:
    """(definitions that tokenize, definitions), of those that were finished."""
    head = "def merge_overlapping(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:\n"
    parts = (head + text).split("\n\n\n")[:-1]

    def tokenizes(part: str) -> bool:
        try:
            list(tokenize.generate_tokens(io.StringIO(part + "\n").readline))
        except (tokenize.TokenError, IndentationError, SyntaxError):
            return False
        return True

    return sum(map(tokenizes, parts)), len(parts)


def parses(text: str) -> tuple[int, int]:
    """(definitions that Python's parser takes, definitions), of those that were finished."""
    head = "def merge_overlapping(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:\n"
    parts = (head + text).split("\n\n\n")[:-1]

    def is_valid(part: str) -> bool:
        try:
            ast.parse(part)
        except SyntaxError:
            return False
        return True

    return sum(map(is_valid, parts)), len(parts)


CHECKS: dict[str, tuple[str, Callable[[str], tuple[int, int]]]] = {
    "log lines of the log's grammar": ("maintenance_log", log_lines),
    "JSON records that parse, with all keys": ("extraction", records),
    "definitions that tokenize": ("code", code),
    "definitions that parse": ("code", parses),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=int, default=10)
    n_texts = parser.parse_args().texts
    facts = machine()
    texts: dict[str, list[str]] = {}
    ratios: dict[str, float] = {}
    with opened(library(), DEPTH + RATIO_TOKENS + 4, recipe(None)) as session:
        for kind in names():
            length = RATIO_TOKENS if kind in RATIO_KINDS else N_PREDICT
            made = [
                session.run(
                    prompt_tokens(kind, DEPTH, session.model.tokenize, MEASURED_SEED + text), length
                ).tokens
                for text in range(n_texts)
            ]
            texts[kind] = [session.model.detokenize(list(tokens[:N_PREDICT])) for tokens in made]
            if kind in RATIO_KINDS:
                whole = [session.model.detokenize(list(tokens)) for tokens in made]
                ratios[kind] = round(sum(distinct_word_ratio(text) or 0.0 for text in whole) / n_texts, 4)
    checks: dict[str, Any] = {}
    for name, (kind, check) in CHECKS.items():
        pairs = [check(text) for text in texts[kind]]
        good, of = sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
        checks[name] = {"good": good, "of": of, "share": round(good / of, 4) if of else None}
    path = write_result(
        "miniature-text",
        {
            "what": f"greedy text of {N_PREDICT} tokens after {DEPTH}, {n_texts} texts of each kind",
            "checks": checks,
            "distinct_word_ratio": ratios,
            "ratio_tokens": RATIO_TOKENS,
            "first_texts": {kind: each[0] for kind, each in texts.items()},
            **model_facts(),
            "machine": facts,
        },
    )
    rows = [(name, f"{each['share']} ({each['good']} of {each['of']})") for name, each in checks.items()]
    show(
        "what the miniature writes",
        rows + [(f"distinct words, {kind}", f"{ratio:.2f}") for kind, ratio in ratios.items()],
    )
    print(f"result: {path}")


if __name__ == "__main__":
    main()
