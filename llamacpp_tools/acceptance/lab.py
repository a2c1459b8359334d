"""The cells of the acceptance lab: for each class a plain text and a watched one, and once what a step costs.

They are cells of a sweep, so journal, kept prefills, heat and whatever can befall a worker are dealt with there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from llamacpp_tools.advise.measure import forced_length
from llamacpp_tools.errors import BadInput
from llamacpp_tools.results.record import resolved
from llamacpp_tools.results.schema import Document
from llamacpp_tools.sweep.cell import CellSpec, cell_id, context_size
from llamacpp_tools.sweep.configfile import parse_config
from llamacpp_tools.sweep.plan import Plan, plan
from llamacpp_tools.workloads import names
from llamacpp_tools.workloads.cut import FILE_PREFIX

# Class names that people use for some of the workloads.
ALIASES = {"log": "maintenance_log", "prose": "narrative"}
MINIATURE = "miniature"


@dataclass(frozen=True)
class Asked:
    """What the lab is asked.

    Attributes:
        model: a GGUF file, or `miniature`.
        ballast: keys of a sweep file's `miniature`, for that one.
        classes: names of `class_names`; empty for all, unless there are texts.
        texts: files of the user's own.
        n_depth: tokens of prompt.
        lookahead: tokens drafted at each position; the longest draft that is judged.
        n_predict: positions that are drafted at.
        window, full_layers: the recipe, None for dense.
        backend, variant: of the build.
        rounds: of the cells that are timed.
        mtp: False for plain decode alone.
        verify: also decode with drafts of `lookahead` tokens, truly verified.
        draft_history, before_norm: what a draft sees (`engine.bisect`).
        context: keys of a sweep file's `context`, each with one value.
    """

    model: str
    ballast: Mapping[str, Any] = field(default_factory=dict)
    classes: Sequence[str] = ()
    texts: Sequence[Path] = ()
    n_depth: int = 2048
    lookahead: int = 4
    n_predict: int = 200
    window: int | None = None
    full_layers: Sequence[int] = ()
    backend: str = "cpu"
    variant: str = "patched"
    rounds: int = 3
    mtp: bool = True
    verify: bool = False
    draft_history: bool = True
    before_norm: bool = False
    context: Mapping[str, Any] = field(default_factory=dict)


def class_names() -> tuple[str, ...]:
    """The classes by the names that they are shown with."""
    shown = {workload: alias for alias, workload in ALIASES.items()}
    return tuple(shown.get(name, name) for name in names())


def class_of(workload: str) -> str:
    """The name that a workload is shown with: its class, or the file's name."""
    if workload.startswith(FILE_PREFIX):
        return Path(workload.removeprefix(FILE_PREFIX)).name
    return next((alias for alias, name in ALIASES.items() if name == workload), workload)


def cells(asked: Asked) -> Plan:
    """The plan.

    Raises:
        BadInput: a class that does not exist, or a value that cannot be.
    """
    if not asked.mtp and asked.verify:
        raise BadInput("without MTP there is nothing to verify; leave --verify out, or --mtp off")
    if asked.ballast and asked.model != MINIATURE:
        raise BadInput(f"only the miniature takes ballast, not {asked.model}")
    config = parse_config(_config(asked), "llt acceptance")
    made = plan(config)
    first = made.cells[0].workload
    found: list[CellSpec] = []
    for cell in made.cells:
        if not cell.mtp:
            # One text in turns with the forced steps tells what a token costs; the others are there to be compared.
            found.append(replace(cell, rounds=asked.rounds if cell.workload == first else 1))
            continue
        seen = replace(cell, draft_history=asked.draft_history, before_norm=asked.before_norm)
        if cell.workload == first:
            length = forced_length(asked.lookahead)
            size = context_size(cell.n_depth, length, cell.n_max)
            found.append(replace(cell, forced=True, n_predict=length, n_ctx=size))
        found.append(replace(seen, traced=True, rounds=1))
        found += [replace(seen, rounds=1)] if asked.verify else []
    return Plan(config, tuple(replace(cell, index=at) for at, cell in enumerate(found)))


