"""The published figures, read as a user of another box would have them: pairs of acceptance and gain, nothing more."""

from pathlib import Path

import pytest

from llamacpp_tools.advise.advice import advise
from llamacpp_tools.advise.sentences import cautions, rule
from llamacpp_tools.advise.settings import Recipe
from llamacpp_tools.results.document import read

PUBLISHED = Path(__file__).parents[2] / "results" / "reference" / "qwen3.6-mtp-swa.json"
WINDOW = Recipe(16384, (27, 31, 35, 39))


@pytest.fixture(scope="module")
def advice():
    return advise(read(PUBLISHED))


def test_lines_through_the_pairs_give_the_break_evens(advice):
    found = {recipe: [round(line.break_even, 2) for line in lines] for recipe, lines in advice.lines.items()}
    # Not the article's "about 0.8". The pair at 20k stands alone: a token costs much less there.
    assert found == {Recipe(): [0.66], WINDOW: [0.58]}


def test_the_articles_rule_follows_from_its_figures(advice):
    said = rule(advice)
    assert said[0].startswith("Take the window 16384 (full 27,31,35,39): it decodes faster whatever the text")
    at = {(c.setting.n_depth, c.setting.workload): c.best for c in advice.choices}
    assert (at[123228, "maintenance_log"].recipe, at[123228, "maintenance_log"].n_max) == (WINDOW, 3)
    assert at[123228, "maintenance_log"].gain.value == pytest.approx(1.46, abs=0.005)
    assert (at[79000, "analysis"].recipe, at[79000, "analysis"].n_max) == (WINDOW, 0)
    assert sum("leave it off for analysis" in sentence for sentence in said) == 2


def test_how_much_weaker_it_is_is_said(advice):
    said = " ".join(cautions(advice))
    assert "nothing has an interval" in said
    assert "3 is what drafted tokens over steps give" in said
    assert "narrative" in said and "set aside" in said
    assert all(option.gain.interval is None for choice in advice.choices for option in choice.options)
