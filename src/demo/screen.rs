//! What the demo shows while it runs and at its end.
//!
//! On a terminal a bar moves under the story; a pipe gets the story's lines and, every other second, how far it is.
//!
//! Start at [`Screen`].

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use owo_colors::OwoColorize;

use super::comparison::{Belief, Comparison, FateSum};
use crate::simulate::Ledger;

/// Disagreements that are written out; the rest is counted.
const SHOWN_DISAGREEMENTS: usize = 20;

/// A line's length: what is longer is broken, for terminals of 80 columns.
const LINE_CHARS: usize = 78;
/// What stands beside the bar.
const PROGRESS_CHARS: usize = 46;

/// Where the demo shows itself.
pub struct Screen {
    shows: bool,
    coloured: bool,
    bar: Option<ProgressBar>,
    started: Instant,
    told: Mutex<Instant>,
}

impl Screen {
    /// Shows nothing.
    #[must_use]
    pub fn silent() -> Self {
        Self::new(false, false, None)
    }

    /// Standard output, with a bar when it is a terminal.
    #[must_use]
    pub fn of_process(coloured: bool) -> Self {
        let terminal = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        let bar = terminal.then(|| {
            let style = ProgressStyle::with_template(
                "  {bar:20.green/black.bright} {pos}/{len}  {wide_msg}",
            )
            .expect("the template is valid")
            .progress_chars("━━─");
            ProgressBar::hidden().with_style(style)
        });
        Self::new(true, coloured, bar)
    }

    fn new(shows: bool, coloured: bool, bar: Option<ProgressBar>) -> Self {
        let now = Instant::now();
        Self {
            shows,
            coloured,
            bar,
            started: now,
            told: Mutex::new(now),
        }
    }

    /// A line, or several. A closed pipe ends nothing: the exit code still counts.
    pub fn say(&self, text: &str) {
        if !self.shows {
            return;
        }
        let write = || {
            let mut out = std::io::stdout().lock();
            let _ = writeln!(out, "{text}");
            let _ = out.flush();
        };
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// A heading, after an empty line.
    pub fn heading(&self, text: &str) {
        self.say(&format!("\n{}", self.bold(text)));
    }

    /// A statement as somebody would type it.
    pub fn statement(&self, statement: &str) {
        let indented = statement.replace('\n', "\n  ");
        self.say(&format!(
            "  {};",
            self.paint(&indented, |text| text.cyan().to_string())
        ));
    }

    /// An error as the database words it, broken between words.
    pub fn error(&self, message: &str) {
        let mut line = "  ERROR:".to_owned();
        for word in message.split(' ') {
            if line.chars().count() + 1 + word.chars().count() > LINE_CHARS {
                self.say(&line);
                line = " ".repeat(8);
            }
            line = format!("{line} {word}");
        }
        self.say(&line);
    }

    /// Something that happened just now.
    pub fn event(&self, text: &str) {
        let at = format!("{:5.1} s", self.started.elapsed().as_secs_f64());
        self.say(&format!("  {}  {text}", self.faint(&at)));
    }

    /// Shows the bar.
    pub fn begin(&self, rows: usize) {
        if let Some(bar) = &self.bar {
            bar.set_length(rows as u64);
            bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
        }
    }

    /// `done` rows are where they had to come to.
    pub fn progress(&self, done: usize, rows: usize, beliefs: &[Belief]) {
        const TELL_EVERY: Duration = Duration::from_secs(2);
        let mut statuses: BTreeMap<&str, usize> = BTreeMap::new();
        for belief in beliefs {
            *statuses.entry(&belief.status).or_default() += 1;
        }
        let shown = [
            "sent",
            "sending",
            "due",
            "in_doubt",
            "paused",
            "retrying",
            "scheduled",
        ];
        let mut message = String::new();
        for status in shown {
            let Some(rows) = statuses.get(status) else {
                continue;
            };
            let joint = if message.is_empty() { "" } else { ", " };
            let part = format!("{joint}{rows} {status}");
            if message.len() + part.len() > PROGRESS_CHARS {
                break;
            }
            message += &part;
        }
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
            bar.set_message(message);
            return;
        }
        let mut told = self
            .told
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if told.elapsed() >= TELL_EVERY {
            *told = Instant::now();
            self.event(&format!("{done} of {rows} rows are done: {message}"));
        }
    }

