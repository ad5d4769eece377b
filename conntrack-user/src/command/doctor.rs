//! `ctmon doctor`

use anyhow::{Context as _, Result};
use conntrack_user::{
    doctor::{
        bundle,
        facts::{Fact, Facts},
        gather, verdict,
    },
    severity::THRESHOLDS,
    text,
    view::doctor as view,
};

use super::{now_ns, output};
use crate::cli::{Doctor, Output};

pub(crate) fn run(options: &Doctor) -> Result<u8> {
    if let Some(path) = &options.bundle {
        bundle::check(path)?;
    }
    let roots = options.roots();
    let facts = gather::gather(&roots, options.observe);
    let sections = verdict::judge(&facts, &THRESHOLDS.on_demand());
    if let Some(path) = &options.bundle {
        bundle::write(path, &files(options, &roots, &facts)?)?;
        output::say(format_args!(
            "wrote {}; look through it before you send it. Not in it: {}",
            text::path(path),
            bundle::left_out(options.include_private)
        ));
    }
    // Whether somebody reads it or not: the exit code is an answer too.
    let _ = match options.output {
        Output::Text => output::text(&view::text(&facts, &sections))?,
        Output::Json => output::Json::default().write(&view::json(&facts, &sections, now_ns()))?,
    };
    Ok(verdict::worst(&sections).exit_code())
}

fn files(options: &Doctor, roots: &gather::Roots, facts: &Facts) -> Result<Vec<bundle::File>> {
    let with_private = options.include_private;
    let facts = if with_private { facts.clone() } else { bundle::without_private(facts, roots)? };
    let sections = verdict::judge(&facts, &THRESHOLDS.on_demand());
    let screen = view::text(&facts, &sections);
    let screen = anstream::adapter::strip_str(&screen).to_string();
    let json = serde_json::to_string_pretty(&view::json(&facts, &sections, now_ns()))
        .context("cannot write JSON")?;
    let private = with_private.then(|| gather::private(&roots.procfs));
    let mut statistics = gather::statistics_text(&roots.procfs);
    if let (Fact::Unavailable(why), false) = (&mut statistics, with_private) {
        *why = bundle::hide_roots(why, roots);
    }
    let private = private.as_ref().map(|private| private.as_slice());
    Ok(bundle::files(&facts, screen, json, &statistics, private))
}
