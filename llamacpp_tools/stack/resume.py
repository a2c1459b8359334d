"""The journal of a rebase: what was about to be done to a tree, written before it is done.

`trees/NAME.rebase.json` exists only while a rebase of that tree is under way, stopped or was killed. Each phase
can be done again from its start with the same end, so whoever finds the file can finish what it says:

    moving     put the tree at `target`, then write the record of the stack; the rebase is done
    stopping   put the tree at `target`, then apply the patch `current` there, with conflict markers
    conflict   a person has the tree: nothing in it is changed until they run llt again
    aborting   put the tree back to what it was before

`trees/NAME.stack.json` stays: which commit of the finished tree is which patch, for `llt patches refresh`.
"""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llamacpp_tools import home
from llamacpp_tools.errors import CheckFailed
from llamacpp_tools.files import write_text_atomic
from llamacpp_tools.stack.apply import Applied, Outcome
from llamacpp_tools.stack.git import Git
from llamacpp_tools.stack.place import TAKEN
from llamacpp_tools.stack.series import Series
from llamacpp_tools.stack.source import Source
from llamacpp_tools.stack.status import Status

_SCHEMA = 1


class Phase(enum.StrEnum):
    """What is being done to the tree (module docstring)."""

    MOVING = "moving"
    STOPPING = "stopping"
    CONFLICT = "conflict"
    ABORTING = "aborting"


@dataclass(frozen=True)
class Done:
    """A patch that is dealt with: its commit in the tree, None if upstream already has it."""

    name: str
    status: str
    commit: str | None
    detail: str = ""


@dataclass(frozen=True)
class State:
    """A rebase that is under way.

    Attributes:
        tree: the tree's folder name under `trees/`.
        label: what the series is put onto, as the user called it.
        origin: where that came from, in words.
        base: its commit; a branch that moves on does not move a stopped rebase.
        series_digest: of the series that was begun; another one cannot go on from here.
        phase: see the module docstring.
        target: the commit that the tree is put at: all of `done`.
        done: the patches dealt with, in order.
        current: the patch that is stopped at; None when moving.
        files: with conflict, the files that need a person.
        rejects: those of them (`*.rej`) that hold hunks which could not be merged.
        previous_head: the tree's HEAD before the rebase; None if there was no tree.
        previous_ref: the branch that HEAD was on, if any.
        folder: where the series lies.
    """

    tree: str
    label: str
    origin: str
    base: str
    series_digest: str
    phase: Phase
    target: str
    done: tuple[Done, ...] = ()
    current: str | None = None
    files: tuple[str, ...] = ()
    rejects: tuple[str, ...] = ()
    previous_head: str | None = None
    previous_ref: str | None = None
    folder: str = ""

    def but(self, **changes: Any) -> State:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True)
class Record:
    """What the last rebase of a tree wrote down.

    Attributes:
        base: upstream's commit under the tree.
        series_digest: of the files that were applied.
        head: the commit that llt put the tree at.
        folder: where those files lay; empty if an older llt wrote the record.
        commits: the commit of each patch, by name.
        upstream_has: names of the patches that upstream already had.
    """

    base: str
    series_digest: str
    head: str
    folder: str
    commits: Mapping[str, str]
    upstream_has: tuple[str, ...] = ()


def state_path(tree: str) -> Path:
    """Where the journal of a tree is kept."""
    return home.trees_dir() / f"{tree}.rebase.json"


def record_path(tree: str) -> Path:
    """Where it is kept which commit of a finished tree is which patch."""
    return home.trees_dir() / f"{tree}.stack.json"


def load_state(tree: str) -> State | None:
    """The journal of a tree, or None if no rebase of it is under way.

    Raises:
        CheckFailed: the file is there but cannot be understood.
    """
    path = state_path(tree)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise _unreadable(path) from error
    if not isinstance(raw, dict) or raw.pop("schema", None) != _SCHEMA:
        raise _unreadable(path)
    try:
        raw["done"] = tuple(Done(**each) for each in raw["done"])
        raw |= {"phase": Phase(raw["phase"]), "files": tuple(raw["files"]), "rejects": tuple(raw["rejects"])}
        return State(**raw)
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(path) from error


