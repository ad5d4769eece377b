//! Minutes of false alarm on recordings of tables that do not fill (`tests/corpus/NAME.mcap`).

use std::{fs::File, path::PathBuf};

use super::{
    alarm::Rule,
    recorded::{self, Recorded},
    registry,
    trial::listen,
};
use crate::source::recording::reader::Reader;

/// Maximum minutes of false alarm, the bound of `cargo xtask corpus judge`.
const MOST_ALARM_MINUTES: f64 = 0.5;

/// Recordings whose traffic ends, turns over or recurs.
const NAMES: [&str; 4] =
    ["deployment-moves-half-1", "dns-bursts-1", "flood-that-stops-1", "keep-alive-http-1"];

fn recorded(name: &str) -> Recorded {
    let parts = [env!("CARGO_MANIFEST_DIR"), "../tests/corpus", &format!("{name}.mcap")];
    let file = File::open(parts.iter().collect::<PathBuf>()).unwrap();
    recorded::read(&mut Reader::open(file).unwrap(), None, 1 << 31).unwrap().remove(0)
}

#[test]
fn tables_that_do_not_fill_give_few_alarms() {
    let ctmon = registry::named(&[registry::OURS.to_owned()]).unwrap()[0];
    for name in NAMES {
        let run = recorded(name).run;
        let alarms = Rule::Median.alarms(&listen(&run, &ctmon), &run.truth);
        let minutes = alarms.iter().filter(|on| **on).count() as f64 * run.truth.tick / 60.0;
        assert!(minutes <= MOST_ALARM_MINUTES, "{name}: {minutes:.2} min");
    }
}
