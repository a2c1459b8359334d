"""Orders written as sentences, to be turned into JSON: free text in, a strict form out."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass

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
    "by {paid_by}; it goes to {address}.",
    "On {date} {name}, {address}, {town}, ordered {count} of the item {item}, {price} apiece, payment by "
    "{paid_by}, under the number {order}.",
    "Number {order}, taken on {date}: {count} of the item {item} for {name}, {town}, {address}; the price is "
    "{price} each, settled by {paid_by}.",
    "{name} of {town} asked for {count} of the item {item} on {date}. The order is {order}, the unit price "
    "{price}, the payment by {paid_by}, the address {address}.",
)


@dataclass(frozen=True)
class Order:
    """What one sentence says; `count` in pieces, `price` in crowns with two decimals."""

    order: int
    name: str
    town: str
    item: str
    count: int
    price: str
    date: str
    paid_by: str
    address: str

    @property
    def json_line(self) -> str:
        """The object that `TASK` asks for, without a line end; the price keeps its two decimals."""
        fields = asdict(self)
        values = {key: json.dumps(value) for key, value in fields.items()} | {"price": self.price}
        return "{" + ", ".join(f'"{key}": {value}' for key, value in values.items()) + "}"


def orders(seed: int) -> Iterator[tuple[Order, str]]:
    """Each order and the line that tells it, their numbers rising, for ever."""
    rng = generator("extraction", seed)
    number = 10_000
    while True:
        number += rng.randrange(1, 9)
        form = rng.choice(_FORMS)
        order = _order(rng, number)
        yield order, form.format(**asdict(order)) + "\n"


def chunks(seed: int) -> Iterator[str]:
    """One order a line, its number rising, for ever."""
    return (line for _, line in orders(seed))


def _order(rng: random.Random, number: int) -> Order:
    return Order(
        order=number,
        name=f"{rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}",
        town=rng.choice(PLACES),
        item=rng.choice(_ITEMS),
        count=rng.randrange(1, 40),
        price=f"{rng.randrange(1, 90)}.{rng.randrange(0, 100, 5):02d}",
        date=f"{rng.randrange(1, 29)} {rng.choice(_MONTHS)} {rng.randrange(2009, 2026)}",
        paid_by=rng.choice(_PAID),
        address=f"{rng.randrange(1, 200)} {rng.choice(STREETS)}",
    )
