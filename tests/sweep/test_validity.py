from dataclasses import replace

import pytest

from llamacpp_tools.sweep.validity import check, first_difference


@pytest.fixture
def outcomes(run):
    return run()


def reasons(outcomes):
    return {outcome.spec.mode: (outcome.status, outcome.reason) for outcome in outcomes}


def change_rounds(outcome, **fields):
    return replace(outcome, rounds=tuple(replace(sample, **fields) for sample in outcome.rounds))


def test_references_are_found(outcomes):
    assert [outcome.reference for outcome in outcomes] == [None, None, 0, 1]
    assert all(outcome.first_divergence is None for outcome in outcomes)


def test_other_tokens_than_the_reference_are_invalid_on_the_cpu_only(outcomes):
    tokens = [*outcomes[3].rounds[0].tokens]
    tokens[5] = 99
    changed = [*outcomes[:3], change_rounds(outcomes[3], tokens=tokens)]
    status, reason = reasons(check(changed, deterministic=True))["swa+mtp"]
    assert status == "invalid"
    assert "leave those of swa at position 5" in reason
    elsewhere = check(changed, deterministic=False)
    assert (elsewhere[3].status, elsewhere[3].first_divergence) == ("ok", 5)


def test_rounds_that_differ_are_invalid(outcomes):
    first, second = outcomes[0].rounds
    changed = replace(outcomes[0], rounds=(first, replace(second, tokens=[1, *second.tokens[1:]])))
    assert "round 1 gave other tokens" in check([changed], deterministic=True)[0].reason
    assert check([changed], deterministic=False)[0].ok


def test_a_kept_prefill_that_goes_elsewhere_than_a_true_one_is_invalid(outcomes):
    first = outcomes[0].rounds[0]
    changed = replace(outcomes[0], check=replace(first, tokens=[*first.tokens[:3], 99, *first.tokens[4:]]))
    assert "after a true one, from position 3" in check([changed], deterministic=True)[0].reason
    assert check([changed], deterministic=False)[0].ok
    assert check([replace(changed, check=first)], deterministic=True)[0].ok


def test_no_draft_is_invalid(outcomes):
    changed = [outcomes[0], change_rounds(outcomes[2], drafted=[], accepted=[])]
    assert reasons(check(changed, True))["mtp"] == ("invalid", "the MTP head drafted nothing")


def test_less_rollback_than_asked_is_invalid(outcomes):
    changed = replace(outcomes[2], loaded=replace(outcomes[2].loaded, n_rs_seq=1))
    assert "and 1 granted" in check([changed], True)[0].reason


def test_a_window_that_saves_nothing_is_invalid(outcomes):
    dense = outcomes[0].loaded.kv_bytes
    changed = [outcomes[0], replace(outcomes[1], loaded=replace(outcomes[1].loaded, kv_bytes=dense))]
    status, reason = reasons(check(changed, True))["swa"]
    assert status == "invalid"
    assert "saved no KV memory" in reason


def test_without_a_full_partner_the_arithmetic_tells_whether_a_window_saves(outcomes):
    alone = [outcomes[1]]
    full = outcomes[0].loaded.kv_bytes
    assert check(alone, True)[0].ok
    assert check(alone, True, lambda spec: full)[0].ok
    assert "saved no KV memory" in check(alone, True, lambda spec: alone[0].loaded.kv_bytes)[0].reason


def test_a_window_that_cannot_save_is_not_blamed(outcomes):
    wide = replace(outcomes[1].spec, window=600, n_ubatch=512)
    full = replace(outcomes[1].loaded, kv_bytes=outcomes[0].loaded.kv_bytes)
    base = replace(outcomes[0], spec=replace(outcomes[0].spec, n_ubatch=512))
    assert check([base, replace(outcomes[1], spec=wide, loaded=full)], True)[1].ok


@pytest.mark.parametrize(
    ("a", "b", "at"), [([1, 2], [1, 2], None), ([1, 2], [1, 3], 1), ([1], [1, 2], 1), ([], [], None)]
)
def test_first_difference(a, b, at):
    assert first_difference(a, b) == at
