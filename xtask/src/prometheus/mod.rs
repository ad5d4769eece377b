//! `cargo xtask prometheus`: what is shipped for Prometheus and Grafana, tried with Debian's programs, and on what a
//! running ctmon answers.

pub(crate) mod answers;
mod names;
mod queries;
pub(crate) mod servers;
pub(crate) mod tools;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    arch, build,
    process::{line, tail},
    progress, setup,
    tally::Tally,
    workspace,
};
use queries::Query;
use servers::{Monitor, Server};
use tools::Tools;

/// Where it is.
pub(crate) const FOLDER: &str = "contrib/prometheus";
pub(crate) const RULES: &str = "ctmon.rules.yml";
const RULES_TEST: &str = "ctmon.rules.test.yml";
const DASHBOARDS: [&str; 2] = ["grafana-node.json", "grafana-fleet.json"];

/// Metrics that a ctmon may honestly lack that polls procfs, on a kernel that has no counters there, tells nobody, and sees a
/// namespace without a name in which nothing happens: a unit test looks for these in docs/metrics.md alone.
const ABSENT: [&str; 40] = [
    "ctmon_bpf_map_memory_bytes",
    "ctmon_count_drift",
    "ctmon_delete_rate",
    "ctmon_deletes_by_status_total",
    "ctmon_deletes_missed",
    "ctmon_deletes_total",
    "ctmon_early_drops_total",
    "ctmon_events_lost_total",
    "ctmon_events_received_total",
    "ctmon_events_sampled_out_total",
    "ctmon_evictable_entries",
    "ctmon_full_since_timestamp_seconds",
    "ctmon_insert_failed_total",
    "ctmon_insert_rate",
    "ctmon_insert_rate_high_water",
    "ctmon_insert_rate_peak",
    "ctmon_inserts_missed",
    "ctmon_inserts_total",
    "ctmon_kernel_clash_resolve_total",
    "ctmon_kernel_drop_total",
    "ctmon_kernel_early_drop_total",
    "ctmon_kernel_error_total",
    "ctmon_kernel_expect_create_total",
    "ctmon_kernel_expect_delete_total",
    "ctmon_kernel_expect_new_total",
    "ctmon_kernel_insert_failed_total",
    "ctmon_kernel_invalid_total",
    "ctmon_kernel_search_restart_total",
    "ctmon_live_entries_by_status",
    "ctmon_live_entries_by_status_high",
    "ctmon_live_entries_by_status_low",
    "ctmon_live_entries_by_tcp_state",
    "ctmon_live_unknown_entries",
    "ctmon_missed_calls_max",
    "ctmon_netns_counted_fill_ratio",
    "ctmon_netns_info",
    "ctmon_notifications_total",
    "ctmon_probe_info",
    "ctmon_steady_state_entries",
    "ctmon_table_full_drops_total",
];

