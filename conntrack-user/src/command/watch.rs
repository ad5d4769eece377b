//! `ctmon watch`

use anyhow::Result;

use super::{follow, record::Recorder, show::Show, shutdown::Shutdown};
use crate::cli::Watch;

pub(crate) async fn run(watch: &Watch) -> Result<u8> {
    let mut shutdown = Shutdown::listen()?;
    let plan = watch.follow.plan();
    let recorder = match &watch.record {
        Some(path) => Some(Recorder::create(path, watch.force, None, &plan.options.procfs)?),
        None => None,
    };
    let mut sink = (Show::new(Some(watch.output), watch.causes, watch.flows), recorder);
    let outcome = tokio::select! {
        () = shutdown.requested() => Ok(()),
        outcome = follow::run(&plan, &mut sink) => outcome,
    };
    match sink.1 {
        Some(recorder) => recorder.end(outcome).map(|_| 0),
        None => outcome.map(|()| 0),
    }
}
