//! What is heard of one network namespace.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use super::{
    message::{self, Event, What},
    socket::{Received, Socket},
};
use crate::model::{
    class::{EntryStatus, Protocol},
    counts::{Balance, ByProtocol, Totals},
    reading::NetnsId,
};

/// Counts what becomes of the entries of a namespace.
#[derive(Debug)]
pub(super) struct Listener {
    id: NetnsId,
    socket: Socket,
    totals: Totals,
    loss: Loss,
}

impl Listener {
    /// Takes over a socket that was opened in the namespace.
    pub(super) fn new(id: NetnsId, socket: OwnedFd) -> Self {
        Self { id, socket: Socket::new(socket), totals: Totals::default(), loss: Loss::default() }
    }

    /// The namespace.
    pub(super) const fn id(&self) -> NetnsId {
        self.id
    }

    /// What was heard by now.
    pub(super) const fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Whether more was lost than the totals say.
    pub(super) const fn has_lost_more(&self) -> bool {
        self.loss.is_more
    }

    /// Inserts and deletes heard by now, in the place of allocations and frees.
    pub(super) const fn balance(&self) -> Balance {
        Balance { allocs: self.totals.inserts(), frees: self.totals.deletes.sum() }
    }

    /// Counts at most `limit` waiting events and hands each to `take`, which says whether it is in the sample; how many
    /// there were.
    pub(super) fn receive(
        &mut self,
        limit: u64,
        mut take: impl FnMut(NetnsId, Event) -> bool,
    ) -> u64 {
        let Self { id, socket, totals, loss } = self;
        let mut received = 0;
        while received < limit {
            match socket.receive() {
                Ok(Received::Datagram(datagram)) => {
                    for event in message::events(datagram) {
                        received += 1;
                        match event {
                            Ok(event) => {
                                count(totals, &event);
                                totals.events_sampled_out += u64::from(!take(*id, event));
                            }
                            Err(_) => loss.malformed(),
                        }
                    }
                }
                Ok(Received::Overrun) => loss.overrun(socket.dropped()),
                Ok(Received::Nothing) => break,
                Err(_) => {
                    loss.unknown();
                    break;
                }
            }
        }
        totals.events_lost = loss.number;
        received
    }

    /// Whether something was lost since the call before.
    pub(super) fn take_missed(&mut self) -> bool {
        self.loss.dropped(self.socket.dropped());
        self.totals.events_lost = self.loss.number;
        std::mem::take(&mut self.loss.is_new)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Events that were sent and did not arrive.
#[derive(Debug, Default, PartialEq, Eq)]
struct Loss {
    /// How many are known of.
    number: u64,
    /// There were more, and nobody knows how many: the kernel had no memory for them.
    is_more: bool,
    /// Some since this was last taken.
    is_new: bool,
    /// What the socket had dropped, as last read, and when it last said that there was something.
    dropped: u32,
    said: u32,
}

impl Loss {
    /// The socket has dropped so many by now, modulo 2^32.
    fn dropped(&mut self, now: io::Result<u32>) {
        let Ok(now) = now else { return self.unknown() };
        let new = now.wrapping_sub(self.dropped);
        self.dropped = now;
        self.number += u64::from(new);
        self.is_new |= new > 0;
    }

    /// The socket says that something is missing, and has dropped so many by now. It says so once for each time that it is
    /// full, and when there was no memory for a message, which it has then not dropped.
    fn overrun(&mut self, now: io::Result<u32>) {
        self.dropped(now);
        if self.said == self.dropped {
            self.unknown();
        }
        self.said = self.dropped;
    }

    /// One that arrived makes no sense.
    const fn malformed(&mut self) {
        self.number += 1;
        self.is_new = true;
    }

    const fn unknown(&mut self) {
        self.is_more = true;
        self.is_new = true;
    }
}

fn count(totals: &mut Totals, event: &Event) {
    let protocol = Protocol::of(event.original.protocol);
    match event.what {
        What::New if event.by_user => *member(&mut totals.inserts_ctnetlink, protocol) += 1,
        What::New => *member(&mut totals.inserts_packet, protocol) += 1,
        What::Destroy => {
            let deletes = match EntryStatus::of(event.status) {
                EntryStatus::Unreplied => &mut totals.deletes.unreplied,
                EntryStatus::Replied => &mut totals.deletes.replied,
                EntryStatus::Assured => &mut totals.deletes.assured,
                EntryStatus::Offloaded => &mut totals.deletes.offloaded,
            };
            *member(deletes, protocol) += 1;
            totals.deletes_user += u64::from(event.by_user);
        }
    }
}

const fn member(of: &mut ByProtocol, protocol: Protocol) -> &mut u64 {
    match protocol {
        Protocol::Tcp => &mut of.tcp,
        Protocol::Udp => &mut of.udp,
        Protocol::Icmp => &mut of.icmp,
        Protocol::Other => &mut of.other,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::message::tests::udp, *};
    use crate::model::flow::Status;

    #[test]
    fn events_are_counted_by_path_protocol_and_status() {
        let mut totals = Totals::default();
        let mut hear = |what, by_user, protocol, status| {
            let mut event = Event { what, by_user, status: Status(status), ..udp() };
            event.original.protocol = protocol;
            count(&mut totals, &event);
        };
        for (by_user, protocol) in [(false, 17), (false, 6), (true, 17), (false, 1), (false, 47)] {
            hear(What::New, by_user, protocol, 0x8);
        }
        for (by_user, protocol, status) in
            [(false, 17, 0x208), (true, 6, 0x20e), (false, 58, 0x20a), (false, 6, 0x420e)]
        {
            hear(What::Destroy, by_user, protocol, status);
        }
        let inserts = [totals.inserts_packet, totals.inserts_ctnetlink].map(<[u64; 4]>::from);
        assert_eq!(inserts, [[1, 1, 1, 1], [0, 1, 0, 0]]);
        let deletes: [[u64; 4]; 4] = totals.deletes.into();
        assert_eq!(deletes, [[0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0], [1, 0, 0, 0]]);
        assert_eq!(totals.deletes_user, 1);
    }

    /// What was dropped by then, and whether the socket said so; then the number, whether there are more, and whether some
    /// are new.
    #[test]
    fn what_is_lost_is_counted_once_and_told_once() {
        let mut loss = Loss::default();
        let mut hear = |dropped: u32, says: bool| {
            if says {
                loss.overrun(Ok(dropped))
            } else {
                loss.dropped(Ok(dropped))
            }
            (loss.number, loss.is_more, std::mem::take(&mut loss.is_new))
        };
        assert_eq!(hear(0, false), (0, false, false));
        assert_eq!(hear(494, false), (494, false, true), "read before the socket said so");
        assert_eq!(hear(494, true), (494, false, false), "the same ones");
        assert_eq!(hear(498, true), (498, false, true));
        assert_eq!(hear(500, false), (500, false, true), "still full");
        assert_eq!(hear(500, false), (500, false, false));
        assert_eq!(hear(u32::MAX, true), (u64::from(u32::MAX), false, true));
        assert_eq!(hear(2, true), (u64::from(u32::MAX) + 3, false, true), "the kernel's wraps");
        assert_eq!(hear(2, true), (u64::from(u32::MAX) + 3, true, true), "no memory");
    }

    #[test]
    fn what_makes_no_sense_is_lost() {
        let mut loss = Loss::default();
        loss.malformed();
        assert_eq!((loss.number, loss.is_more, loss.is_new), (1, false, true));
        loss.dropped(Err(io::Error::other("closed")));
        assert!(loss.is_more);
    }
}
