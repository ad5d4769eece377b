//! Functions by name and address: `/proc/kallsyms`. Pure: text in, answers out.

use std::{
    collections::HashMap,
    io::{self, BufRead},
};

/// Functions of the kernel and of one module whose names were asked for, with their parts: a compiler
/// may split off `NAME.part.0`, which callers may then call instead.
#[derive(Debug, Default, Clone)]
pub struct Symbols {
    functions: HashMap<String, Span>,
}

/// Where a function lies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// Its address.
    pub start: u64,
    /// Bytes up to the next symbol.
    pub len: u64,
}

impl Symbols {
    /// Reads lines such as `ffffffffc0a1 t early_drop\t[nf_conntrack]`. `is_wanted` is asked for the name
    /// without what a compiler has added behind a dot.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn read(
        mut from: impl BufRead,
        module: &str,
        is_wanted: impl Fn(&str) -> bool,
    ) -> io::Result<Self> {
        // In the kernel's own part the lines are in the order of addresses, in a module's they are not.
        let mut found: Vec<(String, u64)> = Vec::new();
        let mut starts: Vec<u64> = Vec::new();
        let mut line = String::new();
        while from.read_line(&mut line)? > 0 {
            let mut words = line.split_ascii_whitespace();
            if let (Some(address), Some(kind), Some(name)) =
                (words.next(), words.next(), words.next())
                && matches!(kind, "t" | "T" | "w" | "W")
                && words.next().is_none_or(|image| image.trim_matches(['[', ']']) == module)
                && let Ok(address) = u64::from_str_radix(address, 16)
            {
                starts.push(address);
                if is_wanted(name.split('.').next().unwrap_or(name)) {
                    found.push((name.to_owned(), address));
                }
            }
            line.clear();
        }
        starts.sort_unstable();
        let span = |start: u64| {
            let next = starts.partition_point(|other| *other <= start);
            Span { start, len: starts.get(next).map_or(0, |next| next - start) }
        };
        Ok(Self { functions: found.into_iter().map(|(name, at)| (name, span(at))).collect() })
    }

    /// The function `name`, exactly.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Span> {
        self.functions.get(name).copied()
    }

    /// What was split off from `name` and is called instead of it.
    pub fn parts<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let parts = self.functions.keys().map(String::as_str);
        parts.filter(move |other| {
            other.strip_prefix(name).is_some_and(|rest| rest.starts_with(".part."))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
ffffffff81000000 T _stext
ffffffff81000100 t early_drop_nothing
ffffffffc0002fc0 t early_drop\t[nf_conntrack]
ffffffffc0001b40 t nf_ct_delete.part.0\t[nf_conntrack]
ffffffffc0001ce0 T nf_ct_delete\t[nf_conntrack]
ffffffffc0001cf0 d nf_ct_data\t[nf_conntrack]
ffffffffc0001d00 t nf_ct_iterate_cleanup\t[nf_conntrack]
ffffffffc0003230 t __nf_conntrack_alloc\t[nf_conntrack]
ffffffffc0003233 t early_drop\t[other]
garbage
ffffffffc0001c00
";

    fn symbols() -> Symbols {
        let wanted = |name: &str| matches!(name, "early_drop" | "nf_ct_delete");
        Symbols::read(TEXT.as_bytes(), "nf_conntrack", wanted).unwrap()
    }

    #[test]
    fn a_function_ends_where_the_next_begins() {
        let span = |start, len| Some(Span { start, len });
        let symbols = symbols();
        assert_eq!(symbols.get("early_drop"), span(0xffff_ffff_c000_2fc0, 0x270));
        assert_eq!(symbols.get("nf_ct_delete"), span(0xffff_ffff_c000_1ce0, 0x20));
        assert_eq!(symbols.get("__nf_conntrack_alloc"), None, "not asked for");
    }

    #[test]
    fn parts_are_found() {
        let symbols = symbols();
        assert_eq!(symbols.parts("nf_ct_delete").collect::<Vec<_>>(), ["nf_ct_delete.part.0"]);
        assert_eq!(symbols.parts("early_drop").count(), 0);
    }

    #[test]
    fn hidden_addresses_have_no_length() {
        let text = "0000000000000000 t early_drop\n0000000000000000 T x\n";
        let symbols = Symbols::read(text.as_bytes(), "m", |_| true).unwrap();
        assert_eq!(symbols.get("early_drop"), Some(Span { start: 0, len: 0 }));
    }
}
