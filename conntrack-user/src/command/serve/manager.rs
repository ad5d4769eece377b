//! The service manager's socket (sd_notify(3)).

use std::{
    env, io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    sync::Mutex,
};

use conntrack_user::lock::lock;
use sd_notify::NotifyState;

/// A connection to the service manager. It never waits: a manager that does not read must not stop the counting.
#[derive(Debug)]
pub(super) struct Manager {
    socket: UnixDatagram,
    /// Lines that must reach it and that it has not taken yet: they go before the next ones. A status and a sign of life are
    /// not among them: a newer one follows.
    owed: Mutex<String>,
}

impl Manager {
    /// Connects as the environment says. None: nobody is named there, or cannot be reached, which is no reason to end.
    pub(super) fn open() -> Option<Self> {
        let name = env::var_os("NOTIFY_SOCKET")?;
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(&name),
        };
        let socket = UnixDatagram::unbound().ok()?;
        socket.connect_addr(&address.ok()?).ok()?;
        Self::by(socket).ok()
    }

    fn by(socket: UnixDatagram) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket, owed: Mutex::default() })
    }

    /// Sends `states` in one datagram; false: its queue is full. Of several states of the service in one datagram systemd takes
    /// the latest (`service_notify_message` in its `service.c`).
    pub(super) fn tell(&self, states: &[NotifyState<'_>]) -> bool {
        let mut owed = lock(&self.owed);
        let lines: String = states.iter().map(|state| format!("{state}\n")).collect();
        let result = self.socket.send(format!("{owed}{lines}").as_bytes());
        let is_full = result.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        if is_full {
            let lasting = states
                .iter()
                .filter(|state| !matches!(state, NotifyState::Status(_) | NotifyState::Watchdog));
            owed.extend(lasting.map(|state| format!("{state}\n")));
        } else {
            owed.clear();
        }
        !is_full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_that_does_not_read_is_told_later() {
        let (own, other) = UnixDatagram::pair().unwrap();
        let manager = Manager::by(own).unwrap();
        let mut sent = 0;
        while manager.tell(&[NotifyState::Watchdog]) {
            sent += 1;
        }
        assert!(!manager.tell(&[NotifyState::Ready, NotifyState::Status("old")]));
        let mut buffer = [0; 256];
        for _ in 0..sent {
            let length = other.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"WATCHDOG=1\n");
        }
        for expected in ["READY=1\nSTATUS=new\n", "STATUS=new\n"] {
            assert!(manager.tell(&[NotifyState::Status("new")]));
            let length = other.recv(&mut buffer).unwrap();
            assert_eq!(std::str::from_utf8(&buffer[..length]), Ok(expected));
        }
    }
}
