//! Functions by name and address: `/proc/kallsyms`. Pure: text in, answers out.

use std::{
    collections::{HashMap, HashSet},
    io::{self, BufRead},
};

/// Functions of the kernel and of one module whose names were asked for, with their parts: a compiler
/// may split off `NAME.part.0`, which callers may then call instead.
#[derive(Debug, Default, Clone)]
pub struct Symbols {
    functions: HashMap<String, Span>,
    /// Data that was asked for; none: no data is listed (CONFIG_KALLSYMS_ALL).
    data: Option<HashSet<String>>,
    /// Addresses of data of the kernel and of the module that was asked for.
    addresses: HashMap<String, u64>,
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
    /// without what a compiler has added behind a dot. `data`: names of the kernel's own data to be looked for.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn read(
        mut from: impl BufRead,
        module: &str,
        is_wanted: impl Fn(&str) -> bool,
        data: &[&str],
    ) -> io::Result<Self> {
        // In the kernel's own part the lines are in the order of addresses, in a module's they are not.
        let mut found: Vec<(String, u64)> = Vec::new();
        let mut starts: Vec<u64> = Vec::new();
        let mut found_data: Option<HashSet<String>> = None;
        let mut addresses = HashMap::new();
        let mut line = String::new();
        while from.read_line(&mut line)? > 0 {
            let mut words = line.split_ascii_whitespace();
            if let [_, "b" | "B" | "d" | "D", name] = words.clone().collect::<Vec<_>>()[..] {
                let found = found_data.get_or_insert_default();
                if data.contains(&name) {
                    found.insert(name.to_owned());
                }
            }
            if let [address, "b" | "B" | "d" | "D", name, ref image @ ..] =
                words.clone().collect::<Vec<_>>()[..]
                && data.contains(&name)
                && image.first().is_none_or(|image| image.trim_matches(['[', ']']) == module)
                && let Ok(address) = u64::from_str_radix(address, 16)
            {
                addresses.insert(name.to_owned(), address);
            }
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
        let functions = found.into_iter().map(|(name, at)| (name, span(at))).collect();
        Ok(Self { functions, data: found_data, addresses })
    }

    /// Reports whether none of the wanted functions is listed, as where kallsyms cannot be read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }

    /// The function `name`, exactly.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Span> {
        self.functions.get(name).copied()
    }

    /// Takes the function `name` as inlined.
    pub fn forget(&mut self, name: &str) {
        self.functions.remove(name);
    }

    /// Whether the kernel has data of that name, which was looked for; none where it lists no data.
    #[must_use]
    pub fn data(&self, name: &str) -> Option<bool> {
        Some(self.data.as_ref()?.contains(name))
    }

    /// The address of data of the kernel or of the module, which was looked for; none where it is not listed, or hidden.
    #[must_use]
    pub fn address_of_data(&self, name: &str) -> Option<u64> {
        self.addresses.get(name).copied().filter(|address| *address != 0)
    }

    /// Whether there may be a function `name`: there is, or nothing is known of any.
    #[must_use]
    pub fn may_have(&self, name: &str) -> bool {
        self.functions.is_empty() || self.functions.contains_key(name)
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
        Symbols::read(TEXT.as_bytes(), "nf_conntrack", wanted, &[]).unwrap()
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
    fn data_is_looked_for_where_it_is_listed() {
        let read = |text: &str| Symbols::read(text.as_bytes(), "m", |_| true, &["one"]).unwrap();
        assert_eq!(read("0 d one\n0 B other\n").data("one"), Some(true));
        assert_eq!(read("0 B other\n0 d one\t[module]\n").data("one"), Some(false));
        assert_eq!(read("0 T one\n").data("one"), None);
        let address = |text: &str| read(text).address_of_data("one");
        assert_eq!(address("10 B one\t[m]\n"), Some(0x10));
        assert_eq!(address("10 d one\n"), Some(0x10));
        for text in ["0 d one\n", "10 d one\t[other]\n", "10 t one\n", "10 d two\n"] {
            assert_eq!(address(text), None, "{text}");
        }
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
        let symbols = Symbols::read(text.as_bytes(), "m", |_| true, &[]).unwrap();
        assert_eq!(symbols.get("early_drop"), Some(Span { start: 0, len: 0 }));
    }
}
