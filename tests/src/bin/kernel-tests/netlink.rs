//! What makes a network namespace one whose packets are tracked, without a process for it: where there
//! are thousands of them, `ip` and `nft` would take minutes.

use std::{io, os::fd::OwnedFd, time::Duration};

use anyhow::{Context as _, Result, bail};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send,
    socket_with, sockopt,
};

const TIMEOUT: Duration = Duration::from_secs(20);

// linux/netlink.h
const NLMSG_ERROR: u16 = 2;
pub(crate) const NLM_F_REQUEST: u16 = 1;
pub(crate) const NLM_F_ACK: u16 = 4;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;
const NLA_F_NESTED: u16 = 0x8000;
/// Length, type, flags, sequence number and sender: before every message.
const HEADER: usize = 16;

// linux/rtnetlink.h, linux/if.h
const RTM_NEWLINK: u16 = 16;
const IFF_UP: u32 = 1;
const LOOPBACK: i32 = 1;

// linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NFTABLES: u16 = 10;
const NEWTABLE: u16 = NFTABLES << 8;
const NEWCHAIN: u16 = NFTABLES << 8 | 3;
const NEWRULE: u16 = NFTABLES << 8 | 6;
const NFPROTO_IPV4: u8 = 2;
const LOCAL_OUT: u32 = 3;
const REGISTER: u32 = 1;
const CT_STATE: u32 = 0;

/// Sets the loopback interface of the calling thread's namespace up.
///
/// # Errors
/// The kernel's.
pub(crate) fn loopback_up() -> Result<()> {
    let mut body = vec![0; 4];
    body.extend(LOOPBACK.to_ne_bytes());
    body.extend(IFF_UP.to_ne_bytes());
    body.extend(IFF_UP.to_ne_bytes());
    let message = message(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, &body);
    ask(None, &message, 1).context("loopback stays down")
}

/// Lets the calling thread's namespace track the IPv4 packets that it sends: a rule that looks at their
/// state.
///
/// # Errors
/// The kernel's.
pub(crate) fn track() -> Result<()> {
    let name = |kind, name: &str| attribute(kind, &[name.as_bytes(), &[0]].concat());
    let number = |kind, number: u32| attribute(kind, &number.to_be_bytes());
    let nested = |kind, inner: &[Vec<u8>]| attribute(kind | NLA_F_NESTED, &inner.concat());
    let generic = |resource: u16| {
        let [high, low] = resource.to_be_bytes();
        vec![NFPROTO_IPV4, 0, high, low]
    };
    let hook = [number(1, LOCAL_OUT), number(2, 0)];
    let chain = [name(1, "t"), name(3, "o"), nested(4, &hook), name(7, "filter")];
    let load = nested(2, &[number(1, REGISTER), number(2, CT_STATE)]);
    let rule = [name(1, "t"), name(2, "o"), nested(4, &[nested(1, &[name(1, "ct"), load])])];
    let create = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;
    let with = |body: &[Vec<u8>]| [generic(0), body.concat()].concat();
    let batch = [
        message(BATCH_BEGIN, NLM_F_REQUEST, &generic(NFTABLES)),
        message(NEWTABLE, create, &with(&[name(1, "t")])),
        message(NEWCHAIN, create, &with(&chain)),
        message(NEWRULE, create | NLM_F_APPEND, &with(&rule)),
        message(BATCH_END, NLM_F_REQUEST, &generic(NFTABLES)),
    ];
    ask(Some(netlink::NETFILTER), &batch.concat(), 3).context("no rule that tracks packets")
}

/// A netlink message with its header.
pub(crate) fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = (HEADER + body.len()) as u32;
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    // Sequence number and sender.
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// An attribute, filled up to a multiple of 4 bytes.
pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut attribute = (4 + value.len() as u16).to_ne_bytes().to_vec();
    attribute.extend(kind.to_ne_bytes());
    attribute.extend(value);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}

/// Sends, and waits for so many acknowledgements. Without a protocol it is rtnetlink's, which is 0.
fn ask(protocol: Option<Protocol>, messages: &[u8], acknowledgements: usize) -> Result<()> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
    ask_on(&socket, messages, acknowledgements)
}

/// Sends on `socket`, and waits for so many acknowledgements.
///
/// # Errors
/// The kernel's.
pub(crate) fn ask_on(socket: &OwnedFd, messages: &[u8], mut acknowledgements: usize) -> Result<()> {
    sockopt::set_socket_timeout(socket, sockopt::Timeout::Recv, Some(TIMEOUT))?;
    send(socket, messages, SendFlags::empty())?;
    let mut buffer = vec![0; 8192];
    while acknowledgements > 0 {
        let (length, _) = recv(socket, buffer.as_mut_slice(), RecvFlags::empty())?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        while let Some((kind, body, next)) = split(rest) {
            rest = next;
            if kind != NLMSG_ERROR {
                continue;
            }
            match body.first_chunk().map(|errno| i32::from_ne_bytes(*errno)) {
                Some(0) => acknowledgements = acknowledgements.saturating_sub(1),
                Some(errno) => return Err(io::Error::from_raw_os_error(-errno).into()),
                None => bail!("a message of {length} bytes makes no sense"),
            }
        }
    }
    Ok(())
}

/// The first message's type and body, and what follows.
fn split(messages: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(*messages.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(*messages.get(4..)?.first_chunk()?);
    let next = length.next_multiple_of(4).min(messages.len());
    Some((kind, messages.get(HEADER..length)?, messages.get(next..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_filled_up_and_say_their_true_length() {
        assert_eq!(
            attribute(1, b"t\0"),
            [&6_u16.to_ne_bytes()[..], &1_u16.to_ne_bytes(), b"t\0\0\0"].concat()
        );
        assert_eq!(attribute(1, &[0; 4]).len(), 8);
    }

    #[test]
    fn messages_are_told_apart() {
        let two = [message(NLMSG_ERROR, 0, &[0; 4]), message(16, 0, &[1; 8])].concat();
        let (kind, body, next) = split(&two).unwrap();
        assert_eq!((kind, body), (NLMSG_ERROR, &[0; 4][..]));
        let (kind, body, next) = split(next).unwrap();
        assert_eq!((kind, body, next), (16, &[1; 8][..], &[][..]));
        assert!(split(next).is_none());
        assert!(split(&two[..10]).is_none());
    }
}
