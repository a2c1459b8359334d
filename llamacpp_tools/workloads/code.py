"""Python source: small functions of a few shapes over many names, then one to be written.

Each function is whole and valid, so the context reads as one long module of helpers.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from llamacpp_tools.workloads.grammar import generator, phrases

TASK = '''

def merge_overlapping(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the spans sorted by their start, with those that overlap or touch joined into one.

    An empty list gives an empty list; a span whose end lies before its start raises ValueError.
    """
'''

_HEAD = '"""Helpers for the records of a small shop."""\n\nfrom collections import defaultdict\n'

_NOUNS = phrases(
    """
    order
    invoice
    parcel
    customer
    product
    payment
    shipment
    refund
    supplier
    voucher
    courier
    return_slip
    price_list
    contract
    message
    booking
    receipt
    subscription
    complaint
    repair
    """
)
_FIELDS = phrases(
    """
    amount
    weight
    quantity
    discount
    score
    distance
    duration
    balance
    deposit
    rating
    volume
    margin
    postage
    delay
    priority
    """
)
_GROUPS = phrases(
    """
    region
    city
    month
    channel
    category
    warehouse
    currency
    carrier
    brand
    status
    weekday
    clerk
    """
)
_SHAPES = (
    '''
def total_{field}_by_{group}{tag}({noun}s):
    """Sum the {field} of the {noun}s for each {group}; a missing {field} counts as {default}."""
    totals = defaultdict(float)
    for {noun} in {noun}s:
        totals[{noun}["{group}"]] += {noun}.get("{field}", {default})
    return dict(totals)
''',
    '''
def {noun}s_above_{field}{tag}({noun}s, limit={limit}):
    """Return the {noun}s whose {field} is greater than the limit, largest first."""
    found = [{noun} for {noun} in {noun}s if {noun}["{field}"] > limit]
    return sorted(found, key=lambda item: item["{field}"], reverse=True)
''',
    '''
def group_{noun}s_by_{group}{tag}({noun}s, most={limit}):
    """Return the {noun}s of each {group}, at most {limit} of them unless told otherwise."""
    groups = defaultdict(list)
    for {noun} in {noun}s:
        if len(groups[{noun}["{group}"]]) < most:
            groups[{noun}["{group}"]].append({noun})
    return dict(groups)
''',
    '''
def average_{field}_of_{noun}s{tag}({noun}s, smallest={default}):
    """Return the mean {field} of the {noun}s at or above the smallest, or None without any."""
    values = [{noun}["{field}"] for {noun} in {noun}s if {noun}["{field}"] >= smallest]
    if not values:
        return None
    return sum(values) / len(values)
''',
    '''
def check_{noun}_{field}{tag}({noun}):
    """Raise ValueError unless the {noun} has a {field} between {default} and {limit}."""
    value = {noun}.get("{field}")
    if value is None:
        raise ValueError("the {noun} has no {field}")
    if not {default} <= value <= {limit}:
        raise ValueError(f"the {field} {{value}} of the {noun} is not between {default} and {limit}")
    return value
''',
    '''
def latest_{noun}_per_{group}{tag}({noun}s):
    """Keep the {noun} with the highest {field} of each {group}."""
    latest = {{}}
    for {noun} in {noun}s:
        known = latest.get({noun}["{group}"])
        if known is None or {noun}["{field}"] > known["{field}"]:
            latest[{noun}["{group}"]] = {noun}
    return latest
''',
    '''
def format_{noun}_{field}{tag}({noun}, width={width}):
    """Return one line with the {group} of the {noun} and its {field}, padded to the width."""
    label = str({noun}["{group}"]).ljust(width)
    return f"{{label}} {{{noun}['{field}']:.2f}}"
''',
    '''
def split_{noun}s_at_{field}{tag}({noun}s, limit={limit}):
    """Return two lists: the {noun}s whose {field} is below the limit, and the others."""
    below, others = [], []
    for {noun} in {noun}s:
        (below if {noun}["{field}"] < limit else others).append({noun})
    return below, others
''',
)


def chunks(seed: int) -> Iterator[str]:
    """One function after the other, no name twice, for ever."""
    rng = generator("code", seed)
    names: dict[str, int] = {}
    yield _HEAD
    while True:
        yield "\n" + _function(rng, names)


def _function(rng: random.Random, names: dict[str, int]) -> str:
    shape = rng.choice(_SHAPES)
    values = {
        "noun": rng.choice(_NOUNS),
        "field": rng.choice(_FIELDS),
        "group": rng.choice(_GROUPS),
        "default": rng.randrange(0, 10),
        "limit": rng.randrange(12, 500),
        "width": rng.randrange(8, 40),
    }
    # A name that was there before gets a number, as a second function of the kind would.
    key = shape.format(**values, tag="").split("(", 1)[0]
    names[key] = names.get(key, 0) + 1
    tag = f"_{names[key]}" if names[key] > 1 else ""
    return shape.format(**values, tag=tag)
