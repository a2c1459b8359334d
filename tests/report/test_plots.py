import builtins
import re
from xml.etree import ElementTree

import pytest

from llamacpp_tools.errors import MissingTool
from llamacpp_tools.report import plots
from llamacpp_tools.report.panels import panels
from llamacpp_tools.results.sheet import NAMES
from tests.report.conftest import changed

TEXT = "{http://www.w3.org/2000/svg}text"


def topics(story):
    return list(dict.fromkeys(panel.topic for panel in panels(story).panels))


def words(svg):
    return ["".join(each.itertext()) for each in ElementTree.fromstring(svg).iter(TEXT)]


def test_everything_that_was_measured_is_plotted(full):
    assert topics(full) == [
        "Decode speed", "Prefill speed", "Decode speed over dense", "How far drafts get", "What a step costs",
        "Temperature", "Clock",
    ]  # fmt: skip
    assert panels(full).left_out == ()


def test_what_is_not_plotted_is_said(measured, published):
    assert "The clock said 2,596 MHz throughout" in " ".join(panels(measured).left_out)
    assert "No temperature was logged" in " ".join(panels(measured).left_out)
    assert "No cell has counts per draft position" in " ".join(panels(published).left_out)


def test_the_points_are_the_cells_figures_with_their_intervals(measured):
    panel = panels(measured).panels[0]
    assert (panel.title, panel.x_label, panel.y_label) == ("maintenance_log", "depth, tokens", "t/s")
    by_id = {
        (cell.mode, cell.n_depth): cell for cell in measured.result.cells if cell.workload == panel.title
    }
    assert [series.name for series in panel.series] == list(NAMES.values())
    for series in panel.series:
        for x, y, span in zip(series.x, series.y, series.spans, strict=True):
            cell = by_id[series.mode, int(x)]
            assert (y, list(span)) == (cell.decode_tps, cell.decode_tps_interval)


def test_gains_are_the_comparisons(measured):
    panel = next(each for each in panels(measured).panels if each.topic == "Decode speed over dense")
    item = next(
        each for each in measured.result.comparisons
        if (each.metric, each.mode, each.to_mode, each.n_depth, each.workload)
        == ("decode_tps", "swa+mtp", "dense", 512, "analysis")
    )  # fmt: skip
    series = panel.series[2]
    row = panel.rows.index("analysis")
    assert (series.y[row], list(series.spans[row])) == (item.ratio, item.interval)


def test_a_step_is_split_into_draft_and_verification(full):
    costs = [each for each in panels(full).panels if each.topic == "What a step costs"]
    forced = next(each for each in costs if each.rows[0] == "1 drafted")
    assert (forced.series[0].y, forced.series[0].above) == ((2.0, 4.0, 6.0), (31.0, 31.0, 31.0))
    assert forced.x_label == "ms"
    assert sum(len(each.series) for each in costs if each is not forced) == 8


def test_variants_of_a_mode_are_lines_of_their_own(full):
    cells = [cell for cell in full.result.cells if not cell.forced]
    more = [
        cell.model_copy(update={"id": cell.id + "b", "n_max": 7, "decode_tps": 1.0})
        for cell in cells
        if cell.n_max
    ]
    names = [series.name for series in panels(changed(full, cells + more)).panels[0].series]
    assert names == [
        "dense", "SWA only", "dense + MTP, n_max 3", "dense + MTP, n_max 7", "SWA + MTP, n_max 3", "SWA + MTP, n_max 7",
    ]  # fmt: skip


@pytest.mark.parametrize("form", ["svg", "png"])
def test_the_same_figures_give_the_same_bytes(full, form):
    found = panels(full).panels
    assert plots.picture(found, "x", form) == plots.picture(found, "x", form)


def test_a_picture_has_labels_units_and_every_mode(full):
    svg = plots.picture(panels(full).panels, full.name, "svg")
    said = words(svg)
    for each in (
        "ballast-2x2",
        "t/s",
        "ms",
        "°C",
        "MHz",
        "depth, tokens",
        "accepted up to here",
        *NAMES.values(),
    ):
        assert each in said, each
    assert b"<dc:date>" not in svg


def test_a_files_text_cannot_leave_its_label(hostile):
    svg = plots.picture(panels(hostile).panels, hostile.name, "svg")
    root = ElementTree.fromstring(svg)
    assert {each.tag.rpartition("}")[2] for each in root.iter()}.isdisjoint({"script", "img", "image"})
    assert any("<script>" in each for each in words(svg))


def test_a_chart_of_the_page_has_the_pages_colours_and_ids_of_its_own(full):
    for at, panel in enumerate(panels(full).panels):
        svg = plots.inline_svg(panel, f"c{at}-")
        assert not re.findall(r"#[0-9a-fA-F]{6}\b", svg), panel.topic
        assert set(re.findall(r'\bid="(.*?)"', svg)) and all(
            each.startswith(f"c{at}-") for each in re.findall(r'\bid="(.*?)"', svg)
        )
        used = re.findall(r'(?:url\(|href=")#(.*?)["\)]', svg)
        assert used and set(used) <= set(re.findall(r'\bid="(.*?)"', svg))
        assert "<style" not in svg and "<metadata" not in svg and "http" not in svg


def test_the_palette_is_told_apart_by_marker_too():
    assert len(set(plots.COLOURS.values())) == len(set(plots._MARKERS.values())) == len(NAMES)


def test_without_matplotlib_the_extra_is_named(monkeypatch, measured):
    real = builtins.__import__

    def no_matplotlib(name, *rest, **options):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", no_matplotlib)
    with pytest.raises(MissingTool, match=r"pip install 'llamacpp_tools\[report\]'"):
        plots.picture(panels(measured).panels, "x", "png")
