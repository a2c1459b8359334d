"""`docs/models.md`: each command in it works, and says what the page says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from llamacpp_tools.models.header import check_gguf
from llamacpp_tools.models.miniature import miniature
from llamacpp_tools.sweep.config import SynthModel

from .blocks import ROOT, run_blocks, sh_blocks

PAGE = ROOT / "docs" / "models.md"


def test_every_command_of_the_page_works(tmp_path: Path) -> None:
    written = run_blocks(PAGE, tmp_path, LLT_MODEL=miniature())
    assert "full attention" in written[0]
    assert "blk.12.attn_q.weight" in written[1]
    assert json.loads((tmp_path / "model.json").read_text())["arch"] == "qwen35moe"
    assert "only the MTP block" in written[2]
    assert check_gguf(tmp_path / "qwen3.6-35b-a3b-n_layer4-n_vocab8192-n_expert16-s0-q4_0.gguf").n_layer == 4
    assert "16 full attention" in written[4]
    for large in tmp_path.glob("qwen*.gguf"):
        large.unlink()


def test_no_command_of_llt_stands_outside_the_blocks_that_are_run() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for block in sh_blocks(PAGE):
        text = text.replace(block, "")
    assert [line for line in text.splitlines() if re.match(r"^\s*\$?\s*llt ", line)] == []


def test_the_sweep_file_of_the_page_is_one() -> None:
    (block,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    model = SynthModel(**yaml.safe_load(block)["model"])
    assert (model.dtype, model.sizes) == ("q4_0", {"n_layer": 8, "n_expert": 64})
