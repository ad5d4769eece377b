//! Text from outside, made fit for terminals, logs, tables and pages: names, notices, versions, names of files, output
//! of commands. One rule for all of it.

use std::{borrow::Cow, fmt, path::Path};

/// Characters of a sentence at the most: a message, a reason, the name of a file (`PATH_MAX` is 4,096 bytes).
pub const LONGEST: usize = 4096;

/// End of a text that was cut.
const CUT: &str = "...";

/// `text` with `?` for each character that does not take a place of its own, cut after `longest` characters. The second
/// call changes nothing.
///
/// Letters and digits of all scripts, and what ASCII has to print, stay. Control characters (C0, C1) command a terminal,
/// line breaks forge lines, and marks that turn or join text make one name look like another. As ls(1).
#[must_use]
pub fn printable(text: &str, longest: usize) -> Cow<'_, str> {
    let prints = |c: char| c.is_alphanumeric() || c.is_ascii_graphic() || c == ' ';
    // A text of so many bytes has no more characters.
    if text.chars().all(prints) && (text.len() <= longest || text.chars().count() <= longest) {
        return Cow::Borrowed(text);
    }
    let mut chars = text.chars().map(|c| if prints(c) { c } else { '?' });
    let mut printable: String = chars.by_ref().take(longest).collect();
    if chars.next().is_some() {
        let end = printable.char_indices().nth(longest.saturating_sub(CUT.len()));
        printable.truncate(end.map_or(0, |(at, _)| at));
        printable.push_str(CUT);
    }
    Cow::Owned(printable)
}

/// [`printable`] in place.
pub fn clean(text: &mut String, longest: usize) {
    if let Cow::Owned(printable) = printable(text, longest) {
        *text = printable;
    }
}

/// A sentence of any length on one line: white space and line breaks become one space each, the rest is [`printable`].
#[must_use]
pub fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    printable(&words.join(" "), LONGEST).into_owned()
}

/// Name of a file, fit to be shown.
#[must_use]
pub fn path(path: &Path) -> String {
    printable(&path.to_string_lossy(), LONGEST).into_owned()
}

/// Several lines, such as an error of a parser with the place it is about. Each line after the first is indented, so
/// that none looks like one that ctmon begins.
#[must_use]
pub fn lines(text: &impl fmt::Display) -> String {
    const MOST_LINES: usize = 100;
    let text = text.to_string();
    let lines = text.lines().take(MOST_LINES).map(|line| printable(line, LONGEST));
    lines.collect::<Vec<_>>().join("\n  ")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Escape codes, C1, bidi marks, line breaks, a null, an invisible space and a byte order mark.
    pub(crate) const HOSTILE: &str =
        "a\x1b[31m\x1b]0;t\x07\u{9b}2J\u{202e}b\u{2066}\r\n\u{2028}\0\u{200b}\u{feff}\x7fz";

    /// Reports whether `text` holds readable characters only; line breaks are not looked at.
    pub(crate) fn is_clean(text: &str) -> bool {
        text.chars().all(|c| {
            c == '\n' || !c.is_control() && !HOSTILE.chars().any(|bad| bad == c && !c.is_ascii())
        })
    }

    #[test]
    fn only_what_takes_a_place_stays() {
        let clean = printable(HOSTILE, 100);
        assert_eq!(clean, "a?[31m?]0;t??2J?b????????z");
        assert!(is_clean(&clean) && !is_clean(HOSTILE));
        assert_eq!(printable(&clean, 100), clean);
        for text in ["", "a b/c-d", "Größe 東京 ٣", "{\"a\": 'b'}"] {
            assert!(matches!(printable(text, 100), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn overlong_text_is_cut_at_characters() {
        assert_eq!(printable("äöüäöü", 6), "äöüäöü");
        assert_eq!(printable("äöüäöüä", 6), "äöü...");
        assert_eq!(printable(&"x".repeat(7), 2), "...");
        assert_eq!(printable("\n\n", 1), "...");
        let once = printable(&"y".repeat(5000), LONGEST).into_owned();
        assert_eq!((once.len(), printable(&once, LONGEST) == once), (LONGEST, true));
    }

    #[test]
    fn no_line_begins_as_one_of_ctmon() {
        let forged = lines(&format!("one\nctmon: two{HOSTILE}"));
        assert_eq!(forged.lines().filter(|line| line.starts_with("ctmon")).count(), 0);
        assert!(is_clean(&forged), "{forged:?}");
        assert!(lines(&"x\n".repeat(100_000)).len() < 1000);
    }

    #[test]
    fn names_of_files_are_shown_without_what_commands_a_terminal() {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};
        let name = Path::new(OsStr::from_bytes(b"/x/\x1b[2J\xff\n.mcap"));
        assert_eq!(path(name), "/x/?[2J??.mcap");
    }
}
