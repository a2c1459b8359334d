"""A sweep file as typed models: every key known, every value of its type, every axis a tuple.

A scalar under `context`, `swa` or `draft` may be written as a list and is then an axis; here both forms
become a tuple. `full_layers` and `rpc` are lists already, so their axes are lists of lists.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    field_validator,
    model_validator,
)

from llamacpp_tools.errors import BadInput
from llamacpp_tools.rpc.address import FORM as ADDRESS_FORM
from llamacpp_tools.rpc.address import parse as parse_address
from llamacpp_tools.sizes import size_in_bytes
from llamacpp_tools.sweep.cell import MODES, Mode, uses_swa
from llamacpp_tools.workloads import names as workload_names

MAX_TOKENS = 4 << 20
MAX_CELLS = 10_000

KvType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]
# V can be kept in these only where flash attention reads it.
QUANTISED = ("q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")

T = TypeVar("T")


def _as_axis(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else (value,)


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _as_layer_axis(value: Any) -> Any:
    if isinstance(value, list) and not (value and all(isinstance(item, list) for item in value)):
        return (value,)
    return _as_tuple(value)


def _as_server_axis(value: Any) -> Any:
    is_list_of_lists = isinstance(value, list) and value and all(isinstance(item, list) for item in value)
    return _as_tuple(value) if is_list_of_lists else (value,)


def _address(value: str) -> str:
    try:
        parse_address(value)
    except BadInput:
        raise ValueError(f"must be {ADDRESS_FORM}, not {value!r}") from None
    return value


def _no_repeats(values: tuple[T, ...]) -> tuple[T, ...]:
    for at, value in enumerate(values):
        if value in values[:at]:
            shown = list(value) if isinstance(value, tuple) else value
            raise ValueError(f"holds {shown} twice")
    return values


def _number_or(*words: str) -> BeforeValidator:
    def check(value: Any) -> Any:
        if isinstance(value, str) and value not in words:
            raise ValueError(f"must be a whole number or {' or '.join(words)}, not {value!r}")
        return value

    return BeforeValidator(check)


def _switch(value: Any) -> Any:
    if not isinstance(value, bool) and value != "auto":
        raise ValueError(f"must be true, false or auto, not {value!r}")
    return value


def _bytes(value: Any) -> Any:
    return size_in_bytes(value) if isinstance(value, str) else value


def _check_workload(name: str) -> None:
    if name not in workload_names():
        raise ValueError(
            f"holds {name!r}, which is no workload; there are {', '.join(workload_names())} "
            "and {file: PATH}"
        )


def _workload_tag(value: Any) -> str | None:
    is_turns = isinstance(value, TurnsWorkload) or (isinstance(value, dict) and "turns" in value)
    return "@turns" if is_turns else _kind_tag(value)


def _kind_tag(value: Any) -> str | None:
    if isinstance(value, str):
        return "@text"
    return "@map" if isinstance(value, dict | BaseModel) else None


def _model_tag(value: Any) -> str | None:
    is_miniature = isinstance(value, MiniatureModel) or (isinstance(value, dict) and "miniature" in value)
    return "@miniature" if is_miniature else _kind_tag(value)


Axis = Annotated[tuple[T, ...], Field(min_length=1), BeforeValidator(_as_axis), AfterValidator(_no_repeats)]
Batch = Annotated[int, Field(ge=1, le=65536)]
Layers = Annotated[
    tuple[Annotated[int, Field(ge=0, le=4095)], ...],
    BeforeValidator(_as_tuple),
    AfterValidator(_no_repeats),
]
LayersAxis = Annotated[
    tuple[Layers, ...], Field(min_length=1), BeforeValidator(_as_layer_axis), AfterValidator(_no_repeats)
]
# Upstream's client takes no more devices than these.
Servers = Annotated[
    tuple[Annotated[str, AfterValidator(_address)], ...],
    Field(max_length=16),
    BeforeValidator(_as_tuple),
    AfterValidator(_no_repeats),
]
ServersAxis = Annotated[
    tuple[Servers, ...], Field(min_length=1), BeforeValidator(_as_server_axis), AfterValidator(_no_repeats)
]
Items = Annotated[tuple[T, ...], Field(min_length=1), BeforeValidator(_as_tuple), AfterValidator(_no_repeats)]
Size = Annotated[Annotated[int, Field(ge=0, lt=1 << 44)], BeforeValidator(_bytes)]
Switch = Annotated[bool | Literal["auto"], BeforeValidator(_switch)]
GpuLayers = Annotated[Annotated[int, Field(ge=0, le=4096)] | Literal["all"], _number_or("all")]
Threads = Annotated[Annotated[int, Field(ge=1, le=4096)] | Literal["auto"], _number_or("auto")]


class _Section(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class SynthModel(_Section):
    """A random-weight model that llt writes itself.

    `dtype` is the type of its matrices, by default the shape's own; `sizes` are those that differ from the shape's.
    """

    synth: str = Field(min_length=1, max_length=80)
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 0
    dtype: Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"] | None = None
    sizes: dict[str, int] = Field(default_factory=dict)


class BallastConfig(_Section):
    """What the miniature is to cost for each token: bytes of weights, elements in the KV caches; 0 for no ballast."""

    ballast_weights: Size = 0
    ballast_kv: Annotated[int, Field(ge=0, lt=1 << 24)] = 0


class MiniatureModel(_Section):
    """The trained miniature that ships with llt, as it is or made heavier."""

    miniature: BallastConfig = BallastConfig()


class FileWorkload(_Section):
    """The user's own text."""

    file: str = Field(min_length=1)


