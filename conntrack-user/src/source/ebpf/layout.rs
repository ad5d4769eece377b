//! Where the running kernel keeps what the programs read.

use conntrack_ebpf::{ABSENT, Config};
use thiserror::Error;

use super::btf::{Btf, BtfError, Member};

/// Why the programs cannot read this kernel's structures.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LayoutError {
    /// BTF does not say where the member is.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// The member is not as large as the programs read it.
    #[error("`{structure}.{member}` takes {got} bytes in this kernel, not {expected}")]
    Size {
        /// Name of the structure.
        structure: &'static str,
        /// Path of the member.
        member: String,
        /// Bytes the programs read.
        expected: u32,
        /// Bytes it has.
        got: u32,
    },
    /// A tuple's member is not where the programs take it from.
    #[error("`nf_conntrack_tuple.{member}` lies at byte {got} in this kernel, not {expected}")]
    Tuple {
        /// Path of the member.
        member: &'static str,
        /// Offset the programs assume.
        expected: u32,
        /// Offset it has.
        got: u32,
    },
}

/// The layout of `struct nf_conntrack_tuple` that [`conntrack_ebpf::Tuple`] copies.
const TUPLE: [(&str, u32, u32); 8] = [
    ("src.u3", 0, 16),
    ("src.u", 16, 2),
    ("src.l3num", 18, 2),
    ("dst", 20, 20),
    ("dst.u3", 20, 16),
    ("dst.u", 36, 2),
    ("dst.protonum", 38, 1),
    ("dst.dir", 39, 1),
];

/// The offsets of [`Config`], from the types `btf` (those of the module nf_conntrack where it is
/// one). What is not an offset is left at 0.
///
/// # Errors
/// [`LayoutError`] names the structure and the member.
pub fn resolve(btf: &Btf) -> Result<Config, LayoutError> {
    let member = |structure: &'static str, path: &str, expected: u32| -> Result<u32, LayoutError> {
        let Member { offset, size } = btf.member(structure, path)?;
        if size != expected {
            let member = path.into();
            return Err(LayoutError::Size { structure, member, expected, got: size });
        }
        Ok(offset)
    };
    for (path, expected, size) in TUPLE {
        let got = member("nf_conntrack_tuple", path, size)?;
        if got != expected {
            return Err(LayoutError::Tuple { member: path, expected, got });
        }
    }
    Ok(Config {
        nf_conn_original: member("nf_conn", "tuplehash[0].tuple", 40)?,
        nf_conn_reply: member("nf_conn", "tuplehash[1].tuple", 40)?,
        nf_conn_reply_pprev: member("nf_conn", "tuplehash[1].hnnode.pprev", 8)?,
        nf_conn_status: member("nf_conn", "status", 8)?,
        nf_conn_timeout: member("nf_conn", "timeout", 4)?,
        nf_conn_net: member("nf_conn", "ct_net.net", 8)?,
        nf_conn_zone: match member("nf_conn", "zone.id", 2) {
            Err(LayoutError::Btf(BtfError::NoMember { .. })) => ABSENT,
            other => other?,
        },
        nf_conn_tcp_state: match member("nf_conn", "proto.tcp.state", 1) {
            Err(LayoutError::Btf(BtfError::NoMember { .. })) => ABSENT,
            other => other?,
        },
        zone_id: member("nf_conntrack_zone", "id", 2)?,
        skb_nfct: member("sk_buff", "_nfct", 8)?,
        net_cookie: member("net", "net_cookie", 8)?,
        net_inode: member("net", "ns.inum", 4)?,
        net_references: first(&[
            // 6.18 or so, 5.11 to then, and before.
            member("net", "ns.__ns_ref", 4),
            member("net", "ns.count", 4),
            member("net", "count", 4),
        ])?,
        // An `atomic64_t` is set when somebody first asks for it (`__net_gen_cookie`), until 5.12.
        cookie_is_address: btf.member("net", "net_cookie.counter").is_ok().into(),
        ..netns_list(member)
    })
}

/// The offsets by which the kernel's list of network namespaces is read; `net_list` is [`ABSENT`] where one is missing.
fn netns_list(member: impl Fn(&'static str, &str, u32) -> Result<u32, LayoutError>) -> Config {
    let absent = |offset: Result<u32, LayoutError>| offset.unwrap_or(ABSENT);
    let read = || -> Result<Config, LayoutError> {
        Ok(Config {
            net_list: member("net", "list", 16)?,
            net_ns_ops: member("net", "ns.ops", 8)?,
            net_gen: member("net", "gen", 8)?,
            task_nsproxy: member("task_struct", "nsproxy", 8)?,
            nsproxy_net: member("nsproxy", "net_ns", 8)?,
            ..Config::default()
        })
    };
    Config {
        // Of an `nf_conntrack_net` before 5.13 other members are known.
        net_ct_count: absent(member("net", "ct.count", 4)),
        nf_conntrack_net_count: absent(member("nf_conntrack_net", "count", 4)),
        ..read().unwrap_or(Config { net_list: ABSENT, ..Config::default() })
    }
}

/// The first that is there; the last reason where none is.
fn first(members: &[Result<u32, LayoutError>]) -> Result<u32, LayoutError> {
    let found = members.iter().find(|member| member.is_ok()).or(members.last());
    found.cloned().unwrap_or(Ok(ABSENT))
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
