//! Entries in a flow table: their packets pass by connection tracking.

use anyhow::Result;

use crate::{
    checks::Checks,
    command,
    ctmon::Watch,
    netns::Netns,
    runner::{Env, Test},
};

pub(super) fn tests() -> Vec<Test> {
    vec![Test::new(
        "offloaded-is-a-status",
        "An entry that is deleted while a flow table handles it is counted as offloaded",
        offloaded,
    )]
}

/// Forwards a TCP connection between two more namespaces through a flow table, and flushes the table
/// while it is open. The other ends of the interfaces are called veth0 and veth1 by the kernel. What runs in
/// the background holds no pipe of this test.
const SCRIPT: &str = r#"
set -e
unshare -n sleep 60 > /dev/null 2>&1 & client=$!
unshare -n sleep 60 > /dev/null 2>&1 & server=$!
trap 'kill $client $server' EXIT
while [ "$(readlink /proc/$client/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do sleep 0.1; done
while [ "$(readlink /proc/$server/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do sleep 0.1; done
in_client() { nsenter -t $client -n sh -c "$1"; }
in_server() { nsenter -t $server -n sh -c "$1"; }
ip link add c0 type veth; ip link add s0 type veth
ip link set veth0 netns $client; ip link set veth1 netns $server
ip addr add 10.0.1.1/24 dev c0; ip link set c0 up
ip addr add 10.0.2.1/24 dev s0; ip link set s0 up
in_client 'ip addr add 10.0.1.2/24 dev veth0; ip link set veth0 up; ip route add default via 10.0.1.1'
in_server 'ip addr add 10.0.2.2/24 dev veth1; ip link set veth1 up; ip route add default via 10.0.2.1'
echo 1 > /proc/sys/net/ipv4/ip_forward
nft -f - <<RULES
table inet t {
  flowtable f { hook ingress priority 0; devices = { c0, s0 }; }
  chain forwarded { type filter hook forward priority 0; meta l4proto tcp flow add @f; }
}
RULES
in_server 'sleep 6 | nc -l -p 7000' > /dev/null 2>&1 &
sleep 1
in_client '(for i in $(seq 25); do echo; sleep 0.2; done) | nc 10.0.2.2 7000' > /dev/null 2>&1 &
tries=0
until conntrack -L 2> /dev/null | grep -q OFFLOAD; do
  tries=$((tries + 1)); [ $tries -lt 50 ]; sleep 0.2
done
conntrack -F 2> /dev/null
"#;

fn offloaded(env: &Env, checks: &mut Checks) -> Result<()> {
    let inode = Netns::own()?.inode();
    let mut watch = Watch::start(env, &[])?;
    watch.baseline(inode)?;
    command::run("sh", &["-c", SCRIPT])?;
    let netns = watch.quiet_netns(inode)?;
    // The connection goes on and gets another entry.
    for name in ["deletes", "deletes_by_status_offloaded_tcp", "deletes_by_cause_user"] {
        checks.equal(name, netns.total(name), Some(1));
    }
    checks.equal("count_drift", netns.count_drift, Some(0));
    Ok(())
}
