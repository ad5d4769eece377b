//! Layouts of kernels that are not at hand: members moved, missing, renamed, or of another size.

use super::{
    super::btf::{fixture::Fixture, kind},
    *,
};

/// Structures with their members: name, type and offset. Types are `uN` (N bytes), `uNxM` (an array), or a structure.
type Structures = Vec<(&'static str, u32, Vec<(&'static str, &'static str, u32)>)>;

/// Structures of 6.12 on x86-64, without members that ctmon does not read.
fn usual() -> Structures {
    vec![
        ("nf_conntrack_man", 20, vec![("u3", "u1x16", 0), ("u", "u2", 16), ("l3num", "u2", 18)]),
        (
            "dst",
            20,
            vec![("u3", "u1x16", 0), ("u", "u2", 16), ("protonum", "u1", 18), ("dir", "u1", 19)],
        ),
        ("nf_conntrack_tuple", 40, vec![("src", "nf_conntrack_man", 0), ("dst", "dst", 20)]),
        ("hlist_nulls_node", 16, vec![("next", "u8", 0), ("pprev", "u8", 8)]),
        (
            "nf_conntrack_tuple_hash",
            56,
            vec![("hnnode", "hlist_nulls_node", 0), ("tuple", "nf_conntrack_tuple", 16)],
        ),
        ("nf_conntrack_zone", 4, vec![("id", "u2", 0)]),
        ("possible_net", 8, vec![("net", "u8", 0)]),
        ("ip_ct_tcp", 20, vec![("state", "u1", 18)]),
        ("nf_conntrack_proto", 20, vec![("tcp", "ip_ct_tcp", 0)]),
        (
            "nf_conn",
            248,
            vec![
                ("timeout", "u4", 8),
                ("zone", "nf_conntrack_zone", 12),
                ("tuplehash", "nf_conntrack_tuple_hashx2", 16),
                ("status", "u8", 128),
                ("ct_net", "possible_net", 136),
                ("proto", "nf_conntrack_proto", 200),
            ],
        ),
        ("sk_buff", 232, vec![("_nfct", "u8", 104)]),
        ("ns_common", 24, vec![("ops", "u8", 8), ("inum", "u4", 16), ("count", "u4", 20)]),
        ("list_head", 16, vec![("next", "u8", 0), ("prev", "u8", 8)]),
        (
            "net",
            96,
            vec![
                ("ns", "ns_common", 8),
                ("net_cookie", "u8", 40),
                ("list", "list_head", 64),
                ("gen", "u8", 80),
            ],
        ),
        ("nf_conntrack_net", 32, vec![("count", "u4", 4)]),
        ("nsproxy", 48, vec![("net_ns", "u8", 40)]),
        ("task_struct", 4096, vec![("nsproxy", "u8", 2000)]),
    ]
}

/// The BTF of `structures`, each of which names only those before it.
fn btf(structures: &Structures) -> Btf {
    let mut fixture = Fixture::new();
    let mut made = vec![];
    for bytes in [1, 2, 4, 8] {
        made.push((format!("u{bytes}"), fixture.int("", bytes)));
    }
    for (name, size, members) in structures {
        let mut of = |type_: &str| {
            let id = |name: &str| made.iter().find(|(made, _)| made == name).map(|(_, id)| *id);
            if let Some(id) = id(type_) {
                return id;
            }
            let (element, length) = type_.rsplit_once('x').unwrap();
            let extra = [id(element).unwrap(), 0, length.parse().unwrap()];
            fixture.push("", kind::ARRAY, 0, 0, &extra)
        };
        let members: Vec<_> =
            members.iter().map(|(name, type_, offset)| (*name, of(type_), *offset)).collect();
        made.push(((*name).to_owned(), fixture.composite(kind::STRUCT, name, *size, &members)));
    }
    Btf::parse(fixture.bytes()).unwrap()
}

/// The usual layout with one change.
fn with(change: impl Fn(&mut Structures)) -> Result<Config, LayoutError> {
    let mut structures = usual();
    change(&mut structures);
    resolve(&btf(&structures))
}

/// The members of a structure.
fn of<'a>(
    structures: &'a mut Structures,
    name: &str,
) -> &'a mut Vec<(&'static str, &'static str, u32)> {
    &mut structures.iter_mut().find(|structure| structure.0 == name).unwrap().2
}

fn member<'a>(
    structures: &'a mut Structures,
    structure: &str,
    name: &str,
) -> &'a mut (&'static str, &'static str, u32) {
    of(structures, structure).iter_mut().find(|member| member.0 == name).unwrap()
}

