"""Which box has measured what of a plan, by the journal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from llamacpp_tools.cluster.job import Row
from llamacpp_tools.results.measure import Options
from llamacpp_tools.results.precision import narrow_enough
from llamacpp_tools.sweep.cell import CellSpec
from llamacpp_tools.sweep.journal import CellHistory, Journal, cell_key
from llamacpp_tools.sweep.order import comparisons
from llamacpp_tools.sweep.outcome import CellOutcome
from llamacpp_tools.sweep.plan import Plan
from llamacpp_tools.sweep.runner import outcome_of
from llamacpp_tools.sweep.validity import check


@dataclass(frozen=True)
class Measuring:
    """What a sweep measures, whichever box does it: figures of anything else do not count.

    Attributes:
        identity: the parts of the cells' keys that all boxes share: model, texts.
        build: pin, series and variant, as the boxes' provenance names them.
    """

    identity: Mapping[str, str] = field(default_factory=dict)
    build: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, order: Row) -> Measuring:
        """What boxes are told to measure."""
        parcel = order["parcel"]
        return cls(
            {**order["identity"], "model": order["model"]["sha256"]},
            {part: parcel[part] for part in ("pin", "series_digest", "variant")},
        )


class Holdings:
    """What the boxes have.

    Attributes:
        groups: the plan's comparisons, each measured whole by one box; they are called by their number.
        where: by comparison the box that has finished it in this run, or had when it began.
    """

    def __init__(self, plan: Plan, journal: Journal, options: Options, measuring: Measuring) -> None:
        """As the journal has it; what it is told later counts as well."""
        self.groups = comparisons(plan.cells)
        self.where: dict[int, str] = {}
        self._journal, self._options, self._measuring = journal, options, measuring

    def key(self, spec: CellSpec, name: str) -> str:
        """The key of what the box `name` measures of a cell in this sweep.

        A box's own parts (library, device, driver) are those with which it joined last. Of a box that has not joined
        since the sweep was of another build the library is not known, and nothing that it has counts.
        """
        row = self._journal.boxes[name]
        parts = {**row["identity"], **self._measuring.identity}
        if any(row["provenance"].get(part) != value for part, value in self._measuring.build.items()):
            parts["libraries"] = ""
        return cell_key(spec, parts)

    def history(self, spec: CellSpec, name: str) -> CellHistory:
        """What the box `name` has measured of a cell."""
        return self._journal.cell(self.key(spec, name))

    def rounds(self, number: int, name: str) -> int:
        """Rounds that a box has measured of a comparison, over its cells."""
        return sum(len(self.history(spec, name).rounds) for spec in self.groups[number])

    def begun(self, number: int, name: str) -> bool:
        """Whether a box has measured anything of a comparison, or tried to."""
        histories = [self.history(spec, name) for spec in self.groups[number]]
        return any(cell.attempts or cell.status != "ok" for cell in histories)

    def whole(self, number: int, name: str) -> bool:
        """Whether a box has measured all of a comparison."""
        known = [outcome_of(spec, self.history(spec, name)) for spec in self.groups[number]]
        if not all(outcome.ok and len(outcome.rounds) >= outcome.spec.rounds for outcome in known):
            return False
        width = self._options.until_width
        fewest = min(len(outcome.rounds) for outcome in known)
        return width is None or fewest >= self._options.most_rounds or narrow_enough(known, width)

    def checked(self, name: str) -> bool:
        """Whether a box has checked a kept prefill against a true one."""
        histories = (self.history(spec, name) for group in self.groups for spec in group)
        return any(
            cell.check or {"prefill", "restored"} <= {sample.filled for sample, _ in cell.rounds.values()}
            for cell in histories
        )

    def belongs(self, number: int) -> list[str]:
        """The box whose rounds a comparison's rows show: where it was finished, else where there is most of it."""
        if number in self.where:
            return [self.where[number]]
        begun = [name for name in self._journal.boxes if self.begun(number, name)]
        return sorted(begun, key=lambda name: -self.rounds(number, name))[:1]

    def outcomes(self, each: bool) -> list[CellOutcome]:
        """The cells that have begun, in the plan's order.

        Args:
            each: from every box; else from the one that their comparison belongs to.
        """
        found = []
        for number, cells in enumerate(self.groups):
            for name in sorted(self._journal.boxes) if each else self.belongs(number):
                known = [(spec, self.history(spec, name)) for spec in cells]
                found += [
                    replace(outcome_of(spec, cell), box=name)
                    for spec, cell in known
                    if cell.attempts or cell.status != "ok"
                ]
        return sorted(found, key=lambda outcome: outcome.spec.index)

    def judged(
        self, each: bool, deterministic: bool, full_kv: Callable[[CellSpec], int]
    ) -> list[CellOutcome]:
        """The cells of `outcomes`, those of a box checked against each other (see `sweep.validity.check`).

        The journal is told which are invalid, so that they are measured again; it forgets their rounds.
        """
        found: list[CellOutcome] = []
        outcomes = self.outcomes(each)
        for name in dict.fromkeys(outcome.box for outcome in outcomes if outcome.box is not None):
            own = check([outcome for outcome in outcomes if outcome.box == name], deterministic, full_kv)
            for outcome in own:
                if outcome.status == "invalid" and self.history(outcome.spec, name).status == "ok":
                    self._journal.ended(self.key(outcome.spec, name), "invalid", outcome.reason, 0.0, None)
            found += own
        return sorted(found, key=lambda outcome: outcome.spec.index)