    /// Takes the bar away.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// The table of fates, wxnotify's side beside WeChat's, and whether they agree.
    pub fn compare(&self, comparison: &Comparison, ledger: &Ledger) {
        self.say(&format!("\n{}", self.table(comparison)));
        let disagreements = &comparison.disagreements;
        if disagreements.is_empty() {
            let rows: usize = comparison.fates.iter().map(|sum| sum.rows).sum();
            let verdict = format!("They agree, row by row, on all {rows} rows.");
            let counts = &ledger.counts;
            let credits: usize = comparison.fates.iter().map(|sum| sum.credits_taken).sum();
            self.say(&format!(
                "\n{} {}\n{} sends arrived, {} messages were delivered, {} of them for a credit each,\n\
                 {} replies were lost on the way back, {} events were pushed:\n\
                 every message belongs to a row that says so, and no other row cost a credit.",
                self.paint("✓", |text| text.green().to_string()),
                self.bold(&verdict),
                counts.sends_arrived,
                counts.sends_accepted,
                credits,
                counts.replies_lost,
                counts.callbacks_answered,
            ));
            return;
        }
        let verdict = format!("They disagree in {} points:", disagreements.len());
        self.say(&format!(
            "\n{} {}",
            self.paint("✗", |text| text.red().to_string()),
            self.bold(&verdict)
        ));
        for disagreement in disagreements.iter().take(SHOWN_DISAGREEMENTS) {
            self.say(&format!("  {disagreement}"));
        }
        if disagreements.len() > SHOWN_DISAGREEMENTS {
            self.say("  … the others: --json lists all");
        }
    }

    fn table(&self, comparison: &Comparison) -> String {
        let mut table = Table::new();
        table.load_style(
            presets::UTF8_HORIZONTAL_ONLY.row_separator(comfy_table::LineStyle::none()),
        );
        table.set_content_arrangement(ContentArrangement::Disabled);
        if self.coloured {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        let headings = [
            "\nwhat happened",
            "\nrows",
            "wxnotify\nbelieves",
            "\ntries",
            "WeChat\nsends",
            "\ncredits",
            "\nmsgs",
            "",
        ];
        table.set_header(headings.map(|heading| {
            let cell = Cell::new(heading);
            if self.coloured {
                cell.add_attribute(Attribute::Bold)
            } else {
                cell
            }
        }));
        for sum in &comparison.fates {
            table.add_row(fate_cells(sum));
        }
        let refused = comparison
            .refused_inserts
            .iter()
            .filter(|insert| insert.message.is_some());
        let (refused, tried) = (refused.count(), comparison.refused_inserts.len());
        table.add_row([
            Cell::new("refused at INSERT"),
            Cell::new(tried),
            Cell::new(format!("{refused} never stored")),
            Cell::new(0),
            Cell::new(0),
            Cell::new(0),
            Cell::new(0),
            mark(refused == tried),
        ]);
        for (number, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 1));
            if [1, 3, 4, 5, 6].contains(&number) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
            .lines()
            .map(|line| line.trim_end().to_owned())
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// Bold text on a terminal.
    #[must_use]
    pub fn bold(&self, text: &str) -> String {
        self.paint(text, |text| text.bold().to_string())
    }

    /// Text that steps back on a terminal.
    #[must_use]
    pub fn faint(&self, text: &str) -> String {
        self.paint(text, |text| text.dimmed().to_string())
    }

    fn paint(&self, text: &str, paint: impl Fn(&str) -> String) -> String {
        if self.coloured {
            paint(text)
        } else {
            text.to_owned()
        }
    }
}

fn fate_cells(sum: &FateSum) -> Vec<Cell> {
    let mut statuses: Vec<String> = sum
        .statuses
        .iter()
        .map(|(status, rows)| format!("{rows} {status}"))
        .collect();
    // The winner before its duplicates.
    statuses.reverse();
    if sum.may_be_doubled > 0 {
        statuses.push("may be doubled".to_owned());
    }
    let bad = sum
        .statuses
        .keys()
        .any(|status| matches!(status.as_str(), "dead" | "expired"));
    let unsure = sum.may_be_doubled > 0
        || sum.statuses.contains_key("unresolved")
        || sum.statuses.contains_key("presumed_sent");
    let colour = match (bad, unsure) {
        (true, _) => Color::Red,
        (_, true) => Color::Yellow,
        _ if sum.statuses.contains_key("sent") => Color::Green,
        _ => Color::Reset,
    };
    vec![
        Cell::new(sum.fate),
        Cell::new(sum.rows),
        Cell::new(statuses.join(", ")).fg(colour),
        Cell::new(sum.attempts),
        Cell::new(sum.calls),
        Cell::new(sum.credits_taken),
        Cell::new(sum.messages),
        mark(sum.disagreeing == 0),
    ]
}

fn mark(agrees: bool) -> Cell {
    if agrees {
        Cell::new("✓").fg(Color::Green)
    } else {
        Cell::new("✗").fg(Color::Red)
    }
}
