"""The result document, schema 1. Names follow llama-bench where it has one.

Times are nanoseconds where a name ends in `_ns`, milliseconds in `_ms`; speeds (`_tps`, `_ts`) are tokens
per second. A figure that was not measured is null, never 0.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llamacpp_tools.results.lookahead import Lookahead

SCHEMA: Literal[1] = 1
BLOCK_PREFIX = "depth_2x2_"
_BLOCK_KEY = re.compile(r"^depth_2x2_[A-Za-z0-9_.,+-]+$")

Mode = Literal["dense", "swa", "mtp", "swa+mtp"]
Status = Literal["ok", "crashed", "oom", "timeout", "thermal", "invalid", "skipped"]
Interval = Annotated[list[float], Field(min_length=2, max_length=2)]
Verdict = Literal["faster", "slower", "no difference shown"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RpcServer(_Model):
    """An RPC server that held layers: what it was built from, and what it computed on.

    `tree` is git's hash of the patched source, which is the same on all machines of a sweep; `code_sha256` is one hash
    over all its libraries, which need not be.
    """

    address: str
    llt_version: str
    pin: str
    tree: str
    series_digest: str
    variant: str
    backend: str
    compiler: str
    mitigation: str
    code_sha256: str
    libllama_sha256: str
    ggml_sha256: str
    rpc_server_sha256: str
    protocol: str
    n_threads: int
    devices: list[str]
    cpu_info: str
    memory_bytes: int


class Provenance(_Model):
    """Where the figures come from: enough to find the same library, device and machine again.

    `source` is `measured` for what llt measured, `published` for figures taken from a publication.
    `load_average` is the last minute's, before the sweep began; `cpu_count` counts threads. `rpc_servers` held layers
    beside this machine.
    """

    source: Literal["measured", "published"]
    published_in: str | None = None
    pin: str | None = None
    upstream_commit: str | None = None
    upstream_tree: str | None = None
    series_digest: str | None = None
    patches: list[str] | None = None
    stack_head: str | None = None
    variant: str | None = None
    libllama_sha256: str | None = None
    compiler: str | None = None
    cmake_options: list[str] | None = None
    mitigation: str | None = None
    build_commit: str | None = None
    build_number: int | None = None
    backends: str | None = None
    device: str | None = None
    driver: str | None = None
    cpu_info: str | None = None
    gpu_info: str | None = None
    cpu_count: int | None = None
    load_average: float | None = None
    memory_bytes: int | None = None
    os: str | None = None
    kernel: str | None = None
    python: str | None = None
    llt_version: str | None = None
    llt_commit: str | None = None
    checkout_dirty: bool | None = None
    model_filename: str | None = None
    model_size: int | None = None
    model_n_params: int | None = None
    rpc_servers: list[RpcServer] | None = None


class Heat(_Model):
    """The sensors during one round, at `at_s` seconds from its beginning; null where a sensor is missing."""

    at_s: list[float]
    temperature_c: list[float | None]
    clock_mhz: list[float | None]
    power_w: list[float | None]


class Sample(_Model):
    """One round as it was measured; `step_ns` has one entry per decode step.

    `filled` is `prefill` for a true prefill, which took `prefill_ns`, or `restored` for a kept one that was put back
    in `restore_ns`; `other_ns` is what else the round took (warming up, keeping the prefill). `attempt` is the run
    of the sweep that measured it. `other_cpu` is how many CPUs other programs kept busy meanwhile. `throttled`
    marks a round whose clock was below nine tenths of the sweep's fastest round. With MTP `step_drafted`,
    `step_accepted` and `step_draft_ns` have one entry per step: tokens drafted, tokens accepted, time spent drafting;
    `step_why` says why a step of an automatic length drafted so many (`engine.control.Why`).
    `ties` are positions in the output where plain decode had another token as likely (`engine.decode.TIE`), so that a
    verification may rightly choose that. Of a traced cell `predicted` holds what was drafted at each position, flat,
    `n_max` tokens each, and `pieces` the text of each token in that list or in the output, in the order of their ids.
    """

    round: int
    n_prompt: int
    prefill_ns: int
    n_gen: int
    decode_ns: int
    n_steps: int
    step_ns: list[int]
    step_drafted: list[int] = []
    step_accepted: list[int] = []
    step_draft_ns: list[int] = []
    step_why: list[int] = []
    ties: list[int] = []
    predicted: list[int] = []
    pieces: list[str] = []
    drafted: list[int]
    accepted: list[int]
    output_sha256: str
    filled: str
    restore_ns: int = 0
    other_ns: int = 0
    attempt: int = 1
    heat: Heat | None = None
    other_cpu: float | None = None
    throttled: bool = False


class Steering(_Model):
    """What an automatic draft length did, over all rounds.

    `time_share` is the part of the decode time of each draft length, `reasons` that of each reason; `switches` are
    changes of length in a round's mean. `best_fixed` is the length that would have given most tokens per second by the
    survival and the step times that the rounds show, and `regret` how far the speed stayed behind that, as a share
    of it (below 0 where it was faster, as it may be on a text that changes); null where the steps do not tell.
    """

    time_share: dict[int, float]
    reasons: dict[str, float]
    switches: float
    best_fixed: int | None = None
    regret: float | None = None


class StepCost(_Model):
    """What a step costs that drafts `n_max` tokens, at forced acceptance: medians over the rounds' medians.

    `draft_ms` is the time of the drafts, `verify_ms` that of verifying them in a batch of `n_max + 1`; an interval is
    null with a single round.
    """

    n_max: int
    n_steps: int
    step_ms: float
    draft_ms: float
    verify_ms: float
    step_ms_interval: Interval | None = None
    samples_ms: list[float] = []


class Cell(_Model):
    """One mode at one depth, workload and set of axis values.

    `avg_ts`, `stddev_ts`, `samples_ns`, `samples_ts` are llama-bench's names and concern decode here, with
    `prefill_` before them the prefill; `prefill_tps` and `decode_tps` are medians. `acceptance` is
    `accepted / drafted`, null without MTP. `threads` is what was asked, `n_threads` what was used.
    `first_divergence` is the first token position at which the output leaves that of the cell named in
    `reference`, null if it does not. `auto` marks a cell whose draft length was chosen from step to step, up to
    `n_max`; `steering` is what came of that. `attempts` counts the runs of the sweep that began the cell. `draft_ms`
    and `verify_ms` are the parts of a mean step with MTP. A `forced` cell accepted what it was told to, so it has no
    decode speed but `step_costs`, one entry for each draft length. A `traced` cell decoded plainly and drafted `n_max`
    tokens at each of its first `n_predict - n_max` tokens, which were dropped; `draft_history` and `before_norm` say
    what those drafts saw (`engine.bisect`). Its speed means nothing either. `rpc` are the servers that were to hold
    layers, and `layers` then says which device holds which. `box` is the name of the box that measured it, null in a
    sweep of one machine.
    """

    id: str
    mode: Mode
    box: str | None = None
    status: Status
    reason: str | None = None
    n_depth: int
    workload: str
    n_max: int | None = None
    p_min: float | None = None
    forced: bool = False
    auto: bool = False
    traced: bool = False
    draft_history: bool = True
    before_norm: bool = False
    window: int | None = None
    full_layers: list[int] | None = None
    prefill_tps: float | None = None
    decode_tps: float | None = None
    acceptance: float | None = None
    accepted: int | None = None
    drafted: int | None = None
    prefill_tps_interval: Interval | None = None
    decode_tps_interval: Interval | None = None
    n_prompt: int | None = None
    n_gen: int | None = None
    n_predict: int | None = None
    ignore_eos: bool | None = None
    rounds: int | None = None
    n_ctx: int | None = None
    n_ubatch: int | None = None
    n_batch: int | None = None
    type_k: str | None = None
    type_v: str | None = None
    flash_attn: bool | Literal["auto"] | None = None
    n_gpu_layers: int | Literal["all"] | None = None
    threads: int | Literal["auto"] | None = None
    rpc: list[str] = []
    layers: dict[str, list[int]] | None = None
    n_threads: int | None = None
    avg_ts: float | None = None
    stddev_ts: float | None = None
    samples_ns: list[int] = []
    samples_ts: list[float] = []
    prefill_avg_ts: float | None = None
    prefill_stddev_ts: float | None = None
    prefill_samples_ns: list[int] = []
    prefill_samples_ts: list[float] = []
    step_ms_p50: float | None = None
    step_ms_p95: float | None = None
    n_steps: int | None = None
    draft_ms: float | None = None
    verify_ms: float | None = None
    step_costs: list[StepCost] | None = None
    steering: Steering | None = None
    drafted_per_position: list[int] | None = None
    accepted_per_position: list[int] | None = None
    kv_bytes: int | None = None
    n_rs_seq: int | None = None
    load_ns: int | None = None
    max_rss_bytes: int | None = None
    wall_s: float | None = None
    filled: str | None = None
    distinct_word_ratio: float | None = None
    output_sha256: str | None = None
    output_tokens: list[int] | None = None
    output_text: str | None = None
    reference: str | None = None
    first_divergence: int | None = None
    attempts: int | None = None
    temperature_c_max: float | None = None
    clock_mhz: float | None = None
    notes: list[str] = []
    samples: list[Sample] = []

    @model_validator(mode="after")
    def _says_why(self) -> Cell:
        if (self.status == "ok") != (self.reason is None):
            raise ValueError(f"the cell {self.id} is {self.status} and its reason is {self.reason!r}")
        return self

    @property
    def has_speed(self) -> bool:
        """Whether its decode speed is one of a generation as users have it."""
        return not self.forced and not self.traced


class Comparison(_Model):
    """One mode's speed over another's at the same depth, workload and axis values.

    `ratio` is the median of the rounds' ratios, paired by round, and `interval` its interval at `level` (see
    `results.statistics`); null with a single round. `p_value` is that of the signed-rank test, null below six
    rounds. `confounded` marks decode speeds, one at least with a draft, of two outputs whose distinct-word ratios
    differ by more than 0.1, or of which one is not known while those beside them differ so: the texts are of different
    difficulty, so the speeds say little. Published figures without their rounds have the ratio of the two figures.
    """

    metric: Literal["prefill_tps", "decode_tps"]
    cell: str
    to: str
    mode: Mode
    to_mode: Mode
    n_depth: int
    workload: str
    ratio: float
    interval: Interval | None
    level: float
    rounds: int
    p_value: float | None = None
    verdict: Verdict | None
    confounded: bool


class DepthStateCheck(_Model):
    """A kept prefill against a true one, in one cell: the first position at which the tokens differ (null if they
    do not), and the decode speed after the kept one over that after the true one.
    """

    cell: str
    first_divergence: int | None
    decode_ratio: float


class BlockRow(_Model):
    """One mode within a depth block, in the form of the first published result."""

    prefill_tps: float | None = None
    decode_tps: float | None = None
    acceptance: float | None = None
    accepted: int | None = None
    drafted: int | None = None
    distinct_word_ratio: float | None = None
    crashed: bool | None = None


class DepthBlock(_Model):
    """The four modes at one depth and workload; a mode that was not run is left out."""

    note: str
    dense_only: BlockRow | None = None
    swa_only: BlockRow | None = None
    dense_mtp: BlockRow | None = None
    mtp_plus_swa: BlockRow | None = None


class Box(_Model):
    """One box of a sweep over several: its name, the machine in words, and where its figures come from."""

    name: str
    box: str
    provenance: Provenance


class Document(BaseModel):
    """The whole document; beside the fields below it has one `depth_2x2_...` block per depth.

    `runs` has one entry for each time that the sweep was started or gone on with: date, llt's commit, load. `boxes` are
    those that measured a cell, empty in a sweep of one machine; `provenance` then has what they all share.
    """

    model_config = ConfigDict(extra="allow", populate_by_name=True)
    __pydantic_extra__: dict[str, DepthBlock] = Field(init=False)

    schema_: Literal[1] = Field(default=SCHEMA, alias="schema")
    status: Literal["started", "complete"]
    experiment: str
    date: str
    box: str
    backend: str
    model: str
    what: str
    provenance: Provenance
    boxes: list[Box] = []
    config: dict[str, Any]
    cells: list[Cell]
    comparisons: list[Comparison] = []
    depth_state_check: DepthStateCheck | None = None
    acceptance: Lookahead | None = None
    runs: list[dict[str, Any]] = []
    findings: list[str] = []
    caveats: list[str] = []

    @model_validator(mode="after")
    def _only_blocks_beside(self) -> Document:
        for key in self.__pydantic_extra__ or {}:
            if not _BLOCK_KEY.match(key):
                raise ValueError(f"{key} is not a field of a result document")
        return self

    @property
    def blocks(self) -> dict[str, DepthBlock]:
        """The depth blocks by their key."""
        return dict(self.__pydantic_extra__ or {})


def json_schema() -> dict[str, Any]:
    """The document's JSON schema (draft 2020-12)."""
    return Document.model_json_schema(by_alias=True)
