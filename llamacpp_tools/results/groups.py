"""The 2x2s of a result: cells that differ by mode alone, gathered from the rows of the document.

Works on rows, not on outcomes, so that a result read from a file groups like one just measured.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from llamacpp_tools.results.schema import Cell, Mode
from llamacpp_tools.sweep.cell import uses_mtp, uses_swa

Key = tuple[object, ...]
T = TypeVar("T")

# Modes are compared on one box alone.
_BASE = ("box", "n_ubatch", "n_batch", "type_k", "type_v", "flash_attn", "n_gpu_layers", "threads", "rpc")
_RECIPE = ("window", "full_layers")
_DRAFT = ("n_max", "p_min")
_SHORT = {
    "box": "box-",
    "n_ubatch": "ub",
    "n_batch": "b",
    "type_k": "k-",
    "type_v": "v-",
    "flash_attn": "fa-",
    "n_gpu_layers": "ngl",
    "threads": "t",
    "rpc": "rpc-",
    "window": "w",
    "full_layers": "full-",
    "n_max": "n",
    "p_min": "p",
}


@dataclass(frozen=True)
class Group:
    """Up to four cells, one per mode, that share depth, workload and all parameters.

    Attributes:
        n_depth, workload: what they share.
        axes: the parameters that vary within the result, by name, with this group's values.
        cells: by mode; a mode that was not run is not there.
    """

    n_depth: int
    workload: str
    axes: dict[str, object]
    cells: dict[Mode, Cell]

    @property
    def suffix(self) -> str:
        """The axes' values as a part of a key, empty without axes: `_ub512_n3`."""
        return "".join(f"_{_SHORT[name]}{word(value)}" for name, value in self.axes.items()).replace(":", "-")

    @property
    def label(self) -> str:
        """For people: depth, workload and whatever varies."""
        return self.label_of(*self.cells)

    def label_of(self, *modes: Mode) -> str:
        """The same without the axes that none of `modes` has: the window says nothing of dense and mtp."""
        idle = {*(_RECIPE if not any(map(uses_swa, modes)) else ())}
        idle |= {*(_DRAFT if not any(map(uses_mtp, modes)) else ())}
        axes = "".join(f", {name} {word(value)}" for name, value in self.axes.items() if name not in idle)
        return f"depth {self.n_depth}, {self.workload}{axes}"


def groups(cells: Sequence[Cell]) -> list[Group]:
    """Every 2x2 of `cells`, in the cells' order; a dense cell stands in each group that it belongs to.

    A forced cell tells what a step costs and no speed, so it is in none.
    """
    cells = [cell for cell in cells if cell.has_speed]
    varied = varying(cells)
    found: list[Group] = []
    for base in _distinct([_base(cell) for cell in cells]):
        members = [cell for cell in cells if _base(cell) == base]
        recipes = _distinct([_key(cell, _RECIPE) for cell in members if uses_swa(cell.mode)]) or [()]
        drafts = _distinct([_key(cell, _DRAFT) for cell in members if uses_mtp(cell.mode)]) or [()]
        for recipe, draft in itertools.product(recipes, drafts):
            values = dict(zip(_BASE, base[2:], strict=True))
            values |= dict(zip(_RECIPE, recipe, strict=False)) | dict(zip(_DRAFT, draft, strict=False))
            axes = {name: value for name, value in values.items() if name in varied}
            picked = _pick(members, recipe, draft)
            found.append(Group(members[0].n_depth, members[0].workload, axes, picked))
    return found


def varying(cells: Sequence[Cell]) -> list[str]:
    """The parameters that have more than one value among `cells`."""
    return [name for name in _SHORT if len(_values(cells, name)) > 1]


def _base(cell: Cell) -> Key:
    return (cell.n_depth, cell.workload, *_key(cell, _BASE))


def _pick(members: Sequence[Cell], recipe: Key, draft: Key) -> dict[Mode, Cell]:
    picked: dict[Mode, Cell] = {}
    for cell in members:
        fits_recipe = not uses_swa(cell.mode) or _key(cell, _RECIPE) == recipe
        fits_draft = not uses_mtp(cell.mode) or _key(cell, _DRAFT) == draft
        if fits_recipe and fits_draft:
            picked.setdefault(cell.mode, cell)
    return picked


def _key(cell: Cell, names: Sequence[str]) -> Key:
    values = ["auto" if name == "n_max" and cell.auto else getattr(cell, name) for name in names]
    return tuple(tuple(value) if isinstance(value, list) else value for value in values)


def _values(cells: Sequence[Cell], name: str) -> list[object]:
    return _distinct([value for cell in cells for value in _key(cell, (name,)) if value is not None])


def _distinct(values: Sequence[T]) -> list[T]:
    return list(dict.fromkeys(values))


def word(value: object) -> str:
    """A parameter's value for people and keys."""
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value) or "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)
