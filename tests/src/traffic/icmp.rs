//! Echo requests, each with an identifier of its own. The kernel answers them.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
};

use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, bind, ipproto, sendto, socket_with, sockopt,
};

use super::{Plan, Progress, Sockets, pace::Pace, ports};

const ECHO_REQUEST: u8 = 8;
const ECHO_REQUEST_V6: u8 = 128;

pub(crate) fn run(plan: &Plan, progress: &Progress) -> io::Result<(Sockets, Option<io::Error>)> {
    let mut first_error = None;
    let pace = Pace::new(plan.rate);
    let socket = open(plan.from)?;
    for flow in 0..plan.flows {
        if progress.is_stopped() {
            break;
        }
        pace.wait(flow);
        let result = send(&socket, plan.to, ports::icmp_identifier());
        first_error = first_error.or(progress.count(result));
    }
    Ok((Sockets { raw: vec![socket], ..Sockets::default() }, first_error))
}

/// A raw socket; nobody reads what it receives.
pub(crate) fn open(from: IpAddr) -> io::Result<OwnedFd> {
    let (family, protocol) = match from {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    let socket = socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(protocol))
        .map_err(|error| io::Error::other(format!("a raw socket needs CAP_NET_RAW: {error}")))?;
    // As little as the kernel allows.
    sockopt::set_socket_recv_buffer_size(&socket, 1)?;
    bind(&socket, &SocketAddr::new(from, 0))?;
    Ok(socket)
}

/// Sends one echo request.
pub(crate) fn send(socket: &OwnedFd, to: IpAddr, identifier: u16) -> io::Result<()> {
    let kind = if to.is_ipv4() { ECHO_REQUEST } else { ECHO_REQUEST_V6 };
    let packet = request(kind, identifier);
    sendto(socket, &packet, SendFlags::empty(), &SocketAddr::new(to, 0))?;
    Ok(())
}

/// An echo request with the sequence number 1. The checksum is that of IPv4; of IPv6 it is the kernel's work.
fn request(kind: u8, identifier: u16) -> [u8; 8] {
    let [high, low] = identifier.to_be_bytes();
    let sum = (u32::from(kind) << 8) + u32::from(identifier) + 1;
    let folded = (sum & 0xffff) + (sum >> 16);
    let [_, _, check_high, check_low] = (!folded).to_be_bytes();
    [kind, 0, check_high, check_low, high, low, 0, 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_words_of_a_request_add_up_to_ones() {
        for identifier in [0, 1, 0x1234, 0xf7ff, 0xffff] {
            let packet = request(ECHO_REQUEST, identifier);
            let sum: u32 = packet
                .chunks(2)
                .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
                .sum();
            assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "{packet:?}");
        }
    }
}
