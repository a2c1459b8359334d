"""The cells of results by what they answer: one setting a depth, text and context, with a branch for each recipe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from llamacpp_tools.results.schema import Cell
from llamacpp_tools.sweep.cell import uses_mtp

Context = tuple[object, ...]
_CONTEXT = ("n_ubatch", "n_batch", "type_k", "type_v", "flash_attn", "n_gpu_layers", "threads", "rpc")


@dataclass(frozen=True)
class Recipe:
    """The window and the layers that stay full; a window of None is dense."""

    window: int | None = None
    full_layers: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        """`dense`, or the window and its full layers."""
        if self.window is None:
            return "dense"
        return f"window {self.window} (full {','.join(map(str, self.full_layers)) or 'none'})"


@dataclass
class Branch:
    """What was measured with one recipe: without a draft, with drafts, and what a step costs."""

    recipe: Recipe
    plain: Cell | None = None
    drafting: list[Cell] = field(default_factory=list)
    forced: Cell | None = None


@dataclass
class Setting:
    """One depth, text and context."""

    n_depth: int
    workload: str
    context: Context
    branches: dict[Recipe, Branch] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """For people; contexts that differ are told apart by `settings` in its order alone."""
        return f"depth {self.n_depth}, {self.workload}"

    @property
    def any_cell(self) -> Cell:
        """One of its cells: they share the context's parameters."""
        branches = self.branches.values()
        return next(
            cell for branch in branches for cell in (branch.plain, *branch.drafting, branch.forced) if cell
        )


def settings(cells: Iterable[Cell]) -> list[Setting]:
    """Every setting of `cells`, in their order; only cells that are ok count."""
    found: dict[tuple[object, ...], Setting] = {}
    for cell in cells:
        if cell.status != "ok":
            continue
        key = (cell.n_depth, cell.workload, _context(cell))
        setting = found.setdefault(key, Setting(cell.n_depth, cell.workload, _context(cell)))
        recipe = Recipe(cell.window, tuple(cell.full_layers or ()))
        branch = setting.branches.setdefault(recipe, Branch(recipe))
        if cell.forced:
            branch.forced = cell
        elif cell.traced:
            # Its drafts stand at every token, those of a generation only where a step begins.
            continue
        elif uses_mtp(cell.mode):
            # A length that changes is no length to advise, and none drafted tells of no draft.
            if cell.auto or cell.n_max == 0:
                continue
            branch.drafting.append(cell)
        else:
            branch.plain = cell
    return list(found.values())


def nearest(candidates: Sequence[Setting], setting: Setting, recipe: Recipe) -> Setting | None:
    """Of the settings with a forced cell of that recipe and context, the one whose depth is nearest."""
    known = [
        other
        for other in candidates
        if other.context == setting.context and recipe in other.branches and other.branches[recipe].forced
    ]
    return min(known, key=lambda other: abs(other.n_depth - setting.n_depth), default=None)


def _context(cell: Cell) -> Context:
    values = (getattr(cell, name) for name in _CONTEXT)
    return tuple(tuple(value) if isinstance(value, list) else value for value in values)
