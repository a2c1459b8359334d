"""What finding out may cost, step by step; that the sum of it is bounded is shown with the whole controller."""

from __future__ import annotations

import pytest

from llamacpp_tools.engine.account import Account, Terms
from llamacpp_tools.engine.costs import Costs

PLAIN, DRAFT = 1_000_000, 1_500_000
TERMS = Terms(share=0.01, allowance=3.0, credit=1.0, loan=4.0, back=2.0, most=5.0)


def known_costs(drafts: int = 8) -> Costs:
    """Plain steps of 1 ms, and so many with a draft of 1 that took 1.5 ms."""
    costs = Costs(2)
    for step in range(8):
        costs.add(0, PLAIN, step)
    for step in range(8, 8 + drafts):
        costs.add(1, DRAFT, step)
    costs.settle()
    return costs


def test_it_opens_with_the_allowance_when_a_step_is_booked() -> None:
    account = Account(TERMS, known_costs())
    assert not account.opened
    assert account.left == 0
    account.book(0, 0, PLAIN, settled=True, waited=1, probing=False)
    assert account.opened
    assert account.left == pytest.approx(3.01 * PLAIN, rel=0.05)


def test_a_refused_draft_pays_what_its_step_takes_beyond_a_plain_one() -> None:
    account = Account(TERMS, known_costs())
    account.book(0, 0, PLAIN, settled=True, waited=1, probing=False)
    before = account.left
    account.book(1, 0, DRAFT, settled=True, waited=0, probing=False)
    assert before - account.left == pytest.approx(0.5 * PLAIN, rel=0.1)


def test_gains_are_good_for_so_many_plain_steps() -> None:
    account = Account(TERMS, known_costs())
    for _ in range(40):
        account.book(1, 1, DRAFT, settled=True, waited=0, probing=False)
    assert account.left == pytest.approx(5 * PLAIN, rel=0.05)


def test_a_step_that_stalled_is_booked_with_what_its_length_takes() -> None:
    account = Account(TERMS, known_costs())
    account.book(0, 0, PLAIN, settled=True, waited=1, probing=False)
    before = account.left
    account.book(1, 0, 100 * DRAFT, settled=True, waited=0, probing=False)
    # It earns its share of the time all the same.
    assert before - account.left == pytest.approx(0.5 * PLAIN - 0.01 * 100 * DRAFT, rel=0.2)


def test_catching_up_without_a_draft_is_paid_for_up_to_what_it_may_take() -> None:
    account = Account(TERMS, known_costs())
    account.book(0, 0, PLAIN, settled=True, waited=1, probing=False)
    for took, paid in ((0, 0), (PLAIN, 1), (100 * PLAIN, 5)):
        before = account.left
        account.book(0, 0, PLAIN, settled=True, waited=50, probing=False, draft_ns=took)
        assert before - account.left == pytest.approx(paid * PLAIN - 0.01 * PLAIN, rel=0.05)


def emptied(costs: Costs) -> Account:
    account = Account(TERMS, costs)
    while account.may(2):
        account.book(1, 0, DRAFT, settled=True, waited=0, probing=False)
    return account


def test_what_is_overdrawn_pays_for_plain_steps_alone() -> None:
    account = emptied(known_costs())
    assert -2 * PLAIN < account.left <= -0.9 * PLAIN
    assert account.may(0)
    assert not account.may(1)


def test_drafts_that_pay_by_what_is_known_are_lent_to_once_until_it_is_filled() -> None:
    account = emptied(known_costs())
    account.lend(1, [1.0, 1.1, 1.1])
    assert not account.may(1)
    account.lend(1, [1.0, 1.9, 1.9])
    at = account.left
    while account.may(1):
        account.book(1, 0, DRAFT, settled=True, waited=0, probing=False)
    assert at - account.left == pytest.approx(4 * PLAIN, abs=0.6 * PLAIN)
    account.lend(1, [1.0, 1.9, 1.9])
    assert not account.may(1)


def test_a_length_that_was_hardly_timed_is_lent_nothing() -> None:
    account = emptied(known_costs(drafts=1))
    account.lend(1, [1.0, 2.0, 2.0])
    assert not account.may(1)


def test_one_early_probe_is_paid_for_in_advance_where_drafts_nearly_paid() -> None:
    account = emptied(known_costs())
    nearly, hardly = [1.0, 1.45, 1.45], [1.0, 1.2, 1.2]
    assert account.may_return(0.5 * PLAIN, nearly)
    assert not account.may_return(0.5 * PLAIN, hardly)
    assert not account.may_return(3 * PLAIN, nearly)
    account.returned()
    assert not account.may_return(0.5 * PLAIN, nearly)


def test_what_catching_up_takes_is_learnt_from_probes_and_kept_from_text_to_text() -> None:
    account = Account(TERMS, known_costs())
    account.book(0, 0, PLAIN, settled=True, waited=1, probing=False)
    assert account.catching_up(100) == 0
    took = account.caught_up(1, DRAFT + 6 * PLAIN, 100)
    assert took == pytest.approx(6, rel=0.1)
    # Half a step may be for other reasons.
    assert account.catching_up(100) == pytest.approx(5.5, rel=0.1)
    account.begin()
    assert not account.opened
    assert account.catching_up(200) == pytest.approx(11, rel=0.1)
    assert account.catching_up(-5) == 0


def test_a_probe_that_spent_it_all_on_catching_up_may_say_what_for() -> None:
    account = Account(TERMS, known_costs())
    account.book(0, 0, PLAIN, settled=True, waited=1, probing=False)
    account.book(1, 0, DRAFT + 6 * PLAIN, settled=False, waited=100, probing=True)
    assert account.left < -PLAIN
    assert account.may(1)