pub(crate) fn run() -> Result<ExitCode> {
    setup::ensure(arch::DEFAULT)?;
    let sum = check();
    println!("{sum}");
    Ok(if sum.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Does all of it; what is skipped is said.
pub(crate) fn check() -> Tally {
    let mut checks = Checks::default();
    if let Err(error) = all(&mut checks) {
        progress::error(&error.context("what is shipped for Prometheus was not tried to the end"));
        checks.0 += Tally::NO_RESULT;
    }
    checks.0
}

/// What came out so far.
#[derive(Default)]
struct Checks(Tally);

impl Checks {
    fn one(&mut self, what: &str, outcome: Result<()>) {
        match outcome {
            Ok(()) => {
                println!("{what} ... ok");
                self.0.passed += 1;
            }
            Err(error) => {
                println!("{what} ... FAILED\n{error:#}");
                self.0.failed += 1;
            }
        }
    }

    fn skip(&mut self, what: &str, why: &str) {
        println!("{what} ... skipped: {why}");
        self.0.skipped += 1;
    }
}

fn all(checks: &mut Checks) -> Result<()> {
    if !arch::DEFAULT.is_host() {
        checks.skip("prometheus", "Debian's programs for another architecture do not run here");
        return Ok(());
    }
    let tools = Tools::get()?;
    let folder = workspace::root().join(FOLDER);
    for (verb, file) in [("check", RULES), ("test", RULES_TEST)] {
        let mut promtool = tools.command("promtool");
        promtool.args([verb, "rules", file]).current_dir(&folder);
        checks.one(&format!("promtool {verb} rules"), quiet(&mut promtool));
    }
    if !Path::new("/proc/sys/net/netfilter/nf_conntrack_count").exists() {
        checks.skip("scrape", "nf_conntrack is not loaded here");
        return Ok(());
    }
    scrape(&tools, &folder, checks)
}

/// Has a real Prometheus scrape a running ctmon, and tries everything that is asked of it.
fn scrape(tools: &Tools, folder: &Path, checks: &mut Checks) -> Result<()> {
    let scratch = tempfile::tempdir().context("no scratch directory")?;
    let programs = build::host(false)?;
    let ctmon = programs.first().context("the build made no program")?;
    let monitor = Monitor::start(ctmon)?;
    let metrics = monitor.metrics()?;
    checks.one("promtool check metrics", check_metrics(tools, &metrics, scratch.path()));
    let config = config(&folder.join(RULES), &monitor.address());
    let mut server = Server::start(tools, &config, scratch.path())?;
    server.has_scraped()?;
    let queries = shipped(folder)?;
    let wrong = |query: &&Query| server.ask(&query.with_values(&monitor.address())).err();
    let errors: Vec<String> = queries
        .iter()
        .filter_map(|query| wrong(&query).map(|error| format!("{}: {error:#}", query.place)))
        .collect();
    let what = format!("{} queries of rules and dashboards", queries.len());
    checks.one(&what, none(&errors));
    checks.one("each metric in them is there", each_is_there(&queries, &server));
    Ok(())
}

/// A configuration that scrapes `target`, and evaluates these rules, each second.
fn config(rules: &Path, target: &str) -> String {
    format!(
        "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n\
         rule_files: [{:?}]\n\
         scrape_configs:\n  - job_name: ctmon\n    static_configs: [{{ targets: [{target:?}] }}]\n",
        rules.display().to_string(),
    )
}

/// Whether the daemon answers with each metric that is asked for, or honestly lacks it.
fn each_is_there(queries: &[Query], server: &Server) -> Result<()> {
    let names: BTreeSet<&str> =
        queries.iter().flat_map(|query| names::of_metrics(&query.text)).collect();
    let mut errors = Vec::new();
    for name in names.into_iter().filter(|name| !name.contains(':')) {
        let is_there = !server.ask(&format!("count({name})"))?.trim().is_empty();
        if !is_there && !ABSENT.contains(&name) {
            errors.push(format!("{name} is not there"));
        }
    }
    none(&errors)
}

fn none(errors: &[String]) -> Result<()> {
    if !errors.is_empty() {
        bail!("{}", errors.join("\n"));
    }
    Ok(())
}

/// Every query that is shipped.
fn shipped(folder: &Path) -> Result<Vec<Query>> {
    let read = |path: PathBuf| {
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let mut all = queries::of_rules(RULES, &read(folder.join(RULES))?);
    for name in DASHBOARDS {
        let text = read(folder.join(name))?;
        let dashboard =
            serde_json::from_str(&text).with_context(|| format!("{name} is not JSON"))?;
        all.extend(queries::of_dashboard(name, &dashboard));
    }
    Ok(all)
}

fn check_metrics(tools: &Tools, metrics: &str, scratch: &Path) -> Result<()> {
    let file = scratch.join("metrics");
    fs::write(&file, metrics).context("cannot write what was scraped")?;
    let mut promtool = tools.command("promtool");
    promtool.args(["check", "metrics"]);
    promtool.stdin(fs::File::open(&file).context("cannot read what was scraped")?);
    quiet(&mut promtool)
}

/// Runs a program that says something only when it fails.
fn quiet(command: &mut Command) -> Result<()> {
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output();
    let output = output.with_context(|| format!("cannot start {}", line(command)))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!("{}", tail(&String::from_utf8_lossy(&said), 60));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Metrics are those of docs/metrics.md, recorded series those of the rules.
    #[test]
    fn what_is_asked_for_is_documented() {
        let root = workspace::root();
        let folder = root.join(FOLDER);
        let document = fs::read_to_string(root.join("docs/metrics.md")).unwrap();
        let documented: BTreeSet<&str> = document
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split(['`', '{']).next())
            .collect();
        assert!(documented.contains("ctmon_entries"), "{documented:?}");
        let rules = fs::read_to_string(folder.join(RULES)).unwrap();
        let recorded: BTreeSet<&str> =
            rules.lines().filter_map(|line| line.trim().strip_prefix("- record: ")).collect();
        let queries = shipped(&folder).unwrap();
        assert!(queries.len() > 60, "{}", queries.len());
        let in_queries = queries.iter().flat_map(|query| names::of_metrics(&query.text));
        for name in in_queries.chain(names::of_metrics(&rules)) {
            assert!(documented.contains(name) || recorded.contains(name), "{name}");
        }
        for name in ABSENT {
            assert!(documented.contains(name), "{name}");
        }
        for name in recorded {
            let is_used =
                queries.iter().any(|query| names::of_metrics(&query.text).any(|n| n == name));
            assert!(is_used, "{name} is recorded and not used");
        }
    }
}
