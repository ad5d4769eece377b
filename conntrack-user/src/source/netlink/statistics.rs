//! The kernel's own counters of a network namespace, asked of ctnetlink: for kernels that have none in procfs.

use std::io;

use netlink_packet_core::{NetlinkBuffer, NlasIterator};
use rustix::net::{RecvFlags, SendFlags, netlink::SocketAddrNetlink, recvfrom, sendto};

use super::socket::{KERNEL, LONGEST, NLMSG_ERROR, unbound};
use crate::model::reading::KernelStat;

const NLM_F_REQUEST_DUMP: u16 = 0x301;
const NLMSG_DONE: u16 = 3;
/// `struct nfgenmsg`: before the attributes.
const GENERIC: usize = 4;
/// Datagrams of an answer, at most: each has some 60 CPUs.
const MOST_DATAGRAMS: usize = 1024;

/// Counters to ask for; the kernel answers with a message for each possible CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET_STATS_CPU`
    Entries = 0x104,
    /// `NFNL_SUBSYS_CTNETLINK_EXP << 8 | IPCTNL_MSG_EXP_GET_STATS_CPU`
    Expectations = 0x203,
}

impl Question {
    /// Reports whether a message of this type answers the question. The kernel answers in the name of the subsystem of entries
    /// (`ctnetlink_exp_stat_fill_info`).
    const fn has_answer(self, kind: u16) -> bool {
        match self {
            Self::Entries => kind == 0x104,
            Self::Expectations => matches!(kind, 0x103 | 0x203),
        }
    }
}

/// Asks in the namespace that the calling thread is in. The kernel would load the module `nf_conntrack_netlink` for it, so it is
/// to be there already.
///
/// # Errors
/// Without `CAP_NET_ADMIN` in the namespace, and where the kernel has no ctnetlink.
pub fn ask() -> io::Result<KernelStat> {
    let mut stat = KernelStat::default();
    for question in [Question::Entries, Question::Expectations] {
        ask_one(question, &mut stat).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => {
                io::Error::new(error.kind(), "asking ctnetlink for them takes CAP_NET_ADMIN")
            }
            _ => error,
        })?;
    }
    Ok(stat)
}

fn ask_one(question: Question, stat: &mut KernelStat) -> io::Result<()> {
    let socket = unbound()?;
    // struct nlmsghdr: length, type, flags, sequence number, port; struct nfgenmsg: family, version, resource.
    let mut request = 20_u32.to_ne_bytes().to_vec();
    request.extend((question as u16).to_ne_bytes());
    request.extend(NLM_F_REQUEST_DUMP.to_ne_bytes());
    request.resize(20, 0);
    sendto(&socket, &request, SendFlags::empty(), &SocketAddrNetlink::new(KERNEL, 0))?;
    let mut buffer = [0; LONGEST];
    for _ in 0..MOST_DATAGRAMS {
        // Each part is there when the one before is taken.
        let (length, ..) = recvfrom(&socket, &mut buffer[..], RecvFlags::empty())?;
        if add(question, buffer.get(..length).unwrap_or_default(), stat)? {
            return Ok(());
        }
    }
    Err(nonsense())
}

fn nonsense() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "ctnetlink's answer makes no sense")
}

/// Adds the CPUs of a datagram to `stat`. Whether it was the last one.
pub(super) fn add(question: Question, datagram: &[u8], stat: &mut KernelStat) -> io::Result<bool> {
    let mut rest = datagram;
    while !rest.is_empty() {
        let message = NetlinkBuffer::new_checked(rest).map_err(|_| nonsense())?;
        let length = (message.length() as usize).next_multiple_of(4);
        let (kind, payload) = (message.message_type(), message.payload());
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let errno = payload.first_chunk().map_or(0, |errno| i32::from_ne_bytes(*errno));
                return Err(io::Error::from_raw_os_error(errno.saturating_neg()));
            }
            kind if question.has_answer(kind) => add_cpu(question, payload, stat)?,
            _ => return Err(nonsense()),
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(false)
}

