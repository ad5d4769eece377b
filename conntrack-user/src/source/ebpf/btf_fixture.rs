//! BTF made for tests.

use super::*;

/// Writes BTF type by type; ids count from `first_id`.
#[derive(Clone)]
pub(crate) struct Fixture {
    types: Vec<u8>,
    strings: Vec<u8>,
    first_string: u32,
    next_id: u32,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self { types: vec![], strings: vec![0], first_string: 0, next_id: 1 }
    }

    pub(crate) fn on(base: &Btf) -> Self {
        Self {
            types: vec![],
            strings: vec![],
            first_string: (base.first_string + base.strings.len()) as u32,
            next_id: base.end_id(),
        }
    }

    pub(crate) fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let at = self.first_string + self.strings.len() as u32;
        self.strings.extend_from_slice(text.as_bytes());
        self.strings.push(0);
        at
    }

    pub(crate) fn push(
        &mut self,
        name: &str,
        kind: u32,
        vlen: usize,
        size: u32,
        extra: &[u32],
    ) -> u32 {
        let name = self.string(name);
        for word in [name, kind << 24 | vlen as u32, size].iter().chain(extra) {
            self.types.extend_from_slice(&word.to_ne_bytes());
        }
        self.next_id += 1;
        self.next_id - 1
    }

    pub(crate) fn int(&mut self, name: &str, size: u32) -> u32 {
        self.push(name, kind::INT, 0, size, &[size * 8])
    }

    pub(crate) fn composite(
        &mut self,
        kind: u32,
        name: &str,
        size: u32,
        members: &[(&str, u32, u32)],
    ) -> u32 {
        let mut extra = vec![];
        for (member, of, offset) in members {
            extra.extend([self.string(member), *of, offset * 8]);
        }
        self.push(name, kind, members.len(), size, &extra)
    }

    pub(crate) fn function(&mut self, name: &str, parameters: usize) -> u32 {
        let proto = self.push("", kind::FUNC_PROTO, parameters, 0, &vec![0; 2 * parameters]);
        self.push(name, kind::FUNC, 0, proto, &[])
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = vec![];
        out.extend_from_slice(&MAGIC.to_ne_bytes());
        out.extend_from_slice(&[1, 0]);
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        for word in [HEADER_LEN as u32, 0, types, types, strings] {
            out.extend_from_slice(&word.to_ne_bytes());
        }
        out.extend_from_slice(&self.types);
        out.extend_from_slice(&self.strings);
        out
    }
}
