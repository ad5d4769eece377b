use super::{super::btf::fixture::Fixture, *};

fn way(image: Image) -> Way {
    Way::Tracing { image, rung: 0, functions: vec![Function { id: 7, parameters: 1 }] }
}

fn both() -> [Way; 2] {
    [way(Image::Vmlinux), way(Image::Module)]
}

#[test]
fn the_first_way_that_attaches_is_taken_and_the_next_not_tried() {
    let mut tried = vec![];
    let (taken, ()) = first_that_attaches(&both(), |way| {
        tried.push(way.clone());
        Ok(())
    })
    .unwrap();
    assert_eq!(taken, way(Image::Vmlinux));
    assert_eq!(tried, [way(Image::Vmlinux)]);
}

#[test]
fn what_is_refused_is_passed_over_and_all_reasons_are_kept() {
    let module = way(Image::Module);
    let (taken, ()) = first_that_attaches(&both(), |way| {
        if *way == module { Ok(()) } else { Err(anyhow::anyhow!("refused")) }
    })
    .unwrap();
    assert_eq!(taken, module);

    let error =
        first_that_attaches::<()>(&both(), |_| Err(anyhow::anyhow!("no room"))).unwrap_err();
    let expected = "fentry/fexit (vmlinux): no room; fentry/fexit (module nf_conntrack): no room";
    assert_eq!((error.reason.as_str(), error.kind), (expected, Lack::Broken));

    let refuse = |_: &Way| Err(std::io::Error::from_raw_os_error(libc::EPERM).into());
    let error = first_that_attaches::<()>(&both(), refuse).unwrap_err();
    assert_eq!(error.kind, Lack::Refused);
}

#[test]
fn what_the_kernel_tells_needs_no_hook() {
    let kind =
        |family, hook, has_reasons| needed(family, hook, has_reasons).map_err(|error| error.kind);
    assert_eq!(kind(Family::Tracing, Hook::Confirm, true), Err(Lack::NotNeeded));
    assert_eq!(kind(Family::Tracing, Hook::Confirm, false), Ok(()));
    // It does not see which clashes are among them.
    assert_eq!(kind(Family::Kprobe, Hook::Confirm, true), Ok(()));
    assert_eq!(kind(Family::Tracing, Hook::Insert, true), Ok(()));
}

fn symbols(lines: &str) -> Symbols {
    Symbols::read(lines.as_bytes(), "nf_conntrack", |_| true, &[]).unwrap()
}

#[test]
fn a_kprobe_goes_on_the_function_and_on_what_was_split_off() {
    let lines = "10 T nf_ct_delete\n20 t nf_ct_delete.part.0\n30 t early_drop\n40 t end\n";
    let functions = vec!["nf_ct_delete".to_owned(), "nf_ct_delete.part.0".to_owned()];
    assert_eq!(kprobe(Hook::DeleteCause, &symbols(lines)), Ok(vec![Way::Kprobe { functions }]));
}

#[test]
fn a_kprobe_that_cannot_be_is_told_why() {
    for (hook, lines, why, kind) in [
        (Hook::Confirm, "10 T __nf_conntrack_confirm\n", "returns", Lack::Unsupported),
        (Hook::Delete, "10 T nf_ct_delete\n", "or nf_ct_delete_from_lists", Lack::Unsupported),
        (Hook::DeleteCause, "10 T nf_ct_delete\n", "early_drop", Lack::Unsupported),
        (Hook::Delete, "", NO_KALLSYMS, Lack::Refused),
        (
            Hook::DeleteCause,
            "0 T nf_ct_delete\n0 t early_drop\n",
            "address of early_drop",
            Lack::Refused,
        ),
    ] {
        let error = kprobe(hook, &symbols(lines)).unwrap_err();
        assert!(error.reason.contains(why) && error.kind == kind, "{hook}: {error:?}");
    }
}

#[test]
fn the_name_a_kernel_has_for_the_function_is_taken() {
    let ways = kprobe(Hook::Delete, &symbols("10 t nf_ct_delete_from_lists\n")).unwrap();
    let functions = vec!["nf_ct_delete_from_lists".to_owned()];
    assert_eq!(ways, [Way::Kprobe { functions }]);
}

/// Functions of the best rungs, with their numbers of parameters.
fn best() -> Vec<(&'static str, usize)> {
    let parts = Hook::ALL.into_iter().flat_map(|hook| hook.rungs()[0].parts);
    parts.map(|part| (part.functions[0], part.parameters as usize)).collect()
}

