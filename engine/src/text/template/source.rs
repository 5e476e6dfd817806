//! Prepares a template's source where Jinja2 reads it differently from MiniJinja: line
//! ends, escapes in string literals, `{% generation %}`, `{% raw %}`, and loops over none.

/// The filter that a loop's iterable goes through; it refuses what Python cannot iterate.
pub(super) const ITERABLE_FILTER: &str = "iterable";

/// The source rewritten for MiniJinja. What does not parse is left as it is.
pub(super) fn prepare(source: &str) -> String {
    // Jinja2 normalises all line ends, in text and in string literals alike.
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut result = String::with_capacity(source.len());
    let mut rest = source.as_str();
    while let Some(start) = next_tag(rest) {
        let (text, tag) = rest.split_at(start);
        result.push_str(text);
        let len = tag_len(tag);
        match tag_words(&tag[..len]).as_slice() {
            ["raw"] => {
                let raw_len = raw_len(tag, len);
                result.push_str(&with_newline_kept(&tag[..len]));
                result.push_str(&tag[len..raw_len]);
                rest = &tag[raw_len..];
                continue;
            }
            // This is how transformers marks the assistant's text. It changes no output, but the tags
            // open a scope.
            ["generation"] => result.push_str(&tag[..len].replacen("generation", "with", 1)),
            ["endgeneration"] => {
                result.push_str(&tag[..len].replacen("endgeneration", "endwith", 1));
            }
            _ if tag.starts_with("{#") => result.push_str(&tag[..len]),
            ["for", ..] => result.push_str(&with_iterable_checked(&python_escapes(&tag[..len]))),
            _ => result.push_str(&python_escapes(&tag[..len])),
        }
        rest = &tag[len..];
    }
    result + rest
}

/// Where the next tag, expression or comment begins.
fn next_tag(text: &str) -> Option<usize> {
    text.match_indices('{')
        .map(|(start, _)| start)
        .find(|start| matches!(text.as_bytes().get(start + 1), Some(b'{' | b'%' | b'#')))
}

/// Length of the tag, expression or comment that `text` begins with, delimiters included.
fn tag_len(text: &str) -> usize {
    if text.starts_with("{#") {
        return text.find("#}").map_or(text.len(), |end| end + 2);
    }
    let close = if text.starts_with("{{") { "}}" } else { "%}" };
    let mut depth = 0_usize;
    let mut at = 2;
    while let Some(c) = text[at..].chars().next() {
        match c {
            '\'' | '"' => at += literal_len(&text[at..]),
            _ if depth == 0 && text[at..].starts_with(close) => return at + close.len(),
            _ => {
                depth = match c {
                    '{' => depth + 1,
                    '}' => depth.saturating_sub(1),
                    _ => depth,
                };
                at += c.len_utf8();
            }
        }
    }
    text.len()
}

/// Length of the string literal that `text` begins with, quotes included.
fn literal_len(text: &str) -> usize {
    let mut chars = text.char_indices();
    let quote = chars.next().map(|(_, c)| c);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            _ if Some(c) == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Length from the `{% raw %}` tag of `tag_len` bytes to where its block ends.
fn raw_len(text: &str, tag_len: usize) -> usize {
    const END: &str = "endraw";
    let body = &text[tag_len..];
    let mut ends = body.match_indices(END).filter_map(|(at, _)| {
        let before = body[..at].trim_end();
        let before = before.strip_suffix(['-', '+']).unwrap_or(before);
        let after = body[at + END.len()..].trim_start();
        let after = after.strip_prefix(['-', '+']).unwrap_or(after);
        let before = before.strip_suffix("{%")?;
        after.starts_with("%}").then_some(before.len())
    });
    tag_len + ends.next().unwrap_or(body.len())
}

/// The tag, changed so that the line feed after it stays text, unless the tag itself controls that.
fn with_newline_kept(tag: &str) -> String {
    match tag.strip_suffix("%}") {
        Some(inner) if !inner.ends_with(['-', '+']) => format!("{inner}+%}}"),
        _ => tag.to_owned(),
    }
}

/// The words of a `{% %}` tag; of other tags, none.
fn tag_words(tag: &str) -> Vec<&str> {
    let inner = tag
        .strip_prefix("{%")
        .and_then(|tag| tag.strip_suffix("%}"));
    let inner = inner.unwrap_or_default().trim_start_matches(['-', '+']);
    inner
        .trim_end_matches(['-', '+'])
        .split_whitespace()
        .collect()
}

/// Replaces the escapes of Python's string literals that MiniJinja reads differently.
fn python_escapes(tag: &str) -> String {
    let mut result = String::with_capacity(tag.len());
    let mut at = 0;
    while let Some(c) = tag[at..].chars().next() {
        let len = match c {
            '\'' | '"' => literal_len(&tag[at..]),
            _ => c.len_utf8(),
        };
        match len {
            1 => result.push(c),
            _ => push_literal(&mut result, &tag[at..at + len]),
        }
        at += len;
    }
    result
}

fn push_literal(result: &mut String, literal: &str) {
    let mut chars = literal.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            result.push(c);
            continue;
        }
        match chars.next() {
            Some('\n') => {}
            Some('a') => result.push_str("\\x07"),
            Some('v') => result.push_str("\\x0b"),
            Some('U') => {
                let code: String = chars.by_ref().take(8).collect();
                let c = u32::from_str_radix(&code, 16).ok().and_then(char::from_u32);
                match c {
                    Some(c) => result.push(c),
                    None => result.push_str("\\u"), // refused when it is parsed
                }
            }
            Some('N') => result.push_str("\\u"),
            Some(c) if "\\'\"bfnrtux01234567".contains(c) => result.extend(['\\', c]),
            Some(c) => result.extend(['\\', '\\', c]),
            None => result.push('\\'),
        }
    }
}

