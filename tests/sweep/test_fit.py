import pytest

from llamacpp_tools.errors import BadInput
from llamacpp_tools.models.header import check_gguf
from llamacpp_tools.sweep.configfile import parse_config
from llamacpp_tools.sweep.fit import check_files, check_fit
from llamacpp_tools.sweep.plan import plan


@pytest.fixture
def header(tiny):
    """The tiny shape: eight layers, full attention in 3 and 7, one MTP block at 8."""
    return check_gguf(tiny)


def test_a_plan_that_fits_is_let_through(raw, header):
    check_fit(plan(parse_config(raw, "x")), header)


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([4], "layer 4 of .* is recurrent; its full-attention layers are 3, 7"),
        ([3, 8], "layer 8 of .* is the MTP block"),
        ([9], "layer 9 of .* is out of range, the model has 8 layers"),
        ([[7], [400]], "layer 400 of .* is out of range"),
    ],
)
def test_a_wrong_layer_is_named(raw, header, layers, words):
    raw["swa"]["full_layers"] = layers
    with pytest.raises(BadInput, match=words):
        check_fit(plan(parse_config(raw, "x")), header)


def test_modes_that_the_model_cannot_run_are_refused(raw, header):
    from dataclasses import replace

    with pytest.raises(BadInput, match=r"mode mtp cannot run .* no MTP head"):
        check_fit(plan(parse_config(raw, "x")), replace(header, n_layer_nextn=0))
    with pytest.raises(BadInput, match=r"mode swa cannot run .* not llama"):
        check_fit(plan(parse_config(raw, "x")), replace(header, arch="llama"))
    raw["modes"] = ["mtp"]
    with pytest.raises(BadInput, match="not of qwen3next"):
        check_fit(plan(parse_config(raw, "x")), replace(header, arch="qwen3next"))
    raw["modes"] = ["dense"]
    check_fit(plan(parse_config(raw, "x")), replace(header, arch="llama", n_layer_nextn=0))


def test_a_missing_text_is_said_before_anything_starts(raw, tmp_path):
    raw["workloads"] = ["code", {"file": str(tmp_path / "none.txt")}]
    with pytest.raises(BadInput, match="there is no text file"):
        check_files(plan(parse_config(raw, "x")))
