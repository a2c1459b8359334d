"""libllama computes what torch computes, on the miniature: stored logits, so that torch is not needed here.

`python -m training reference` writes them; the full comparison over 4,000 positions is `python -m training parity`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamacpp_tools.build.manifest import Build
from llamacpp_tools.models.miniature import miniature
from llamacpp_tools.models.recast import recast
from llamacpp_tools.workloads import names

pytestmark = pytest.mark.build
Probe = Callable[..., dict[str, Any]]
EXACT: dict[str, Any] = {
    "type_k": "f32",
    "type_v": "f32",
    "flash_attn": "off",
    "n_batch": 256,
    "n_ubatch": 256,
}
# Both compute in f32; q8_0 logits differ from these by some hundredths.
CLOSE = 2e-3


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    with np.load(Path(__file__).with_name("miniature_reference.npz"), allow_pickle=False) as found:
        return dict(found)


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped weights as f32, which loses nothing."""
    path = tmp_path_factory.mktemp("exact") / "f32.gguf"
    recast(miniature(), path, "f32")
    return path


@pytest.mark.parametrize("kind", names())
def test_the_trunks_logits_are_torchs(
    probe: Probe, patched: Build, exact: Path, reference: dict[str, Any], kind: str
) -> None:
    tokens, wanted = reference[f"tokens_{kind}"], reference[f"logits_{kind}"]
    found = probe(patched, exact, prompt=tokens.tolist(), n_predict=1, logits=True, **EXACT)
    ours = found["logits"][reference["positions"]]
    assert ours.shape == wanted.shape == (8, 1024)
    assert np.ptp(wanted, axis=1).min() > 5, "flat logits would prove nothing"
    assert np.abs(ours - wanted).max() < CLOSE
    assert np.array_equal(ours.argmax(axis=1), wanted.argmax(axis=1))


@pytest.mark.parametrize("lookahead", [1, 2])
@pytest.mark.parametrize("kind", ["maintenance_log", "analysis"])
def test_the_mtp_blocks_logits_are_torchs(
    probe: Probe, patched: Build, exact: Path, reference: dict[str, Any], kind: str, lookahead: int
) -> None:
    name = f"{kind}_{lookahead}"
    prompt, wanted = reference[f"prompt_{name}"].tolist(), reference[f"draft_{name}"]
    found = probe(
        patched, exact, prompt=prompt, n_predict=1, n_max=lookahead, draft_rows=len(wanted), **EXACT
    )
    assert np.array_equal(found["draft_tokens"], reference[f"tokens_{name}"])
    assert found["draft_logits"].shape == wanted.shape == (8, 1024)
    assert np.abs(found["draft_logits"] - wanted).max() < CLOSE
    assert np.array_equal(found["draft_logits"].argmax(axis=1), wanted.argmax(axis=1))
