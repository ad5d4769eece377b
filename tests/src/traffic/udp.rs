//! UDP flows: one datagram to each of many ports.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
};

use super::{Plan, Progress, Sockets, pace::Pace, ports};

/// Source ports to try before giving up; other programs may have taken some.
const BIND_ATTEMPTS: u32 = 100;

pub(crate) fn run(plan: &Plan, progress: &Progress) -> io::Result<(Sockets, Option<io::Error>)> {
    let mut sockets = Sockets::default();
    let mut first_error = None;
    let pace = Pace::new(plan.rate);
    let mut flow = 0;
    while flow < plan.flows {
        let socket = bind(plan.from)?;
        for port in ports::UDP_DESTINATIONS {
            if flow == plan.flows || progress.is_stopped() {
                break;
            }
            pace.wait(flow);
            // Not connected: an ICMP error to an earlier datagram is then no error of this one.
            let result = socket.send_to(b"ctmon", SocketAddr::new(plan.to, port)).map(drop);
            let error = progress.count(result);
            first_error = first_error.or(error);
            flow += 1;
        }
        sockets.udp.push(socket);
        if progress.is_stopped() {
            break;
        }
    }
    Ok((sockets, first_error))
}

/// A socket with a source port of its own.
pub(crate) fn bind(from: IpAddr) -> io::Result<UdpSocket> {
    let mut attempt = 1;
    loop {
        let source = SocketAddr::new(from, ports::udp_source());
        match UdpSocket::bind(source) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempt < BIND_ATTEMPTS => {
                attempt += 1
            }
            result => {
                return result.map_err(|error| {
                    io::Error::new(error.kind(), format!("bind {source}: {error}"))
                });
            }
        }
    }
}
