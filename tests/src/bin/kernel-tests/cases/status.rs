//! `ctmon status`, the check command.

use anyhow::{Context as _, Result};
use conntrack_tests::traffic::{Family, Plan, Protocol};
use conntrack_user::view::json::SCHEMA_VERSION;
use serde_json::Value;

use super::{TRACK, expect_no_panic};
use crate::{
    checks::Checks,
    kernel::Limit,
    process,
    runner::{Env, Test},
    stage::{self, Running},
};

pub(super) fn tests() -> Vec<Test> {
    vec![Test::new(
        "status-exit-codes",
        "status ends with 0, 1 or 2 by --warn and --crit around the real fill",
        exit_codes,
    )]
}

/// Exit codes at 60 % full.
const CODES: [(&[&str], i32); 13] = [
    (&[], 0),
    (&["--warn", "61", "--crit", "90"], 0),
    (&["--warn", "59", "--crit", "90"], 1),
    (&["--warn", "60", "--crit", "90"], 1),
    (&["--warn", "50", "--crit", "59"], 2),
    (&["--warn", "50", "--crit", "60"], 2),
    (&["--warn", "59", "--crit", "59"], 2),
    // The warning is not above it unless it is told to be.
    (&["--crit", "59"], 2),
    (&["-w", "10:60", "-c", "95"], 0),
    (&["-w", "10:59", "-c", "95"], 1),
    (&["-w", "61:", "-c", "95"], 1),
    (&["-w", "80", "-c", "@60:70"], 2),
    (&["-w", "~:60%", "-c", "@61:70"], 0),
];

fn exit_codes(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let _max = Limit::max(&env.init, 1000)?;
    let outcome =
        Running::start("udp", Plan::new(Protocol::Udp, Family::Ipv4, 600), None).join(checks)?;
    checks.equal("flows sent", outcome.sent, 600);
    // Attaching takes seconds: there, every other code as text and the rest as JSON.
    for (source, step) in [("auto", 2), ("procfs", 1)] {
        for (first, output) in ["text", "json"].into_iter().enumerate() {
            let first = if step == 1 { 0 } else { first };
            for (arguments, code) in CODES.into_iter().skip(first).step_by(step) {
                let common = ["status", "--netns", "self", "--interval", "50ms"].as_slice();
                let all = [common, &["--source", source, "--output", output], arguments].concat();
                let what = all.join(" ");
                let ended = process::run(env, &all)?;
                checks.equal(&format!("{what}: exit code"), ended.status.code(), Some(code));
                checks.that(
                    &format!("{what}: 600 entries shown"),
                    ended.stdout.contains("600"),
                    &ended.stdout,
                );
                expect_no_panic(checks, &what, &ended.stderr);
                if output == "text" {
                    let first = ended.stdout.lines().next().unwrap_or_default();
                    let has_data =
                        first.contains(" | 'entries'=600;") && first.contains(";0;1000 ");
                    checks.that(&format!("{what}: performance data"), has_data, first);
                }
                if output == "json" {
                    let json: Value =
                        serde_json::from_str(&ended.stdout).with_context(|| what.clone())?;
                    checks.equal(
                        &format!("{what}: schema_version"),
                        json["schema_version"].as_i64(),
                        Some(SCHEMA_VERSION.into()),
                    );
                }
            }
        }
    }
    Ok(())
}