#[test]
fn the_usual_layout_is_found() {
    let config = with(|_| {}).unwrap();
    let expected = Config {
        nf_conn_original: 32,
        nf_conn_reply: 88,
        nf_conn_reply_pprev: 80,
        nf_conn_status: 128,
        nf_conn_timeout: 8,
        nf_conn_net: 136,
        nf_conn_zone: 12,
        nf_conn_tcp_state: 218,
        zone_id: 0,
        skb_nfct: 104,
        net_cookie: 40,
        net_inode: 24,
        net_references: 28,
        net_list: 64,
        net_ns_ops: 16,
        net_gen: 80,
        net_ct_count: ABSENT,
        nf_conntrack_net_count: 4,
        task_nsproxy: 2000,
        nsproxy_net: 40,
        ..Config::default()
    };
    assert_eq!(config, expected);
}

#[test]
fn members_are_found_wherever_they_lie() {
    // As a kernel with RANDSTRUCT would have them.
    let config = with(|structures| {
        member(structures, "nf_conn", "status").2 = 240;
        member(structures, "nf_conn", "tuplehash").2 = 24;
        member(structures, "net", "net_cookie").2 = 56;
        member(structures, "net", "ns").2 = 32;
        member(structures, "hlist_nulls_node", "pprev").2 = 0;
        member(structures, "hlist_nulls_node", "next").2 = 8;
    })
    .unwrap();
    assert_eq!(
        (config.nf_conn_status, config.nf_conn_reply, config.nf_conn_reply_pprev),
        (240, 96, 80)
    );
    assert_eq!((config.net_cookie, config.net_inode), (56, 48));
}

#[test]
fn what_a_kernel_is_built_without_is_absent() {
    let config = with(|structures| {
        of(structures, "nf_conn").retain(|member| !["zone", "proto"].contains(&member.0));
    })
    .unwrap();
    assert_eq!((config.nf_conn_zone, config.nf_conn_tcp_state), (ABSENT, ABSENT));
}

#[test]
fn the_count_of_references_has_had_three_places() {
    let newest = with(|structures| member(structures, "ns_common", "count").0 = "__ns_ref");
    assert_eq!(newest.unwrap().net_references, 28);
    let oldest = with(|structures| {
        of(structures, "ns_common").retain(|member| member.0 != "count");
        of(structures, "net").push(("count", "u4", 4));
    });
    assert_eq!(oldest.unwrap().net_references, 4);
}

#[test]
fn a_cookie_made_on_demand_is_an_address() {
    let config = with(|structures| {
        structures.insert(0, ("atomic64_t", 8, vec![("counter", "u8", 0)]));
        member(structures, "net", "net_cookie").1 = "atomic64_t";
    });
    assert_eq!(config.unwrap().cookie_is_address, 1);
    assert_eq!(with(|_| {}).unwrap().cookie_is_address, 0);
}

#[test]
fn an_unexpected_layout_is_refused_with_a_sentence() {
    let error = |change: fn(&mut Structures)| with(change).unwrap_err().to_string();
    assert_eq!(
        error(|structures| {
            member(structures, "nf_conntrack_tuple", "dst").2 = 24;
            structures
                .iter_mut()
                .find(|structure| structure.0 == "nf_conntrack_tuple")
                .unwrap()
                .1 = 44;
        }),
        "`nf_conntrack_tuple.dst` lies at byte 24 in this kernel, not 20"
    );
    assert_eq!(
        error(|structures| member(structures, "nf_conn", "status").1 = "u4"),
        "`nf_conn.status` takes 4 bytes in this kernel, not 8"
    );
    assert_eq!(
        error(|structures| of(structures, "nf_conn").retain(|member| member.0 != "timeout")),
        "structure `nf_conn` has no member `timeout`"
    );
    assert_eq!(
        error(|structures| structures.retain(|structure| structure.0 != "sk_buff")),
        "BTF has no structure `sk_buff`"
    );
}

#[test]
fn without_the_list_of_namespaces_all_else_is_found() {
    for (structure, name) in
        [("net", "list"), ("net", "gen"), ("ns_common", "ops"), ("task_struct", "nsproxy")]
    {
        let config = with(|structures| of(structures, structure).retain(|one| one.0 != name));
        let config = config.unwrap();
        assert_eq!((config.net_list, config.net_inode), (ABSENT, 24), "{structure}.{name}");
    }
    // Until 5.12 the count is in the namespace itself.
    let config = with(|structures| {
        of(structures, "nf_conntrack_net")[0].0 = "users4";
        let at = structures.iter().position(|one| one.0 == "net").unwrap();
        structures.insert(at, ("ct", 8, vec![("count", "u4", 4)]));
        of(structures, "net").push(("ct", "ct", 88));
    })
    .unwrap();
    assert_eq!((config.net_ct_count, config.nf_conntrack_net_count), (92, ABSENT));
}
