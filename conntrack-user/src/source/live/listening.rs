//! Listening to ctnetlink: where, and what that cannot tell.

use anyhow::{Result, bail};

use super::{
    super::{
        Unavailable,
        access::Access,
        netlink::{self, NetlinkSource},
        procfs::Namespaces,
    },
    Options, Selection,
};
use crate::model::counts::Counted;

/// What its events tell: nothing of what happens before an entry is in the table, and of why it leaves only whether
/// somebody asked for it.
pub(super) const COUNTED: Counted = Counted {
    allocs: false,
    inserts_packet: true,
    inserts_ctnetlink: true,
    deletes: true,
    early_drops: false,
    causes: true,
    netns_exits: false,
    clashes: false,
    clash_outcomes: false,
    failed_inserts: false,
    failed_by_kernel: false,
};

/// Namespaces that are named one by one, at the most.
const NAMED: usize = 4;

/// Listens in the namespaces that are wanted.
///
/// # Errors
/// Nowhere, or not in the only one that is wanted, can be listened, and why.
pub(super) fn open(
    options: &Options,
    namespaces: &Namespaces,
    selection: Selection,
    own: Option<u64>,
) -> Result<NetlinkSource> {
    let mut source = NetlinkSource::new(options.netlink.clone())?;
    follow(&mut source, options.access.as_ref(), namespaces, selection, own);
    if source.listeners() == 0
        && let Some((inode, why)) = source.refused().next()
    {
        bail!(
            "cannot listen to ctnetlink in the network namespace {inode}: {why} (--source procfs polls without it)"
        );
    }
    Ok(source)
}

/// Listens in those that came, and no more in those that nobody is in.
pub(super) fn follow(
    source: &mut NetlinkSource,
    access: &dyn Access,
    namespaces: &Namespaces,
    selection: Selection,
    own: Option<u64>,
) {
    source.follow(access, namespaces, own, |inode| selection.has(inode));
}

/// What cannot be told, what it costs first of all.
pub(super) fn lost(source: &NetlinkSource) -> Vec<Unavailable> {
    let lost = |what: &str, why: String| Unavailable { what: what.into(), reason: why };
    let mut all = vec![
        lost(
            "the rate of new connections that this machine has otherwise",
            "each is dearer while somebody listens to ctnetlink".into(),
        ),
        lost(
            "allocations and frees, drops because the table is full, evictions and other causes of deletes than users, \
             clashes and failed inserts, peaks within a tick, and the state of live entries",
            "the events of ctnetlink do not tell them".into(),
        ),
    ];
    let refused: Vec<(u64, &str)> = source.refused().collect();
    let what = |inode| format!("inserts and deletes in the network namespace {inode}");
    let named = refused.iter().take(NAMED);
    all.extend(named.map(|(inode, why)| lost(&what(*inode), (*why).into())));
    if refused.len() > NAMED {
        let what = format!("the same in {} more", refused.len() - NAMED);
        all.push(lost(&what, "one cannot listen in them".into()));
    }
    if source.listeners() == netlink::MOST {
        let why = format!("{} are listened to at the most; --netns chooses one", netlink::MOST);
        all.push(lost("inserts and deletes in more network namespaces", why));
    }
    all
}
