from pathlib import Path

import pytest

from llamacpp_tools.results import document
from llamacpp_tools.results.derive import derive

RESULTS = Path(__file__).parents[2] / "results"
PATH = RESULTS / "reference" / "qwen3.6-mtp-swa.json"
# Every result document in the tree, the published and the measured ones.
DOCUMENTS = sorted(
    path for path in RESULTS.rglob("*.json") if '"cells": [' in path.read_text(encoding="utf-8")
)


@pytest.fixture(scope="module")
def reference():
    return document.read(PATH)


def test_it_is_marked_as_published(reference):
    assert reference.provenance.source == "published"
    assert reference.status == "complete"
    assert all(cell.samples == [] for cell in reference.cells)


@pytest.mark.parametrize(
    ("block", "row", "figures"),
    [
        ("123k", "dense_only", (388.0, 37.09, None, None, None)),
        ("123k", "swa_only", (550.3, 42.15, None, None, None)),
        ("123k", "dense_mtp", (361.4, 41.04, 0.805, 140, 174)),
        ("123k", "mtp_plus_swa", (469.1, 54.14, 0.961, 147, 153)),
        ("20k", "swa_only", (None, 51.56, None, None, None)),
        ("20k", "dense_mtp", (None, 73.77, 0.889, 144, 162)),
        ("20k", "mtp_plus_swa", (None, 70.29, 0.878, 144, 164)),
        ("79k", "dense_only", (None, 41.13, None, None, None)),
        ("79k", "dense_mtp", (None, 36.77, 0.510, None, None)),
        ("79k", "swa_only", (None, 44.66, None, None, None)),
        ("79k", "mtp_plus_swa", (None, 43.51, 0.549, None, None)),
        ("79k_narrative", "dense_mtp", (None, 46.03, 0.735, None, None)),
        ("79k_narrative", "swa_only", (None, 44.43, None, None, None)),
        ("79k_narrative", "mtp_plus_swa", (None, 58.51, 0.864, None, None)),
    ],
)
def test_the_published_figures(reference, block, row, figures):
    found = getattr(reference.blocks[f"depth_2x2_{block}"], row)
    assert (found.prefill_tps, found.decode_tps, found.acceptance, found.accepted, found.drafted) == figures


def test_cells_and_blocks_agree(reference):
    in_blocks = sorted(
        row["decode_tps"]
        for block in reference.blocks.values()
        for row in block.model_dump(exclude={"note"}, exclude_none=True).values()
    )
    assert in_blocks == sorted(cell.decode_tps for cell in reference.cells)
    for cell in reference.cells:
        if cell.drafted:
            assert cell.accepted / cell.drafted == pytest.approx(cell.acceptance, abs=5e-4)


def test_there_are_documents():
    assert PATH in DOCUMENTS and len(DOCUMENTS) >= 3


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_what_a_file_says_follows_from_its_cells(path):
    stored = document.read(path)
    found = derive(stored)
    assert found.comparisons == stored.comparisons
    assert found.findings == stored.findings
    assert found.caveats == stored.caveats


def test_the_narrative_is_confounded_and_set_aside(reference):
    confounded = [item for item in reference.comparisons if item.confounded]
    assert {item.workload for item in confounded} == {"narrative"}
    (gain,) = [item for item in confounded if (item.mode, item.to_mode) == ("swa+mtp", "swa")]
    assert f"{gain.ratio - 1:+.1%}" == "+31.7%"
    assert any(
        "swa+mtp against swa at depth 79000 on narrative (+31.7%)" in text for text in reference.caveats
    )
    assert not any("narrative" in text for text in reference.findings)


def test_the_published_sentences(reference):
    text = "\n".join(reference.findings)
    at = "At depth 123228, maintenance_log, "
    assert f"{at}mtp costs 6.9% of the prefill speed of dense (published, without its rounds)." in text
    assert f"{at}swa+mtp costs 14.8% of the prefill speed of swa (published, without its rounds)." in text
    assert (
        "super-additive: more than the two multiply to, 1.16 times that (published, without its rounds)"
        in text
    )
    notes = "\n".join(reference.caveats)
    assert "At depth 20480, maintenance_log there is no figure for dense." in notes
    assert "Measured at no common depth" in notes and "maintenance_log and analysis" in notes