fn btf(functions: &[(&str, usize)]) -> Btf {
    let mut fixture = Fixture::new();
    for (name, parameters) in functions {
        fixture.function(name, *parameters);
    }
    Btf::parse(fixture.bytes()).unwrap()
}

/// On which rung each hook is by trampolines, or why on none; those on the first are left out.
fn rungs(functions: &[(&str, usize)], symbols: &Symbols) -> Vec<(Hook, Result<usize, String>)> {
    let vmlinux = btf(functions);
    let of = |hook| match tracing(hook, &vmlinux, None, symbols)?.first() {
        Some(Way::Tracing { rung, .. }) => Ok(*rung),
        other => Err(format!("{other:?}")),
    };
    let all = Hook::ALL.into_iter().map(|hook| (hook, of(hook)));
    all.filter(|(_, rung)| *rung != Ok(0)).collect()
}

#[test]
fn the_next_rung_takes_the_place_of_what_a_compiler_has_inlined() {
    let without = |gone: &[&str]| {
        let mut left = best();
        left.retain(|(name, _)| !gone.contains(name));
        left.extend([("init_conntrack", 6), ("nf_conntrack_alloc", 5)]);
        rungs(&left, &Symbols::default())
    };
    let second = |hooks: &[Hook]| hooks.iter().map(|hook| (*hook, Ok(1))).collect::<Vec<_>>();
    assert_eq!(without(&[]), []);
    // gcc 12, conntrack built in.
    assert_eq!(without(&["__nf_conntrack_insert_prepare"]), second(&[Hook::Insert]));
    // clang 14 with ThinLTO, conntrack built in.
    let thin = ["__nf_conntrack_insert_prepare", "__nf_conntrack_alloc"];
    assert_eq!(without(&thin), second(&[Hook::Alloc, Hook::Insert]));
    assert_eq!(without(&["__nf_ct_delete_from_lists"]), second(&[Hook::Delete]));
    // Reports of Google's container-optimised OS; not tried.
    let [(hook, why)] = &without(&["nf_conntrack_hash_check_insert"])[..] else {
        panic!("one hook is without a function");
    };
    assert_eq!(*hook, Hook::HashInsert);
    let why = why.clone().unwrap_err();
    assert!(why.starts_with("this kernel's BTF has no function nf_conntrack_hash_check"), "{why}");
}

#[test]
fn a_function_that_is_another_one_is_refused_with_a_sentence() {
    let mut functions = best();
    functions.iter_mut().filter(|(name, _)| *name == "early_drop").for_each(|f| f.1 = 3);
    let error = "early_drop takes 3 parameters in this kernel, not 2".to_owned();
    assert_eq!(rungs(&functions, &Symbols::default()), [(Hook::EarlyDrop, Err(error))]);

    // BTF lists it, and the compiler has left only a part that is called.
    let mut lines = String::new();
    for (at, (name, _)) in best().iter().enumerate() {
        lines += &format!("{:x} t {name}\n", 16 * (at + 1));
    }
    lines += "1000 t nf_ct_resolve_clash.part.0\n2000 t end\n";
    let error =
        "in this kernel nf_ct_resolve_clash.part.0 is called instead of nf_ct_resolve_clash";
    assert_eq!(rungs(&best(), &symbols(&lines)), [(Hook::Clash, Err(error.to_owned()))]);
}

#[test]
fn inserts_on_the_second_rung_are_exact_beside_the_hook_of_clashes() {
    let of = |clash: Result<Way, NotAttached>| {
        let insert = Way::Tracing { image: Image::Vmlinux, rung: 1, functions: vec![] };
        let report = |hook, outcome| HookReport { hook, outcome, not_exact: None };
        let mut hooks = [report(Hook::Insert, Ok(insert)), report(Hook::Clash, clash)];
        HookReport::note_exactness(&mut hooks);
        hooks.map(|report| report.not_exact)
    };
    assert_eq!(of(Ok(way(Image::Vmlinux))), [None, None]);
    let [insert, clash] = of(Err("inlined".to_owned().into()));
    assert!(insert.is_some_and(|wrong| wrong.contains("merged")));
    assert_eq!(clash, None);
}

#[test]
fn modules_without_types_have_kprobes_only() {
    // 5.10: vmlinux has BTF, and conntrack is a module without.
    let vmlinux = btf(&[("proc_net_ns_exit", 1)]);
    let on_types = |hook: &Hook| tracing(*hook, &vmlinux, None, &Symbols::default()).is_ok();
    let left: Vec<Hook> = Hook::ALL.into_iter().filter(on_types).collect();
    assert_eq!(left, [Hook::NetnsEnd]);
}
