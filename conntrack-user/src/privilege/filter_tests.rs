use std::thread;

use rustix::{
    io::Errno,
    net::{AddressFamily, Protocol, SocketType, netlink, socket},
    thread::set_no_new_privs,
};

use super::*;

#[test]
fn the_helper_makes_sockets_for_ctnetlink_only_where_it_listens() {
    let sockets: [(&str, AddressFamily, Option<Protocol>, bool); 4] = [
        ("ctnetlink", AddressFamily::NETLINK, Some(netlink::NETFILTER), true),
        ("routes", AddressFamily::NETLINK, None, false),
        ("audit", AddressFamily::NETLINK, Some(netlink::AUDIT), false),
        ("packets", AddressFamily::PACKET, None, false),
    ];
    for listens in [false, true] {
        let filter = helper(false, listens).unwrap();
        thread::spawn(move || {
            set_no_new_privs(true).unwrap();
            install(&filter).unwrap();
            for (what, family, protocol, is_for_listening) in sockets {
                let outcome = socket(family, SocketType::RAW, protocol).map(drop);
                let is_refused = outcome == Err(Errno::NOSYS);
                assert_eq!(is_refused, !(listens && is_for_listening), "{what}: {outcome:?}");
            }
        })
        .join()
        .unwrap();
    }
}
