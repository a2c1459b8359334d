from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from llamacpp_tools.stack.apply import apply_series
from llamacpp_tools.stack.series import load_series
from llamacpp_tools.stack.status import Status

from .conftest import BASE, Upstream

Edit = Callable[[str, int, str], str]
Write = Callable[[dict[str, bytes]], Path]


def two_patches(upstream: Upstream, edit: Edit) -> dict[str, bytes]:
    first = upstream.commit({"src/a.txt": edit(BASE["src/a.txt"], 20, "first")}, "first")
    second = upstream.commit({"src/b.txt": edit(BASE["src/b.txt"], 10, "second")}, "second")
    made = {"first": upstream.export(first), "second": upstream.export(second)}
    upstream.git.run("reset", "--quiet", "--hard", "v1")
    return made


def statuses(upstream: Upstream, folder: Path, base: str) -> list[Status]:
    applied = apply_series(upstream.git, upstream.git.text("rev-parse", base), load_series(folder).patches)
    return [outcome.status for outcome in applied.outcomes]


def test_same_base_and_series_give_the_same_head(upstream: Upstream, edit: Edit, patches: Write) -> None:
    series = load_series(patches(two_patches(upstream, edit))).patches
    base = upstream.git.text("rev-parse", "v1")
    one, two = (apply_series(upstream.git, base, series) for _ in range(2))
    assert one.head == two.head
    assert one.complete
    assert upstream.git.text("show", f"{one.head}:src/a.txt").splitlines()[19] == "first"
    assert upstream.git.text("log", "-1", "--format=%an %s", one.head) == "llt second"


def test_an_offset_is_said_and_fuzz_is_not_taken(upstream: Upstream, edit: Edit, patches: Write) -> None:
    folder = patches(two_patches(upstream, edit))
    moved = upstream.commit({"src/a.txt": "new\n" + BASE["src/a.txt"]})
    assert statuses(upstream, folder, moved) == [Status.MOVED, Status.CLEAN]


def test_a_conflict_names_file_and_hunk_and_the_rest_is_tried(
    upstream: Upstream, edit: Edit, patches: Write
) -> None:
    folder = patches(two_patches(upstream, edit))
    broken = upstream.commit({"src/a.txt": edit(BASE["src/a.txt"], 20, "upstream's own")})
    applied = apply_series(upstream.git, broken, load_series(folder).patches)
    assert [outcome.status for outcome in applied.outcomes] == [Status.CONFLICT, Status.CLEAN]
    assert "src/a.txt: hunk @@ -17,7 +17,7 @@" in applied.outcomes[0].detail
    assert not applied.complete


def test_context_that_changed_nearby_is_merged_three_way(
    upstream: Upstream, edit: Edit, patches: Write
) -> None:
    folder = patches(two_patches(upstream, edit))
    nearby = upstream.commit({"src/a.txt": edit(BASE["src/a.txt"], 17, "nearby")})
    assert statuses(upstream, folder, nearby) == [Status.THREE_WAY, Status.CLEAN]


def test_what_upstream_took_is_said_and_makes_no_commit(
    upstream: Upstream, edit: Edit, patches: Write
) -> None:
    folder = patches(two_patches(upstream, edit))
    taken = upstream.commit({"src/a.txt": edit(BASE["src/a.txt"], 20, "first")})
    assert statuses(upstream, folder, taken) == [Status.UPSTREAM, Status.CLEAN]
