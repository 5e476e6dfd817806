//! A report as Markdown: headings, sentences and tables. Charts are in the HTML page alone.

use std::fmt::Write as _;

use super::document::{Block, Cell, Document, Section, Table};

pub(crate) fn page(document: &Document) -> String {
    let mut page = format!(
        "# {}\n\nThe charts are in report.html, beside this file.\n",
        document.title
    );
    for section in &document.sections {
        page.push_str(&self::section(section));
    }
    page
}

fn section(section: &Section) -> String {
    let mut text = format!("\n## {}\n", section.title);
    for block in &section.blocks {
        // Writing to a string cannot fail.
        let _ = match block {
            Block::Text(sentences) => write!(text, "\n{}\n", escaped(sentences)),
            Block::Note(note) => write!(text, "\n> **Note.** {}\n", escaped(note)),
            Block::Heading(title) => write!(text, "\n### {}\n", escaped(title)),
            Block::Table(table) => write!(text, "\n{}", self::table(table)),
            Block::Figure(_) => Ok(()),
        };
    }
    text
}

fn table(table: &Table) -> String {
    let aligned = |n: usize| if n < table.names { ":--" } else { "--:" };
    let rule: Vec<&str> = (0..table.header.len()).map(aligned).collect();
    let mut text = format!("{}\n\n", escaped(&table.caption));
    let header: Vec<String> = table.header.iter().map(|title| escaped(title)).collect();
    text += &format!("| {} |\n|{}|\n", header.join(" | "), rule.join("|"));
    for row in &table.rows {
        let cells: Vec<String> = row.iter().map(cell).collect();
        text += &format!("| {} |\n", cells.join(" | "));
    }
    text
}

fn cell(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) => escaped(text),
        Cell::Code(text) => code(text),
        Cell::Interval(value, interval) => escaped(&format!("{value} ({interval})")),
    }
}

/// A code span. In a table a bar ends the cell even there, unless a backslash comes before it.
fn code(text: &str) -> String {
    let text = one_line(text).replace('|', "\\|");
    match text.trim() {
        "" => String::new(),
        _ if text.contains('`') => format!("`` {text} ``"),
        _ => format!("`{text}`"),
    }
}

/// Text in which nothing is markup, and nothing becomes a link by itself.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in one_line(text).chars() {
        match character {
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' | '@' => {
                escaped.push('\\');
                escaped.push(character);
            }
            _ => escaped.push(character),
        }
    }
    // Addresses turn into links where they are not in code.
    escaped.replace("://", ":\\//").replace("www.", "www\\.")
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_and_addresses_in_data_stay_text() {
        assert_eq!(
            escaped("a|b <i> *x* [y](http://z) www.z"),
            "a\\|b &lt;i> \\*x\\* \\[y\\](http:\\//z) www\\.z"
        );
        assert_eq!(code("a|b"), "`a\\|b`");
        assert_eq!(code("a`b\nc"), "`` a`b c ``");
    }

    #[test]
    fn every_row_of_a_table_is_a_line() {
        let rows = [("hkvd@2", Some(1.25)), ("full", None)];
        let table = Table::of("Figures.", &rows)
            .column("policy", |row| Cell::code(row.0))
            .column("ms", |row| Cell::number(row.1, 1))
            .table();
        let text = self::table(&table);
        assert_eq!(
            text,
            "Figures.\n\n| policy | ms |\n|:--|--:|\n| `hkvd@2` | 1.2 |\n| `full` | – |\n"
        );
    }
}
