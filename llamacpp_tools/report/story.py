"""What a report says of a result in words, before and beside its tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from llamacpp_tools.errors import BadInput
from llamacpp_tools.results import document
from llamacpp_tools.results.compare import compare
from llamacpp_tools.results.findings import findings
from llamacpp_tools.results.schema import Comparison, Document, Mode
from llamacpp_tools.results.sheet import NAMES, Gain, Line, Sheet, sheets
from llamacpp_tools.results.table import plain
from llamacpp_tools.sweep.config import SweepConfig
from llamacpp_tools.sweep.plan import plan


@dataclass(frozen=True)
class Story:
    """One result as a report shows it.

    Attributes:
        path: the file, as the user named it.
        result: what it holds.
        name: the experiment, with the path where several results of a report bear the same name.
    """

    path: Path
    result: Document
    name: str

    @cached_property
    def comparisons(self) -> Sequence[Comparison]:
        """The document's; made from its cells where the sweep did not finish and so made none."""
        return self.result.comparisons or compare([cell for cell in self.result.cells if not cell.forced])

    @cached_property
    def sheets(self) -> list[Sheet]:
        """Its 2x2s."""
        asked = self.result.config.get("modes")
        modes = [mode for mode in NAMES if isinstance(asked, list) and mode in asked]
        return sheets(self.result.cells, self.comparisons, modes)

    @cached_property
    def findings(self) -> list[str]:
        """The document's; made from its cells where the sweep did not finish."""
        return self.result.findings or findings(self.result.cells, self.comparisons)

    @cached_property
    def troubles(self) -> list[Trouble]:
        """The cells without usable figures: those that ended badly, then those that were asked for and not begun."""
        bad = [
            Trouble(cell.mode, cell.n_depth, cell.workload, cell.status, cell.reason or "")
            for cell in self.result.cells
            if cell.status != "ok"
        ]
        return bad + _not_begun(self.result)

    @cached_property
    def caveats(self) -> list[str]:
        """The document's, without those that `troubles` says better."""
        said = {trouble.sentence for trouble in self.troubles}
        unfinished = (
            ["The sweep did not finish, so its figures are those of the rounds that were done."]
            if self.result.status == "started"
            else []
        )
        return unfinished + [
            caveat for caveat in self.result.caveats if plain(caveat).rstrip(".") not in said
        ]

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """The fastest mode of each 2x2."""
        return [found for sheet in self.sheets if (found := _verdict(sheet, self.comparisons)) is not None]

    def said_of(self, sheet: Sheet) -> list[str]:
        """The findings about one 2x2, without the words that name it."""
        start = f"At {sheet.group.label}, "
        return [capital(each[len(start) :]) for each in self.findings if each.startswith(start)]

    @cached_property
    def said_of_all(self) -> list[str]:
        """The findings that name no 2x2."""
        starts = tuple(f"At {sheet.group.label}, " for sheet in self.sheets)
        return [each for each in self.findings if not each.startswith(starts)]

    @property
    def published(self) -> bool:
        """Whether the figures were taken from a publication and not measured by llt."""
        return self.result.provenance.source == "published"


@dataclass(frozen=True)
class Trouble:
    """A cell that has no usable figures."""

    mode: Mode
    n_depth: int
    workload: str
    status: str
    reason: str

    @property
    def sentence(self) -> str:
        """As the document's caveats have it."""
        return plain(
            f"{self.mode} at depth {self.n_depth} on {self.workload} is {self.status}: {self.reason}"
        ).rstrip(".")


@dataclass(frozen=True)
class Verdict:
    """The mode with the highest decode speed in a 2x2.

    Attributes:
        sheet: the 2x2.
        line: its fastest line.
        gain: over dense; None where dense is the fastest or has no figure.
        level_with: the modes that it is not shown to differ from.
    """

    sheet: Sheet
    line: Line
    gain: Gain | None
    level_with: tuple[str, ...]

    @property
    def remark(self) -> str:
        """What keeps it from being plain; empty if nothing does."""
        parts = []
        if self.level_with:
            parts.append(f"not shown to differ from {' or '.join(self.level_with)}")
        if self.line.own is not None and self.line.own.confounded:
            parts.append("confounded: the modes wrote texts that are not equally varied")
        if self.gain is None and self.line.mode != "dense":
            parts.append("dense has no figure to compare with")
        if self.gain is not None and self.gain.interval is None:
            parts.append("without an interval")
        return "; ".join(parts)


def stories(paths: Sequence[Path]) -> list[Story]:
    """The results at `paths`, read and named.

    Raises:
        BadInput: one cannot be read, or is named twice.
    """
    if len({path.resolve() for path in paths}) < len(paths):
        raise BadInput("a result is named twice; name each once")
    results = [document.read(path) for path in paths]
    names = [plain(result.experiment) or "a result without a name" for result in results]
    return [
        Story(path, result, name if names.count(name) == 1 else f"{name} ({path})")
        for path, result, name in zip(paths, results, names, strict=True)
    ]


def asked(result: Document) -> dict[str, Any]:
    """The configuration as a sweep file may hold it: a document also writes out the axes that were not asked for."""
    config = {key: value for key, value in result.config.items() if value is not None}
    context = config.get("context")
    if isinstance(context, dict):
        config["context"] = {key: value for key, value in context.items() if value != []}
    return config


def _not_begun(result: Document) -> list[Trouble]:
    """What the configuration asks for and the cells lack; nothing where it is not a sweep's (a publication's)."""
    if result.provenance.source != "measured":
        return []
    try:
        planned = plan(SweepConfig.model_validate(asked(result))).cells
    except (ValueError, BadInput):
        return []
    have: list[tuple[object, ...]] = [_key(cell) for cell in result.cells]
    why = "the sweep ended before it" if result.status == "started" else "it is not in the result"
    return [
        Trouble(spec.mode, spec.n_depth, spec.workload, "missing", why)
        for spec in planned
        if _key(spec) not in have
    ]


def _key(cell: Any) -> tuple[object, ...]:
    layers = tuple(cell.full_layers) if cell.full_layers is not None else None
    names = (
        "mode",
        "n_depth",
        "workload",
        "window",
        "n_max",
        "p_min",
        "n_ubatch",
        "n_batch",
        "type_k",
        "type_v",
    )
    return (
        *(getattr(cell, name) for name in names),
        cell.flash_attn,
        cell.n_gpu_layers,
        cell.threads,
        layers,
    )


def _verdict(sheet: Sheet, comparisons: Sequence[Comparison]) -> Verdict | None:
    usable = [line for line in sheet.lines if line.ok and line.cell is not None and line.cell.decode_tps]
    if len(usable) < 2:
        return None
    best = max(usable, key=_speed)
    doubted = {
        frozenset((each.mode, each.to_mode))
        for each in comparisons
        if each.metric == "decode_tps"
        and each.verdict == "no difference shown"
        and {each.cell, each.to} <= {line.cell.id for line in usable if line.cell}
    }
    level = tuple(NAMES[line.mode] for line in usable if frozenset((line.mode, best.mode)) in doubted)
    return Verdict(sheet, best, best.dense, level)


def _speed(line: Line) -> float:
    return (line.cell.decode_tps if line.cell else None) or 0.0


def capital(sentence: str) -> str:
    """The sentence with a capital, unless it begins with the name of a mode."""
    return sentence if sentence.partition(" ")[0] in NAMES else sentence[:1].upper() + sentence[1:]