/// `{% for x in y if z %}` with `y` sent through [`ITERABLE_FILTER`].
fn with_iterable_checked(tag: &str) -> String {
    let mut words = top_level_words(tag);
    let Some(start) = words.find(|(_, word)| *word == "in").map(|(at, _)| at + 2) else {
        return tag.to_owned();
    };
    let end = words
        .find(|(_, word)| matches!(*word, "if" | "recursive"))
        .map(|(at, _)| at)
        .unwrap_or_else(|| {
            tag.trim_end_matches("%}")
                .trim_end_matches(['-', '+'])
                .len()
        });
    let (before, rest) = tag.split_at(start);
    let (iterable, after) = rest.split_at(end - start);
    match iterable.trim().is_empty() {
        true => tag.to_owned(),
        false => format!("{before} ({})|{ITERABLE_FILTER} {after}", iterable.trim()),
    }
}

/// The identifiers of a tag outside brackets and string literals, with their places.
fn top_level_words(tag: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut depth = 0_usize;
    let mut at = 2;
    std::iter::from_fn(move || {
        while let Some(c) = tag.get(at..)?.chars().next() {
            let start = at;
            at += match c {
                '\'' | '"' => literal_len(&tag[at..]),
                _ if is_word(c) => tag[at..].find(|c| !is_word(c)).unwrap_or(tag.len() - at),
                _ => c.len_utf8(),
            };
            match c {
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' => depth = depth.saturating_sub(1),
                _ if is_word(c) && depth == 0 => return Some((start, &tag[start..at])),
                _ => {}
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tags_are_changed_and_only_where_jinja2_differs() {
        for (source, prepared) in [
            ("a\r\nb\rc", "a\nb\nc"),
            ("{{ 'a\r\nb' }}", "{{ 'a\nb' }}"),
            (
                "{%- generation -%}x{% endgeneration %}",
                "{%- with -%}x{% endwith %}",
            ),
            ("{{ '{% generation %}' }}", "{{ '{% generation %}' }}"),
            ("{# {% generation %} #}", "{# {% generation %} #}"),
            (
                "{% raw %}{% generation %}{% endraw %}{% generation %}",
                "{% raw +%}{% generation %}{% endraw %}{% with %}",
            ),
            ("{% raw%}\na{%endraw%}", "{% raw+%}\na{%endraw%}"),
            ("{%raw-%}\na{%endraw%}", "{%raw-%}\na{%endraw%}"),
            ("{%-raw\n%}a{%endraw%}", "{%-raw\n+%}a{%endraw%}"),
            (r"{{ '\/\a\U0001F600\n\'' }}", r"{{ '\\/\x07😀\n\'' }}"),
            (r"a\/b {# '\/' #}", r"a\/b {# '\/' #}"),
            (
                "{{ {'a': {}} }}{% generation %}",
                "{{ {'a': {}} }}{% with %}",
            ),
            ("{{ \"}}\" }}", "{{ \"}}\" }}"),
            ("{{ 'open", "{{ 'open"),
            ("{% for x in l %}", "{% for x in (l)|iterable %}"),
            (
                "{%- for k, v in d['in'].items() if v is in [1] -%}",
                "{%- for k, v in (d['in'].items())|iterable if v is in [1] -%}",
            ),
            (
                "{% for x in f(1 if a else b) recursive %}",
                "{% for x in (f(1 if a else b))|iterable recursive %}",
            ),
            ("{% for x %}", "{% for x %}"),
        ] {
            assert_eq!(prepare(source), prepared);
        }
    }
}
