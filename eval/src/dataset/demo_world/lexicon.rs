//! The closed vocabulary of the demo worlds: name pools, relations and sentence templates, as in
//! `scripts/demo_model/lexicon.py`. Every word is one token of the demo model's tokenizer, and the
//! model knows no others.

/// A kind of place or company, and the names things of the kind may have: a reader can tell the
/// kind from the name.
pub(super) type NamedKind = (&'static str, &'static [&'static str]);

pub(super) const PLACES: &[NamedKind] = &[
    (
        "village",
        &[
            "Brenby", "Torby", "Askby", "Ulby", "Fenby", "Holby", "Marby", "Selby", "Orby", "Dalby",
        ],
    ),
    (
        "port",
        &[
            "Amhaven", "Belhaven", "Corhaven", "Dunhaven", "Elhaven", "Farhaven", "Gilhaven",
            "Ilhaven", "Kelhaven", "Lorhaven",
        ],
    ),
    (
        "island",
        &[
            "Ansey", "Borsey", "Cawsey", "Dersey", "Ensey", "Fulsey", "Gansey", "Hensey", "Jursey",
            "Kansey",
        ],
    ),
    (
        "capital",
        &[
            "Avengrad", "Bolgrad", "Cedgrad", "Dorgrad", "Elgrad", "Fangrad", "Golgrad", "Havgrad",
            "Ivgrad", "Jolgrad",
        ],
    ),
    (
        "valley",
        &[
            "Ashdale", "Birdale", "Coldale", "Dowdale", "Eskdale", "Fordale", "Glendale",
            "Hazdale", "Kirdale", "Lundale",
        ],
    ),
    (
        "fortress",
        &[
            "Arkhold", "Barhold", "Crahold", "Drehold", "Ekhold", "Fyrhold", "Grihold", "Hamhold",
            "Irhold", "Korhold",
        ],
    ),
];

pub(super) const FIRMS: &[NamedKind] = &[
    (
        "bank",
        &[
            "Aldobank", "Bexobank", "Cirobank", "Delobank", "Fenobank", "Garobank", "Helobank",
            "Jorobank",
        ],
    ),
    (
        "airline",
        &[
            "Aerax", "Volax", "Jetax", "Skyrax", "Windax", "Glidax", "Cruzax", "Fleetax",
        ],
    ),
    (
        "brewery",
        &[
            "Hopsel", "Maltsel", "Brewsel", "Caskel", "Barlsel", "Foamsel", "Tapsel", "Pintsel",
        ],
    ),
    (
        "theatre",
        &[
            "Scenara", "Dramara", "Balara", "Operara", "Stagara", "Curtara", "Musara", "Lyrara",
        ],
    ),
    (
        "museum",
        &[
            "Artium", "Relium", "Fossium", "Statium", "Galium", "Antium", "Gemium", "Orbium",
        ],
    ),
];

pub(super) const PEOPLE: &[&str] = &[
    "Mara", "Tor", "Pell", "Nora", "Ivo", "Lena", "Odd", "Runa", "Kai", "Vera", "Finn", "Alma",
    "Joss", "Edda", "Bram", "Tilda", "Rolf", "Signe", "Otto", "Yara", "Hugo", "Inga", "Levi",
    "Petra", "Soren", "Wilma", "Arne", "Dora", "Emil", "Freya", "Gus", "Hanna", "Jarl", "Kira",
    "Lars", "Maud", "Nils", "Olga", "Per", "Rosa", "Stig", "Thea", "Ulf", "Viola", "Axel", "Berta",
    "Cyrus", "Doris",
];

pub(super) const ALIASES: &[&str] = &[
    "Falcon", "Comet", "Badger", "Thunder", "Shadow", "Maple", "Copper", "Raven", "Ember", "Frost",
    "Otter", "Willow", "Cobalt", "Drift", "Sparrow", "Flint", "Harbor", "Juniper", "Lynx", "Onyx",
    "Pepper", "Quartz", "Rocket", "Sable",
];

pub(super) const OBJECTS: &[&str] = &[
    "lamp",
    "violin",
    "drum",
    "clock",
    "mirror",
    "sword",
    "vase",
    "carpet",
    "statue",
    "ring",
    "crown",
    "globe",
    "piano",
    "flute",
    "kettle",
    "anchor",
    "lantern",
    "compass",
    "basket",
    "ladder",
    "wagon",
    "saddle",
    "mask",
    "candle",
    "goblet",
    "shield",
    "helmet",
    "harp",
    "scroll",
    "trunk",
    "bell",
    "telescope",
    "cradle",
    "barrel",
    "bottle",
    "chair",
    "desk",
    "easel",
    "fiddle",
    "hammer",
];

pub(super) const COLOURS: &[&str] = &[
    "red", "blue", "green", "black", "white", "yellow", "brown", "purple", "grey", "orange",
];

pub(super) const FOODS: &[&str] = &[
    "bread", "soup", "cheese", "apples", "honey", "fish", "rice", "plums", "cake", "nuts",
];

pub(super) const PRICES: &[&str] = &[
    "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17", "18",
    "19", "20", "21", "22", "23", "24", "25", "26", "27", "28", "29", "30", "31", "32", "33", "34",
    "35", "36", "37", "38", "39", "40", "41",
];

const WORLD_ENDINGS: [&str; 3] = ["land", "mark", "wick"];
const WORLD_STEMS: &[&str] = &[
    "Zor", "Vel", "Quor", "Mir", "Tass", "Oln", "Brun", "Cald", "Drav", "Ester", "Gorm", "Hald",
    "Jast", "Kren", "Lom", "Nard", "Pral", "Rusk", "Sild", "Thorn",
];

/// The names a world may have.
pub(super) fn world_names() -> Vec<String> {
    let of_ending = |ending| {
        WORLD_STEMS
            .iter()
            .map(move |stem| format!("{stem}{ending}"))
    };
    WORLD_ENDINGS.into_iter().flat_map(of_ending).collect()
}

/// What class of thing a relation's value is, which decides how it may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueClass {
    Person,
    Place,
    /// A place somebody lives in; of others it may be said to be "the same place".
    Home,
    Firm,
    /// Always written out: one of these words.
    Plain(&'static [&'static str]),
}