class TurnsWorkload(_Section):
    """A conversation of several kinds, each its own turn: what is generated is shared out among them."""

    turns: Items[str]

    @field_validator("turns")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            _check_workload(name)
        if len(value) < 2:
            raise ValueError("are one turn, which is a workload of its own")
        return value


class BuildConfig(_Section):
    """Which of llt's builds is measured."""

    backend: Literal["cpu", "vulkan", "cuda"] = "cpu"
    # `llt build --without NAME` and `--onto REF` make variants that are named after that.
    variant: Annotated[
        str, StringConstraints(pattern=r"^(stock|patched(-without-[a-z0-9-]+?)?)(-onto-[\w.-]+)?$")
    ] = "patched"


class ContextConfig(_Section):
    """Parameters of the context, each an axis of every mode.

    An empty `n_batch` is llama-bench's own default: 2048, or `n_ubatch` where that is larger. `type_kv` stands for
    `type_k` and `type_v` with the same value, so that its list gives one cell a type and not one a pair. `rpc` are the
    servers (`host:port`) that hold layers, none for all on this machine; its axis is a list of lists.
    """

    n_ubatch: Axis[Batch] = (512,)
    n_batch: Axis[Batch] = ()
    type_k: Axis[KvType] = ("f16",)
    type_v: Axis[KvType] = ("f16",)
    type_kv: Axis[KvType] = ()
    flash_attn: Axis[Switch] = ("auto",)
    n_gpu_layers: Axis[GpuLayers] = ("all",)
    threads: Axis[Threads] = ("auto",)
    rpc: ServersAxis = ((),)

    @model_validator(mode="after")
    def _fits_together(self) -> ContextConfig:
        if self.n_batch and max(self.n_ubatch) > min(self.n_batch):
            raise ValueError(
                f"has n_ubatch {max(self.n_ubatch)} above n_batch {min(self.n_batch)}; "
                "a physical batch is part of a logical one"
            )
        if self.type_kv and {"type_k", "type_v"} & self.model_fields_set:
            raise ValueError("has type_kv beside type_k or type_v; it stands for both")
        quantised = [name for name in self.type_kv or self.type_v if name in QUANTISED]
        if any(self.rpc) and 0 in self.n_gpu_layers:
            raise ValueError(
                "has n_gpu_layers 0 with rpc; the servers hold layers as a GPU would, so say how many"
            )
        if quantised and False in self.flash_attn:
            raise ValueError(f"has type_v {quantised[0]} with flash_attn false, which llama.cpp cannot do")
        return self


class SwaConfig(_Section):
    """The sliding-window recipe, both keys axes of the modes with swa."""

    window: Axis[Annotated[int, Field(ge=1, le=MAX_TOKENS)]]
    full_layers: LayersAxis = ((),)


class DraftConfig(_Section):
    """The draft, `n_max` and `p_min` axes of the modes with mtp.

    `n_max` is the most tokens drafted in a step: a number, 0 for a head that is loaded and drafts nothing, or `auto`
    for the length from 0 to `limit` that pays best from step to step (`engine.control`). `p_min` is the probability
    below which a draft ends. `forced` measures what a step costs instead of a text: drafts of 0 to `n_max` tokens in
    turns, accepted on a schedule.
    """

    n_max: Axis[Annotated[Annotated[int, Field(ge=0, le=64)] | Literal["auto"], _number_or("auto")]] = (3,)
    limit: Annotated[int, Field(ge=1, le=64)] = 8
    p_min: Axis[Annotated[float, Field(ge=0, le=1)]] = (0.0,)
    forced: bool = False

    @model_validator(mode="after")
    def _drafts_all(self) -> DraftConfig:
        cut = max(self.p_min)
        if self.forced and cut:
            raise ValueError(f"has p_min {cut:g} with forced, which needs drafts of every length")
        if "auto" in self.n_max and cut:
            raise ValueError(f"has p_min {cut:g} with n_max auto, which chooses how long a draft is itself")
        if self.forced and ("auto" in self.n_max or 0 in self.n_max):
            raise ValueError("has forced, which needs an n_max of 1 or more")
        return self


