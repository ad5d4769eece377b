//! Answers about the last minutes: few points for whoever has the others, else all of them, written once a tick.

use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use conntrack_user::{daemon::history::History, lock::lock, view::history};

use super::routes::line;

/// Points of an answer that is written for one request, at most: 20 s of all namespaces, some 90 KB and a millisecond.
const FEW: usize = 20 * conntrack_user::daemon::history::NETNS;

/// The answer with all points that was written last, and of which version of the history.
#[derive(Debug, Default)]
pub(super) struct Minutes(Mutex<Option<(u64, Bytes)>>);

impl Minutes {
    /// Points that are younger than `since_ns` (nanoseconds since 1970 UTC). Where those are more than [`FEW`], all: the same
    /// memory for all who ask until the next tick, however many.
    ///
    /// # Errors
    /// Minutes that cannot be written as JSON.
    pub(super) fn since<'a>(
        &self,
        since_ns: u64,
        history: impl FnOnce() -> MutexGuard<'a, History>,
    ) -> serde_json::Result<Bytes> {
        let mut whole = lock(&self.0);
        let all = {
            let history = history();
            if history.points_since(since_ns) <= FEW {
                return line(&history::json(&history, since_ns));
            }
            match &*whole {
                Some((version, bytes)) if *version == history.version() => return Ok(bytes.clone()),
                // Megabytes are copied in a moment and written in many: the next tick does not wait for that.
                _ => history.clone(),
            }
        };
        let bytes = line(&history::json(&all, 0))?;
        *whole = Some((all.version(), bytes.clone()));
        Ok(bytes)
    }
}
