//! A report as one HTML page that needs nothing but itself.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::document::{Block, Cell, Document, Figure, Key, Section, Table, Width};

/// Longer tables are closed at first on the screen; on paper all are shown.
const LONG_TABLE: usize = 30;

pub(crate) fn page(document: &Document) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                // Nothing is fetched, whatever a run's text might hold.
                meta http-equiv="Content-Security-Policy"
                    content="default-src 'none'; style-src 'unsafe-inline'";
                title { (document.title) }
                style { (PreEscaped(include_str!("page.css"))) }
            }
            body {
                header {
                    h1 { (document.title) }
                    nav aria-label="Contents" {
                        ol {
                            @for section in &document.sections {
                                li { a href=(format!("#{}", section.id)) { (section.title) } }
                            }
                        }
                    }
                }
                main { @for section in &document.sections { (self::section(section)) } }
            }
        }
    };
    page.into_string()
}

fn section(section: &Section) -> Markup {
    html! {
        section id=(section.id) {
            h2 { (section.title) }
            @for block in &section.blocks { (self::block(block)) }
        }
    }
}

fn block(block: &Block) -> Markup {
    match block {
        Block::Text(text) => html! { p { (text) } },
        Block::Note(text) => html! { p.note { strong { "Note. " } (text) } },
        Block::Heading(text) => html! { h3 { (text) } },
        Block::Figure(figure) => self::figure(figure),
        Block::Table(table) => self::table(table),
    }
}

fn figure(figure: &Figure) -> Markup {
    let class = match figure.width {
        Width::Third => "panels",
        Width::Half => "panels half",
        Width::Wide => "panels wide",
    };
    html! {
        figure class=[(figure.width == Width::Wide).then_some("long")] {
            @if !figure.title.is_empty() { figcaption { (figure.title) } }
            (legend(&figure.legend))
            div class=(class) {
                @for panel in &figure.panels {
                    div.panel { (panel.svg) (legend(&panel.legend)) }
                }
            }
        }
    }
}

fn legend(keys: &[Key]) -> Markup {
    html! {
        @if !keys.is_empty() {
            ul.legend { @for key in keys { li { (key.sample) (key.name) } } }
        }
    }
}

fn table(table: &Table) -> Markup {
    let whole = html! {
        div.scroll {
            table class=[(table.names == table.header.len()).then_some("words")] {
                thead { tr { @for (n, title) in table.header.iter().enumerate() {
                    th scope="col" class=[(n < table.names).then_some("name")] { (title) }
                } } }
                tbody { @for row in &table.rows { (self::row(row, table.names)) } }
            }
        }
    };
    html! {
        @if table.folded || table.rows.len() > LONG_TABLE {
            details { summary { (table.caption) " (" (table.rows.len()) " rows)" } (whole) }
        } @else {
            p.caption { (table.caption) }
            (whole)
        }
    }
}

fn row(row: &[Cell], names: usize) -> Markup {
    html! {
        tr { @for (n, value) in row.iter().enumerate() {
            @if n < names { th scope="row" { (cell(value)) } }
            @else { td { (cell(value)) } }
        } }
    }
}

fn cell(cell: &Cell) -> Markup {
    match cell {
        Cell::Text(text) => html! { (text) },
        Cell::Code(text) => html! { code { (text) } },
        Cell::Interval(value, interval) => html! { (value) " " small { "(" (interval) ")" } },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page_of(blocks: Vec<Block>) -> String {
        page(&Document {
            title: "Report",
            sections: vec![Section {
                id: "one",
                title: "One",
                blocks,
            }],
        })
    }

    #[test]
    fn what_comes_from_data_is_escaped_everywhere() {
        let evil = "<script>\"'&</script>";
        let table = Table::of(evil, &[()])
            .column(evil, |()| Cell::code(evil))
            .table();
        let html = page_of(vec![
            Block::Text(evil.into()),
            Block::Note(evil.into()),
            Block::Heading(evil.into()),
            Block::Table(table),
            Block::Figure(Figure {
                title: evil.into(),
                legend: vec![Key::new(html! {}, evil)],
                ..Figure::default()
            }),
        ]);
        assert!(!html.contains("<script"), "{html}");
        assert_eq!(html.matches("&lt;script&gt;").count(), 8);
    }

    #[test]
    fn the_page_fetches_nothing() {
        let html = page_of(vec![]);
        for outside in ["http://", "https://", "src=", "@import", "url(h", "<link"] {
            assert!(!html.contains(outside), "{outside}");
        }
    }

    #[test]
    fn long_tables_are_folded() {
        let rows: Vec<usize> = (0..=LONG_TABLE).collect();
        let table = Table::of("rows", &rows).column("n", Cell::text).table();
        let html = page_of(vec![Block::Table(table)]);
        assert!(html.contains("<details>") && html.contains("(31 rows)"));
        assert_eq!(html.matches("<tr>").count(), LONG_TABLE + 2);
    }
}
