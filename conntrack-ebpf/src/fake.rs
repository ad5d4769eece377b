//! What the timed programs (`bench.rs`) and their reader agree on.

use core::mem::{offset_of, size_of};

use crate::{Config, Tuple};

/// Rounds of a body in one run of a timed program.
pub const ROUNDS: u32 = 64;

/// Entries that there are.
pub const ENTRIES: u32 = 100_352;

/// Namespaces that there are.
pub const NETNS: usize = 4;

/// Offsets below this one are of a [`FakeNetns`], others of a [`FakeEntry`].
pub const NETNS_END: u32 = size_of::<FakeNetns>() as u32;

/// Stands for a `struct net`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct FakeNetns {
    /// `net.net_cookie`
    pub cookie: u64,
    /// `net.ns.inum`
    pub inode: u32,
    /// `net.ns.count`
    pub references: u32,
    /// Zero.
    pub unused: [u64; 6],
}

/// Stands for a `struct nf_conn`, and is about as large.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct FakeEntry {
    unused: [u8; NETNS_END as usize],
    /// `nf_conn.tuplehash[0].tuple`
    pub original: Tuple,
    /// `nf_conn.tuplehash[1].tuple`
    pub reply: Tuple,
    /// `nf_conn.status`
    pub status: u64,
    /// `nf_conn.ct_net.net`, as a number
    pub net: u64,
    /// `nf_conn.tuplehash[1].hnnode.pprev`
    pub reply_pprev: u64,
    /// `nf_conn.timeout`
    pub timeout: u32,
    /// `nf_conn.zone.id`
    pub zone: u16,
    unused_too: [u8; 66],
}

const _: () = assert!(size_of::<FakeEntry>() == 240);

/// Where the bodies find things in these.
#[must_use]
pub fn layout() -> Config {
    Config {
        nf_conn_original: offset_of!(FakeEntry, original) as u32,
        nf_conn_reply: offset_of!(FakeEntry, reply) as u32,
        nf_conn_reply_pprev: offset_of!(FakeEntry, reply_pprev) as u32,
        nf_conn_status: offset_of!(FakeEntry, status) as u32,
        nf_conn_timeout: offset_of!(FakeEntry, timeout) as u32,
        nf_conn_net: offset_of!(FakeEntry, net) as u32,
        nf_conn_zone: offset_of!(FakeEntry, zone) as u32,
        net_cookie: offset_of!(FakeNetns, cookie) as u32,
        net_inode: offset_of!(FakeNetns, inode) as u32,
        net_references: offset_of!(FakeNetns, references) as u32,
        ..Config::default()
    }
}
