//! Reading what a VM says: trouble in the kernel's console, markers in the command's output. Pure.

/// Begins a marker in the command's output: a control byte that text does not hold, so that output passes byte for byte.
const MARK: u8 = 0x1e;
const MARKER: &str = "ctmon-vm: ";

/// What the output of a VM is made of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The command is about to run.
    Started,
    /// Bytes that the command wrote.
    Output(Vec<u8>),
    /// The command ended with this status.
    Exited(u8),
}

/// Splits output into what the command wrote and what init says about it.
#[derive(Default)]
pub(crate) struct Markers {
    held: Vec<u8>,
    started: bool,
}

impl Markers {
    /// Takes the next bytes and returns what they complete. Bytes before the start marker are the firmware's.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<Event> {
        self.held.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some(first) = self.held.first() {
            if *first != MARK {
                let end =
                    self.held.iter().position(|byte| *byte == MARK).unwrap_or(self.held.len());
                let output = self.held.drain(..end).collect();
                if self.started {
                    events.push(Event::Output(output));
                }
                continue;
            }
            let Some(end) = self.held.iter().position(|byte| *byte == b'\n') else {
                break;
            };
            let line: Vec<u8> = self.held.drain(..=end).collect();
            match marker(&line) {
                Some(Event::Started) => {
                    self.started = true;
                    events.push(Event::Started);
                }
                Some(event) => events.push(event),
                None if self.started => events.push(Event::Output(line)),
                None => {}
            }
        }
        events
    }
}

fn marker(line: &[u8]) -> Option<Event> {
    let text = str::from_utf8(line.get(1..)?).ok()?.trim_end().strip_prefix(MARKER)?;
    match text.split_once(' ') {
        None if text == "start" => Some(Event::Started),
        Some(("exit", status)) => Some(Event::Exited(status.parse().ok()?)),
        _ => None,
    }
}

/// How bad a line of the kernel's console is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// Worth showing, and the run goes on.
    Warning,
    /// The kernel is broken: nothing measured after it counts.
    Fatal,
}

/// Judges one line of the console.
fn trouble(line: &str) -> Option<Trouble> {
    let message = message(line);
    // Where each line is printed: kernel/panic.c, arch/*/kernel/dumpstack.c (die() numbers its reports),
    // arch/*/mm/fault.c, kernel/watchdog.c, kernel/hung_task.c, kernel/rcu/tree_stall.h.
    let fatal = message.starts_with("Kernel panic - not syncing")
        || message.contains(" [#1]")
        || message.starts_with("BUG: ")
        || message.starts_with("kernel BUG at ")
        || message.starts_with("watchdog: BUG: ")
        || (message.starts_with("INFO: task ") && message.contains(" blocked for more than "))
        || (message.starts_with("rcu: INFO: ") && message.contains("detected "));
    if fatal {
        Some(Trouble::Fatal)
    } else {
        message.starts_with("WARNING: ").then_some(Trouble::Warning)
    }
}

/// Whether a fatal line is the emulator's doing. While the kernel patches its own code with breakpoints, another emulated
/// processor may run a breakpoint that is gone. QEMU 8.1 mended it: "accel/tcg: Always lock pages before translation".
pub(crate) fn emulator_fault(line: &str) -> bool {
    line.contains("int3: 0000 [#1]")
}

/// The kernel's console as far as it has been read.
#[derive(Default)]
pub(crate) struct Console {
    pub(crate) text: String,
    /// The first line that is fatal.
    pub(crate) fatal: Option<String>,
    pub(crate) warnings: Vec<String>,
    /// Where in the text the first line begins that is not judged yet.
    next: usize,
}

impl Console {
    /// Takes the next bytes and judges the lines that they complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.text.push_str(&String::from_utf8_lossy(bytes).replace('\r', ""));
        while let Some((line, _)) = self.text[self.next..].split_once('\n') {
            match trouble(line) {
                Some(Trouble::Fatal) if self.fatal.is_none() => {
                    self.fatal = Some(line.trim().to_owned())
                }
                Some(Trouble::Warning) => self.warnings.push(line.trim().to_owned()),
                _ => {}
            }
            self.next += line.len() + 1;
        }
    }
}

