"""The closed vocabulary of the fictional worlds: name pools, relations and sentence templates.

Every word here becomes one token of the demo tokenizer, so each name, value and key is a single token with its leading blank.
"""

from dataclasses import dataclass

# Lexical classes: a 'port' always has a name from the port pool, so a reader can tell from the name alone what kind of place it is.
PLACES = {
    "village": "Brenby Torby Askby Ulby Fenby Holby Marby Selby Orby Dalby".split(),
    "port": "Amhaven Belhaven Corhaven Dunhaven Elhaven Farhaven Gilhaven Ilhaven Kelhaven Lorhaven".split(),
    "island": "Ansey Borsey Cawsey Dersey Ensey Fulsey Gansey Hensey Jursey Kansey".split(),
    "capital": "Avengrad Bolgrad Cedgrad Dorgrad Elgrad Fangrad Golgrad Havgrad Ivgrad Jolgrad".split(),
    "valley": "Ashdale Birdale Coldale Dowdale Eskdale Fordale Glendale Hazdale Kirdale Lundale".split(),
    "fortress": "Arkhold Barhold Crahold Drehold Ekhold Fyrhold Grihold Hamhold Irhold Korhold".split(),
}
FIRMS = {
    "bank": "Aldobank Bexobank Cirobank Delobank Fenobank Garobank Helobank Jorobank".split(),
    "airline": "Aerax Volax Jetax Skyrax Windax Glidax Cruzax Fleetax".split(),
    "brewery": "Hopsel Maltsel Brewsel Caskel Barlsel Foamsel Tapsel Pintsel".split(),
    "theatre": "Scenara Dramara Balara Operara Stagara Curtara Musara Lyrara".split(),
    "museum": "Artium Relium Fossium Statium Galium Antium Gemium Orbium".split(),
}
PEOPLE = """Mara Tor Pell Nora Ivo Lena Odd Runa Kai Vera Finn Alma Joss Edda Bram Tilda Rolf Signe Otto Yara
Hugo Inga Levi Petra Soren Wilma Arne Dora Emil Freya Gus Hanna Jarl Kira Lars Maud Nils Olga Per Rosa
Stig Thea Ulf Viola Axel Berta Cyrus Doris""".split()
ALIASES = """Falcon Comet Badger Thunder Shadow Maple Copper Raven Ember Frost Otter Willow Cobalt Drift Sparrow Flint
Harbor Juniper Lynx Onyx Pepper Quartz Rocket Sable""".split()
OBJECTS = """lamp violin drum clock mirror sword vase carpet statue ring crown globe piano flute kettle anchor
lantern compass basket ladder wagon saddle mask candle goblet shield helmet harp scroll trunk bell telescope
cradle barrel bottle chair desk easel fiddle hammer""".split()
COLOURS = "red blue green black white yellow brown purple grey orange".split()
FOODS = "bread soup cheese apples honey fish rice plums cake nuts".split()
PRICES = [str(n) for n in range(2, 42)]
WORLD_NAMES = [
    stem + ending
    for ending in ("land", "mark", "wick")
    for stem in "Zor Vel Quor Mir Tass Oln Brun Cald Drav Ester Gorm Hald Jast Kren Lom Nard Pral Rusk Sild Thorn".split()
]

PREFIX = ["Answer", " from", " the", " notes", "."]


@dataclass(frozen=True)
class Relation:
    """One kind of fact. `{k}` is the key and `{v}` the value; the value's class decides whether it may be given by reference."""

    name: str
    weight: float
    key_is_object: bool
    value_class: str
    statements: tuple[str, ...]
    question: str


RELATIONS = (
    Relation("owner", 5, True, "person", ("The {k} belongs to {v} .", "The {k} was bought by {v} ."), "Who owns the {k} ?"),
    Relation("where", 3, True, "place", ("The {k} is kept in {v} .", "The {k} was found in {v} ."), "Where is the {k} ?"),
    Relation("maker", 2, True, "firm", ("The {k} was made by {v} .", "The {k} was built for {v} ."), "Which company has to do with the {k} ?"),
    Relation("live", 3, False, "place", ("{k} lives in {v} .", "{k} grew up in {v} ."), "Where does {k} live ?"),
    Relation("work", 2, False, "firm", ("{k} works for {v} .", "{k} is employed by {v} ."), "Who does {k} work for ?"),
    Relation("friend", 2, False, "person", ("{k} is a friend of {v} .", "{k} is married to {v} ."), "Who is close to {k} ?"),
    Relation("colour", 0.7, True, "colour", ("The {k} is {v} .", "The {k} was painted {v} ."), "What colour is the {k} ?"),
    Relation("price", 1.2, True, "price", ("The {k} costs {v} coins .", "The {k} was sold for {v} coins ."), "How many coins for the {k} ?"),
    Relation("food", 0.5, False, "food", ("{k} likes {v} .", "{k} always eats {v} ."), "What does {k} like ?"),
)
ALIAS_STATEMENTS = ("{k} is known as {v} .", "{k} goes by the name {v} .")
ALIAS_QUESTION = "Who is {k} ?"
PLAIN_VALUES = {"colour": COLOURS, "price": PRICES, "food": FOODS}


def name_pools() -> list[list[str]]:
    """All lexical classes; the words of one class start training with a shared embedding component."""
    pools = [*PLACES.values(), *FIRMS.values(), PEOPLE, ALIASES, OBJECTS, COLOURS, FOODS, PRICES]
    return [*pools, list(PLACES), list(FIRMS), WORLD_NAMES]