def _unreadable(path: Path) -> CheckFailed:
    return CheckFailed(
        f"{path} is no state of a rebase that this llt understands: finish it with the llt that wrote it, or"
        " remove the file to leave the tree as it is"
    )


def save_state(state: State) -> None:
    """Write the journal, whole."""
    document = {"schema": _SCHEMA, **dataclasses.asdict(state)}
    write_text_atomic(state_path(state.tree), json.dumps(document, indent=2) + "\n")


def drop_state(tree: str) -> None:
    """The rebase is over: remove the journal."""
    state_path(tree).unlink(missing_ok=True)


def stopped_trees() -> list[str]:
    """Names of the trees with a rebase under way."""
    return sorted(path.name.removesuffix(".rebase.json") for path in home.trees_dir().glob("*.rebase.json"))


def save_record(state: State) -> None:
    """Write which commit is which patch; a file that says so already is left alone."""
    document = {
        "schema": _SCHEMA,
        "base": state.base,
        "upstream": state.label,
        "series_digest": state.series_digest,
        "folder": state.folder,
        "head": state.target,
        "commits": [
            {"name": done.name, "commit": done.commit, "status": done.status, "detail": done.detail}
            for done in state.done
            if done.commit is not None
        ],
        "already_upstream": [done.name for done in state.done if done.commit is None],
    }
    text = json.dumps(document, indent=2) + "\n"
    path = record_path(state.tree)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text_atomic(path, text)


def read_record(tree: str) -> Record | None:
    """The record of a tree, or None if there is none that can be read."""
    try:
        raw = json.loads(record_path(tree).read_text(encoding="utf-8"))
        commits = {each["name"]: each["commit"] for each in raw["commits"]}
        has = tuple(str(name) for name in raw.get("already_upstream", ()))
        return Record(
            str(raw["base"]),
            str(raw["series_digest"]),
            str(raw["head"]),
            str(raw.get("folder", "")),
            commits,
            has,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def recorded(tree: str, base: str, series: Series) -> tuple[tuple[Done, ...], str] | None:
    """The patches of the tree's record and its HEAD, if it is of this base and this series, all dealt with."""
    try:
        raw = json.loads(record_path(tree).read_text(encoding="utf-8"))
        if (raw["base"], raw["series_digest"]) != (base, series.digest):
            return None
        done = {each["name"]: Done(**each) for each in raw["commits"]}
        for name in raw.get("already_upstream", ()):
            done[name] = Done(name, str(Status.UPSTREAM), None, TAKEN)
        head = str(raw["head"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    names = [patch.name for patch in series.patches]
    return (tuple(done[name] for name in names), head) if sorted(done) == sorted(names) else None


def plan(state: State, outcomes: Sequence[Outcome]) -> State:
    """What to do next after the patches of `outcomes` were tried on `state.target`: stop at one, or be done."""
    done, target = list(state.done), state.target
    for outcome in outcomes:
        if outcome.status.stops:
            return state.but(
                phase=Phase.STOPPING, done=tuple(done), target=target, current=outcome.patch.name,
                files=(), rejects=(),
            )  # fmt: skip
        target = outcome.commit or target
        done.append(Done(outcome.patch.name, str(outcome.status), outcome.commit, outcome.detail))
    return state.but(phase=Phase.MOVING, done=tuple(done), target=target, current=None, files=(), rejects=())


def source_of(git: Git, state: State) -> Source:
    """The version of upstream that a rebase under way is on."""
    return Source(state.label, state.base, git.tree_of(state.base), state.origin)


def outcomes_of(done: Sequence[Done], series: Series) -> tuple[Outcome, ...]:
    """Outcomes of patches that are dealt with, as a report wants them."""
    patches = {patch.name: patch for patch in series.patches}
    return tuple(Outcome(patches[each.name], Status(each.status), each.commit, each.detail) for each in done)


def applied_of(git: Git, state: State, series: Series, rest: Sequence[Outcome] = ()) -> Applied:
    """The whole series as it stands: what is done, then `rest`."""
    outcomes = outcomes_of(state.done, series) + tuple(rest)
    return Applied(state.base, state.target, git.tree_of(state.target), outcomes)