/// The line without what printk puts before it: a time stamp, and the caller where it is configured.
fn message(line: &str) -> &str {
    let mut rest = line.trim();
    while let Some((prefix, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'))
        && prefix.chars().all(|c| c.is_ascii_digit() || " .TC".contains(c))
    {
        rest = after.trim_start();
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_between_the_markers_passes_byte_for_byte() {
        let stream =
            b"firmware\r\n\x1ectmon-vm: start\nno newline \xff\x00\x1ectmon-vm: exit 42\r\n";
        // Whatever the pieces in which it arrives.
        for size in 1..stream.len() {
            let mut markers = Markers::default();
            let events: Vec<Event> =
                stream.chunks(size).flat_map(|piece| markers.push(piece)).collect();
            assert_eq!(events.first(), Some(&Event::Started));
            assert_eq!(events.last(), Some(&Event::Exited(42)));
            let output: Vec<u8> = events
                .into_iter()
                .filter_map(
                    |event| {
                        if let Event::Output(bytes) = event { Some(bytes) } else { None }
                    },
                )
                .flatten()
                .collect();
            assert_eq!(output, b"no newline \xff\x00");
        }
    }

    #[test]
    fn what_only_looks_like_a_marker_is_output() {
        let mut markers = Markers::default();
        markers.push(b"\x1ectmon-vm: start\n");
        for line in [
            b"\x1ectmon-vm: exit 300\n".as_slice(),
            b"\x1ectmon-vm: exit\n",
            b"\x1eother\n",
            b"\x1e\n",
        ] {
            assert_eq!(markers.push(line), [Event::Output(line.to_vec())]);
        }
        assert_eq!(
            markers.push(b"ctmon-vm: exit 0\n"),
            [Event::Output(b"ctmon-vm: exit 0\n".to_vec())]
        );
    }

    #[test]
    fn broken_kernels_are_noticed() {
        for line in [
            "[    3.141592] Kernel panic - not syncing: sysrq triggered crash",
            "[   12.1][  T34] BUG: kernel NULL pointer dereference, address: 0000000000000000",
            "[    1.0] Oops: 0002 [#1] PREEMPT SMP PTI",
            "[    1.0] general protection fault, probably for non-canonical address 0x1: 0000 [#1] SMP",
            "[   61.0] watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [sh:71]",
            "[  241.0] INFO: task rmmod:90 blocked for more than 120 seconds.",
            "[   30.0] rcu: INFO: rcu_preempt self-detected stall on CPU",
        ] {
            assert_eq!(trouble(line), Some(Trouble::Fatal), "{line}");
        }
    }

    #[test]
    fn a_stale_breakpoint_is_the_emulators() {
        // Up to 6.9, and since.
        for line in [
            "[    1.0] int3: 0000 [#1] PREEMPT SMP NOPTI",
            "[    3.5] Oops: int3: 0000 [#1] SMP NOPTI",
        ] {
            assert_eq!(trouble(line), Some(Trouble::Fatal), "{line}");
            assert!(emulator_fault(line), "{line}");
        }
        assert!(!emulator_fault("[    1.0] Oops: 0002 [#1] PREEMPT SMP PTI"));
    }

    #[test]
    fn lines_are_judged_once_they_are_whole() {
        let mut console = Console::default();
        console.push(b"[    1.0] WARN");
        assert!(console.warnings.is_empty());
        console.push(
            b"ING: one\r\n[    2.0] Kernel panic - not syncing: first\r\n[    2.1] BUG: second\r\n",
        );
        assert_eq!(console.warnings, ["[    1.0] WARNING: one"]);
        assert_eq!(console.fatal.as_deref(), Some("[    2.0] Kernel panic - not syncing: first"));
    }

    #[test]
    fn warnings_are_not_fatal_and_boot_is_quiet() {
        let warning = "[    2.0] WARNING: CPU: 0 PID: 1 at kernel/bpf/core.c:12 f+0x1/0x2";
        assert_eq!(trouble(warning), Some(Trouble::Warning));
        for line in [
            "[    0.0] Linux version 6.12",
            "",
            "[    0.1] rcu: Hierarchical RCU implementation.",
            "DEBUG: x",
        ] {
            assert_eq!(trouble(line), None, "{line}");
        }
    }
}
