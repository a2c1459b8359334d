"""A prompt of exactly so many of the model's own tokens.

Context is cut at its end, so a shorter prompt of a kind without a task is the beginning of a longer one.
A task is never cut: its tokens close the prompt whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from llamacpp_tools.errors import BadInput
from llamacpp_tools.workloads.registry import context_text, get

Tokenize = Callable[[str], list[int]]

FILE_PREFIX = "file:"
TURNS_PREFIX = "turns:"
# Tokens of each turn of a conversation after the first.
TURN_TOKENS = 256
# How the last words split may depend on what follows them: this many tokens more than needed are made.
MARGIN = 32
FIRST_GUESS_CHARS = 4.5


def prompt_tokens(workload: str, depth: int, tokenize: Tokenize, seed: int) -> list[int]:
    """Exactly `depth` tokens of a workload; of a conversation its first turn.

    Args:
        workload: a kind's name, `file:PATH` for the user's own text, or a conversation (`turns_label`).
        depth: tokens wanted, at least 1.
        tokenize: the model's tokenizer, adding no special tokens of its own.
        seed: which text; `MEASURED_SEED` for what is measured. A file has only one.

    Raises:
        BadInput: the file cannot be read or is shorter than `depth`, or the depth leaves no room for
            the workload's task.
    """
    workload = turns_of(workload)[0]
    if workload.startswith(FILE_PREFIX):
        return _file_tokens(Path(workload.removeprefix(FILE_PREFIX)), depth, tokenize)
    task = get(workload).task
    tail = tokenize(task) if task else []
    room = depth - len(tail)
    if room < 0:
        raise BadInput(
            f"the depth {depth} is too small for the workload {workload}, "
            f"whose task alone takes {len(tail)} tokens"
        )
    return context_tokens(workload, room, tokenize, seed) + tail


def turns_label(names: Sequence[str]) -> str:
    """A conversation of these kinds, as the word that names it."""
    return TURNS_PREFIX + "+".join(names)


def turns_of(workload: str) -> tuple[str, ...]:
    """The kinds of a conversation's turns; the workload itself where it is none."""
    if not workload.startswith(TURNS_PREFIX):
        return (workload,)
    return tuple(workload.removeprefix(TURNS_PREFIX).split("+"))


def added_tokens(workload: str) -> int:
    """Prompt tokens of all turns after the first."""
    return TURN_TOKENS * (len(turns_of(workload)) - 1)


def context_tokens(name: str, count: int, tokenize: Tokenize, seed: int) -> list[int]:
    """Exactly `count` tokens of a kind's context, without its task."""
    n_chars = int((count + MARGIN) * FIRST_GUESS_CHARS)
    while True:
        tokens = tokenize(context_text(name, n_chars, seed))
        if len(tokens) >= count + MARGIN:
            return tokens[:count]
        # Grow by what the tokens so far turned out to hold, and a tenth for unevenness.
        per_token = n_chars / max(1, len(tokens))
        n_chars = max(n_chars + 1000, int((count + MARGIN) * per_token * 1.1))


def read_file(path: Path) -> str:
    """The user's own text.

    Raises:
        BadInput: there is no such file, or it is not UTF-8 text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise BadInput(f"there is no text file {path} for the workload") from None
    except UnicodeDecodeError:
        raise BadInput(f"the workload's file {path} is not UTF-8 text") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BadInput(f"the workload's file {path} cannot be read: {reason}") from None


def _file_tokens(path: Path, depth: int, tokenize: Tokenize) -> list[int]:
    tokens = tokenize(read_file(path))
    if len(tokens) < depth:
        raise BadInput(
            f"the workload's file {path} has {len(tokens)} tokens, the depth asks for {depth}; "
            "give a longer text or a smaller depth, a text is never repeated"
        )
    return tokens[:depth]
