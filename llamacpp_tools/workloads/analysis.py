"""Notes on the life of many small towns, nothing said twice, and an open question at the end.

The worst case for drafting: a varied context and a task whose answer cannot be guessed from it.
"""

from __future__ import annotations

from collections.abc import Iterator

from llamacpp_tools.workloads.grammar import Grammar, generator, phrases
from llamacpp_tools.workloads.people import FIRST_NAMES, LAST_NAMES, PLACES

TASK = """

The notes end here. Write an essay that weighs what they suggest about why some common undertakings last
and others fail. Do not retell the notes one by one. Set out at least three explanations that compete with
each other, say what evidence would tell them apart, name the strongest objection to the one that you find
most convincing, and close with advice that a town council could act on within a year.

Essay:
"""

_ORGS = phrases(
    """
    the ferry company
    the lending library
    the fruit growers' union
    the waterworks board
    the evening school
    the bakers' guild
    the quarry partnership
    the town orchestra
    the fishing cooperative
    the tram company
    the seed exchange
    the weaving mill
    the night clinic
    the market committee
    the brickworks
    the rowing club
    the savings society
    the glass workshop
    the allotment society
    the printing house
    the coal depot
    the harbour office
    the choir school
    the repair hall
    """
)
_DID = phrases(
    """
    raised its fees
    moved its stores to higher ground
    began to open on Sundays
    took on {few} apprentices
    sold its oldest cart
    borrowed against its roof
    let the upper floor to a tailor
    wrote new rules for its members
    stopped giving credit
    shared a bookkeeper with a rival
    put its lists on the church door
    bought land it did not yet need
    closed for the whole of {month}
    paid its debts early
    named a treasurer from outside
    halved the size of its board
    lent tools to whoever asked
    turned away a large gift
    painted its prices over the entrance
    asked its oldest customers for advice
    gave every household one vote
    dropped the word royal from its name
    rebuilt the west wall in stone
    kept two sets of books
    """
)
_CAUSE = phrases(
    """
    a wet spring
    the closing of the bridge
    the price of coal doubled
    a quarrel over a key
    the new road opened
    two founders left within a week
    a good harvest nobody had planned for
    the death of its patron
    a letter from the provincial office
    the school moved across the river
    an outbreak of fever
    the first electric lamps
    a fire in the stables
    the bank at {place2} failed
    a summer without visitors
    the railway changed its timetable
    a vote that was won by one voice
    a theft that was never cleared up
    """
)
_RESULT = phrases(
    """
    few people noticed the change
    takings rose for a season and then fell back
    the younger members stayed away
    the quarrel moved from the hall to the tavern
    a reserve was built up for the first time
    the waiting list grew to {n} names
    nobody could say afterwards who had wanted it
    three neighbouring towns copied it
    the cost fell on those who used it least
    it took {few} years to win the trust back
    the winter passed without a loss
    the accounts became a matter of public talk
    the old building stood empty until {year2}
    every later decision was measured against it
    the poorer streets gained more than the rich ones
    its rival had to follow within months
    the gain was smaller than the printed plan had promised
    those who had warned against it kept silent
    """
)
_OPINION = phrases(
    """
    held that habit had carried it further than money ever did
    thought the rules mattered less than the person who read them aloud
    blamed the failure on a fear of being laughed at
    said that a small debt keeps people honest and a large one makes them liars
    never believed that the members wanted what they voted for
    argued for years that the building was too grand for its purpose
    kept a private list of promises and who had broken them
    would not hear a word against the first committee
    found that the loudest complaints came from those who paid nothing
    used to say that every reform begins with a broken lock
    saw the whole matter as a question of distance and bad shoes
    believed that luck was only patience seen from outside
    warned that a thing which cannot be ended cannot be mended
    put the success down to the kitchen and not to the office
    regretted that nobody had written down how it began
    admitted that the figures had been rounded in a hopeful direction
    """
)
_COST = phrases(
    """
    lamp oil and wicks
    the upkeep of the weir
    wages for the night watch
    legal advice
    a second set of scales
    repairs to the slate roof
    books that were never bound
    the yearly feast
    horses and their feed
    rope, tar and canvas
    prizes for the children
    rent to the parish
    a survey of the cellar
    postage and printing
    firewood for the reading room
    the pension of the porter
    """
)
_QUESTION = phrases(
    """
    the members were loyal to the purpose or only to each other
    a smaller beginning would have lasted longer
    the loss had been hidden or merely overlooked
    the rules had caused the peace or had only described it
    anybody outside {place2} would have missed it
    the fee kept people away or made them value what they paid for
    a bad year had done more good than the {few} easy ones before it
    the success could be repeated without the person who led it
    trust had been spent or was only resting
    the gift had been a help or a kind of purchase
    growth had been a choice or a way of not deciding
    the cheaper method would have been noticed by anyone
    """
)
_OBSERVED = phrases(
    """
    people lowered their voices when they passed the door
    every clock in the building showed a different hour
    the benches had been worn smooth on one side only
    nobody asked a stranger what he wanted
    the ledgers were cleaner than the floor
    children were sent to carry the money
    the notice board held nothing younger than {few} weeks
    the back door was used by all and the front door by none
    the porter knew more than the chairman
    disputes were settled while the soup was served
    the same {few} names stood under every petition
    the best room was kept for meetings that were never held
    the tools were counted each evening and the cash once a month
    even the critics had brought their own chairs
    """
)
_SAID = phrases(
    """
    they would pay more if they could see where it went
    they had joined because a neighbour had
    they could not name a single rule
    they would rather mend the old one than build another
    they had stopped coming after the second winter
    they trusted the clerk and not the board
    they came for the warmth and stayed for the talk
    it had changed nothing in their own street
    it had saved them at least once
    they would speak only if no one wrote it down
    """
)
_REST = phrases(
    """
    gave no answer
    laughed at the question
    asked who wanted to know
    spoke of something else entirely
    pointed to the year of the flood
    praised the founders and left it at that
    said it was too early to tell
    blamed the council
    repeated what the newspaper had printed
    """
)
_GROUP = phrases(
    """
    carters
    schoolteachers
    widows of the lower town
    apprentices
    shopkeepers
    river pilots
    tenants
    night workers
    farmers on the far bank
    council clerks
    newcomers
    pensioners
    """
)
_REACTION = phrases(
    """
    offered a week of unpaid work
    sent a delegation to the county seat
    took their savings out quietly
    formed a society of their own
    waited for somebody else to move first
    read the statutes aloud in the square
    agreed for the first time in {few} years
    asked for the minutes and were refused
    paid their arrears in a single day
    chose a spokesman who had never spoken before
    kept the keys and changed the locks
    wrote to every paper in the region
    """
)
_RESERVE = phrases(
    """
    most of them did not expect it to help
    the plan had a hole that all could see
    the harvest left them little time
    some had reasons they would not give
    the same step had failed at {place2}
    none of the leaders lived in the town
    the winter was already close
    the money had been promised twice before
    a compromise lay on the table unread
    the law was not on their side
    """
)
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
    "November", "December",
)  # fmt: skip

