//! Text of others on its way to people: on a terminal, in a log that is read as lines, in a command to be pasted.
//!
//! Producers, users and WeChat choose names, references and messages. Left as they are, these could move the cursor, retitle the
//! terminal, turn text round, or begin a line that looks like ours. Whatever writes for people passes it through [`legible`];
//! JSON is for programs and quotes by its own rules.

use std::borrow::Cow;

/// The longest word of others that is quoted in place of a command.
const QUOTED_CHARS_MAX: usize = 80;
/// How many of a list are named where one line must do.
const FEW: usize = 5;

/// The text with each character escaped that a terminal obeys instead of showing it: controls, line ends of any kind,
/// and those that change the direction of writing.
#[must_use]
pub fn legible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_obeyed(character) {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

/// As [`legible`] for a text of several lines; whose line ends are its author's to answer for.
#[must_use]
pub fn legible_lines(text: &str) -> String {
    let lines: Vec<Cow<'_, str>> = text.split('\n').map(legible).collect();
    lines.join("\n")
}

fn is_obeyed(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether a shell takes the word for one argument and nothing else: letters, digits, `_` and `-`, as appids and
/// template ids are made of.
#[must_use]
pub fn is_plain(word: &str) -> bool {
    let plain = |character: char| character.is_ascii_alphanumeric() || "_-".contains(character);
    !word.is_empty() && !word.starts_with('-') && word.chars().all(plain)
}

/// A command for people to paste, between backticks. `words` are others' and stand for the `{}` of `ours`; if one is not plain
/// the command is not written out, and the word is shown beside it.
#[must_use]
pub fn command(ours: &str, words: &[&str]) -> String {
    debug_assert_eq!(ours.matches("{}").count(), words.len());
    if let Some(odd) = words.iter().find(|word| !is_plain(word)) {
        let mut quoted: String = odd.chars().take(QUOTED_CHARS_MAX).collect();
        if quoted.len() < odd.len() {
            quoted.push('…');
        }
        let placeholder = ours.replace("{}", "…");
        return format!(
            "`{placeholder}` (not written out: {} is no plain name, look at it before you quote it)",
            // Backticks would end the quotation, and a shell runs what stands between them.
            legible(&quoted).replace('`', "\\`")
        );
    }
    let mut written = String::from("`");
    let mut words = words.iter();
    for (number, part) in ours.split("{}").enumerate() {
        if number > 0 {
            written.extend(words.next().copied());
        }
        written += part;
    }
    written.push('`');
    written
}

/// The first few of a list that others can lengthen at will, and how many more there are.
#[must_use]
pub fn few(words: &[String]) -> String {
    let shown: Vec<String> = words
        .iter()
        .take(FEW)
        .map(|word| word.chars().take(QUOTED_CHARS_MAX).collect())
        .collect();
    let shown = shown.join(", ");
    match words.len().saturating_sub(FEW) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// A database error without its detail, which may print a row, and without what only says that it is one.
pub(crate) fn describe(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(refused) => format!(
            "{} (SQLSTATE {})",
            refused.message(),
            refused.code().unwrap_or_default()
        ),
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::Tls(error) => error.to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRICKS: [&str; 9] = [
        "\u{1b}[2J\u{1b}[1;31mERROR",
        "\u{1b}]0;title\u{7}",
        "a\rb",
        "a\nnext: `rm -rf ~`",
        "\u{9b}31m\u{85}\u{9d}0;x\u{9c}",
        "\u{7f}\0\t\u{8}",
        "\u{202e}txt.exe\u{2066}\u{200f}\u{61c}",
        "\u{2028}\u{2029}",
        "plain\u{b}\u{c}",
    ];

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        for trick in TRICKS {
            let shown = legible(trick);
            assert!(!shown.contains(is_obeyed), "{shown:?}");
            assert!(shown.contains('\\'), "what was there is told: {shown:?}");
        }
        assert_eq!(legible("a\nb\u{1b}"), "a\\nb\\u{1b}");
    }

    #[test]
    fn what_honest_people_write_stays_as_it_is() {
        for text in ["订单 A-17 😀👩‍👩‍👧", "é — “x”", "", "C:\\n"] {
            assert!(matches!(legible(text), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn a_command_is_written_out_with_plain_words_alone() {
        let add = |word| command("wxnotify app add {}", &[word]);
        assert_eq!(
            add("wx0123456789abcdef"),
            "`wxnotify app add wx0123456789abcdef`"
        );
        let two = command("wxnotify template resume {} {} --dry-run", &["wx1", "T_-9"]);
        assert_eq!(two, "`wxnotify template resume wx1 T_-9 --dry-run`");
        for odd in [
            "$(touch /tmp/x)",
            "a b",
            "a;b",
            "a`id`",
            "--all",
            "",
            "wx\u{a0}1",
            "ｗｘ1",
            "a'b",
            "a\nb",
        ] {
            let shown = add(odd);
            assert!(
                shown.starts_with("`wxnotify app add …` (not written out: "),
                "{shown}"
            );
            assert!(!shown.contains('\n'), "{shown}");
        }
        assert!(add(&"$".repeat(10_000)).len() < 400);
    }

    proptest! {
        #[test]
        fn whatever_the_text_it_stays_on_its_line(text in any::<String>()) {
            prop_assert!(!legible(&text).contains(is_obeyed));
            prop_assert_eq!(legible_lines(&text).lines().count(), text.split_terminator('\n').count().max(usize::from(!text.is_empty() && !text.ends_with('\n'))));
        }
    }
}
