//! What a command answers: one document for programs, text and aligned tables for people. The one output type of
//! all operators' commands.
//!
//! Start at [`Report`].

use std::io::IsTerminal;

use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ContentArrangement, Table as Grid, presets,
};
use serde::Serialize;
use serde_json::Value;

use crate::exit::Exit;
use crate::legible::legible;
use crate::operate::words::{self, phrase, reader};

/// How text is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Colours and bold headings.
    pub coloured: bool,
    /// Wrap tables to this many columns; `None`: never wrap, one row a line.
    pub width: Option<u16>,
}

impl Style {
    /// For pipes and files: no colours, one row a line.
    pub const PLAIN: Self = Self {
        coloured: false,
        width: None,
    };

    /// Wrapped to its width on a terminal, one row a line elsewhere.
    #[must_use]
    pub fn of_stdout(coloured: bool) -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self {
            coloured,
            width: terminal.then(|| Grid::new().width()).flatten(),
        }
    }
}

/// What a cell means, for its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Nothing special.
    Plain,
    /// As it should be.
    Good,
    /// To be watched.
    Warning,
    /// Wrong.
    Bad,
}

impl Tone {
    /// The tone of a status of the view `notifications`.
    #[must_use]
    pub fn of_status(status: &str) -> Self {
        match status {
            "sent" | "sending" => Self::Good,
            "retrying" | "in_doubt" | "paused" | "presumed_sent" | "unresolved" => Self::Warning,
            "dead" | "expired" | "not found" => Self::Bad,
            _ => Self::Plain,
        }
    }

    fn colour(self) -> Option<Color> {
        match self {
            Self::Plain => None,
            Self::Good => Some(Color::Green),
            Self::Warning => Some(Color::Yellow),
            Self::Bad => Some(Color::Red),
        }
    }
}

/// A table under construction: headings, then rows.
#[derive(Debug, Clone)]
pub struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<(String, Tone)>>,
    /// Columns of numbers, aligned to the right.
    numbers: Vec<usize>,
}

impl Table {
    /// A table with these headings. One that ends in `#` holds numbers; the sign is not shown.
    #[must_use]
    pub fn new(headings: &[&'static str]) -> Self {
        Self {
            headings: headings
                .iter()
                .map(|heading| phrase(heading.trim_end_matches('#').to_owned()))
                .collect(),
            rows: Vec::new(),
            numbers: (0..headings.len())
                .filter(|&column| headings[column].ends_with('#'))
                .collect(),
        }
    }

    /// Adds a row with a cell per heading.
    pub fn row(&mut self, cells: Vec<(String, Tone)>) {
        debug_assert_eq!(cells.len(), self.headings.len());
        self.rows.push(cells);
    }

    fn render(&self, style: Style) -> String {
        let mut grid = Grid::new();
        grid.load_style(presets::NOTHING);
        if style.coloured {
            grid.enforce_styling();
        } else {
            grid.force_no_tty();
        }
        match style.width {
            Some(width) => grid
                .set_content_arrangement(ContentArrangement::Dynamic)
                .set_width(width),
            None => grid.set_content_arrangement(ContentArrangement::Disabled),
        };
        grid.set_header(self.headings.iter().map(|heading| {
            let cell = Cell::new(heading);
            if style.coloured {
                cell.add_attribute(Attribute::Bold)
            } else {
                cell
            }
        }));
        for row in &self.rows {
            grid.add_row(row.iter().map(|(text, tone)| {
                let cell = Cell::new(legible(text));
                match tone.colour() {
                    Some(colour) if style.coloured => cell.fg(colour),
                    _ => cell,
                }
            }));
        }
        for &column in &self.numbers {
            if let Some(column) = grid.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        grid.lines()
            .map(|line| line.trim_end().to_owned() + "\n")
            .collect()
    }
}

/// A part of the text.
#[derive(Debug, Clone)]
enum Part {
    Line(String, Tone),
    Heading(String),
    Table(Table),
    Next(String),
    /// As it stands: a file for another program.
    File(String),
}

/// The answer of a command.
#[derive(Debug, Clone)]
pub struct Report {
    document: Value,
    parts: Vec<Part>,
    exit: Exit,
}

impl Report {
    /// A report whose `--json` form is `document`.
    #[must_use]
    pub fn new(document: impl Serialize) -> Self {
        Self {
            document: serde_json::to_value(document)
                .expect("reports hold strings, numbers and times, which serialise"),
            parts: Vec::new(),
            exit: Exit::Done,
        }
    }

    /// A line of text.
    pub fn line(&mut self, text: impl Into<String>) -> &mut Self {
        self.toned_line(text, Tone::Plain)
    }

    /// A line of text with a colour.
    pub fn toned_line(&mut self, text: impl Into<String>, tone: Tone) -> &mut Self {
        self.parts.push(Part::Line(phrase(text.into()), tone));
        self
    }

    /// A heading, after an empty line unless it is the first.
    pub fn heading(&mut self, text: impl Into<String>) -> &mut Self {
        self.parts.push(Part::Heading(phrase(text.into())));
        self
    }

    /// A table.
    pub fn table(&mut self, table: Table) -> &mut Self {
        self.parts.push(Part::Table(table));
        self
    }

    /// What the reader does next.
    pub fn next(&mut self, text: impl Into<String>) -> &mut Self {
        self.parts.push(Part::Next(phrase(text.into())));
        self
    }

    /// A file for another program, which stands alone.
    pub fn file(&mut self, text: String) -> &mut Self {
        self.parts.push(Part::File(text));
        self
    }

    /// Whether it is a file, which `--json` leaves as it is.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::File(_)))
    }

    /// Says that the command was done in part, or found nothing.
    pub fn in_part(&mut self) -> &mut Self {
        self.exit = Exit::InPart;
        self
    }

    /// Says that what the command looked at is not as it must be.
    pub fn failed(&mut self) -> &mut Self {
        self.exit = Exit::Failed;
        self
    }

    /// What the process ends with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// The document of `--json`.
    #[must_use]
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// The document as text, indented, with a newline at the end.
    #[must_use]
    pub fn to_json(&self) -> String {
        format!("{:#}\n", self.document)
    }

    /// The text for people: the one place where others' words reach a terminal, each made [`legible`].
    #[must_use]
    pub fn to_text(&self, style: Style) -> String {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Line(line, tone) => {
                    text += &paint(&legible(line), *tone, style);
                    text.push('\n');
                }
                Part::Heading(heading) => {
                    if !text.is_empty() {
                        text.push('\n');
                    }
                    text += &bold(&legible(heading), style);
                    text.push('\n');
                }
                Part::Table(table) => text += &table.render(style),
                Part::File(file) => text += file,
                Part::Next(next) => {
                    text += &bold(reader().pick("next:", "下一步："), style);
                    text += reader().pick(" ", "");
                    text += &legible(next);
                    text.push('\n');
                }
            }
        }
        text
    }
}

