//! The stemmer `rouge_score` uses: Porter's (Porter 1980, "An algorithm for suffix stripping") with
//! the extensions of NLTK's `PorterStemmer`. It is neither the Porter2 of Snowball nor the
//! original, and scores would differ with either.
//!
//! Words are ASCII, in lower case.

/// Suffixes and what replaces them, `suffix>ending`; the first that fits decides.
type Rules = &'static str;

/// Whole words that no rule gets right.
const IRREGULAR: Rules = "sky>sky skies>sky dying>die lying>lie tying>tie news>news innings>inning \
    inning>inning outings>outing outing>outing cannings>canning canning>canning howe>howe \
    proceed>proceed exceed>exceed succeed>succeed";

/// Step 2, where the stem's measure is above 0.
const DOUBLE_SUFFIXES: Rules = "ational>ate tional>tion enci>ence anci>ance izer>ize bli>ble alli>al \
    entli>ent eli>e ousli>ous ization>ize ation>ate ator>ate alism>al iveness>ive fulness>ful \
    ousness>ous aliti>al iviti>ive biliti>ble fulli>ful";

/// Step 3, where the stem's measure is above 0.
const INNER_SUFFIXES: Rules = "icate>ic ative> alize>al iciti>ic ical>ic ful> ness>";

/// Step 4, where the stem's measure is above 1: longer suffixes come first.
const OUTER_SUFFIXES: Rules = "al> ance> ence> er> ic> able> ible> ant> ement> ment> ent> ou> ism> \
    ate> iti> ous> ive> ize>";

fn pairs(rules: Rules) -> impl Iterator<Item = (&'static str, &'static str)> {
    rules.split(' ').filter_map(|rule| rule.split_once('>'))
}

/// The stem of a word in lower-case ASCII.
pub(super) fn stem(word: &str) -> String {
    debug_assert!(
        word.is_ascii(),
        "words are runs of ASCII letters and digits"
    );
    if let Some((_, stem)) = pairs(IRREGULAR).find(|(form, _)| *form == word) {
        return stem.to_owned();
    }
    if word.len() <= 2 {
        return word.to_owned();
    }
    let word = without_plural(word);
    let word = without_past_or_gerund(&word);
    let word = final_y_to_i(word);
    let word = without_double_suffix(word);
    let word = replace(word, INNER_SUFFIXES, |stem| measure(stem) > 0);
    let word = without_outer_suffix(word);
    let word = without_final_e(word);
    without_final_l(word)
}

/// Step 1a. Four-letter words such as "dies" keep their e.
fn without_plural(word: &str) -> String {
    let stem = match word {
        _ if word.len() == 4 && word.ends_with("ies") => &word[..3],
        _ if word.ends_with("sses") || word.ends_with("ies") => &word[..word.len() - 2],
        _ if word.ends_with("ss") => word,
        _ => word.strip_suffix('s').unwrap_or(word),
    };
    stem.to_owned()
}

fn without_past_or_gerund(word: &str) -> String {
    if let Some(stem) = word.strip_suffix("ied") {
        let ending = if word.len() == 4 { "ie" } else { "i" };
        return format!("{stem}{ending}");
    }
    if let Some(stem) = word.strip_suffix("eed") {
        let ending = if measure(stem) > 0 { "ee" } else { "eed" };
        return format!("{stem}{ending}");
    }
    let stems = ["ed", "ing"].map(|suffix| word.strip_suffix(suffix));
    match stems.into_iter().flatten().find(|stem| has_vowel(stem)) {
        Some(stem) => repaired(stem),
        None => word.to_owned(),
    }
}

/// What is left of a word whose -ed or -ing went: an e comes back, or a double consonant goes.
fn repaired(stem: &str) -> String {
    if ["at", "bl", "iz"].iter().any(|end| stem.ends_with(end)) {
        return format!("{stem}e");
    }
    if ends_in_double_consonant(stem) {
        let is_kept = stem.ends_with(['l', 's', 'z']);
        return stem[..stem.len() - usize::from(!is_kept)].to_owned();
    }
    match measure(stem) == 1 && ends_cvc(stem) {
        true => format!("{stem}e"),
        false => stem.to_owned(),
    }
}

/// Step 1c: after a consonant that is not the whole stem.
fn final_y_to_i(word: String) -> String {
    match word.strip_suffix('y') {
        Some(stem) if stem.len() > 1 && consonants(stem).last() == Some(&true) => {
            format!("{stem}i")
        }
        _ => word,
    }
}

/// Step 2. -alli becomes -al first, and the word goes through the step again.
fn without_double_suffix(word: String) -> String {
    match word.strip_suffix("alli") {
        Some(stem) if measure(stem) > 0 => return without_double_suffix(format!("{stem}al")),
        _ => {}
    }
    // The l of -logi counts as part of the stem, so that "geologi" goes the way of "archaeologi".
    match word.strip_suffix("ogi") {
        Some(stem) if stem.ends_with('l') && measure(stem) > 0 => format!("{stem}og"),
        _ => replace(word, DOUBLE_SUFFIXES, |stem| measure(stem) > 0),
    }
}

