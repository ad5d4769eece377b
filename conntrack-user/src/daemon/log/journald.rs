//! The journal's own protocol (systemd's "Native Journal Protocol"): a datagram of `FIELD=VALUE` lines; a value with an
//! end of line in it comes after its length.

use std::{io, os::unix::net::UnixDatagram, path::Path};

use super::Line;
use crate::view::warning::plain;

/// Where the journal listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// A connection to it.
#[derive(Debug)]
pub(super) struct Journal(UnixDatagram);

impl Journal {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let connect = || {
            let socket = UnixDatagram::unbound()?;
            socket.connect(path)?;
            // A journal that hangs must not make the daemon hang.
            socket.set_nonblocking(true)?;
            Ok(Self(socket))
        };
        connect().map_err(|error: io::Error| {
            let text = format!(
                "{}: {error}; the journal does not run here: choose text or json",
                path.display()
            );
            io::Error::new(error.kind(), text)
        })
    }

    pub(super) fn send(&self, line: &Line<'_>) -> io::Result<()> {
        self.0.send(&datagram(line)).map(drop)
    }
}

fn datagram(line: &Line<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, "MESSAGE", line.message);
    put(&mut out, "PRIORITY", &line.level.priority().to_string());
    put(&mut out, "SYSLOG_IDENTIFIER", "ctmon");
    put(&mut out, "CTMON_KIND", line.kind);
    for (key, value) in line.fields {
        if let Some(value) = plain(value) {
            put(&mut out, &format!("CTMON_{}", key.to_ascii_uppercase()), &value);
        }
    }
    out
}

fn put(out: &mut Vec<u8>, key: &str, value: &str) {
    out.extend(key.as_bytes());
    if value.contains('\n') {
        out.push(b'\n');
        out.extend((value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend(value.as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use serde_json::{Value, json};

    use super::{super::Level, *};

    #[test]
    fn values_of_several_lines_come_after_their_length() {
        let fields = [("netns", json!(7)), ("error", json!("a\nbc")), ("none", Value::Null)];
        let line = Line {
            time: UNIX_EPOCH,
            level: Level::Critical,
            message: "it is so",
            kind: "warning",
            fields: &fields,
        };
        let expected = b"MESSAGE=it is so\nPRIORITY=2\nSYSLOG_IDENTIFIER=ctmon\nCTMON_KIND=warning\nCTMON_NETNS=7\n\
                         CTMON_ERROR\n\x04\0\0\0\0\0\0\0a\nbc\n";
        assert_eq!(datagram(&line), expected);
    }

    #[test]
    fn without_a_journal_the_error_says_what_to_do() {
        let error = Journal::open("/nowhere/socket".as_ref()).unwrap_err().to_string();
        assert!(
            error.starts_with("/nowhere/socket: ") && error.ends_with("text or json"),
            "{error}"
        );
    }
}
