//! `cargo xtask corpus`: recordings of real tables in VMs, and what forecasters are worth on them.

mod judge;
mod kinds;
mod matrix;
mod record;
mod repack;
mod ticks;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, ensure};

use self::{kinds::Recording, record::Order};
use crate::vm::MachineArgs;

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    judge: Option<Judge>,
    /// Names, or parts of names, of the recordings; all if not given.
    names: Vec<String>,
    /// The leak matrix instead of the corpus; its recordings go into target/corpus-matrix.
    #[arg(long)]
    matrix: bool,
    /// Show the recordings and whether they are there; record nothing.
    #[arg(long)]
    list: bool,
    /// VMs at a time.
    #[arg(long, default_value_t = 2, value_name = "N")]
    jobs: usize,
    #[command(flatten)]
    machine: MachineArgs,
}

#[derive(clap::Subcommand)]
enum Judge {
    /// Compare the forecaster with the reference line of each kind, tests/corpus/kinds.toml.
    Judge(judge::Args),
    /// Judge what the monitor says of each leak of the matrix.
    JudgeMatrix {
        /// The monitor that is judged; that of this workspace if not given.
        #[arg(long, value_name = "PATH")]
        ctmon: Option<PathBuf>,
    },
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    match &args.judge {
        Some(Judge::Judge(args)) => judge::run(args),
        Some(Judge::JudgeMatrix { ctmon }) => judge_matrix(ctmon.as_deref()),
        None => record(args),
    }
}

fn record(args: &Args) -> Result<ExitCode> {
    let (folder, orders) = if args.matrix {
        let cells = matrix::cells().iter().map(matrix::Cell::order).collect::<Result<Vec<_>>>()?;
        let is_named = |order: &Order| args.names.iter().any(|name| order.name.contains(name));
        let chosen = |order: &Order| args.names.is_empty() || is_named(order);
        (matrix::folder()?, cells.into_iter().filter(chosen).collect::<Vec<_>>())
    } else {
        let chosen = kinds::chosen(kinds::recordings()?, &args.names)?;
        if args.list {
            list(&chosen);
            return Ok(ExitCode::SUCCESS);
        }
        (kinds::folder(), chosen.iter().map(order).collect::<Result<_>>()?)
    };
    if args.list {
        orders
            .iter()
            .for_each(|order| println!("{:30} {}", order.name, size(&folder, &order.name)));
        return Ok(ExitCode::SUCCESS);
    }
    let failed = record::missing(orders, &folder, args.jobs, &args.machine)?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn list(recordings: &[Recording]) {
    for recording in recordings {
        let aside = if recording.is_aside() { "  aside" } else { "" };
        println!("{:30} {}{aside}", recording.name, size(&kinds::folder(), &recording.name));
    }
}

/// Size of a recording in words.
fn size(folder: &Path, name: &str) -> String {
    let size = fs::metadata(folder.join(format!("{name}.mcap")));
    size.map_or("missing".to_owned(), |file| format!("{} bytes", file.len()))
}

/// The script of a recording: the common part, that of its kind, and the end.
fn order(recording: &Recording) -> Result<Order> {
    let script = script(&format!("{}.sh", recording.kind.name), &[("SEED", recording.seed)])?;
    Ok(Order { name: recording.name.clone(), script, kernel: recording.kind.kernel.clone() })
}

/// A script of the tree with its variables, so that it records.
fn script(file: &str, variables: &[(&str, u32)]) -> Result<String> {
    let read = |name: &str| {
        let path = kinds::folder().join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let set: String = variables.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    Ok(format!("{set}{}\n{}\nfinish\n", read("common.sh")?, read(file)?))
}

fn judge_matrix(ctmon: Option<&Path>) -> Result<ExitCode> {
    let (ctmon, folder) = (judge::ctmon(ctmon)?, matrix::folder()?);
    let (mut judged, mut met) = (0, 0);
    for cell in matrix::cells() {
        let path = cell.path(&folder);
        if !path.exists() {
            println!("{:30} is not recorded", cell.name());
            continue;
        }
        let verdict = cell.judge(&ticks::replay(&ctmon, &path)?);
        let text = verdict.map_or("was never full: NOT MET".to_owned(), |verdict| verdict.text());
        println!("{:30} {text}", cell.name());
        judged += 1;
        met += usize::from(verdict.is_some_and(|verdict| verdict.met));
    }
    ensure!(judged > 0, "no cell is recorded: cargo xtask corpus --matrix records them");
    println!("{met} of {judged} cells met");
    Ok(if met == judged { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