/// What a relation is stated about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyClass {
    Object,
    Person,
}

/// One kind of fact. In its texts `{k}` is the key and `{v}` the value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Relation {
    /// How often it is stated, relative to the others.
    pub(super) weight: f64,
    pub(super) key: KeyClass,
    pub(super) value: ValueClass,
    pub(super) statements: &'static [&'static str],
    pub(super) question: &'static str,
}

pub(super) const RELATIONS: &[Relation] = &[
    Relation {
        weight: 5.0,
        key: KeyClass::Object,
        value: ValueClass::Person,
        statements: &["The {k} belongs to {v}.", "The {k} was bought by {v}."],
        question: "Who owns the {k}?",
    },
    Relation {
        weight: 3.0,
        key: KeyClass::Object,
        value: ValueClass::Place,
        statements: &["The {k} is kept in {v}.", "The {k} was found in {v}."],
        question: "Where is the {k}?",
    },
    Relation {
        weight: 2.0,
        key: KeyClass::Object,
        value: ValueClass::Firm,
        statements: &["The {k} was made by {v}.", "The {k} was built for {v}."],
        question: "Which company has to do with the {k}?",
    },
    Relation {
        weight: 3.0,
        key: KeyClass::Person,
        value: ValueClass::Home,
        statements: &["{k} lives in {v}.", "{k} grew up in {v}."],
        question: "Where does {k} live?",
    },
    Relation {
        weight: 2.0,
        key: KeyClass::Person,
        value: ValueClass::Firm,
        statements: &["{k} works for {v}.", "{k} is employed by {v}."],
        question: "Who does {k} work for?",
    },
    Relation {
        weight: 2.0,
        key: KeyClass::Person,
        value: ValueClass::Person,
        statements: &["{k} is a friend of {v}.", "{k} is married to {v}."],
        question: "Who is close to {k}?",
    },
    Relation {
        weight: 0.7,
        key: KeyClass::Object,
        value: ValueClass::Plain(COLOURS),
        statements: &["The {k} is {v}.", "The {k} was painted {v}."],
        question: "What colour is the {k}?",
    },
    Relation {
        weight: 1.2,
        key: KeyClass::Object,
        value: ValueClass::Plain(PRICES),
        statements: &[
            "The {k} costs {v} coins.",
            "The {k} was sold for {v} coins.",
        ],
        question: "How many coins for the {k}?",
    },
    Relation {
        weight: 0.5,
        key: KeyClass::Person,
        value: ValueClass::Plain(FOODS),
        statements: &["{k} likes {v}.", "{k} always eats {v}."],
        question: "What does {k} like?",
    },
];

/// How an alias is given to a person: `{k}` is the person, `{v}` the alias.
pub(super) const ALIAS_STATEMENTS: &[&str] = &["{k} is known as {v}.", "{k} goes by the name {v}."];

/// Asks for the person behind the alias `{k}`.
pub(super) const ALIAS_QUESTION: &str = "Who is {k}?";