class GenerateConfig(_Section):
    """What is generated in each round."""

    n_predict: Annotated[int, Field(ge=1, le=MAX_TOKENS)] = 200
    ignore_eos: bool = True


class ThermalConfig(_Section):
    """Temperatures in degrees Celsius: stop above `abort_c`, start a round below `resume_c`."""

    abort_c: Annotated[float, Field(gt=0, le=150)]
    resume_c: Annotated[float, Field(gt=0, le=150)]

    @model_validator(mode="after")
    def _in_order(self) -> ThermalConfig:
        if self.resume_c >= self.abort_c:
            raise ValueError(f"has resume_c {self.resume_c:g}, which is not below abort_c {self.abort_c:g}")
        return self


class DepthStateConfig(_Section):
    """How much room all kept prefills may take together, in this sweep and in others."""

    cap: Size = 32 * 10**9


ModelChoice = Annotated[
    Annotated[str, Field(min_length=1), Tag("@text")]
    | Annotated[SynthModel, Tag("@map")]
    | Annotated[MiniatureModel, Tag("@miniature")],
    Discriminator(_model_tag),
]
Workload = str | FileWorkload | TurnsWorkload
WorkloadChoice = Annotated[
    Annotated[str, Tag("@text")]
    | Annotated[FileWorkload, Tag("@map")]
    | Annotated[TurnsWorkload, Tag("@turns")],
    Discriminator(_workload_tag),
]


class SweepConfig(_Section):
    """A whole sweep file.

    `prefills` is the number of rounds of each cell that begin with a true prefill. With 1 a prefill is made once and
    kept, and shared by the cells that may share it.

    `workers: fresh` measures each round in a process of its own, as a process has a speed of its own: where its memory
    came to lie stays with it. `kept` loads a model once for all rounds of a comparison, for one that loads slowly.

    `place` counts over several boxes alone: `any` spreads the comparisons over them, `each` runs all on every box.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,99}$")]
    model: ModelChoice
    build: BuildConfig = BuildConfig()
    context: ContextConfig = ContextConfig()
    swa: SwaConfig | None = None
    draft: DraftConfig = DraftConfig()
    modes: Items[Mode]
    depths: Items[Annotated[int, Field(ge=1, le=MAX_TOKENS)]]
    workloads: Items[WorkloadChoice]
    generate: GenerateConfig = GenerateConfig()
    rounds: Annotated[int, Field(ge=1, le=1000)] = 3
    thermal: ThermalConfig | None = None
    workers: Literal["fresh", "kept"] = "fresh"
    prefills: Annotated[int, Field(ge=1, le=1000)] = 1
    depth_state: DepthStateConfig = DepthStateConfig()
    place: Literal["any", "each"] = "any"

    @field_validator("model", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return MiniatureModel() if value == "miniature" else value

    @field_validator("modes")
    @classmethod
    def _in_usual_order(cls, value: tuple[Mode, ...]) -> tuple[Mode, ...]:
        return tuple(mode for mode in MODES if mode in value)

    @field_validator("workloads")
    @classmethod
    def _known_workloads(cls, value: tuple[Workload, ...]) -> tuple[Workload, ...]:
        for item in value:
            if isinstance(item, str):
                _check_workload(item)
        return value

    @model_validator(mode="after")
    def _has_turns(self) -> SweepConfig:
        longest = max(
            (len(item.turns) for item in self.workloads if isinstance(item, TurnsWorkload)), default=1
        )
        if self.generate.n_predict < 2 * longest:
            raise ValueError(f"has n_predict {self.generate.n_predict}, too few tokens for {longest} turns")
        return self

    @model_validator(mode="after")
    def _modes_can_run(self) -> SweepConfig:
        sliding = [mode for mode in self.modes if uses_swa(mode)]
        if sliding and self.swa is None:
            raise ValueError(f"the mode {sliding[0]} needs a section `swa:` with a window")
        if sliding and self.build.variant.startswith("stock"):
            raise ValueError(f"the mode {sliding[0]} needs `variant: patched`; a stock build has no recipe")
        return self
