"""Seeded generator of fictional worlds: short documents that refer to each other, and questions with exactly one answer.

A later document may say "The lamp is kept in the port." where an earlier one said "... in the port of Amhaven.": encoded alone, its
KV cannot contain the referent. Text is made of units, each one token: a word with its leading blank, or a punctuation mark.
"""

import random
from dataclasses import dataclass, field

from lexicon import (
    ALIAS_QUESTION, ALIAS_STATEMENTS, ALIASES, FIRMS, OBJECTS, PEOPLE, PLACES, PLAIN_VALUES, RELATIONS, WORLD_NAMES, Relation,
)

# Seed ranges never overlap: what the corpus is made of was never drawn in training.
TRAINING_SEEDS = range(0, 10**9)
TOKENIZER_SEEDS = range(10**9, 10**9 + 3000)
VALIDATION_SEEDS = range(2 * 10**9, 2 * 10**9 + 10**6)
DEMO_SEEDS = range(3 * 10**9, 3 * 10**9 + 10**6)

CHUNK_WRAPPER = ["\n", "-"]
PUNCTUATION = ".,?:"
P_ALIAS_SENTENCE = 0.16
MAX_ALIASES = 4
P_ALIAS_FOR_KNOWN_PERSON = 0.3
P_KEY_AGAIN = 0.35  # a second fact about a key of the same chunk
P_NEAR_REFERENCE = 0.15  # a reference whose definition is in the same chunk
P_NEW_PERSON = 0.7
P_NEW_DEFINITION = 0.8
SAME_PLACE_WEIGHT = 2

Position = tuple[int, int]  # (chunk, unit in the chunk's list, wrapper included)


@dataclass(frozen=True)
class WorldShape:
    """How large a world is and how often a value is given by reference."""

    n_chunks: int
    n_sentences: tuple[int, int]
    p_reference: float


@dataclass(frozen=True)
class Definition:
    """Something a later sentence may refer to by `word`; `at` is the unit that states or introduces it."""

    kind: str  # place, firm, alias, same
    word: str
    referent: str
    chunk: int
    at: Position

    def surface(self) -> str:
        """The words a reference to this definition is written in."""
        if self.kind == "alias":
            return self.word
        return f"the same place as {self.word}" if self.kind == "same" else f"the {self.word}"


@dataclass(frozen=True)
class Mention:
    """A reference in the text: its last unit must come to hold the referent. An alias's own definition has no target."""

    at: Position
    referent: str
    definition: Definition | None


@dataclass(frozen=True)
class Binding:
    """The last unit of a value, and the key it was stated for."""

    at: Position
    key: str


@dataclass(frozen=True)
class Question:
    """`kind` is local, local_ref (defined in the same chunk) or x_<definition kind> (defined in an earlier chunk)."""

    text: str
    answer: str
    kind: str
    chunk: int
    definition_chunk: int
    value_at: Position
    key: str
    relation: str


@dataclass
class World:
    name: str
    chunks: list[list[str]] = field(default_factory=list)
    mentions: list[Mention] = field(default_factory=list)
    bindings: list[Binding] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)

    def document(self, chunk: int) -> str:
        """The chunk's text as it is in a file: without the prompt's wrapper and its trailing blank."""
        return "".join(self.chunks[chunk][len(CHUNK_WRAPPER):]).removeprefix(" ")

    def question_units(self, question: Question) -> list[str]:
        return ["\n", "Q", ":", *units_of(self.question_text(question)), "\n", "A", ":"]

    def question_text(self, question: Question) -> str:
        return f"In {self.name} : {question.text}"


def units_of(text: str) -> list[str]:
    """'The lamp is here .' -> units; words carry a leading blank, punctuation does not."""
    return [word if word in PUNCTUATION else " " + word for word in text.split()]


def make_world(rng: random.Random, shape: WorldShape, name: str | None = None) -> World:
    """Draws one world. Each (key, relation) pair is stated once, so every question has one answer."""
    return _Builder(rng, shape, name or rng.choice(WORLD_NAMES)).build()


@dataclass(frozen=True)
class _Value:
    surface: str
    answer: str
    reference: Definition | None = None
    defines: tuple[str, str] | None = None  # (kind, word) of a definition made by this statement