def check_goes_on(earlier: Document | None, planned: Plan, path: Path) -> None:
    """Refuse to go on with a result of other settings: its figures would be left out of the one that replaces it.

    More rounds and more classes are welcome.

    Args:
        earlier: the result at `path`; None where there is none.
        planned: the cells of this run.

    Raises:
        BadInput: something else differs, or a class or a row would be left out.
    """
    if earlier is None:
        return
    before, now = dict(earlier.config), resolved(planned.config)
    lost = [item for item in before["workloads"] if item not in now["workloads"]]
    if lost:
        names = ", ".join(map(_shown, lost))
        raise BadInput(
            f"{path} has {names} as well, which --resume would leave out: name them, or give another --out"
        )
    then, asked = _flat(before), _flat(now)
    told = [
        f"{key} {then[key]} there, {value} now"
        for key, value in asked.items()
        if key in then and then[key] != value
    ]
    if told:
        raise BadInput(
            f"{path} was made with other settings ({'; '.join(told)}): repeat those, or give another --out"
        )
    # What a draft sees, and whether drafts are verified, is no key of the configuration.
    kept = {cell_id(cell) for cell in planned.cells}
    if gone := [cell.id for cell in earlier.cells if cell.id not in kept]:
        raise BadInput(
            f"{path} has {', '.join(gone)} as well, which --resume would leave out: repeat --verify, --draft-history "
            "and --hidden-row as they were, or give another --out"
        )


def _shown(item: Any) -> str:
    return class_of(item if isinstance(item, str) else FILE_PREFIX + str(item.get("file", item)))


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that figures depend on, by path, as `draft.n_max`."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if key in {"workloads", "rounds"}:
            continue
        if isinstance(value, Mapping):
            found |= {f"{key}.{name}": item for name, item in _flat(value).items()}
        else:
            found[key] = value
    return found


def _config(asked: Asked) -> dict[str, Any]:
    windowed = asked.window is not None
    plain, drafting = ("swa", "swa+mtp") if windowed else ("dense", "mtp")
    texts: list[Any] = [{"file": str(path)} for path in asked.texts]
    found: dict[str, Any] = {
        "name": "acceptance",
        "model": {MINIATURE: dict(asked.ballast)} if asked.model == MINIATURE else asked.model,
        "build": {"backend": asked.backend, "variant": asked.variant},
        "context": dict(asked.context),
        "draft": {"n_max": asked.lookahead},
        "modes": [plain, drafting] if asked.mtp else [plain],
        "depths": [asked.n_depth],
        "workloads": [*_workloads(asked), *texts],
        "generate": {"n_predict": asked.n_predict + asked.lookahead},
        "rounds": asked.rounds,
    }
    if windowed:
        found["swa"] = {"window": asked.window, "full_layers": list(asked.full_layers)}
    elif asked.full_layers:
        raise BadInput("layers stay full only where there is a window; give one with --window")
    return found


def _workloads(asked: Asked) -> list[str]:
    chosen = list(asked.classes) or ([] if asked.texts else list(names()))
    for name in chosen:
        if name not in {*class_names(), *names()}:
            raise BadInput(
                f"there is no class {name}; there are {', '.join(class_names())}, and --text FILE for your own"
            )
    return list(dict.fromkeys(ALIASES.get(name, name) for name in chosen))


def what(asked: Asked, planned: Plan) -> str:
    """What is measured, in one sentence."""
    classes = ", ".join(dict.fromkeys(class_of(cell.workload) for cell in planned.cells))
    recipe = f"a window of {asked.window}" if asked.window is not None else "dense"
    if not asked.mtp:
        return f"Plain decode of {classes} at depth {asked.n_depth}, {recipe}, to be held against MTP."
    return (
        f"Drafts of {asked.lookahead} tokens at each of {asked.n_predict} tokens of plain greedy text, dropped, and "
        f"what a step with each draft length costs: {classes} at depth {asked.n_depth}, {recipe}."
    )
