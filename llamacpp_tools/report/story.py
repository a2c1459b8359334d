"""What a report says of a result in words, before and beside its tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from llamacpp_tools.acceptance.grids import Grid, grids
from llamacpp_tools.acceptance.judge import judge
from llamacpp_tools.advise.advice import advise
from llamacpp_tools.advise.measure import costs_beside
from llamacpp_tools.advise.sentences import rule
from llamacpp_tools.errors import BadInput
from llamacpp_tools.results import document
from llamacpp_tools.results.asked import missing
from llamacpp_tools.results.caveats import ASKED_FOR
from llamacpp_tools.results.derive import Derived, derive
from llamacpp_tools.results.schema import Comparison, Document, Mode
from llamacpp_tools.results.sheet import NAMES, Gain, Line, Sheet, sheets
from llamacpp_tools.results.table import plain


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
    def derived(self) -> Derived:
        """What follows from its cells; what the file itself says of that is not taken for granted."""
        return derive(self.result)

    @property
    def comparisons(self) -> Sequence[Comparison]:
        """Each lever's gain."""
        return self.derived.comparisons

    @cached_property
    def sheets(self) -> list[Sheet]:
        """Its 2x2s."""
        asked = self.result.config.get("modes")
        modes = [mode for mode in NAMES if isinstance(asked, list) and mode in asked]
        return sheets(self.result.cells, self.comparisons, modes)

    @property
    def findings(self) -> list[str]:
        """What the numbers show."""
        return self.derived.findings

    @cached_property
    def rule(self) -> list[str]:
        """Which levers to use, with the costs of a step that lie beside the file if there are any."""
        try:
            costs = costs_beside(self.path, self.result)
        except BadInput:
            costs = None
        return rule(advise(self.result, [costs] if costs is not None else []))

    @cached_property
    def lab(self) -> list[Grid]:
        """The tables of `llt acceptance`, where that measured it; its verdicts follow from the cells, too."""
        return grids(judge(self.result)) if self.result.acceptance is not None else []

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
        """What speaks against relying on it, without what `troubles` says better."""
        said = {trouble.sentence for trouble in self.troubles}
        return [
            each
            for each in self.derived.caveats
            if plain(each).rstrip(".") not in said and not each.startswith(ASKED_FOR)
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


def _not_begun(result: Document) -> list[Trouble]:
    """What the configuration asks for and the cells lack; nothing where it is not a sweep's (a publication's)."""
    why = "the sweep ended before it" if result.status == "started" else "it is not in the result"
    return [Trouble(spec.mode, spec.n_depth, spec.workload, "missing", why) for spec in missing(result)]


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
