//! Sockets that listen.

use std::{
    fs::{self, File, Permissions},
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Error, Result, bail};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{AtFlags, Gid, Mode, OFlags, Uid, chownat, fchmod, open},
    io::Errno,
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, getsockname, listen,
        socket_with, sockopt,
    },
    process::{getegid, getgid},
    thread::set_thread_res_gid,
};
use tokio::net::{TcpListener, UnixListener};

use super::{Address, stream::Stream, unix::connect_unix};
use crate::privilege::Account;

/// Connections that wait to be taken.
const BACKLOG: i32 = 1024;

/// Mode of a unix socket: the serving user and group may connect.
const MODE: u32 = 0o660;

/// A socket that listens; connections wait until it is served.
#[derive(Debug)]
pub struct Listener {
    address: Address,
    socket: OwnedFd,
    file: Option<SocketFile>,
}

impl Listener {
    /// Listens at `address`. A unix socket gets mode 0660, and replaces one at which nobody listens any more; its
    /// file is removed when the listener is dropped. `owner`: the user and group that its file is given to, by root.
    ///
    /// # Errors
    ///
    /// If the address is in use, is none of this machine, or may not be used; the error says what to do.
    pub fn bind(address: Address, owner: Option<Account>) -> Result<Self> {
        let (address, socket, file) = match address {
            Address::Ip(at) => {
                let socket = listen_at(at).map_err(|error| refused(&address, at.port(), error))?;
                let at = bound(&socket)?;
                (Address::Ip(at), socket, None)
            }
            Address::All(port) => {
                let socket = match listen_at((Ipv6Addr::UNSPECIFIED, port).into()) {
                    // A kernel without IPv6.
                    Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
                        listen_at((Ipv4Addr::UNSPECIFIED, port).into())
                    }
                    result => result,
                };
                let socket = socket.map_err(|error| refused(&address, port, error))?;
                (Address::All(bound(&socket)?.port()), socket, None)
            }
            Address::Unix(path) => {
                let (socket, file) = listen_unix(&path, owner)?;
                (Address::Unix(path), socket, Some(file))
            }
        };
        Ok(Self { address, socket, file })
    }

    /// Where it listens, with the port that it got.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Registers it with the runtime.
    pub(super) fn register(self) -> Result<Registered> {
        let context = || format!("cannot wait for connections at {}", self.address);
        let socket = match &self.address {
            Address::Unix(_) => UnixListener::from_std(self.socket.into())
                .map(Accepting::Unix)
                .with_context(context)?,
            _ => TcpListener::from_std(self.socket.into())
                .map(Accepting::Tcp)
                .with_context(context)?,
        };
        Ok(Registered { address: self.address, socket, _file: self.file })
    }
}

/// A listener that is registered with the runtime.
pub(super) struct Registered {
    pub(super) address: Address,
    socket: Accepting,
    _file: Option<SocketFile>,
}

enum Accepting {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Who is at the other end, as far as clients are told apart: the network of 64 bits in IPv6, where each has as many
/// addresses as it likes, as on loopback, which is one; none at a unix socket.
pub(super) type Peer = Option<IpAddr>;

impl Registered {
    /// Whether a connection waits to be taken.
    pub(super) fn is_waited_for(&self) -> bool {
        let socket: BorrowedFd<'_> = match &self.socket {
            Accepting::Tcp(listener) => listener.as_fd(),
            Accepting::Unix(listener) => listener.as_fd(),
        };
        let mut one = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
        poll(&mut one, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// The next connection, of whose answers the kernel buffers as much as `send_buffer` says (`SO_SNDBUF`): else it takes
    /// megabytes for a client that does not read.
    pub(super) async fn accept(&self, send_buffer: usize) -> io::Result<(Stream, Peer)> {
        match &self.socket {
            Accepting::Tcp(listener) => {
                let (stream, from) = listener.accept().await?;
                sockopt::set_socket_send_buffer_size(&stream, send_buffer)?;
                Ok((Stream::Tcp(stream), Some(network(from.ip()))))
            }
            Accepting::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                sockopt::set_socket_send_buffer_size(&stream, send_buffer)?;
                Ok((Stream::Unix(stream), None))
            }
        }
    }
}

/// Whether that is this machine itself.
pub(super) fn is_loopback(peer: Peer) -> bool {
    // Nobody else is in the network of ::1.
    peer.is_some_and(|peer| peer.is_loopback() || peer == network(Ipv6Addr::LOCALHOST.into()))
}

pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address if address.is_loopback() => Ipv4Addr::LOCALHOST.into(),
        address => address,
    }
}

/// A socket that does not block.
fn socket(family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(family, SocketType::STREAM, flags, None)?)
}