fn add_cpu(question: Question, payload: &[u8], stat: &mut KernelStat) -> io::Result<()> {
    for attribute in NlasIterator::new(payload.get(GENERIC..).ok_or_else(nonsense)?) {
        let attribute = attribute.map_err(|_| nonsense())?;
        // enum ctattr_stats_cpu and ctattr_expect_stats, include/uapi/linux/netfilter/nfnetlink_conntrack.h
        let counter = match (question, attribute.kind()) {
            (Question::Entries, 2) => &mut stat.found,
            (Question::Entries, 4) => &mut stat.invalid,
            (Question::Entries, 8) => &mut stat.insert,
            (Question::Entries, 9) => &mut stat.insert_failed,
            (Question::Entries, 10) => &mut stat.drop,
            (Question::Entries, 11) => &mut stat.early_drop,
            (Question::Entries, 12) => &mut stat.error,
            (Question::Entries, 13) => &mut stat.search_restart,
            (Question::Entries, 14) => &mut stat.clash_resolve,
            (Question::Entries, 15) => &mut stat.chaintoolong,
            (Question::Expectations, 1) => &mut stat.expect_new,
            (Question::Expectations, 2) => &mut stat.expect_create,
            (Question::Expectations, 3) => &mut stat.expect_delete,
            _ => continue,
        };
        let value: [u8; 4] = attribute.value().try_into().map_err(|_| nonsense())?;
        *counter = Some(counter.unwrap_or(0) + u64::from(u32::from_be_bytes(value)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, payload: &[u8]) -> Vec<u8> {
        let mut message = (16 + payload.len() as u32).to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.resize(16, 0);
        message.extend(payload);
        message
    }

    /// The type of its answer is that of a kernel (6.18).
    fn cpu(question: Question, counters: &[(u16, u32)]) -> Vec<u8> {
        let mut payload = vec![0; GENERIC];
        for (kind, value) in counters {
            payload.extend(8_u16.to_ne_bytes());
            payload.extend(kind.to_ne_bytes());
            payload.extend(value.to_be_bytes());
        }
        let kind = if question == Question::Entries { 0x104 } else { 0x103 };
        message(kind, &payload)
    }

    #[test]
    fn cpus_are_summed_and_a_counter_that_is_not_told_is_none() {
        let mut stat = KernelStat::default();
        let two = [
            cpu(Question::Entries, &[(4, 7), (10, u32::MAX), (99, 1)]),
            cpu(Question::Entries, &[(4, 5), (10, 1)]),
        ];
        assert!(!add(Question::Entries, &two.concat(), &mut stat).unwrap());
        assert!(add(Question::Entries, &message(NLMSG_DONE, &[0; 4]), &mut stat).unwrap());
        let one = cpu(Question::Expectations, &[(1, 3), (2, 4), (3, 5)]);
        add(Question::Expectations, &one, &mut stat).unwrap();
        let expected = KernelStat {
            invalid: Some(12),
            drop: Some(1 << 32),
            expect_new: Some(3),
            expect_create: Some(4),
            expect_delete: Some(5),
            ..KernelStat::default()
        };
        assert_eq!(stat, expected);
    }

    #[test]
    fn what_makes_no_sense_and_what_is_refused_is_an_error() {
        let mut stat = KernelStat::default();
        let short = message(Question::Entries as u16, &[0; 2]);
        let other = message(0x100, &[0; 8]);
        let mut cut = cpu(Question::Entries, &[(4, 7)]);
        cut.pop();
        for wrong in [&short, &other, &cut] {
            assert!(add(Question::Entries, wrong, &mut stat).is_err(), "{wrong:?}");
        }
        let refused = message(NLMSG_ERROR, &(-libc::EPERM).to_ne_bytes());
        let error = add(Question::Entries, &refused, &mut stat).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

    /// Two witnesses. Needs `CAP_NET_ADMIN`, and ctnetlink.
    #[test]
    fn ctnetlink_and_procfs_say_the_same() {
        let read = || {
            let text = std::fs::read_to_string("/proc/thread-self/net/stat/nf_conntrack").ok()?;
            crate::source::procfs::stat::parse(&text)
        };
        let (before, asked, after) = (read(), ask(), read());
        let (Some(before), Ok(asked), Some(after)) = (before, &asked, after) else {
            println!("skipped: {asked:?}");
            return;
        };
        let is_between = |[low, now, high]: [Option<u64>; 3]| low <= now && now <= high;
        for all in [
            [before.invalid, asked.invalid, after.invalid],
            [before.drop, asked.drop, after.drop],
            [before.early_drop, asked.early_drop, after.early_drop],
            [before.insert_failed, asked.insert_failed, after.insert_failed],
            [before.found, asked.found, after.found],
            [before.error, asked.error, after.error],
            [before.clash_resolve, asked.clash_resolve, after.clash_resolve],
            [before.search_restart, asked.search_restart, after.search_restart],
            [before.chaintoolong, asked.chaintoolong, after.chaintoolong],
            [before.expect_create, asked.expect_create, after.expect_create],
        ] {
            assert!(is_between(all), "{all:?}: {before:?} {asked:?}");
        }
    }
}
