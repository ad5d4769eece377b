//! Loaded modules.

use std::{collections::BTreeMap, path::Path};

use super::{Roots, file};
use crate::{
    doctor::{
        MODULE,
        facts::{Conntrack, Fact},
    },
    source::live,
};

/// A line of /proc/modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Module {
    /// References, of modules and of others.
    pub(super) references: u32,
    /// Modules that need it.
    pub(super) users: Vec<String>,
}

/// The loaded modules by name; unknown on a kernel that takes none.
pub(super) fn loaded(procfs: &Path) -> Fact<BTreeMap<String, Module>> {
    file::text(&procfs.join("modules")).map(|text| parse(&text))
}

pub(super) fn parse(text: &str) -> BTreeMap<String, Module> {
    let lines = text.lines().filter_map(|line| {
        // Name, size, references (`-` where modules cannot be unloaded), users.
        let mut words = line.split_whitespace();
        let (name, _, references) = (words.next()?, words.next()?, words.next()?);
        let users = words.next()?.split(',').filter(|user| !matches!(*user, "" | "-"));
        let users: Vec<String> =
            users.filter(|user| !user.starts_with('[')).map(str::to_owned).collect();
        let references = references.parse().unwrap_or_default();
        Some((name.to_owned(), Module { references, users }))
    });
    lines.collect()
}

/// How connection tracking is there.
pub(super) fn conntrack(
    roots: &Roots,
    loaded: Fact<&BTreeMap<String, Module>>,
    release: &Fact<String>,
) -> Fact<Conntrack> {
    if let Some(module) = loaded.known().and_then(|modules| modules.get(MODULE)) {
        return Fact::Known(Conntrack::Module { users: module.users.clone() });
    }
    if let Some(why) = live::hidden_conntrack(&roots.procfs) {
        return Fact::Unavailable(why);
    }
    let file = live::conntrack_file(&roots.procfs);
    match std::fs::metadata(&file) {
        Ok(_) => Fact::Known(Conntrack::BuiltIn),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Fact::Unavailable(file::why(&file, &error))
        }
        // Without the release this is no procfs.
        Err(error) => match release {
            Fact::Known(release) => {
                Fact::Known(Conntrack::Absent { loadable: loadable(roots, release) })
            }
            Fact::Unavailable(_) => Fact::Unavailable(file::why(&file, &error)),
        },
    }
}

fn loadable(roots: &Roots, release: &str) -> Fact<bool> {
    let index = roots.file(&format!("/lib/modules/{release}/modules.dep"));
    file::text(&index).map(|text| text.contains(&format!("/{MODULE}.ko")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc_modules() {
        let text = "nft_ct 24576 2 - Live 0x0000000000000000\n\
                    nf_conntrack 204800 3 nft_ct,nf_nat, Live 0x0000000000000000 (E)\n\
                    fixed 1 - - Live 0x0\nkept 1 1 [permanent], Live 0x0\ncut 1\n";
        let modules = parse(text);
        assert_eq!(modules["nft_ct"], Module { references: 2, users: vec![] });
        let users = vec!["nft_ct".to_owned(), "nf_nat".to_owned()];
        assert_eq!(modules["nf_conntrack"], Module { references: 3, users });
        assert_eq!(modules["fixed"].references, 0);
        assert_eq!(modules["kept"].users, Vec::<String>::new());
        assert_eq!(modules.len(), 4);
    }
}