/// Step 4. -ion goes only after s or t.
fn without_outer_suffix(word: String) -> String {
    match word.strip_suffix("ion") {
        Some(stem) if measure(stem) > 1 && stem.ends_with(['s', 't']) => stem.to_owned(),
        _ => replace(word, OUTER_SUFFIXES, |stem| measure(stem) > 1),
    }
}

fn without_final_e(word: String) -> String {
    match word.strip_suffix('e') {
        Some(stem) if measure(stem) > 1 || (measure(stem) == 1 && !ends_cvc(stem)) => {
            stem.to_owned()
        }
        _ => word,
    }
}

fn without_final_l(word: String) -> String {
    match word.strip_suffix('l') {
        Some(stem) if stem.ends_with('l') && measure(stem) > 1 => stem.to_owned(),
        _ => word,
    }
}

/// The first rule whose suffix fits decides; where its stem does not qualify, the word stays.
fn replace(word: String, rules: Rules, qualifies: impl Fn(&str) -> bool) -> String {
    let fitting =
        pairs(rules).find_map(|(suffix, ending)| Some((word.strip_suffix(suffix)?, ending)));
    match fitting {
        Some((stem, ending)) if qualifies(stem) => format!("{stem}{ending}"),
        _ => word,
    }
}

/// Whether each letter is a consonant: none of a, e, i, o, u, and no y after a consonant.
fn consonants(word: &str) -> Vec<bool> {
    let mut flags: Vec<bool> = Vec::with_capacity(word.len());
    for letter in word.bytes() {
        let is_consonant = match letter {
            b'a' | b'e' | b'i' | b'o' | b'u' => false,
            b'y' => flags.last() != Some(&true),
            _ => true,
        };
        flags.push(is_consonant);
    }
    flags
}

/// How often a vowel is followed by a consonant: Porter's m.
fn measure(stem: &str) -> usize {
    let flags = consonants(stem);
    flags
        .windows(2)
        .filter(|pair| *pair == [false, true])
        .count()
}

fn has_vowel(stem: &str) -> bool {
    consonants(stem).contains(&false)
}

fn ends_in_double_consonant(word: &str) -> bool {
    match word.as_bytes() {
        [.., a, b] => a == b && consonants(word).last() == Some(&true),
        _ => false,
    }
}

/// Consonant, vowel, consonant other than w, x, y; of two letters, vowel and consonant.
fn ends_cvc(word: &str) -> bool {
    match consonants(word)[..] {
        [false, true] => true,
        [.., true, false, true] => !word.ends_with(['w', 'x', 'y']),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `nltk.stem.porter.PorterStemmer().stem(word)` of NLTK 3.10.4; each rule has its word.
    const STEMS: &str = "
        caresses=caress ponies=poni ties=tie dies=die cats=cat caress=caress flies=fli spied=spi
        died=die tied=tie feed=feed agreed=agre plastered=plaster bled=bled motoring=motor
        sing=sing conflated=conflat troubled=troubl sized=size hopping=hop tanned=tan
        falling=fall hissing=hiss fizzed=fizz failing=fail filing=file sky=sky happy=happi
        enjoy=enjoy say=say spy=spi relational=relat conditional=condit rational=ration
        valenci=valenc hesitancy=hesit digitizer=digit conformably=conform radically=radic
        differently=differ vilely=vile analogously=analog vietnamization=vietnam
        predication=predic operator=oper feudalism=feudal decisiveness=decis hopefulness=hope
        callousness=callous formality=formal sensitivity=sensit sensibility=sensibl
        hopefully=hope geology=geolog archaeologist=archaeologist theology=theolog
        triplicate=triplic formative=form formalize=formal electricity=electr electrical=electr
        hopeful=hope goodness=good revival=reviv allowance=allow inference=infer airliner=airlin
        gyroscopic=gyroscop adjustable=adjust defensible=defens irritant=irrit
        replacement=replac adjustment=adjust dependent=depend adoption=adopt homologous=homolog
        communism=commun activate=activ angularity=angular effective=effect bowdlerize=bowdler
        probate=probat rate=rate cease=ceas controlling=control roll=roll dying=die skies=sky
        news=news innings=inning proceed=proceed succeed=succeed exceed=exceed summaries=summari
        families=famili 1990s=1990 b2b=b2b yyyy=yyyi being=be used=use owed=owe ing=ing
        university=univers generalization=gener national=nation opinion=opinion oed=o added=ad
        as=as is=is
    ";

    #[test]
    fn stems_are_those_of_nltk() {
        for pair in STEMS.split_whitespace() {
            let (word, expected) = pair.split_once('=').unwrap();
            assert_eq!(stem(word), expected, "{word}");
        }
    }

    #[test]
    fn measures_are_those_of_the_paper() {
        // Porter 1980, section 2.
        for (word, expected) in [
            ("tree", 0),
            ("by", 0),
            ("trouble", 1),
            ("oats", 1),
            ("ivy", 1),
            ("troubles", 2),
            ("private", 2),
            ("orrery", 2),
        ] {
            assert_eq!(measure(word), expected, "{word}");
        }
    }
}