fn listen_at(address: SocketAddr) -> io::Result<OwnedFd> {
    let is_ipv6 = address.is_ipv6();
    let socket = socket(if is_ipv6 { AddressFamily::INET6 } else { AddressFamily::INET })?;
    // A port may be taken anew while connections of the last process still end.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if is_ipv6 {
        sockopt::set_ipv6_v6only(&socket, !address.ip().is_unspecified())?;
    }
    // Connections inherit it. Answers are written whole: nothing is gained by waiting for more.
    sockopt::set_tcp_nodelay(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Where it listens.
fn bound(socket: &OwnedFd) -> io::Result<SocketAddr> {
    Ok(getsockname(socket)?.try_into()?)
}

/// Says what to do about it.
fn refused(address: &Address, port: u16, error: io::Error) -> Error {
    let hint = match error.kind() {
        ErrorKind::AddrInUse => format!(
            "another process listens there (`ss -ltnp sport = :{port}` names it): end it or choose another address"
        ),
        ErrorKind::AddrNotAvailable => {
            "no interface of this machine has that address (`ip addr` lists them)".to_owned()
        }
        ErrorKind::PermissionDenied => {
            "ports below 1024 take CAP_NET_BIND_SERVICE: choose a higher one".to_owned()
        }
        _ => "choose another address".to_owned(),
    };
    Error::new(error).context(format!("cannot listen at {address}: {hint}"))
}

fn listen_unix(path: &Path, owner: Option<Account>) -> Result<(OwnedFd, SocketFile)> {
    let context = || format!("cannot listen at unix:{}", path.display());
    match bind_unix(path, owner) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            remove_stale(path)?;
            bind_unix(path, owner).with_context(context)
        }
        result => result.with_context(context),
    }
}

fn bind_unix(path: &Path, owner: Option<Account>) -> io::Result<(OwnedFd, SocketFile)> {
    let socket = socket(AddressFamily::UNIX)?;
    // The file gets the mode of the socket, less the umask: at no time may others connect.
    fchmod(&socket, Mode::from_raw_mode(MODE))?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    let bound = fs::symlink_metadata(path)?;
    let file = SocketFile { path: path.to_owned(), identity: (bound.dev(), bound.ino()) };
    admit(path, file.identity, owner)?;
    listen(&socket, BACKLOG)?;
    Ok((socket, file))
}

/// Sets the owner and the mode of the socket's file, whatever the umask took from it. Somebody who may write the folder can
/// have put something else in its place, such as a link to a file of ours: that is left alone.
fn admit(path: &Path, identity: (u64, u64), owner: Option<Account>) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(open(path, flags, Mode::empty())?);
    let found = file.metadata()?;
    if (found.dev(), found.ino()) != identity || !found.file_type().is_socket() {
        return Err(io::Error::other("something else was put in its place meanwhile"));
    }
    // A descriptor that opens nothing takes no fchmod(2).
    let opened = format!("/proc/self/fd/{}", file.as_raw_fd());
    let result = fs::set_permissions(opened, Permissions::from_mode(MODE));
    result.map_err(|error| match error.kind() {
        ErrorKind::NotFound => io::Error::new(
            ErrorKind::NotFound,
            "its mode is set through /proc, which is not mounted: mount -t proc proc /proc",
        ),
        _ => error,
    })?;
    owner.map_or(Ok(()), |owner| give(&file, owner))
}

/// Gives a file to `owner`. Without CAP_CHOWN, as in a container that drops it, it is given to the group alone: its owner may
/// do that who is in the group.
fn give(file: &File, Account { user, group }: Account) -> io::Result<()> {
    let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
    let give_to = |user| chownat(file, "", user, Some(group), AtFlags::EMPTY_PATH);
    match give_to(Some(user)) {
        Err(Errno::PERM) => {}
        given => return Ok(given?),
    }
    let own = getegid();
    set_thread_res_gid(getgid(), group, own)?;
    let given = give_to(None);
    set_thread_res_gid(getgid(), own, own)?;
    Ok(given?)
}

/// Removes the file of a socket at which nobody listens.
fn remove_stale(path: &Path) -> Result<()> {
    let shown = path.display();
    let found = fs::symlink_metadata(path).with_context(|| format!("cannot look at {shown}"))?;
    if !found.file_type().is_socket() {
        bail!("cannot listen at unix:{shown}: there is a file that is no socket; it is left alone");
    }
    match connect_unix(path).map_err(|error| (error.kind(), error)) {
        Err((ErrorKind::ConnectionRefused, _)) => fs::remove_file(path)
            .with_context(|| format!("cannot remove {shown}, at which nobody listens any more")),
        // A full queue has a listener, which takes no connection.
        Ok(_) | Err((ErrorKind::WouldBlock, _)) => bail!(
            "cannot listen at unix:{shown}: another process listens there (`ss -lxp src {shown}` names it): end it or \
             choose another path"
        ),
        Err((_, error)) => Err(error).with_context(|| {
            format!("cannot listen at unix:{shown}, nor tell whether anybody does: remove the file if not")
        }),
    }
}

