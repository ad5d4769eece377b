//! Tuples, events of entries, and which entries are in the sample.

use core::mem::{offset_of, size_of};

#[cfg(not(target_arch = "bpf"))]
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// `struct nf_conntrack_tuple` (include/net/netfilter/nf_conntrack_tuple.h), the same on all kernels
/// from 5.10 to 7.3; the loader refuses a kernel on which it is not.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(FromBytes, Immutable, KnownLayout))]
pub struct Tuple {
    /// Source address; IPv4 in the first four bytes. Network byte order.
    pub source: [u8; 16],
    /// Source port, ICMP id or GRE key. Network byte order.
    pub source_port: [u8; 2],
    /// `AF_INET` or `AF_INET6`.
    pub family: u16,
    /// Destination address, as `source`.
    pub destination: [u8; 16],
    /// Destination port, GRE key, or ICMP type and code. Network byte order.
    pub destination_port: [u8; 2],
    /// IP protocol number.
    pub protocol: u8,
    /// `IP_CT_DIR_ORIGINAL` (0) or `IP_CT_DIR_REPLY` (1).
    pub direction: u8,
}

const _: () = assert!(size_of::<Tuple>() == 40);

impl Tuple {
    /// The tuple but for its direction, as numbers.
    #[must_use]
    #[inline(always)]
    pub const fn words(&self) -> [u64; 5] {
        let [s, d] = [&self.source, &self.destination];
        [
            u64::from_ne_bytes([s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]]),
            u64::from_ne_bytes([s[8], s[9], s[10], s[11], s[12], s[13], s[14], s[15]]),
            u64::from_ne_bytes([d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]]),
            u64::from_ne_bytes([d[8], d[9], d[10], d[11], d[12], d[13], d[14], d[15]]),
            Self::ports(
                u16::from_ne_bytes(self.source_port),
                u16::from_ne_bytes(self.destination_port),
                self.protocol,
            ),
        ]
    }

    /// Reports whether this tuple and `reply` may be the two of one entry: of IPv4 or IPv6, of one protocol, each of its
    /// direction. What is no entry has this once in some 2^40 places.
    #[must_use]
    #[inline(always)]
    pub const fn is_answered_by(&self, reply: &Self) -> bool {
        // One comparison: in a loop the verifier follows each branch.
        let family = (self.family ^ 2) as u32 * (self.family ^ 10) as u32;
        let other = (self.family ^ reply.family) as u32 | (self.protocol ^ reply.protocol) as u32;
        let direction = self.direction as u32 | (reply.direction ^ 1) as u32;
        family | other | direction == 0
    }

    /// The last of [`Tuple::words`], from ports as they lie in memory.
    #[must_use]
    #[inline(always)]
    pub const fn ports(source: u16, destination: u16, protocol: u8) -> u64 {
        source as u64 | (destination as u64) << 16 | (protocol as u64) << 32
    }
}

/// [`FlowEvent::kind`]: the entry was hashed by a packet.
pub const EVENT_INSERT_PACKET: u8 = 1;
/// [`FlowEvent::kind`]: the entry was hashed through ctnetlink or a BPF kfunc.
pub const EVENT_INSERT_CTNETLINK: u8 = 2;
/// [`FlowEvent::kind`]: the entry was taken out of the hash.
pub const EVENT_DESTROY: u8 = 3;
/// [`FlowEvent::kind`]: a new entry was refused because the table was full, or memory was.
pub const EVENT_TABLE_FULL_DROP: u8 = 4;
/// [`FlowEvent::kind`]: the entry was evicted to make room for a new one.
pub const EVENT_EARLY_DROP: u8 = 5;

/// [`FlowEvent::cause`]: the kernel itself: it expired, was reset, or its device went away.
pub const CAUSE_KERNEL: u8 = 0;
/// [`FlowEvent::cause`]: a user asked for it through ctnetlink.
pub const CAUSE_USER: u8 = 1;
/// [`FlowEvent::cause`]: its namespace ended.
pub const CAUSE_NETNS_EXIT: u8 = 2;
/// [`FlowEvent::cause`]: it had to make room.
pub const CAUSE_EARLY_DROP: u8 = 3;

/// One record of the ring buffer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(FromBytes, Immutable, KnownLayout))]
pub struct FlowEvent {
    /// `CLOCK_MONOTONIC` in nanoseconds.
    pub time_ns: u64,
    /// `net->net_cookie` of the entry's namespace.
    pub netns_cookie: u64,
    /// The address of its `struct nf_conn`: no two entries that are there at the same time share one. 0
    /// where there was no entry ([`EVENT_TABLE_FULL_DROP`]).
    pub entry: u64,
    /// The tuple of the first packet.
    pub original: Tuple,
    /// The tuple of the answers, final once the entry is hashed (after NAT).
    pub reply: Tuple,
    /// `nf_conn.status`: `IPS_*` bits (include/uapi/linux/netfilter/nf_conntrack_common.h).
    pub status: u32,
    /// [`FlowHash`] of the entry, the same at its insert and at its destroy.
    pub sample_hash: u32,
    /// Entries whose hash is below this were sent at that moment; [`EVERY_FLOW`]: all were.
    pub sample_threshold: u32,
    /// Zone id; 0 is the default zone.
    pub zone: u16,
    /// `EVENT_*`
    pub kind: u8,
    /// `CAUSE_*`, of an [`EVENT_DESTROY`].
    pub cause: u8,
}

const _: () = assert!(size_of::<FlowEvent>() == 120);
const _: () = assert!(offset_of!(FlowEvent, original) == 24);
const _: () = assert!(offset_of!(FlowEvent, reply) == 64);

/// [`FlowEvent::sample_threshold`] when every entry is in the sample.
pub const EVERY_FLOW: u32 = u32::MAX;

/// Reports whether an entry with `hash` is in the sample at `threshold`.
#[must_use]
#[inline(always)]
pub const fn is_sampled(hash: u32, threshold: u32) -> bool {
    threshold == EVERY_FLOW || hash < threshold
}

/// The hash of an entry's identity by which it is in the sample or not: a multiplication and a shift a
/// word, as in MurmurHash3's finalizer, from a seed that nobody outside can guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowHash(u64);

impl FlowHash {
    const MULTIPLIER: u64 = 0xff51_afd7_ed55_8ccd;

    /// Begins with the seed.
    #[must_use]
    #[inline(always)]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Takes in a word.
    #[must_use]
    #[inline(always)]
    pub const fn with(self, word: u64) -> Self {
        let mixed = (self.0 ^ word).wrapping_mul(Self::MULTIPLIER);
        Self(mixed ^ (mixed >> 32))
    }

    /// Takes in the words of a tuple ([`Tuple::words`]).
    #[must_use]
    #[inline(always)]
    pub const fn with_tuple(self, words: [u64; 5]) -> Self {
        let [a, b, c, d, e] = words;
        self.with(a).with(b).with(c).with(d).with(e)
    }

    /// The hash.
    #[must_use]
    #[inline(always)]
    pub const fn finish(self) -> u32 {
        (self.with(0).0 >> 32) as u32
    }
}
