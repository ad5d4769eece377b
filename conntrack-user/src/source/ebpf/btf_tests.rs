use super::{fixture::Fixture, *};

/// A `net` whose number lies in an anonymous union in an embedded structure, as on 7.3, and an array.
fn vmlinux() -> Fixture {
    let mut f = Fixture::new();
    let u32_ = f.int("unsigned int", 4);
    let u64_ = f.int("unsigned long", 8);
    let alias = f.push("u64", kind::TYPEDEF, 0, u64_, &[]);
    let anon = f.composite(kind::UNION, "", 8, &[("inum", u32_, 0), ("raw", u64_, 0)]);
    let ns = f.composite(kind::STRUCT, "ns_common", 16, &[("stashed", u64_, 0), ("", anon, 8)]);
    let pointer = f.push("", kind::PTR, 0, ns, &[]);
    f.composite(
        kind::STRUCT,
        "net",
        40,
        &[("first", pointer, 0), ("ns", ns, 8), ("net_cookie", alias, 24)],
    );
    let hash = f.composite(kind::STRUCT, "hash", 12, &[("node", u32_, 0), ("tuple", u64_, 4)]);
    let pair = f.push("", kind::ARRAY, 0, 0, &[hash, u32_, 2]);
    f.composite(kind::STRUCT, "nf_conn", 64, &[("use", u32_, 0), ("tuplehash", pair, 16)]);
    f.function("early_drop", 2);
    f
}

fn offset(btf: &Btf, structure: &str, path: &str) -> u32 {
    btf.member(structure, path).unwrap().offset
}

#[test]
fn members_are_found_through_anonymous_members_typedefs_and_arrays() {
    let btf = Btf::parse(vmlinux().bytes()).unwrap();
    assert_eq!(btf.member("net", "net_cookie").unwrap(), Member { offset: 24, size: 8 });
    assert_eq!(btf.member("net", "ns.inum").unwrap(), Member { offset: 16, size: 4 });
    assert_eq!(offset(&btf, "nf_conn", "tuplehash[0].tuple"), 20);
    assert_eq!(offset(&btf, "nf_conn", "tuplehash[1].tuple"), 32);
    assert_eq!(btf.member("nf_conn", "tuplehash").unwrap().size, 24);
}

#[test]
fn what_is_not_there_is_named() {
    let btf = Btf::parse(vmlinux().bytes()).unwrap();
    assert_eq!(btf.member("nf_con", "use"), Err(BtfError::NoStruct("nf_con".into())));
    let error = btf.member("nf_conn", "zone.id").unwrap_err().to_string();
    assert_eq!(error, "structure `nf_conn` has no member `zone.id`");
    assert!(btf.member("nf_conn", "tuplehash[2].tuple").is_err());
    assert_eq!(btf.function("late_drop"), Ok(None));
}

#[test]
fn a_module_continues_the_ids_and_strings_of_vmlinux() {
    let base = Arc::new(Btf::parse(vmlinux().bytes()).unwrap());
    let mut f = Fixture::on(&base);
    let count = f.int("int", 4);
    f.composite(kind::STRUCT, "nf_conntrack_net", 8, &[("count", count, 4)]);
    let free = f.function("nf_conntrack_free", 1);
    let module = Btf::parse_split(f.bytes(), Arc::clone(&base)).unwrap();

    assert_eq!(offset(&module, "nf_conntrack_net", "count"), 4);
    assert_eq!(offset(&module, "net", "net_cookie"), 24);
    let expected = Function { id: free, parameters: 1 };
    assert_eq!(module.function("nf_conntrack_free"), Ok(Some(expected)));
    assert_eq!(module.function("early_drop"), Ok(None), "it is the base's");
    assert_eq!(base.function("early_drop").unwrap().map(|f| f.parameters), Some(2));
}

#[test]
fn structures_of_one_name_must_agree_on_what_is_asked() {
    let base = Arc::new(Btf::parse(vmlinux().bytes()).unwrap());
    let mut f = Fixture::on(&base);
    let word = f.int("unsigned long", 8);
    f.composite(kind::STRUCT, "net", 48, &[("net_cookie", word, 24), ("ns", word, 16)]);
    let module = Btf::parse_split(f.bytes(), base).unwrap();
    assert_eq!(offset(&module, "net", "net_cookie"), 24, "both copies say so");
    let error = module.member("net", "ns").unwrap_err();
    assert!(matches!(error, BtfError::Ambiguous { .. }), "{error}");
}

#[test]
fn functions_of_one_name_must_take_the_same_parameters() {
    let mut f = vmlinux();
    f.function("early_drop", 3);
    let btf = Btf::parse(f.bytes()).unwrap();
    assert!(matches!(btf.function("early_drop"), Err(BtfError::Ambiguous { .. })));
}

#[test]
fn bit_fields_have_no_offset_in_bytes() {
    let mut f = Fixture::new();
    let word = f.int("unsigned int", 4);
    let (a, b) = (f.string("flag"), f.string("plain"));
    let members = [a, word, 1 << 24 | 32, b, word, 64];
    f.push("s", kind::STRUCT | 1 << 7, 2, 12, &members);
    let btf = Btf::parse(f.bytes()).unwrap();
    assert_eq!(offset(&btf, "s", "plain"), 8);
    assert!(btf.member("s", "flag").is_err());
}

#[test]
fn data_cut_at_any_byte_is_an_error_and_never_a_panic() {
    let whole = vmlinux().bytes();
    for len in 0..whole.len() {
        let error = Btf::parse(whole[..len].to_vec()).unwrap_err();
        assert!(matches!(error, BtfError::Truncated { .. }), "{len}: {error}");
    }
}

#[test]
fn data_with_any_byte_changed_never_panics() {
    let whole = vmlinux().bytes();
    for at in 0..whole.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut damaged = whole.clone();
            damaged[at] = value;
            if let Ok(btf) = Btf::parse(damaged) {
                let _ = btf.member("net", "ns.inum");
                let _ = btf.member("nf_conn", "tuplehash[1].tuple");
                let _ = btf.function("early_drop");
            }
        }
    }
}

#[test]
fn other_data_is_refused_with_what_it_is() {
    let mut swapped = vmlinux().bytes();
    swapped.swap(0, 1);
    let error = Btf::parse(swapped).unwrap_err().to_string();
    assert_eq!(error, "not BTF: it has the other byte order");
    assert!(matches!(Btf::parse(vec![0; 64]), Err(BtfError::Malformed(_))));

    let mut f = vmlinux();
    f.push("future", 30, 0, 0, &[]);
    let error = Btf::parse(f.bytes()).unwrap_err().to_string();
    assert!(error.ends_with("is of the unknown kind 30"), "{error}");
}

#[test]
#[ignore = "writes the seeds of the fuzzer's corpus anew"]
fn seeds() {
    let corpus =
        std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/kernel_files"));
    let base = vmlinux().bytes();
    std::fs::write(corpus.join("btf"), &base).unwrap();
    let mut module = Fixture::on(&Btf::parse(base.clone()).unwrap());
    let count = module.int("int", 4);
    module.composite(kind::STRUCT, "nf_conntrack_net", 8, &[("count", count, 4)]);
    module.function("nf_conntrack_free", 1);
    let length = (base.len() as u16).to_le_bytes();
    std::fs::write(corpus.join("btf-module"), [&length, &base[..], &module.bytes()].concat())
        .unwrap();
}
