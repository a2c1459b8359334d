"""What crosses the pipes between a sweep and the worker process that measures one cell.

The request is one line of JSON on the worker's stdin, then one line a round. The pipe stays open between them:
its end tells the worker that the sweep is gone (`lifeline`). Events come back as JSON lines on a pipe of their
own, whose number is the worker's `--events-fd` argument, so that nothing the library prints on stdout or stderr
can be taken for one.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import IO, Any, Literal

from llamacpp_tools.errors import LltError
from llamacpp_tools.sweep.cell import CellSpec

Phase = Literal["load", "warmup", "prefill", "keep", "decode"]
ErrorKind = Literal["bad_input", "load", "oom", "invalid"]

# Tokens of the prompt that a warm-up runs.
WARMUP_TOKENS = 64

PHASES: tuple[Phase, ...] = ("load", "warmup", "prefill", "keep", "decode")
ERROR_KINDS: tuple[ErrorKind, ...] = ("bad_input", "load", "oom", "invalid")


class ProtocolError(LltError):
    """A line on the pipe is not a request or an event that this version knows."""


@dataclass(frozen=True)
class Request:
    """The one document a worker reads.

    Attributes:
        model: path of the GGUF file.
        manifest: path of the build's manifest; the library is the one it names and no other.
        spec: the cell to measure.
        prompt_seed: seed of the workload's text, the same for every cell of a sweep.
        model_sha256: of the model's file; empty where no prefill is kept.
        driver: of the GPU, empty without one.
        states: folder of kept prefills, None to keep none.
        states_cap: bytes that all kept prefills may take.
        servers: what a figure depends on of the cell's RPC servers; empty without any.
    """

    model: str
    manifest: str
    spec: CellSpec
    prompt_seed: int
    model_sha256: str = ""
    driver: str = ""
    states: str | None = None
    states_cap: int = 0
    servers: str = ""


@dataclass(frozen=True)
class RoundOrder:
    """Measure one round.

    Attributes:
        number: from 0.
        prefill: prefill the prompt, even where a kept prefill could be put back.
        warm: run something that is not counted first.
        renew: keep this round's prefill in place of one that is there.
    """

    number: int
    prefill: bool
    warm: bool
    renew: bool = False


@dataclass(frozen=True)
class Progress:
    """How far a phase of a round has come: `done` of `total` tokens."""

    phase: Phase
    round: int
    done: int
    total: int


@dataclass(frozen=True)
class Loaded:
    """The model and its contexts are there.

    Attributes:
        kv_bytes: bytes of the target context's KV caches (recurrent state and the draft's not counted).
        n_rs_seq: rollback depth that the recurrent state was given (0 without MTP).
        n_ctx: cells of the target context.
        device: the backend device's own name (`CPU`, `Vulkan0 ...`).
        n_threads: CPU threads used.
        model_size, model_n_params: bytes and parameters of the model, as libllama counts them.
        backends: the ggml backends that are registered, comma separated.
        gpu_info: description of the GPU, empty without one.
        load_ns: time to load the model and make the contexts.
        layers: with RPC servers, the layers that lie on each device, by its name and address.
    """

    kv_bytes: int
    n_rs_seq: int
    n_ctx: int
    device: str
    n_threads: int
    model_size: int | None = None
    model_n_params: int | None = None
    backends: str | None = None
    gpu_info: str | None = None
    load_ns: int | None = None
    layers: dict[str, list[int]] | None = None


@dataclass(frozen=True)
class RoundSample:
    """One measured round.

    Attributes:
        round: from 0.
        n_prompt: tokens that were prefilled.
        prefill_ns: time of the true prefill.
        n_gen: tokens that the timed decode steps produced; the first token comes from the prefill, so this
            is one less than `tokens` has, and 0 where a single token was asked for.
        decode_ns: time of all decode steps together, drafting and roll-back included.
        step_ns: time of each decode step, one entry a step.
        drafted: per draft position, how often a token was drafted there (empty without MTP).
        accepted: per draft position, how often it was accepted; as long as `drafted`.
        n_steps: number of decode steps, `len(step_ns)`.
        step_drafted, step_accepted, step_draft_ns: with MTP, tokens drafted and accepted in each step, and the part of
            its time that the draft took; empty without.
        step_why: why each step drafted so many tokens (`engine.control.Why`); empty where nothing chose.
        ties: without MTP, positions in `tokens` where another token was as likely (`engine.decode.TIE`).
        predicted: of a traced cell, what was drafted at each position (`engine.trace.Trace`); empty otherwise.
        pieces: of a traced cell, the text of each token in `distinct(tokens, predicted)`, in that order.
        tokens: the ids generated, in order.
        text: the tokens as text; bytes that are not UTF-8 replaced.
        filled: how the depth was filled: `prefill` a true prefill, timed in `prefill_ns`; `restored` a kept one
            put back in `restore_ns`, and `prefill_ns` is what it took when it was made.
        restore_ns: 0 after a true prefill.
        other_ns: time of the round that is none of the above: warming up, keeping the prefill.
    """

    round: int
    n_prompt: int
    prefill_ns: int
    n_gen: int
    decode_ns: int
    step_ns: list[int]
    drafted: list[int]
    accepted: list[int]
    n_steps: int
    tokens: list[int]
    text: str
    filled: str = "prefill"
    restore_ns: int = 0
    other_ns: int = 0
    step_drafted: list[int] = field(default_factory=list)
    step_accepted: list[int] = field(default_factory=list)
    step_draft_ns: list[int] = field(default_factory=list)
    step_why: list[int] = field(default_factory=list)
    ties: list[int] = field(default_factory=list)
    predicted: list[int] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Refuse a round that contradicts itself.

        Raises:
            ProtocolError: counts and lists do not agree, or a time is not positive.
        """
        if self.n_steps != len(self.step_ns):
            raise ProtocolError(f"round {self.round} has {len(self.step_ns)} step times, not {self.n_steps}")
        per_step = {len(self.step_drafted), len(self.step_accepted), len(self.step_draft_ns)}
        if per_step - {0, self.n_steps} or len(per_step) != 1 or len(self.step_why) not in (0, self.n_steps):
            raise ProtocolError(f"round {self.round} does not tell of each of its {self.n_steps} steps")
        if len(self.drafted) != len(self.accepted):
            raise ProtocolError(f"round {self.round} has drafted and accepted lists of different length")
        if any(a < 0 or a > d for a, d in zip(self.accepted, self.drafted, strict=True)):
            raise ProtocolError(f"round {self.round} accepted more tokens than it drafted")
        if min(self.prefill_ns, self.n_prompt) <= 0 or self.n_gen < 0 or (self.n_gen and self.decode_ns <= 0):
            raise ProtocolError(f"round {self.round} holds a time or a count that cannot be")


