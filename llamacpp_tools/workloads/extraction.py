"""Orders written as sentences, to be turned into JSON: free text in, a strict form out."""

from __future__ import annotations

import random
from collections.abc import Iterator

from llamacpp_tools.workloads.grammar import generator
from llamacpp_tools.workloads.people import FIRST_NAMES, LAST_NAMES, PLACES, STREETS

TASK = """

Write each order above as one JSON object on a line of its own, in the order in which they stand, with the
keys order, name, town, item, count, price, date, paid_by and address. Write nothing but the JSON.

{"order":"""

_ITEMS = (
    "brass hinge", "oak shelf", "wool blanket", "copper kettle", "garden spade", "paper lantern", "clay pot",
    "linen apron", "steel bucket", "door handle", "window latch", "picture frame", "rope ladder", "tin mug",
    "leather strap", "candle holder", "folding chair", "bread knife", "writing desk", "mirror", "coat hook",
    "watering can", "wicker basket", "hand saw", "paint brush", "wall clock", "milk jug", "felt hat",
)  # fmt: skip
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
    "November", "December",
)  # fmt: skip
_PAID = ("card", "cash", "cheque", "transfer", "voucher")
_FORMS = (
    "Order {order}: {name} from {town} bought {count} of the item {item} at {price} each on {date} and paid "
    "by {paid}; it goes to {address}.",
    "On {date} {name}, {address}, {town}, ordered {count} of the item {item}, {price} apiece, payment by "
    "{paid}, under the number {order}.",
    "Number {order}, taken on {date}: {count} of the item {item} for {name}, {town}, {address}; the price is "
    "{price} each, settled by {paid}.",
    "{name} of {town} asked for {count} of the item {item} on {date}. The order is {order}, the unit price "
    "{price}, the payment by {paid}, the address {address}.",
)


def chunks(seed: int) -> Iterator[str]:
    """One order a line, its number rising, for ever."""
    rng = generator("extraction", seed)
    order = 10_000
    while True:
        order += rng.randrange(1, 9)
        yield _record(rng, order) + "\n"


def _record(rng: random.Random, order: int) -> str:
    return rng.choice(_FORMS).format(
        order=order,
        name=f"{rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}",
        town=rng.choice(PLACES),
        item=rng.choice(_ITEMS),
        count=rng.randrange(1, 40),
        price=f"{rng.randrange(1, 90)}.{rng.randrange(0, 100, 5):02d}",
        date=f"{rng.randrange(1, 29)} {rng.choice(_MONTHS)} {rng.randrange(2009, 2026)}",
        paid=rng.choice(_PAID),
        address=f"{rng.randrange(1, 200)} {rng.choice(STREETS)}",
    )
