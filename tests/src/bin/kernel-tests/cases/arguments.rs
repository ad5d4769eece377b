//! Command lines that ask for what does not exist.

use anyhow::Result;

use super::{expect_error, expect_no_panic};
use crate::{
    checks::Checks,
    process,
    runner::{Env, Test},
};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "wrong-arguments-end-with-3",
            "Wrong arguments are named, and end ctmon with exit code 3",
            wrong,
        ),
        Test::new("help-and-version-end-with-0", "--help and --version are no errors", help),
    ]
}

/// A wrong command line, and what the message must name.
const WRONG: [(&[&str], &[&str]); 14] = [
    (&["frobnicate"], &["frobnicate"]),
    (&["watch", "--frobnicate"], &["--frobnicate"]),
    (&["watch", "--interval", "soon"], &["soon", "--interval"]),
    (&["watch", "--interval", "100"], &["100", "--interval"]),
    (&["watch", "--interval", "0ms"], &["--interval"]),
    (&["watch", "--output", "xml"], &["xml", "json"]),
    (&["watch", "--source", "magic"], &["magic", "procfs"]),
    (&["watch", "--netns", "nowhere"], &["nowhere", "--netns"]),
    (&["watch", "--count", "some"], &["some", "--count"]),
    (&["watch", "--ring-size", "5000"], &["5000", "--ring-size"]),
    (&["watch", "--ring-size", "1024"], &["1024", "--ring-size"]),
    (&["status", "--crit", "much"], &["much", "--crit"]),
    (&["status", "--warn", "90", "--crit", "80"], &["90", "80"]),
    (&["status", "--netns", "7"], &["7"]),
];

fn wrong(env: &Env, checks: &mut Checks) -> Result<()> {
    for (arguments, words) in WRONG {
        let ended = process::run(env, arguments)?;
        expect_error(checks, &arguments.join(" "), &ended, words);
    }
    Ok(())
}

fn help(env: &Env, checks: &mut Checks) -> Result<()> {
    for arguments in [&["--help"][..], &["--version"], &["watch", "--help"], &["status", "--help"]]
    {
        let what = arguments.join(" ");
        let ended = process::run(env, arguments)?;
        checks.equal(&format!("{what}: exit code"), ended.status.code(), Some(0));
        checks.that(
            &format!("{what}: names the program"),
            ended.stdout.contains("ctmon"),
            &ended.stdout,
        );
        expect_no_panic(checks, &what, &ended.stderr);
    }
    Ok(())
}
