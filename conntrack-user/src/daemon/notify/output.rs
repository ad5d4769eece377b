//! Standard error of a command as log lines: cleaned, and few.

use std::{io::Read as _, os::fd::AsFd as _, process::ChildStderr};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::text::printable;

/// Lines of one run, and characters of each, at most.
const LINES: usize = 20;
const CHARACTERS: usize = 500;
/// Bytes of one run that are looked at; the rest is counted.
const BYTES: usize = 16 << 10;
/// Bytes that are read at one look: who writes faster waits.
const AT_ONCE: usize = 1 << 20;

/// Reads the standard error of a command.
#[derive(Debug, Default)]
pub(super) struct Output {
    pipe: Option<ChildStderr>,
    kept: Vec<u8>,
    dropped: usize,
}

impl Output {
    pub(super) fn new(pipe: Option<ChildStderr>) -> Self {
        Self { pipe, ..Self::default() }
    }

    /// Takes what there is, and waits for no more.
    pub(super) fn read(&mut self) {
        let mut buffer = [0; 4096];
        let mut read = 0;
        while read < AT_ONCE && self.is_waiting() {
            let Some(count) = self.pipe.as_mut().and_then(|pipe| pipe.read(&mut buffer).ok())
            else {
                return;
            };
            if count == 0 {
                self.pipe = None;
                return;
            }
            self.take(buffer.get(..count).unwrap_or_default());
            read += count;
        }
    }

    fn is_waiting(&self) -> bool {
        let Some(pipe) = &self.pipe else { return false };
        let mut one = [PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)];
        poll(&mut one, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    fn take(&mut self, bytes: &[u8]) {
        let room = BYTES.saturating_sub(self.kept.len()).min(bytes.len());
        let (kept, dropped) = bytes.split_at(room);
        self.kept.extend_from_slice(kept);
        self.dropped += dropped.len();
    }

    /// The lines, each fit for a log, and a last one about what is left out.
    pub(super) fn lines(mut self) -> Vec<String> {
        self.read();
        let text = String::from_utf8_lossy(&self.kept);
        let all: Vec<&str> =
            text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty()).collect();
        let mut lines: Vec<String> =
            all.iter().take(LINES).map(|line| printable(line, CHARACTERS).into_owned()).collect();
        let more = all.len().saturating_sub(LINES);
        if more > 0 || self.dropped > 0 {
            lines.push(format!("({more} more lines and {} bytes are left out)", self.dropped));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::tests::{HOSTILE, is_clean};

    fn lines(bytes: &[u8]) -> Vec<String> {
        let mut output = Output::default();
        bytes.chunks(1000).for_each(|part| output.take(part));
        output.lines()
    }

    #[test]
    fn lines_are_cleaned_and_few() {
        assert_eq!(lines(b""), Vec::<String>::new());
        assert_eq!(lines(b"one\n\n  two \r\nthree"), ["one", "two", "three"]);
        let forged = format!("2026-12-01T02:26:56.442Z critical forged\n{HOSTILE}\n");
        let forged = [forged.as_bytes(), b"\xff\xfe"].concat();
        assert!(lines(&forged).iter().all(|line| is_clean(line) && !line.contains('\n')));
        let many = lines("x\n".repeat(1000).as_bytes());
        assert_eq!(
            (many.len(), many[LINES].as_str()),
            (21, "(980 more lines and 0 bytes are left out)")
        );
        let long = lines(&vec![b'y'; 1 << 20]);
        assert_eq!(long[0].len(), CHARACTERS);
        assert_eq!(long[1], format!("(0 more lines and {} bytes are left out)", (1 << 20) - BYTES));
    }
}
