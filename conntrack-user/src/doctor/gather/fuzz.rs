//! Fuzz target of files that `doctor` reads besides those of sources.

use super::{kernel, modules, process, settings, surroundings};
use crate::doctor::facts::Fact;

/// Files that `doctor` reads: /proc/modules, the kernel's configuration (packed, too), sysctl.d, modprobe.d, netlink's sockets, and
/// status and limits of a process. Any text becomes facts or none.
pub fn doctor_files(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let mut is_known = !settings::sysctls(&text).is_empty()
        || !settings::options(&text).is_empty()
        || !modules::parse(&text).is_empty()
        || surroundings::listeners(&text).known().is_some()
        || !kernel::options(&text).is_empty();
    is_known |= kernel::unpacked(bytes).is_some_and(|text| !kernel::options(&text).is_empty());
    let file = Fact::Known(text);
    for (name, radix) in [("Uid", 10), ("CapEff", 16)] {
        let field = process::field(&file, name);
        is_known |= field.and_then(|text| process::parse(name, &text, radix)).known().is_some();
    }
    is_known | process::limit(&file, "Max open files").known().is_some()
}
