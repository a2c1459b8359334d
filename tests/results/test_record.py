import datetime
import json
import re
from dataclasses import replace

import pytest

from llamacpp_tools.errors import BadInput
from llamacpp_tools.results import document
from llamacpp_tools.results.document import write
from llamacpp_tools.results.provenance import provenance
from llamacpp_tools.results.record import (
    Record,
    choose_path,
    default_path,
    depth_state_check,
    path_to_go_on,
    unfinished,
)
from llamacpp_tools.results.schema import Document, json_schema
from llamacpp_tools.sweep.journal import Journal, journal_path
from llamacpp_tools.sweep.validity import check

NOW = datetime.datetime(2026, 11, 21, 10, 30, 5, tzinfo=datetime.UTC)
MANIFEST = {
    "pin": "b9842",
    "head": "0123456789abcdef",
    "series_digest": "aa",
    "library_sha256": "bb",
    "compiler": "gcc 12",
    "cmake_options": ["-DX=ON"],
    "variant": "patched",
}


@pytest.fixture
def record(make_plan, tmp_path):
    planned = make_plan()
    return Record(tmp_path / "sub" / "r.json", planned, provenance(MANIFEST, tmp_path / "m.gguf"), NOW)


@pytest.fixture
def outcomes(make_plan, make_outcomes):
    return check(make_outcomes(make_plan()), deterministic=True)


def test_the_file_is_there_from_the_start_and_grows(record, outcomes):
    assert document.read(record.path).status == "started"
    for count in range(1, len(outcomes) + 1):
        record.update(outcomes[:count])
        seen = document.read(record.path)
        assert (seen.status, len(seen.cells)) == ("started", count)
    assert seen.provenance.device == "CPU"
    assert seen.provenance.model_size == 43_000_000


def test_a_complete_document_has_every_part(record, outcomes):
    record.finish(outcomes)
    raw = json.loads(record.path.read_text())
    assert raw["schema"] == 1
    assert raw["status"] == "complete"
    assert raw["date"] == "2026-11-21T10:30:05+00:00"
    assert [cell["mode"] for cell in raw["cells"]] == ["dense", "swa", "mtp", "swa+mtp"]
    assert raw["cells"][3]["reference"] == raw["cells"][1]["id"]
    assert set(raw["depth_2x2_2k"]) == {"note", "dense_only", "swa_only", "dense_mtp", "mtp_plus_swa"}
    assert raw["comparisons"] and raw["findings"] and raw["caveats"]
    assert raw["config"]["context"]["type_k"] == ["f16"]
    assert raw["provenance"]["build_number"] == 9842
    assert raw["provenance"]["build_commit"] == "012345678"
    assert raw["provenance"]["memory_bytes"] > 1 << 28
    assert [path.name for path in record.path.parent.iterdir()] == ["r.json"]


def test_a_document_survives_reading_and_writing(record, outcomes, tmp_path):
    result = record.finish(outcomes)
    document.write(tmp_path / "copy.json", document.read(record.path))
    assert (tmp_path / "copy.json").read_bytes() == record.path.read_bytes()
    assert document.as_json(document.read(record.path)) == document.as_json(result)


def test_lists_of_numbers_stand_on_one_line(record, outcomes):
    record.finish(outcomes)
    assert re.search(r'"samples_ns": \[100000000, 101000000, 102000000\]', record.path.read_text())


def test_no_machine_folder_gets_into_a_result(record, outcomes, tmp_path):
    record.finish(outcomes)
    assert str(tmp_path) not in record.path.read_text()


def test_an_empty_record_can_be_taken_back(record, outcomes):
    record.discard_if_empty()
    assert not record.path.exists()
    record.update(outcomes[:1])
    record.discard_if_empty()
    assert record.path.exists()


def test_a_result_that_is_gone_on_with_stays_until_there_is_something_new(record, outcomes, make_plan):
    record.finish(outcomes)
    before = record.path.read_bytes()
    runs = [{"date": "a"}, {"date": "b"}]
    again = Record(record.path, make_plan(), record.result.provenance, NOW, runs)
    again.update([])
    again.discard_if_empty()
    assert record.path.read_bytes() == before


def test_a_file_that_was_there_before_is_not_taken_back(record, outcomes, make_plan):
    record.finish(outcomes)
    before = record.path.read_bytes()
    again = Record(record.path, make_plan(), record.result.provenance, NOW, [{"date": "a"}])
    again.discard_if_empty()
    assert record.path.read_bytes() == before


