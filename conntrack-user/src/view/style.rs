//! Styles of text on a terminal. They are written out; the stream takes them away where they do not belong.

use anstyle::{AnsiColor, Style};

use crate::severity::Severity;

/// No style.
pub const PLAIN: Style = Style::new();
/// Headings.
pub const BOLD: Style = Style::new().bold();
/// Less important text.
pub const DIM: Style = Style::new().dimmed();
/// A warning.
pub const WARNING: Style = AnsiColor::Yellow.on_default();
/// Something critical.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// Worth knowing.
pub const INFO: Style = AnsiColor::Cyan.on_default();

/// Style of a severity.
#[must_use]
pub const fn of(severity: Severity) -> Style {
    match severity {
        Severity::Ok | Severity::Unknown => PLAIN,
        Severity::Info => INFO,
        Severity::Warning => WARNING,
        Severity::Critical => BAD,
    }
}