/// The file of a unix socket, which goes with it unless another one has taken its place.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let found = fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| (found.dev(), found.ino()) == self.identity) {
            // Where it may not be removed it is found stale the next time.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn bind(address: &str) -> Result<Listener> {
        Listener::bind(address.parse()?, None)
    }

    #[test]
    fn an_address_in_use_is_named() {
        let first = bind("127.0.0.1:0").unwrap();
        let address = first.address().to_string();
        let error = format!("{:#}", bind(&address).unwrap_err());
        assert!(error.contains(&address) && error.contains("another process listens"), "{error}");
        let error = format!("{:#}", bind("192.0.2.1:0").unwrap_err());
        assert!(error.contains("no interface of this machine"), "{error}");
    }

    #[test]
    fn all_addresses_are_both_families() {
        let all = bind(":0").unwrap();
        let Address::All(port) = *all.address() else { panic!("{:?}", all.address()) };
        for host in ["127.0.0.1", "::1"] {
            std::net::TcpStream::connect((host, port)).unwrap();
        }
    }

    #[test]
    fn a_link_in_the_place_of_the_socket_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let [socket, secret] = ["ctmon.sock", "secret"].map(|name| folder.path().join(name));
        fs::write(&secret, "").unwrap();
        fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
        let _bound = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let found = fs::symlink_metadata(&socket).unwrap();
        let identity = (found.dev(), found.ino());
        admit(&socket, identity, None).unwrap();
        assert_eq!(fs::metadata(&socket).unwrap().mode() & 0o777, MODE);
        fs::remove_file(&socket).unwrap();
        std::os::unix::fs::symlink(&secret, &socket).unwrap();
        assert!(admit(&socket, identity, None).is_err());
        let of_secret = fs::metadata(&secret).unwrap();
        assert!(admit(&secret, (of_secret.dev(), of_secret.ino()), None).is_err());
        assert_eq!(of_secret.mode() & 0o777, 0o600);
    }

    #[test]
    fn a_unix_socket_is_of_the_user_and_the_group_that_serve() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: giving a file away takes root");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let owner = Account { user: 65_533, group: 65_532 };
        let made = |name: &str, has_chown: bool| {
            let path = folder.path().join(name);
            // Capabilities are a thread's.
            let bind = move || {
                if !has_chown {
                    let chown = caps::Capability::CAP_CHOWN;
                    caps::drop(None, caps::CapSet::Effective, chown).unwrap();
                }
                let _socket = Listener::bind(Address::Unix(path.clone()), Some(owner)).unwrap();
                let found = fs::metadata(&path).unwrap();
                assert_eq!(rustix::process::getegid(), rustix::process::getgid());
                (found.uid(), found.gid(), found.mode() & 0o777)
            };
            std::thread::spawn(bind).join().unwrap()
        };
        assert_eq!(made("one", true), (65_533, 65_532, MODE));
        // A container may have no CAP_CHOWN: the group may ask all the same.
        assert_eq!(made("other", false), (0, 65_532, MODE));
    }

    #[test]
    fn a_stale_unix_socket_is_replaced_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ctmon.sock");
        let address = Address::Unix(path.clone());
        let live = Listener::bind(address.clone(), None).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, MODE);
        let error = format!("{:#}", Listener::bind(address.clone(), None).unwrap_err());
        assert!(error.contains("another process listens"), "{error}");
        UnixStream::connect(&path).unwrap();
        drop(live);
        assert!(!path.exists(), "a socket's file goes with it");
        // As a killed process leaves it.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let next = Listener::bind(address.clone(), None).unwrap();
        // Another one has taken its place: that stays.
        fs::remove_file(&path).unwrap();
        let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop(next);
        UnixStream::connect(&path).unwrap();
        drop(other);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "kept").unwrap();
        let error = format!("{:#}", Listener::bind(address, None).unwrap_err());
        assert!(error.contains("no socket") && path.exists(), "{error}");
    }

    #[test]
    fn a_socket_whose_queue_is_full_is_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ctmon.sock");
        let _held = super::super::unix::tests::fill(&path);
        let error = format!("{:#}", Listener::bind(Address::Unix(path), None).unwrap_err());
        assert!(error.contains("another process listens"), "{error}");
    }

    #[test]
    fn a_network_is_one_peer() {
        for (address, expected) in [
            // Whoever is on this machine has all of them.
            ("127.1.2.3", "127.0.0.1"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ] {
            assert_eq!(network(address.parse().unwrap()).to_string(), expected);
        }
    }
}