def test_a_place_that_cannot_be_written_is_bad_input(make_plan, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be written"):
        Record(tmp_path / "file" / "r.json", make_plan(), provenance({}, tmp_path / "m.gguf"), NOW)


def test_paths(tmp_path):
    assert str(default_path("a", NOW)) == "results/a-20261121T103005Z.json"
    assert choose_path(tmp_path, "a", NOW) == tmp_path / "a-20261121T103005Z.json"
    assert choose_path(tmp_path / "b.json", "a", NOW) == tmp_path / "b.json"
    (tmp_path / "b.json").write_text("x")
    with pytest.raises(BadInput, match="not overwritten"):
        choose_path(tmp_path / "b.json", "a", NOW)
    (tmp_path / "c.journal.jsonl").write_text("x")
    with pytest.raises(BadInput, match="the journal of an earlier sweep"):
        choose_path(tmp_path / "c.json", "a", NOW)
    assert journal_path(tmp_path / "q4.1") != journal_path(tmp_path / "q4.2")


def test_the_result_to_go_on_with(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    with pytest.raises(BadInput, match="nothing to go on with"):
        path_to_go_on(None, "a", tmp_path)
    for name in ("a-20261121T103005Z", "a-20261122T103005Z", "a-b-20261123T103005Z", "a-x"):
        (folder / f"{name}.journal.jsonl").write_text("")
    assert path_to_go_on(None, "a", tmp_path) == folder / "a-20261122T103005Z.json"
    assert path_to_go_on(folder, "a-b") == folder / "a-b-20261123T103005Z.json"
    assert path_to_go_on(folder / "a-x.json", "other") == folder / "a-x.json"
    with pytest.raises(BadInput, match="there is no journal"):
        path_to_go_on(folder / "c.json", "a")


def test_the_newest_result_is_unfinished_until_it_is_complete(record, outcomes, tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    assert unfinished(None, "a", tmp_path) is None
    earlier, later = (folder / f"a-2026112{day}T103005Z.json" for day in (1, 2))
    for path in (earlier, later):
        journal_path(path).write_text("")
    assert unfinished(None, "a", tmp_path) is None, "a result that cannot be read is nobody's hint"
    write(earlier, record.result)
    write(later, record.result)
    assert unfinished(None, "a", tmp_path) == unfinished(folder, "a") == later
    with Journal(journal_path(later)):
        assert unfinished(None, "a", tmp_path) is None, "it runs"
    assert unfinished(later, "a") is None, "a file that is named has nothing to do with the others"
    write(later, record.finish(outcomes))
    assert unfinished(None, "a", tmp_path) is None


def test_a_kept_prefill_and_a_true_one_are_compared(outcomes):
    first, second, third = outcomes[0].rounds
    kept = [replace(sample, filled="restored") for sample in (second, third)]
    assert depth_state_check(outcomes) is None
    mixed = replace(outcomes[0], rounds=(first, *kept))
    assert depth_state_check([mixed]).decode_ratio == pytest.approx(1 / 1.015, rel=0.01)
    other = replace(kept[0], tokens=[9, *kept[0].tokens[1:]])
    apart = depth_state_check([replace(outcomes[0], rounds=(other,), check=first)])
    assert apart.first_divergence == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a result file"),
        ("[]", "not a result file"),
        ('{"schema": 2}', "not a result file"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path, text, words):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(BadInput, match=words):
        document.read(tmp_path / "r.json")
    with pytest.raises(BadInput, match="there is no result file"):
        document.read(tmp_path / "none.json")


@pytest.mark.parametrize("key", ["surprise", "depth_2x2_"])
def test_unknown_fields_are_refused(record, key):
    raw = document.as_json(record.result) | {key: {"note": "x"}}
    with pytest.raises(ValueError):
        Document.model_validate(raw)


def test_ok_with_a_reason_and_failure_without_one_are_refused(record, outcomes):
    with pytest.raises(ValueError, match="reason"):
        record.update([replace(outcomes[0], reason="x")])
    with pytest.raises(ValueError, match="reason"):
        record.update([replace(outcomes[0], status="oom")])


def test_the_json_schema_can_be_printed():
    schema = json.loads(json.dumps(json_schema()))
    assert schema["properties"]["schema"]["const"] == 1
    assert schema["additionalProperties"] == {"$ref": "#/$defs/DepthBlock"}
