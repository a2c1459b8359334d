"""The engine as a library: streaming, seeds, forced acceptance, Ctrl-C, and everything that is used closed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llamacpp_tools.build.manifest import Build
from llamacpp_tools.files import write_atomic
from llamacpp_tools.models.gguffile import read_gguf, write_gguf
from llamacpp_tools.models.miniature import miniature
from llamacpp_tools.sweep.validity import first_difference

from ..conftest import ROOT

pytestmark = pytest.mark.build
Use = Callable[..., Any]


@pytest.fixture
def use(patched: Build, tiny: Path) -> Use:
    def run(name: str, model: Path | None = None) -> Any:
        command = [sys.executable, "-m", "tests.engine.uses", name, patched.path, model or tiny]
        done = subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, check=False, cwd=ROOT,
            env=os.environ | {"GGML_NO_BACKTRACE": "1"}, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout)

    return run


@pytest.mark.parametrize("model", ["tiny", "miniature"])
def test_a_seed_gives_a_text_with_and_without_drafts(use: Use, model: str) -> None:
    found = use("seeds", miniature() if model == "miniature" else None)
    first, second, again = found["plain"]
    assert first == again != second
    # One draw a token, drafted or not: the same text comes out.
    assert found["mtp"] == found["plain"]
    greedy, narrow, after = found["plain greedy"]
    assert greedy == narrow == after != first
    assert found["mtp greedy"] == found["plain greedy"]


def test_a_turn_that_ends_within_a_draft_is_gone_on_from(use: Use, tmp_path: Path) -> None:
    kept = use("turns", miniature())["mtp"]
    # A token that was drafted and accepted, and more after it in its step; here first of all.
    at, end = 1, None
    for accepted in kept["accepted"]:
        step = kept["first"][at : at + accepted + 1]
        at += accepted + 1
        if end is None and accepted >= 3 and step[1] not in kept["first"][: at - accepted]:
            end = step[1]
    assert end is not None
    file = read_gguf(miniature())
    name = "tokenizer.ggml.eos_token_id"
    keys = [replace(key, value=end) if key.name == name else key for key in file.keys]
    assert any(key.name == name for key in keys)
    with write_atomic(tmp_path / "ends.gguf") as part:
        write_gguf(part, file.arch, keys, file.entries, lambda entry: [file.data[entry.name].tobytes()])
    found = use("turns", tmp_path / "ends.gguf")
    plain, mtp = found["plain"], found["mtp"]
    assert mtp["first"] == kept["first"][: kept["first"].index(end) + 1]
    assert mtp["drafted"][-1] > mtp["accepted"][-1]
    assert len(mtp["second"]) > 1
    assert (plain["first"], plain["second"]) == (mtp["first"], mtp["second"]) or plain["ties"]


def test_a_stream_gives_the_text_piece_by_piece(use: Use) -> None:
    found = use("streams")
    assert 1 < len(found["pieces"]) <= found["steps"] + 1
    assert found["again"] == found["tokens"]
    assert 1 <= found["left"] < 10
    assert found["stopped"] == found["tokens"][: found["tokens"].index(found["stop"]) + 1]
    assert found["text"] == found["whole"]


@pytest.mark.parametrize("model", ["tiny", "miniature"])
@pytest.mark.parametrize("arm", ["auto", "profiled"])
def test_a_steered_draft_length_gives_the_text_of_plain_decode(use: Use, arm: str, model: str) -> None:
    found = use("steered", miniature() if model == "miniature" else None)
    plain, auto, none = found["plain"], found[arm], found["none"]
    assert plain["texts"][0] == plain["texts"][1]
    assert none["texts"] == plain["texts"]
    for text, wanted, ties in zip(auto["texts"], plain["texts"], plain["ties"], strict=True):
        # Several rows are added up in another order than one.
        at = first_difference(text, wanted)
        assert at is None or at in ties
        if at is not None:
            break
    assert auto["next"][0] == auto["next"][1]
    assert auto["why"] and none["why"]
    assert 0 in auto["drafted"] and max(auto["drafted"]) <= 6
    assert max(auto["drafted"]) >= 1
    # Plain steps are timed in the first text that is generated, or were before it.
    assert (auto["calibrated"][0] == 0) == (arm == "profiled")


def test_a_profile_is_refused_where_there_is_nothing_to_choose_or_no_room(use: Use) -> None:
    found = use("unprofiled", miniature())
    assert "does not choose the length of drafts" in found["fixed"]
    assert "empty" in found["empty"]
    assert "do not fit into a context of 1024" in found["long"]


def test_a_step_that_is_steered_within_its_call_does_what_the_rules_say(use: Use) -> None:
    found = use("told", miniature())
    for wanted, why, drafted, said in found["chosen"]:
        assert (drafted, said) == (wanted, why)
    assert len({drafted for _, _, drafted, _ in found["chosen"]}) > 2 and found["reasons"] > 1
    assert found["last"] == 0
    # 500 calls of some hundred nanoseconds, on a machine that may be slow.
    assert 1e4 < found["own_ns"] < 1e8


def test_acceptance_can_be_forced(use: Use) -> None:
    none, every, mixed = use("forced")
    # 81 tokens, the first from the prefill: 80 steps of one token, 16 of five.
    assert none[:2] == [81, 80] and none[3] == [0, 0, 0, 0]
    assert every == [81, 16, [16] * 4, [16] * 4]
    tokens, steps, drafted, accepted = mixed
    assert tokens == 81 and accepted[0] == accepted[1] > accepted[2] >= accepted[3] > 0
    assert steps + sum(accepted) == 80
    assert drafted[0] >= steps - 1


def test_whatever_is_closed_raises(use: Use) -> None:
    said = use("closes")
    for what, sentence in said.items():
        assert sentence.startswith("ValueError: ") and sentence.endswith("is closed"), (what, sentence)


def test_bad_input_is_one_sentence(use: Use) -> None:
    said = use("bad")
    assert said.pop("before").startswith("ValueError: nothing is generated")
    for what, sentence in said.items():
        assert sentence.startswith("BadInput: "), (what, sentence)


def test_a_small_context_can_be_filled_to_its_last_token(use: Use) -> None:
    for count, said in use("small"):
        assert count == 10
        assert said.startswith("BadInput: ") and said.endswith("a context of 300")


def test_ctrl_c_ends_a_long_decode(use: Use) -> None:
    found = use("interrupts", miniature())
    assert found["ended"] == "KeyboardInterrupt" and found["handler"]
    # The whole prompt takes seconds on one thread, a node of its graph milliseconds.
    assert found["lag_s"] < 0.5
    assert found["same"]
    assert found["quiet"].startswith("Interrupted: ") and found["heard"] == 2


def test_a_state_that_is_put_back_gives_the_same_bits(use: Use) -> None:
    # Cells that lie elsewhere are added up in another order; with a window that has gone round they would.
    for name, (difference, same, distinct) in use("restores", miniature()).items():
        assert (difference, same) == (0.0, True), name
        assert distinct > 5


def test_a_thread_may_generate_and_a_log_handler_may_raise(use: Use) -> None:
    one, other = use("threads")
    assert one == other


def test_the_readmes_example_runs(patched: Build) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 1
    done = subprocess.run(
        [sys.executable, "-c", blocks[0]], capture_output=True, text=True, check=False, cwd=ROOT, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(r"^\d+ of [1-9]\d* drafted tokens accepted$", done.stdout, re.MULTILINE)