class _Builder:
    """State of a world being written: what is already stated, and what is still free."""

    def __init__(self, rng: random.Random, shape: WorldShape, name: str):
        self.rng, self.shape, self.world = rng, shape, World(name)
        self.new_people, self.objects, self.aliases = (rng.sample(pool, len(pool)) for pool in (PEOPLE, OBJECTS, ALIASES))
        self.known_people: list[str] = []
        self.names = {"place": _one_each(rng, PLACES), "firm": _one_each(rng, FIRMS)}
        self.undefined = {cls: rng.sample(list(names), len(names)) for cls, names in self.names.items()}
        self.definitions: dict[str, list[Definition]] = {"place": [], "firm": [], "alias": [], "same": []}
        self.stated: set[tuple[str, str]] = set()
        self.chunk_keys: dict[bool, list[str]] = {}

    def build(self) -> World:
        for _ in range(self.shape.n_chunks):
            self.world.chunks.append([*CHUNK_WRAPPER, *units_of(f"In {self.world.name} :")])
            self.chunk_keys = {True: [], False: []}
            for _ in range(self.rng.randint(*self.shape.n_sentences)):
                if self._alias_is_due():
                    self._define_alias()
                else:
                    self._state_fact()
        return self.world

    @property
    def chunk(self) -> int:
        return len(self.world.chunks) - 1

    def _alias_is_due(self) -> bool:
        last = self.chunk == self.shape.n_chunks - 1
        return not last and self.rng.random() < P_ALIAS_SENTENCE and len(self.definitions["alias"]) < MAX_ALIASES

    def _define_alias(self):
        known = self.known_people and self.rng.random() < P_ALIAS_FOR_KNOWN_PERSON
        person = self.rng.choice(self.known_people) if known else self._new_person()
        alias = self.aliases.pop()
        at = self._write(self.rng.choice(ALIAS_STATEMENTS), person, alias)
        self.definitions["alias"].append(Definition("alias", alias, person, self.chunk, at))
        self.world.mentions.append(Mention(at, person, None))
        text = ALIAS_QUESTION.format(k=alias)
        self.world.questions.append(Question(text, person, "local", self.chunk, self.chunk, at, alias, "alias"))

    def _state_fact(self):
        relation = self.rng.choices(RELATIONS, [r.weight for r in RELATIONS])[0]
        key = self._pick_key(relation)
        self.stated.add((key, relation.name))
        value = self._pick_value(relation, key)
        at = self._write(self.rng.choice(relation.statements), key, value.surface)
        self.world.bindings.append(Binding(at, key))
        if value.reference:
            self.world.mentions.append(Mention(at, value.answer, value.reference))
        if value.defines:
            kind, word = value.defines
            self.definitions[kind].append(Definition(kind, word, value.answer, self.chunk, at))
        if relation.name == "live":
            self.definitions["same"].append(Definition("same", key, value.answer, self.chunk, at))
        self._ask(relation, key, value, at)

    def _ask(self, relation: Relation, key: str, value: _Value, at: Position):
        kind, defined_in = "local", self.chunk
        if value.reference:
            defined_in = value.reference.chunk
            kind = "x_" + value.reference.kind if defined_in < self.chunk else "local_ref"
        text = relation.question.format(k=key)
        self.world.questions.append(Question(text, value.answer, kind, self.chunk, defined_in, at, key, relation.name))

    def _pick_key(self, relation: Relation) -> str:
        keys = self.chunk_keys[relation.key_is_object]
        again = [key for key in keys if (key, relation.name) not in self.stated]
        if again and self.rng.random() < P_KEY_AGAIN:
            return self.rng.choice(again)
        key = self.objects.pop() if relation.key_is_object else self._new_person()
        keys.append(key)
        return key

    def _pick_value(self, relation: Relation, key: str) -> _Value:
        if relation.value_class in PLAIN_VALUES:
            value = self.rng.choice(PLAIN_VALUES[relation.value_class])
            return _Value(value, value)
        reference = self._pick_reference(relation, key)
        if reference:
            return _Value(reference.surface(), reference.referent, reference=reference)
        if relation.value_class == "person":
            person = self._pick_person(key)
            return _Value(person, person)
        return self._name_in_full(relation.value_class)

    def _pick_reference(self, relation: Relation, key: str) -> Definition | None:
        options = list(self.definitions["alias" if relation.value_class == "person" else relation.value_class])
        if relation.name == "live":
            options += [d for d in self.definitions["same"] if d.word != key] * SAME_PLACE_WEIGHT
        earlier = [d for d in options if d.chunk < self.chunk]
        if earlier and self.rng.random() < self.shape.p_reference:
            return self.rng.choice(earlier)
        if options and self.rng.random() < P_NEAR_REFERENCE:
            return self.rng.choice(options)
        return None

    def _pick_person(self, other_than: str) -> str:
        new = self.rng.random() < P_NEW_PERSON or not self.known_people
        person = self._new_person() if new else self.rng.choice(self.known_people)
        return self._new_person() if person == other_than else person

    def _name_in_full(self, cls: str) -> _Value:
        defined, undefined = self.definitions[cls], self.undefined[cls]
        if undefined and (self.rng.random() < P_NEW_DEFINITION or not defined):
            word = undefined.pop()
            defines = (cls, word)
        else:
            word = self.rng.choice(defined).word
            defines = None
        name = self.names[cls][word]
        surface = f"the {word} of {name}" if cls == "place" else f"the {word} {name}"
        return _Value(surface, name, defines=defines)

    def _new_person(self) -> str:
        if not self.new_people:
            return self.rng.choice(self.known_people)
        self.known_people.append(self.new_people.pop())
        return self.known_people[-1]

    def _write(self, template: str, key: str, value: str) -> Position:
        """Appends one sentence to the chunk; returns the position of the value's last unit."""
        units, at = self.world.chunks[-1], (0, 0)
        for word in template.split():
            units += units_of(word.format(k=key, v=value))
            if word == "{v}":
                at = (self.chunk, len(units) - 1)
        return at


def _one_each(rng: random.Random, pools: dict[str, list[str]]) -> dict[str, str]:
    return {kind: rng.choice(pool) for kind, pool in pools.items()}
