"""The pages that teach: each command in them works."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
from pathlib import Path

import pytest

from llamacpp_tools.build.manifest import Build
from llamacpp_tools.models.miniature import miniature
from llamacpp_tools.results.document import read
from tests.conftest import Llt

from .blocks import ROOT, run_blocks, sh_blocks

DOCS = ROOT / "docs"
# `docs/models.md` has tests of its own; `docs/patches.md` is walked by tests/stack and tests/cli/test_patches.py;
# half of `docs/rpc.md` takes two machines and an SSH tunnel.
PAGES = ["sweeps.md", "extending.md", "reading-a-result.md", "acceptance.md", "steering.md"]


@pytest.mark.build
def test_from_nothing_to_a_verdict(tmp_path: Path, patched: Build) -> None:
    written = run_blocks(DOCS / "sweeps.md", tmp_path, LLT_MODEL=miniature())
    assert "8 cells of 3 rounds" in written[0]
    assert "llama-server -m " in written[0]
    assert [cell.rounds for cell in read(tmp_path / "mine.json").cells] == [3] * 8
    assert "what a step costs" in written[2]
    assert all(cell.forced for cell in read(tmp_path / "mine.costs.json").cells if cell.mode == "mtp")
    assert "1.000" in written[3]


def test_adding_a_text_and_an_architecture(tmp_path: Path) -> None:
    written = run_blocks(DOCS / "extending.md", tmp_path)
    assert "file:" in written[0]
    assert json.loads((tmp_path / "plan.json").read_text())["cells"][1]["mode"] == "mtp"
    assert "the recipe applies to layers 3,7" in written[2]


def test_how_to_read_a_result(tmp_path: Path) -> None:
    # The page writes beside the result that it names, so it gets copies.
    for name in ("reference", "miniature"):
        shutil.copytree(ROOT / "results" / name, tmp_path / "results" / name)
    for name in ("mine", "before", "after"):
        shutil.copy(ROOT / "results/miniature/ballast_2x2.json", tmp_path / f"{name}.json")
    written = run_blocks(DOCS / "reading-a-result.md", tmp_path)
    assert "Fastest" in written[0]
    for name in ("results/miniature/ballast_2x2.html", "mine.md", "both.jsonl", "mine.sql"):
        assert (tmp_path / name).stat().st_size > 1000


@pytest.mark.build
def test_acceptance_and_what_tells_a_fault(tmp_path: Path, patched: Build) -> None:
    written = run_blocks(DOCS / "acceptance.md", tmp_path)
    assert "return on investment" in written[0] and "minutes.txt" in written[0]
    pair = json.loads(written[0].splitlines()[-1])
    assert list(pair)[1:] == [
        "position", "lookahead", "predicted", "actual", "predicted_text", "actual_text", "ok", "accepted",
    ]  # fmt: skip
    assert "plain decode, nothing drafted" in written[1] and "empty cache" in written[1]
    plain = read(tmp_path / "off.json").cells[0].output_tokens
    for name in ("alone", "before", "real"):
        (watched,) = (cell for cell in read(tmp_path / f"{name}.json").cells if cell.traced)
        # With another kind of sums a near tie may fall another way.
        assert watched.status == "ok" and (watched.output_tokens == plain or name == "real")


@pytest.mark.build
def test_a_draft_length_that_steers_itself(tmp_path: Path, patched: Build) -> None:
    (written,) = run_blocks(DOCS / "steering.md", tmp_path)
    assert "n_max auto" in written
    cells = read(tmp_path / "steered.json").cells
    assert [cell.auto for cell in cells] == 2 * [False, False, False, True]
    assert all(cell.steering is not None for cell in cells if cell.auto)


@pytest.mark.build
def test_a_model_over_two_servers(tmp_path: Path, with_rpc: Build) -> None:
    page = (DOCS / "rpc.md").read_text(encoding="utf-8")
    for port in ("50052", "50062"):
        # The page's own ports may be taken by somebody who reads it.
        page = page.replace(port, str(free_pair()))
    (tmp_path / "rpc.md").write_text(page)
    (written,) = run_blocks(tmp_path / "rpc.md", tmp_path)
    assert "result: shared.json" in written
    cells = read(tmp_path / "shared.json").cells
    assert [(cell.mode, len(cell.rpc)) for cell in cells] == [
        ("dense", 0),
        ("mtp", 0),
        ("dense", 2),
        ("mtp", 2),
    ]
    assert len({tuple(cell.output_tokens or ()) for cell in cells}) == 1


def free_pair() -> int:
    """A port that is free, and the next one, too."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as one, contextlib.suppress(OSError):
            port = int(one.getsockname()[1])
            with socket.create_server(("127.0.0.1", port + 1)):
                return port


@pytest.mark.build
def test_cells_over_boxes(tmp_path: Path, patched: Build) -> None:
    # The page's own port may be taken by somebody who reads it.
    page = (DOCS / "cluster.md").read_text(encoding="utf-8").replace("8711", str(free_pair()))
    (tmp_path / "cluster.md").write_text(page)
    written = run_blocks(tmp_path / "cluster.md", tmp_path)
    assert "one: " in written[0] and "box one: 4 cells" in written[0]
    assert {cell.box for cell in read(tmp_path / "boxes.json").cells} == {"one"}
    assert "client-key.pem" in written[1]


@pytest.mark.parametrize("name", PAGES)
def test_no_command_stands_outside_the_blocks_that_are_run(name: str) -> None:
    text = (DOCS / name).read_text(encoding="utf-8")
    for block in sh_blocks(DOCS / name):
        text = text.replace(block, "")
    assert [line for line in text.splitlines() if re.match(r"^\s*\$?\s*llt ", line)] == []


@pytest.mark.build
def test_the_readmes_way_from_nothing_to_a_verdict(tmp_path: Path, llt: Llt, patched: Build) -> None:
    """As on a reader's box, but on the CPU, on the header of the published shape, with a shallow sweep."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = next(each for each in sh_blocks(ROOT / "README.md") if "llt doctor" in each)
    model = tmp_path / "header.gguf"
    made = llt("model", "synth", "--shape", "qwen3.6-35b-a3b", "--header-only", "--out", model)
    assert made.returncode == 0, made.stderr
    for words, instead in (
        ("llt build --vulkan --tools ", "llt build --cpu --tools "),
        ("LLT_MODEL=Qwen3.6-35B-A3B-MTP.gguf", f"LLT_MODEL={model}"),
        ("llt sweep configs/2x2_123k.yaml  ", "llt sweep configs/quickstart.yaml --out results/NAME.json "),
    ):
        assert block.count(words) == 1
        block = block.replace(words, instead)
    for name in ("configs", "patches"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "results").mkdir()
    (tmp_path / "README.md").write_text(f"```sh\n{block}```\n")
    (written,) = run_blocks(tmp_path / "README.md", tmp_path)
    assert "MTP" in written and "123,228" in written
    assert "llama-server -m " in written
    assert (tmp_path / "results" / "NAME.html").is_file() and (
        tmp_path / "results" / "NAME.costs.json"
    ).is_file()
    # The figures of the paragraph below it are those of the file that it names.
    said = llt("report", "results/reference/qwen3.6-mtp-swa.json").stdout
    for figure in ("13.6", "10.6", "46.0", "8.6", "2.6"):
        assert f"{figure}%" in said and f"{figure} %" in text
    said = llt("advise", "results/reference/qwen3.6-mtp-swa.json").stdout
    assert "an acceptance of 0.66" in said and "an acceptance of 0.58" in said
