//! The terminal while a VM's shell uses it.

use std::io::{stderr, stdin};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Rows and columns.
pub(crate) fn size() -> (u16, u16) {
    tcgetwinsize(stderr())
        .ok()
        .filter(|size| size.ws_row > 0 && size.ws_col > 0)
        .map_or((24, 80), |size| (size.ws_row, size.ws_col))
}

/// Hands every key to the VM, Ctrl-C too, until the returned value goes out of scope. None where standard input is no
/// terminal.
pub(crate) fn raw() -> Option<Raw> {
    let before = tcgetattr(stdin()).ok()?;
    let mut raw = before.clone();
    raw.make_raw();
    tcsetattr(stdin(), OptionalActions::Now, &raw).ok()?;
    Some(Raw(before))
}

/// Restores the terminal.
pub(crate) struct Raw(Termios);

impl Drop for Raw {
    fn drop(&mut self) {
        // There is nobody to tell: the terminal may be gone.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.0);
    }
}
