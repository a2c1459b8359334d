"""`llt drift` over a generated history of 2,000 commits with 3 patches, against a loop of `git am` over the same.

    python benchmarks/stack_drift.py [--commits N] [--sample K]

The history is made with `git fast-import` from a fixed seed: most commits change other files, some change the
patches' files harmlessly (other functions, lines above), a few break a patch and a later one heals it, one takes
a patch's change and takes it back, and the last break stays. The loop does what a script does today: check the
commit out in a work tree, `git am -3` each patch, `git am --abort` where one fails. With --sample the loop runs
on every K-th commit only and its time is multiplied, which the result says. Both must agree on every
(commit, patch) that the loop has looked at: applied, nothing left to apply, failed. Goal: at least 20 times
faster.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
from common import ROOT, machine, show, write_result

from llamacpp_tools.stack.drift import Drift, drift
from llamacpp_tools.stack.git import Git
from llamacpp_tools.stack.series import Series, load_series
from llamacpp_tools.stack.status import Status
from llamacpp_tools.stack.upstream import load_upstream

GOAL = 20.0
SEED = 20261121
FOLDERS, FILES, FUNCTIONS, LINES = 30, 20, 20, 8
ONE, TWO, THREE = "src/m00/f00.c", "src/m01/f00.c", "src/m02/f00.c"
# (file, function, line) that each patch changes; the third also adds a file.
PATCHES = {
    "first": [(ONE, 4, 3), (TWO, 10, 2)],
    "second": [(THREE, 7, 4)],
    "third": [(ONE, 14, 3)],
}
NEW_FILE = "src/m00/extra.c"
EXPORT = ("format-patch", "--zero-commit", "--full-index", "--no-signature", "--no-stat", "-1", "--stdout")

Files = dict[str, list[str]]
Places = list[tuple[str, int, int]]


def line_of(function: int, line: int) -> str:
    return f"    x{function}_{line} = step(x{function}_{line});"


def ours(function: int, line: int, name: str) -> str:
    return f"    x{function}_{line} = {name}(step(x{function}_{line}));"


def first_tree() -> Files:
    text = ["#include <step.h>", ""]
    for function in range(FUNCTIONS):
        text += [f"int f{function}(int a) {{", *(line_of(function, line) for line in range(LINES)), "}", ""]
    return {
        f"src/m{folder:02d}/f{file:02d}.c": list(text) for folder in range(FOLDERS) for file in range(FILES)
    }


def swap(lines: list[str], old: str, new: str) -> None:
    lines[lines.index(old)] = new


def plan(commits: int, chance: random.Random) -> dict[int, tuple[str, str]]:
    """Commit number -> (what, patch): seven breaks of which six heal, one change taken and taken back."""
    events: dict[int, tuple[str, str]] = {}
    slot = commits // 8
    for episode, name in enumerate(["second", "first", "third", "second", "first", "third"]):
        start = episode * slot + chance.randrange(slot // 4)
        events[start] = ("break", name)
        events[start + slot // 8 + chance.randrange(slot // 2)] = ("heal", name)
    events[6 * slot] = ("take", "second")
    events[6 * slot + slot // 2] = ("untake", "second")
    events[commits - slot // 3] = ("break", "first")
    return events


def upstream_moves(files: Files, commits: int, chance: random.Random) -> Iterator[tuple[str, set[str]]]:
    """Change `files` in place, commit by commit; yields the subject and the names that changed."""
    events = plan(commits, chance)
    patched = {(path, function) for places in PATCHES.values() for path, function, _ in places}
    texts = {
        "break": lambda f, n, name: (line_of(f, n), f"    x{f}_{n} = broken_for_{name}();"),
        "take": lambda f, n, name: (line_of(f, n), ours(f, n, name)),
    }
    for number in range(commits):
        if number in events:
            what, name = events[number]
            path, function, line = PATCHES[name][0]
            pair = texts["break" if what in ("break", "heal") else "take"](function, line, name)
            swap(files[path], *(pair if what in ("break", "take") else reversed(pair)))
            yield f"{what} {name}", {path}
            continue
        close = chance.random() < 0.08
        path = chance.choice([ONE, TWO, THREE]) if close else chance.choice(list(files))
        if path in (ONE, TWO, THREE) and chance.random() < 0.3:
            files[path].insert(1, f"#define AT_{number} {number}")
            yield f"define AT_{number}", {path}
            continue
        function = chance.choice([each for each in range(FUNCTIONS) if (path, each) not in patched])
        at = files[path].index(f"int f{function}(int a) {{") + 1 + chance.randrange(LINES)
        files[path][at] = f"    x{function} = step({number});"
        yield f"change f{function} of {path}", {path}


def generate(folder: Path, commits: int) -> Git:
    """A repository with the pin and `commits` commits after it on master."""
    git = Git(folder)
    folder.mkdir()
    git.run("init", "--quiet", "--initial-branch=master", ".")
    files = first_tree()
    chance = random.Random(SEED)
    parts: list[bytes] = []

    def commit(number: int, subject: str, names: Sequence[str]) -> None:
        said = subject.encode()
        parts.append(
            b"commit refs/heads/master\ncommitter up <up@localhost> %d +0000\n" % (1767225600 + 600 * number)
        )
        parts.append(b"data %d\n%s\n" % (len(said), said))
        for name in names:
            text = ("\n".join(files[name]) + "\n").encode()
            parts.append(b"M 100644 inline %s\ndata %d\n%s\n" % (name.encode(), len(text), text))

    commit(0, "base", list(files))
    for number, (subject, names) in enumerate(upstream_moves(files, commits, chance), start=1):
        commit(number, subject, sorted(names))
    git.run("fast-import", "--quiet", stdin=b"".join(parts))
    git.run("repack", "-adq")
    return git


def write_series(git: Git, folder: Path) -> Series:
    """Three patches for the pin, exported from commits on it, with their two yaml files."""
    pin = git.text("rev-list", "--max-parents=0", "master")
    git.run("checkout", "--quiet", "--detach", pin)
    folder.mkdir()
    entries = []
    for number, (name, places) in enumerate(PATCHES.items(), start=1):
        for path, function, line in places:
            target = git.folder / path
            lines = target.read_text().split("\n")
            swap(lines, line_of(function, line), ours(function, line, name))
            target.write_text("\n".join(lines))
        if name == "third":
            (git.folder / NEW_FILE).write_text("int extra(void) {\n    return 1;\n}\n")
        git.run("add", "--all")
        git.run("commit", "--quiet", "--message", f"our {name} patch")
        file = f"{number:04d}-{name}.patch"
        (folder / file).write_bytes(git.run(*EXPORT, "HEAD").stdout)
        entries.append(
            f"  - {{file: {file}, name: {name}, why: a, upstream: [none], drop_when: a, paths: ['src/*'], check: a}}\n"
        )
    (folder / "series.yaml").write_text("schema: 1\nupstream: pin\npatches:\n" + "".join(entries))
    (folder / "upstream.yaml").write_text(
        f"schema: 1\nremote: {git.folder}\npin: pin\nversions:\n"
        f"  - {{tag: pin, date: 2026-01-01, identities: [{{commit: '{pin}', seen: generated}}]}}\n"
    )
    git.run("checkout", "--quiet", "--force", "--detach", "master")
    return load_series(folder)


def loop(git: Git, series: Series, commits: Sequence[str], work: Path) -> tuple[float, list[tuple[str, ...]]]:
    """Seconds, and per commit what `git am -3` made of each patch."""
    git.run("worktree", "add", "--quiet", "--detach", str(work), commits[0])
    tree = Git(work)
    found = []
    start = time.perf_counter()
    for commit in commits:
        tree.run("checkout", "--quiet", "--force", "--detach", commit)
        row = []
        for patch in series.patches:
            before = tree.text("rev-parse", "HEAD")
            if not tree.run("am", "--quiet", "-3", str(patch.file.path.absolute()), check=False).ok:
                tree.run("am", "--abort")
                row.append("failed")
            else:
                row.append("nothing" if tree.text("rev-parse", "HEAD") == before else "applied")
        found.append(tuple(row))
    return time.perf_counter() - start, found


def in_words(status: Status) -> str:
    if status is Status.UPSTREAM:
        return "nothing"
    return "applied" if status.applies else "failed"


def measure(commits: int, every: int, home: Path) -> dict[str, Any]:
    os.environ["LLT_HOME"] = str(home / "llt")
    git = generate(home / "upstream", commits)
    series = write_series(git, home / "patches")
    upstream = load_upstream(home / "patches")
    start = time.perf_counter()
    report: Drift = drift(upstream, series, "master", str(git.folder))
    drift_s = time.perf_counter() - start
    steps = report.steps[::every]
    loop_s, rows = loop(git, series, [step.commit for step in steps], home / "work")
    mine = [tuple(in_words(status) for status in row) for row in report.grid[::every]]
    differ = [step.label for step, one, other in zip(steps, mine, rows, strict=True) if one != other]
    whole_s = loop_s * len(report.steps) / len(steps)
    return {
        "what": f"llt drift over {commits} generated commits with {len(series.patches)} patches against git am -3",
        "seed": SEED,
        "files": FOLDERS * FILES,
        "steps": len(report.steps),
        "commits_in_the_patches_files": len(
            {touch.step.commit for each in report.patches for touch in each.heat}
        ),
        "evaluated": report.evaluated,
        "verified": report.verified,
        "spans": {each.patch.name: len(each.spans) for each in report.patches},
        "drift_s": round(drift_s, 3),
        "loop_steps": len(steps),
        "loop_measured_s": round(loop_s, 3),
        "loop_s": round(whole_s, 3),
        "loop_is_extrapolated": every > 1,
        "ratio": round(whole_s / drift_s, 1),
        "compared": len(steps) * len(series.patches),
        "disagreeing_commits": differ,
        "goal_ratio": GOAL,
        "goal_met": whole_s / drift_s >= GOAL and not differ,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--commits", type=int, default=2000)
    parser.add_argument(
        "--sample", type=int, default=1, metavar="K", help="run the loop on every K-th commit"
    )
    chosen = parser.parse_args()
    facts = machine()
    with tempfile.TemporaryDirectory(prefix="llt-bench-") as name:
        result = measure(chosen.commits, chosen.sample, Path(name))
    facts["load_average_after"] = round(psutil.getloadavg()[0], 2)
    path = write_result("stack-drift", {**result, "machine": facts})
    told = "extrapolated from" if result["loop_is_extrapolated"] else "measured on"
    rows = [
        (
            "steps",
            f"{result['steps']}, {result['commits_in_the_patches_files']} of them in the patches' files",
        ),
        ("llt drift", f"{result['drift_s']:.2f} s ({result['evaluated']} distinct states applied)"),
        ("git am loop", f"{result['loop_s']:.1f} s ({told} {result['loop_steps']} commits)"),
        ("ratio", f"{result['ratio']:.0f} (goal: {GOAL:.0f})"),
        ("agree", f"{result['compared']} statuses, {len(result['disagreeing_commits'])} commits differ"),
    ]
    show("llt drift against a loop of git am", rows)
    print(f"result: {path.relative_to(ROOT)}")
    sys.exit(0 if result["goal_met"] else 1)


if __name__ == "__main__":
    main()