_OPENINGS = (
    "In {year} {org} of {place} {did}; what lay behind it was {because}, and {result}.",
    "The story of {org} at {place} is usually told from {year}, when it {did} and {result}.",
    "Little is known of {org} in {place} before {month} {year}, the month in which it {did}.",
    "At {place} {org} had {n} members in {year}, and it is said that {result}.",
    "{person} came to {place} in {year} and found that {org} {did} whenever money was short.",
)
_MIDDLES = (
    "{person}, who kept the books for {n} weeks, {opinion}.",
    "{person2} of {place2} {opinion}, and said so in a letter of {month} {year}.",
    "The accounts for {month} {year} show {money} spent on {cost} and {money2} on {cost2}.",
    "A visitor from {place2} remarked in {year} that {observed}, and that {observed2}.",
    "By contrast {org2} at {place2} {did2} in {year2}, and there {result2}.",
    "What nobody at {place} could settle was whether {question}; {person} {opinion}.",
    "Of {n} households asked in {month} {year}, more than half said {said}, while the rest {rest}.",
    "When {org2} {did2}, the {group} {reaction}, though {reserve}.",
    "The {group} of {place2} {reaction} in {month}, and within {few} months {result}.",
    "It cost {money} to learn, as {person2} put it later, that {result}.",
    "A committee of {few} {group} met in {month} {year} to ask whether {question}.",
    "The {group} {reaction}; the {group2}, for their part, {reaction2}.",
    "Between {month} and {month2} of {year} it {did} and {did2}, and {result}.",
    "Nobody in {place} disputes that {observed}; the {group} still ask whether {question}.",
)
_CLOSINGS = (
    "In the end {result}, and {person} {opinion}.",
    "By {year} {money} lay in the strongbox, and yet {result}.",
    "The minutes of {month} {year} close with the remark that {observed}.",
    "Whether {question} is argued at {place} to this day, mostly among the {group}.",
    "When {person2} looked back in {year}, the lesson was that {result}, although {reserve}.",
)


def _because() -> tuple[str, ...]:
    return tuple(
        cause if cause.startswith(("a ", "an ", "the closing", "the death", "the first")) else f"that {cause}"
        for cause in _CAUSE
    )


SLOTS = {
    "org": _ORGS,
    "did": _DID,
    "because": _because(),
    "result": _RESULT,
    "opinion": _OPINION,
    "cost": _COST,
    "question": _QUESTION,
    "observed": _OBSERVED,
    "said": _SAID,
    "rest": _REST,
    "group": _GROUP,
    "reaction": _REACTION,
    "reserve": _RESERVE,
    "month": _MONTHS,
    "place": PLACES,
    "person": tuple(f"{first} {last}" for first in FIRST_NAMES for last in LAST_NAMES),
}


def chunks(seed: int) -> Iterator[str]:
    """One paragraph on one undertaking after the other, no sentence twice, for ever."""
    rng = generator("analysis", seed)
    grammar = Grammar(SLOTS)
    while True:
        bound = {name: rng.choice(SLOTS[name]) for name in ("org", "place", "person")}
        sentences = [grammar.fresh(_OPENINGS, rng, bound)]
        for template in rng.sample(_MIDDLES, rng.randrange(3, 6)):
            sentences.append(grammar.fresh((template,), rng, bound))
        sentences.append(grammar.fresh(_CLOSINGS, rng, bound))
        yield " ".join(sentences) + "\n\n"
