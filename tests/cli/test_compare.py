import json
import shutil
from pathlib import Path

import pytest

from llamacpp_tools.cli.main import run

RESULTS = Path(__file__).parents[2] / "results"
BALLAST = RESULTS / "miniature" / "ballast_2x2.json"
REFERENCE = RESULTS / "reference" / "qwen3.6-mtp-swa.json"


@pytest.fixture
def doctored(tmp_path):
    """A copy of a measured file, changed."""

    def make(change):
        raw = json.loads(BALLAST.read_text(encoding="utf-8"))
        change(raw)
        path = tmp_path / "doctored.json"
        path.write_text(json.dumps(raw), encoding="utf-8")
        return path

    return make


def at_half_speed(raw):
    for cell in raw["cells"]:
        for sample in cell["samples"]:
            sample["decode_ns"] *= 2


def test_a_file_against_itself_passes(capsys):
    assert run(["compare", str(BALLAST), str(BALLAST)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "Nothing differs in where the two come from." in out
    assert "no regression of more than 3.0% is shown" in out
    assert "The two were not measured side by side" in out
    assert out.count(" 1.000 ") == 33


def test_half_the_speed_is_exit_1_and_back_is_none(doctored, capsys):
    path = doctored(at_half_speed)
    assert run(["compare", str(BALLAST), str(path)]) == 1
    out, err = capsys.readouterr()
    assert "regression: over all cells B decodes at 0.500 times the speed" in out
    assert err.startswith("llt: B is worse than A in ") and err.count("\n") == 1
    assert run(["compare", str(path), str(BALLAST)]) == 0


def test_a_lost_cell_and_another_driver_are_said(doctored, capsys):
    def change(raw):
        raw["cells"].pop(3)
        raw["cells"][5].update(status="crashed", reason="GGML_ASSERT(x) failed")
        raw["provenance"]["driver"] = "RADV 25"

    assert run(["compare", str(BALLAST), str(doctored(change))]) == 1
    out, _ = capsys.readouterr()
    assert "only A has swa+mtp d512 maintenance_log" in out
    assert "GGML_ASSERT(x) failed" in out
    assert out.index("RADV 25") < out.index("B/A")


def test_another_model_is_warned_of_loudly_before_any_ratio(doctored, capsys):
    path = doctored(lambda raw: raw["provenance"].update(model_filename="b.gguf"))
    assert run(["compare", str(BALLAST), str(path)]) == 0
    out, _ = capsys.readouterr()
    assert out.index("warning: THE TWO ARE OF DIFFERENT MODELS") < out.index("B/A")


def test_json_is_one_document(doctored, capsys):
    assert run(["compare", str(BALLAST), str(doctored(at_half_speed)), "--json", "--fail-over", "2%"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["failed"] and found["fail_over"] == 0.02 and found["schema_version"] == 1
    assert len(found["matched"]) == 16
    decode = [
        ratio for match in found["matched"] for ratio in match["ratios"] if ratio["metric"] == "decode_tps"
    ]
    assert all(ratio["ratio"] == pytest.approx(0.5) and ratio["rounds"] == [3, 3] for ratio in decode)


def test_a_narrow_terminal_keeps_every_number(llt, tmp_path):
    shutil.copy(BALLAST, tmp_path / "a.json")
    done = llt("compare", "a.json", "a.json", cwd=tmp_path, env={"COLUMNS": "70"})
    assert done.returncode == 0, done.stderr
    assert "0.924 to 1.082" in done.stdout and "\u2026" not in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none.json", str(BALLAST)], "there is no result file none.json"),
        ([str(BALLAST), __file__], "is not a result file"),
        ([str(BALLAST), str(BALLAST), "--fail-over", "much"], "--fail-over takes a share such as 2%"),
        ([str(BALLAST), str(REFERENCE)], "no cell with the same parameters"),
    ],
)
def test_bad_input_is_exit_2_and_one_sentence(capsys, words, said):
    assert run(["compare", *words]) == 2
    _, err = capsys.readouterr()
    assert said in err and err.startswith("llt: ") and err.count("\n") == 1
