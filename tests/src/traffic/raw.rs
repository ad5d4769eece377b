//! Packets that are written byte by byte: echo requests, which the kernel answers, and the first packets of
//! TCP connections, whose answer nobody waits for.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
};

use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, bind, ipproto, sendto, socket_with, sockopt,
};

use super::{Plan, Progress, Protocol, Sockets, pace::Pace, ports};

const ECHO_REQUEST: u8 = 8;
const ECHO_REQUEST_V6: u8 = 128;

pub(crate) fn run(plan: &Plan, progress: &Progress) -> io::Result<(Sockets, Option<io::Error>)> {
    let mut first_error = None;
    let pace = Pace::new(plan.rate);
    let socket = open(plan)?;
    for flow in 0..plan.flows {
        if progress.is_stopped() {
            break;
        }
        pace.wait(flow);
        let port = match plan.protocol {
            Protocol::Tcp => ports::tcp_source(),
            _ => ports::icmp_identifier(),
        };
        let result = send(&socket, plan, port);
        first_error = first_error.or(progress.count(result));
    }
    Ok((Sockets { raw: vec![socket], ..Sockets::default() }, first_error))
}

/// A raw socket; nobody reads what it receives.
pub(crate) fn open(plan: &Plan) -> io::Result<OwnedFd> {
    let family = if plan.from.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let protocol = match (plan.protocol, plan.from) {
        (Protocol::Tcp, _) => ipproto::TCP,
        (_, IpAddr::V4(_)) => ipproto::ICMP,
        (_, IpAddr::V6(_)) => ipproto::ICMPV6,
    };
    let socket = socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(protocol))
        .map_err(|error| io::Error::other(format!("a raw socket needs CAP_NET_RAW: {error}")))?;
    // As little as the kernel allows.
    sockopt::set_socket_recv_buffer_size(&socket, 1)?;
    bind(&socket, &SocketAddr::new(plan.from, 0))?;
    Ok(socket)
}

/// Sends the first packet of a flow: from a TCP port, or with an ICMP identifier.
pub(crate) fn send(socket: &OwnedFd, plan: &Plan, port: u16) -> io::Result<()> {
    let to = SocketAddr::new(plan.to, 0);
    let flags = SendFlags::empty();
    match (plan.protocol, plan.to) {
        (Protocol::Tcp, _) => {
            sendto(socket, &syn(plan.from, plan.to, port, ports::CLOSED.start), flags, &to)?
        }
        (_, IpAddr::V4(_)) => sendto(socket, &request(ECHO_REQUEST, port), flags, &to)?,
        (_, IpAddr::V6(_)) => sendto(socket, &request(ECHO_REQUEST_V6, port), flags, &to)?,
    };
    Ok(())
}

/// A SYN without options.
fn syn(from: IpAddr, to: IpAddr, source: u16, destination: u16) -> [u8; 20] {
    const LENGTH: u8 = 20;
    const SYN: u8 = 2;
    let mut packet = [0; LENGTH as usize];
    packet[..2].copy_from_slice(&source.to_be_bytes());
    packet[2..4].copy_from_slice(&destination.to_be_bytes());
    // A sequence number, the length in words of 32 bits, and a window.
    (packet[7], packet[12], packet[13], packet[14]) = (1, (LENGTH / 4) << 4, SYN, 4);
    let octets = |address| match address {
        IpAddr::V4(address) => Ipv4Addr::octets(&address).to_vec(),
        IpAddr::V6(address) => Ipv6Addr::octets(&address).to_vec(),
    };
    let pseudo = [octets(from), octets(to), vec![0, 6, 0, LENGTH]].concat();
    let sum = checksum(&[&pseudo, packet.as_slice()].concat());
    packet[16..18].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// The Internet checksum of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2).map(|word| u16::from_be_bytes([word[0], word[1]]));
    let mut sum: u32 = words.map(u32::from).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// An echo request with the sequence number 1. The checksum is that of IPv4; of IPv6 it is the kernel's work.
fn request(kind: u8, identifier: u16) -> [u8; 8] {
    let [high, low] = identifier.to_be_bytes();
    let mut packet = [kind, 0, 0, 0, high, low, 0, 1];
    let sum = checksum(&packet);
    packet[2..4].copy_from_slice(&sum.to_be_bytes());
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_a_packet_with_its_checksum_is_0() {
        for identifier in [0, 1, 0x1234, 0xf7ff, 0xffff] {
            assert_eq!(checksum(&request(ECHO_REQUEST, identifier)), 0);
            let address = [127, 0, 0, 1];
            let packet = syn(address.into(), address.into(), identifier, 80);
            let pseudo = [address.as_slice(), &address, &[0, 6, 0, 20]].concat();
            assert_eq!(checksum(&[&pseudo, packet.as_slice()].concat()), 0);
        }
    }
}
