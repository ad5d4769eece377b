//! Inputs that the fuzzer has found, for tests.

use std::{
    fs::{File, read, read_dir},
    io::Read as _,
    path::Path,
};

/// Inputs of a fuzz target: its seeds in `fuzz/corpus`, and those found since in `fuzz/found`.
pub(crate) fn inputs(target: &str) -> Vec<Vec<u8>> {
    const WHY: &str = "the corpus is in the repository";
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let seeds = read_dir(fuzz.join("corpus").join(target)).expect(WHY);
    let mut all: Vec<_> = seeds.map(|seed| read(seed.expect(WHY).path()).expect(WHY)).collect();
    let Ok(found) = File::open(fuzz.join("found").join(format!("{target}.tar.gz"))) else {
        return all;
    };
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(found));
    for entry in archive.entries().expect(WHY) {
        let mut bytes = vec![];
        entry.expect(WHY).read_to_end(&mut bytes).expect(WHY);
        all.push(bytes);
    }
    all
}