def distinct(tokens: Iterable[int], predicted: Iterable[int]) -> list[int]:
    """The tokens that are in either, each once, in the order of their ids."""
    return sorted({*tokens, *predicted})


@dataclass(frozen=True)
class Done:
    """All rounds are measured; `max_rss_bytes` is the worker's peak resident memory, if known."""

    rounds: int
    max_rss_bytes: int | None = None


@dataclass(frozen=True)
class Note:
    """Something that a reader of the result should know; the worker goes on."""

    text: str


@dataclass(frozen=True)
class Failure:
    """The worker could not measure the cell and ends.

    Attributes:
        kind: `bad_input` the user can mend it (a recipe or a file that is wrong), `load` the model or a
            context could not be made, `oom` memory ran out, `invalid` what ran is not what was asked.
        message: one sentence.
    """

    kind: ErrorKind
    message: str


Event = Progress | Loaded | RoundSample | Note | Done | Failure

_EVENTS: dict[str, type[Event]] = {
    "progress": Progress,
    "loaded": Loaded,
    "round": RoundSample,
    "note": Note,
    "done": Done,
    "error": Failure,
}
_NAMES = {cls: name for name, cls in _EVENTS.items()}


@dataclass
class EventWriter:
    """The worker's end of the events pipe: one line an event, flushed at once."""

    stream: IO[str]
    sent: int = field(default=0)

    def __call__(self, event: Event) -> None:
        """Send one event."""
        self.stream.write(encode_event(event) + "\n")
        self.stream.flush()
        self.sent += 1


