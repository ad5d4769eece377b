//! `cargo xtask incident`: a table fills in a VM while Debian's Prometheus scrapes the daemon there. What the daemon and
//! what `predict_linear` say of it, from the same scrapes, and which alerts fire before it is full.

mod asked;
mod peak;
mod plot;
mod record;
mod table;

use std::{fs, path::PathBuf, process::ExitCode, time::UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    arch, build,
    process::Lines,
    progress::note,
    prometheus::{
        self,
        servers::{Server, free_port},
        tools::Tools,
    },
    setup,
    vm::{self, ADDRESS, Forward, Guest, KernelArg, MachineArgs},
    workspace,
};

/// Scripts in the VM: set-up, and the story of the incident.
const NODE: &str = include_str!("node.sh");
const STORY: &str = include_str!("story.sh");
/// Where ctmon listens in it.
const PORT: u16 = 12_620;
/// Begins a line of the story that says what comes next.
const PHASE: &str = "phase: ";
/// Alerts that people have without a forecast.
const USUAL: &str = include_str!("usual.rules.yml");

/// From scrape to scrape, and from evaluation to evaluation, in seconds: as docs/prometheus.md has it.
const SCRAPE: u32 = 15;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where the plot and the record of the run go; target/incident if not given.
    #[arg(long, value_name = "FOLDER")]
    files: Option<PathBuf>,
    /// Judge and draw the record of an earlier run instead.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Another story: scrapes a minute apart, and a table that is nearly full for two seconds between them.
    #[arg(long, conflicts_with_all = ["files", "record"])]
    peak: bool,
    #[command(flatten)]
    kernel: KernelArg,
    #[command(flatten)]
    machine: MachineArgs,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if args.peak {
        return peak::run(args);
    }
    let folder = match &args.files {
        Some(folder) => folder.clone(),
        None => workspace::target()?.join("incident"),
    };
    workspace::create(&folder)?;
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        note(&path.display().to_string());
        anyhow::Ok(())
    };
    let record = match &args.record {
        Some(path) => {
            let text = fs::read_to_string(path);
            let text = text.with_context(|| format!("cannot read {}", path.display()))?;
            serde_json::from_str(&text)
                .with_context(|| format!("{} is no record of an incident", path.display()))?
        }
        None => {
            let record = scraped(args, STORY, config, asked::record)?;
            write("record.json", &serde_json::to_string(&record)?)?;
            record
        }
    };
    write("predict-linear.svg", &plot::svg(&record)?)?;
    println!("{}", table::text(&record));
    let complaints = record.complaints();
    for complaint in &complaints {
        println!("FAILED: {complaint}");
    }
    Ok(if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Lets a story happen in a VM while a Prometheus with the configuration for that target scrapes the daemon there. Then
/// asks it, which knows the kernel's release and when which phase began.
fn scraped<T>(
    args: &Args,
    story: &str,
    config: impl FnOnce(&[PathBuf], &str) -> String,
    ask: impl FnOnce(&Server<'_>, &str, &[(f64, String)]) -> Result<T>,
) -> Result<T> {
    ensure!(
        arch::DEFAULT.is_host(),
        "Debian's Prometheus is fetched for {} only",
        arch::DEFAULT.name
    );
    let arch = args.kernel.arch();
    setup::ensure(arch)?;
    let tools = Tools::get()?;
    let kernel = args.kernel.get()?;
    let binaries = build::static_binaries(arch)?;
    let forward = Forward { here: free_port()?, there: PORT };
    let scratch = tempfile::tempdir().context("no scratch directory")?;
    let usual = scratch.path().join("usual.rules.yml");
    fs::write(&usual, USUAL).context("cannot write the usual alerts")?;
    let shipped = workspace::root().join(prometheus::FOLDER).join(prometheus::RULES);
    let config = config(&[shipped, usual], &format!("127.0.0.1:{}", forward.here));
    let server = Server::start(&tools, &config, scratch.path())?;

    let script = format!("ADDRESS={ADDRESS} PORT={PORT}\n{NODE}{story}");
    let guest = Guest { forward: Some(forward), ..Guest::command(&script, &binaries) };
    let mut told = Told::default();
    let status = vm::boot(&kernel, &args.machine, &guest, &mut |bytes| {
        told.push(bytes);
        vm::print(bytes)
    })?;
    if status != 0 {
        bail!("the story in the VM ended with {status}; what it said is above");
    }
    ask(&server, &kernel.release, &told.phases)
}

/// Scrapes and rules as they are mostly set up; beside them, under names that no rule knows, the two series that say each
/// second what was the case.
fn config(rules: &[PathBuf], target: &str) -> String {
    let rules: Vec<String> = rules.iter().map(|path| path.display().to_string()).collect();
    format!(
        "global: {{ scrape_interval: {SCRAPE}s, evaluation_interval: {SCRAPE}s }}
rule_files: {rules:?}
scrape_configs:
  - job_name: ctmon
    static_configs: [{{ targets: [{target:?}] }}]
  - job_name: truth
    scrape_interval: 1s
    static_configs: [{{ targets: [{target:?}] }}]
    metric_relabel_configs:
      - {{ source_labels: [__name__], regex: ctmon_(entries|severity), action: keep }}
      - {{ source_labels: [__name__], regex: ctmon_(.+), target_label: __name__, replacement: truth_$1 }}
"
    )
}

/// What came from the VM so far.
#[derive(Default)]
struct Told {
    lines: Lines,
    /// When they began, in seconds since 1970 UTC by this host's clock, and what they are.
    phases: Vec<(f64, String)>,
}

impl Told {
    fn push(&mut self, bytes: &[u8]) {
        for line in self.lines.push(bytes) {
            if let Some(phase) = line.strip_prefix(PHASE) {
                let now = UNIX_EPOCH.elapsed().unwrap_or_default().as_secs_f64();
                self.phases.push((now, phase.to_owned()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{record::Record, *};

    #[test]
    fn documents_show_the_record() {
        let root = workspace::root();
        let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
        let record: Record =
            serde_json::from_str(&read("tests/fixtures/incident-6.12.json")).unwrap();
        assert_eq!(record.complaints(), Vec::<String>::new());
        assert!(
            plot::svg(&record).unwrap() == read("docs/predict-linear.svg"),
            "the plot is another one"
        );
        let document = read("docs/prometheus.md");
        for line in table::text(&record).lines().filter(|line| line.starts_with('|')) {
            assert!(document.lines().any(|there| there == line), "{line}");
        }
    }

    #[test]
    fn scrapes_are_those_of_the_document() {
        let document = fs::read_to_string(workspace::root().join("docs/prometheus.md")).unwrap();
        assert!(document.contains(&format!("scrape_interval: {SCRAPE}s")));
    }

    #[test]
    fn phases_are_lines_of_their_own() {
        let mut told = Told::default();
        for piece in [b"x\nphase: a b\r\nno phase: c\npha".as_slice(), b"se: d\nphase: not yet"] {
            told.push(piece);
        }
        let names: Vec<&str> = told.phases.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, ["a b", "d"]);
        assert!(told.phases[0].0 > 1.7e9);
    }
}