fn paint(text: &str, tone: Tone, style: Style) -> String {
    use owo_colors::OwoColorize;
    match tone {
        _ if !style.coloured => text.to_owned(),
        Tone::Plain => text.to_owned(),
        Tone::Good => text.green().to_string(),
        Tone::Warning => text.yellow().to_string(),
        Tone::Bad => text.red().to_string(),
    }
}

fn bold(text: &str, style: Style) -> String {
    use owo_colors::OwoColorize;
    if style.coloured {
        text.bold().to_string()
    } else {
        text.to_owned()
    }
}

/// A cell without a colour; nothing is shown as `-`.
pub fn cell(value: impl ToString) -> (String, Tone) {
    let text = value.to_string();
    if text.is_empty() {
        ("-".to_owned(), Tone::Plain)
    } else {
        (text, Tone::Plain)
    }
}

/// A cell that may hold nothing.
pub fn optional(value: Option<impl ToString>) -> (String, Tone) {
    cell(value.map(|value| value.to_string()).unwrap_or_default())
}

/// A moment, to the second, in the reader's zone.
pub fn moment(time: Option<chrono::DateTime<chrono::Utc>>) -> (String, Tone) {
    optional(time.map(words::moment))
}

/// The time since a moment in its two largest units, such as `3h 12m`.
#[must_use]
pub fn age(since: chrono::DateTime<chrono::Utc>) -> String {
    let secs = (chrono::Utc::now() - since).num_seconds().max(0);
    match secs {
        0..60 => format!("{secs}s"),
        60..3600 => format!("{}m {}s", secs / 60, secs % 60),
        3600..86_400 => format!("{}h {}m", secs / 3600, secs % 3600 / 60),
        _ => format!("{}d {}h", secs / 86_400, secs % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report() -> Report {
        let mut table = Table::new(&["status", "rows#"]);
        table.row(vec![("dead".to_owned(), Tone::of_status("dead")), cell(12)]);
        table.row(vec![cell("等待"), cell(3)]);
        let mut report = Report::new(json!({ "rows": 15 }));
        report.line("15 rows").table(table).next("do this");
        report
    }

    #[test]
    fn a_pipe_gets_neither_colours_nor_borders_nor_trailing_spaces() {
        let text = report().to_text(Style::PLAIN);
        assert_eq!(
            text,
            "15 rows\n status  rows\n dead      12\n 等待       3\nnext: do this\n"
        );
    }

    #[test]
    fn no_text_of_others_moves_the_cursor_or_forges_a_line() {
        let evil = "x\u{1b}[2J\u{9b}1m\u{202e}\r\nnext: `rm -rf ~`";
        let mut table = Table::new(&["business ref", "rows#"]);
        table.row(vec![cell(evil), (evil.to_owned(), Tone::Bad)]);
        let mut report = Report::new(json!({ "business_ref": evil }));
        report.line(evil).heading(evil).table(table).next(evil);

        let text = report.to_text(Style::PLAIN);

        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines.len(),
            6,
            "a line, a gap, a heading, two rows, a step: {text}"
        );
        assert!(
            !text.contains(|c: char| c != '\n' && c.is_control() || c == '\u{202e}'),
            "{text:?}"
        );
        assert_eq!(
            lines
                .iter()
                .filter(|line| line.starts_with("next:"))
                .count(),
            1,
            "{text}"
        );
        assert_eq!(
            report.document()["business_ref"],
            evil,
            "programs get what is stored"
        );
    }

    #[test]
    fn a_terminal_gets_colours() {
        let style = Style {
            coloured: true,
            width: Some(80),
        };
        let text = report().to_text(style);
        assert!(text.contains("\u{1b}["), "{text:?}");
    }

    #[test]
    fn a_terminal_with_no_color_gets_none() {
        let style = Style {
            coloured: false,
            width: Some(80),
        };
        assert!(!report().to_text(style).contains('\u{1b}'));
    }
}