def encode_request(request: Request) -> str:
    """The request as one line of JSON, without its line end."""
    row = {item.name: getattr(request, item.name) for item in dataclasses.fields(request)}
    return json.dumps({**row, "spec": request.spec.to_json()}, ensure_ascii=True)


def decode_request(line: str) -> Request:
    """The request in a line.

    Raises:
        ProtocolError: the line is not one.
    """
    row = _object(line, "request")
    try:
        row["spec"] = CellSpec.from_json(row["spec"])
        return Request(**row)
    except (KeyError, TypeError, ValueError) as error:
        raise ProtocolError(f"the request on the worker's stdin is not valid: {error}") from None


def encode_order(order: RoundOrder) -> str:
    """The order as one line of JSON, without its line end."""
    return json.dumps(dataclasses.asdict(order))


def decode_order(line: str) -> RoundOrder:
    """The order in a line.

    Raises:
        ProtocolError: the line is not one.
    """
    row = _object(line, "order")
    try:
        order = RoundOrder(**row)
    except TypeError as error:
        raise ProtocolError(f"the order on the worker's stdin is not valid: {error}") from None
    flags = (order.prefill, order.warm, order.renew)
    if type(order.number) is not int or any(type(flag) is not bool for flag in flags):
        raise ProtocolError(f"the order on the worker's stdin is not valid: {line.strip()[:120]}")
    return order


def read_request(stream: IO[str]) -> Request:
    """Read the request's one line and leave the stream open.

    Raises:
        ProtocolError: the stream ended, or the line is not a request.
    """
    line = stream.readline()
    if not line:
        raise ProtocolError("the worker's stdin ended before a request came; it is started by `llt sweep`")
    return decode_request(line)


def encode_event(event: Event) -> str:
    """The event as one line of JSON, without its line end."""
    return json.dumps({"event": _NAMES[type(event)], **dataclasses.asdict(event)}, ensure_ascii=True)


def decode_event(line: str) -> Event:
    """The event in a line, its fields checked against the event's own types.

    Raises:
        ProtocolError: not JSON, not a known event, a field missing, unknown or of the wrong type.
    """
    row = _object(line, "event")
    cls = _EVENTS.get(str(row.pop("event", None)))
    if cls is None:
        raise ProtocolError(f"the worker sent an event that is not known: {line.strip()[:120]}")
    hints = {item.name: str(item.type) for item in dataclasses.fields(cls)}
    for name, value in row.items():
        if name not in hints:
            raise ProtocolError(f"the worker's {_NAMES[cls]} event has an unknown field {name}")
        if not _fits(value, hints[name]):
            raise ProtocolError(f"the worker's {_NAMES[cls]} event has {name}={value!r}, no {hints[name]}")
    try:
        return cls(**row)
    except TypeError as error:
        raise ProtocolError(f"the worker's {_NAMES[cls]} event is not whole: {error}") from None


def _object(line: str, what: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise ProtocolError(f"a line that should hold a worker's {what} does not: {line.strip()[:120]!r}")
    return row


def _fits(value: object, hint: str) -> bool:
    # The hints are the source text of the annotations above, of which there are only these few.
    if hint.endswith(" | None"):
        return value is None or _fits(value, hint.removesuffix(" | None"))
    if hint in ("Phase", "ErrorKind"):
        return value in (PHASES if hint == "Phase" else ERROR_KINDS)
    if hint == "int":  # JSON's true is Python's 1
        return isinstance(value, int) and not isinstance(value, bool)
    if hint.startswith("list["):
        item_hint = hint.removeprefix("list[").removesuffix("]")
        return isinstance(value, list) and all(_fits(item, item_hint) for item in value)
    if hint == "dict[str, list[int]]":
        return isinstance(value, dict) and all(_fits(item, "list[int]") for item in value.values())
    return isinstance(value, str)
