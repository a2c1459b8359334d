"""A story of many travellers, told in varied scenes; the model goes on telling it."""

from __future__ import annotations

from collections.abc import Iterator

from llamacpp_tools.workloads.grammar import Grammar, generator, phrases
from llamacpp_tools.workloads.people import FIRST_NAMES, PLACES

TASK = ""

_WEATHER = phrases(
    """
    rain was drumming on the roof
    the fog had not lifted since noon
    a dry wind pushed dust along the road
    the frost had drawn ferns on every pane
    the evening sun lay red on the water
    snow was falling without a sound
    the heat stood in the yard like a wall
    thunder was walking about behind the hills
    the stars were out and very near
    a thin drizzle made the slates shine
    the tide was far out and the mud smelled of salt
    swallows were cutting low across the meadow
    """
)
_SCENE = phrases(
    """
    in the kitchen of the inn
    on the steps of the chapel
    under the arches of the viaduct
    in the last coach of the train
    at the end of the jetty
    in the loft above the stable
    beside the lock-keeper's hut
    in the back room of the pharmacy
    on the ridge above the pines
    in the waiting room of the ferry
    behind the glasshouse
    in the reading room of the library
    by the well in the courtyard
    on the narrow stair of the mill
    """
)
_THING = phrases(
    """
    brass compass
    bundle of letters
    blue enamel pot
    map with a burnt corner
    violin without strings
    key on a red ribbon
    basket of quinces
    photograph of a stranger
    ledger bound in green cloth
    pair of skates
    jar of black honey
    coat with {few} pockets
    lantern of smoked glass
    box of unused stamps
    silver whistle
    notebook in a child's hand
    walking stick with a carved heron
    sack of seed potatoes
    """
)
_ACT = phrases(
    """
    counted the coins again
    turned the lamp down
    poured out what was left of the tea
    drew a line in the flour with one finger
    opened the window and shut it at once
    folded the letter until it was too small to fold
    whittled a peg and threw it into the fire
    walked to the gate and came back
    listened for the second bell
    wound the clock although it was going
    hid both hands under the table
    hummed the only tune the whole valley knew
    tied the dog to the rail
    looked for a long time at the empty chair
    took off one boot and forgot the other
    laid {few} cards face down
    """
)
_FEELING = phrases(
    """
    with the care of someone carrying a full glass
    as if the matter had been settled long ago
    without once looking up
    more loudly than was needed
    in the voice kept for animals and children
    and felt foolish at once
    and was surprised to find it easy
    with a patience that frightened everybody
    like a guest who knows the way to the cellar
    and waited for the blame to arrive
    with a smile that came a little too late
    as one does in another person's house
    """
)
_SPEECH = phrases(
    """
    You could have written, just once
    There were {few} of us on the bridge that night
    Nobody buys a {thing2} to look at it
    I never said that I would stay for the harvest
    Ask the ferryman, he forgets nothing
    It is not the distance, it is the going back
    Your father would have laughed and paid
    We leave at {hour}, with or without the horse
    I have slept in worse places and dreamed better there
    Put the {thing2} down before you tell me the rest
    They have changed the lock but not the door
    You count like a man who has been robbed
    The road to {place2} is open again, they say
    Somebody has been reading my mail aloud
    If it thaws we are lost, if it freezes we are late
    One of us is lying, and I hope that it is me
    Whoever painted that sign had never seen the sea
    Give it until {month}, then give it up
    """
)
_SECRET = phrases(
    """
    the house had already been sold
    the child could read every word of it
    the letter had been opened and closed again with wax
    the money had never left the village
    nobody had been in the boat at all
    the doctor had signed two different papers
    the song had a verse that was no longer sung
    the old bridge still stood under the water
    {name2} had been waiting there since {month}
    the {thing2} had belonged to someone else first
    the bell had been cast from stolen spoons
    the shortest way led through the tunnel
    """
)
_PAST = phrases(
    """
    the winter of the broken dam
    the year when the fair did not come
    the first summer in {place2}
    a wedding at which it had rained for {few} days
    the long strike at the yards
    a night spent in the belfry
    the crossing to {place2}
    the afternoon when the piano was carried out
    an aunt who had kept bees on the roof
    the {few} weeks in the hospital by the canal
    a race along the frozen river
    the schoolroom with the cracked globe
    """
)
_HOURS = phrases(
    """
    four
    a quarter past five
    half past six
    noon
    dusk
    midnight
    first light
    nine sharp
    """
)
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
    "November", "December",
)  # fmt: skip

_OPENINGS = (
    "It was {hour} in {month} and {weather} when {name} came back to {place} with a {thing}.",
    "{name} and {name2} met {scene} at {place}, and {weather}.",
    "{weather}, and {scene} {name} {act} for the {ordinal} time that {month}.",
    "Nobody at {place} expected {name} before {month}, least of all {name2}, who {act} and {act2}.",
    "The {thing} lay {scene}, where {name} had left it at {hour}, and {weather}.",
)
_MIDDLES = (
    "'{speech},' said {name2}, and {act}.",
    "'{speech},' {name} answered {feeling}; '{speech2}.'",
    "{name} {act} {feeling}, thinking of {past}.",
    "{name2} took the {thing}, {act}, and said nothing until {hour}.",
    "There was something about the {thing} that brought back {past}, and {name} {act}.",
    "{scene} somebody {act}, and {name2} {act2} {feeling}.",
    "They talked of {past}, then of {past2}, and outside {weather}.",
    "At {hour} it came out that {secret}, and {name2} {act}.",
    "'{speech},' {name2} whispered {scene}, while {name} {act}.",
    "{name} had carried the {thing} all the way from {place2} only to learn that {secret}.",
    "If {secret}, thought {name}, then {past} had been for nothing, and {name2} {act} {feeling}.",
    "From {place2} they had brought a {thing}, a {thing2} and the rumour that {secret}.",
)
_CLOSINGS = (
    "Before {hour} {name} was gone, and of the {thing} only the mark in the dust was left; {weather}.",
    "'{speech},' said {name} at last, and {name2} {act} {feeling}.",
    "Later, {scene}, {name2} told it otherwise: that {secret}, and that {name} {act}.",
    "So they set out for {place2} at {hour}, {name} with the {thing} and {name2} with {past} still untold.",
)
_ORDINALS = ("second", "third", "fourth", "fifth", "sixth", "last")

SLOTS = {
    "weather": _WEATHER,
    "scene": _SCENE,
    "thing": _THING,
    "act": _ACT,
    "feeling": _FEELING,
    "speech": _SPEECH,
    "secret": _SECRET,
    "past": _PAST,
    "hour": _HOURS,
    "month": _MONTHS,
    "ordinal": _ORDINALS,
    "name": FIRST_NAMES,
    "place": PLACES,
}


def chunks(seed: int) -> Iterator[str]:
    """One scene after the other, no sentence twice, for ever."""
    rng = generator("narrative", seed)
    grammar = Grammar(SLOTS)
    while True:
        bound = {name: rng.choice(SLOTS[name]) for name in ("name", "place")}
        sentences = [grammar.fresh(_OPENINGS, rng, bound)]
        for template in rng.sample(_MIDDLES, rng.randrange(4, 7)):
            sentences.append(grammar.fresh((template,), rng, bound))
        sentences.append(grammar.fresh(_CLOSINGS, rng, bound))
        yield " ".join(sentences) + "\n\n"
