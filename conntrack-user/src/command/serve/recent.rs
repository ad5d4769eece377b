//! An answer that is given again for a moment: who asks faster than anything changes costs next to nothing.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use bytes::Bytes;
use conntrack_user::lock::lock;

/// How old an answer may be.
pub(super) const FRESH: Duration = Duration::from_millis(100);

/// The answer that was written last, and when.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<Option<(Instant, Bytes)>>);

impl Recent {
    /// The one that was written less than [`FRESH`] before `now`, else what `write` makes, the same memory for all who ask
    /// until then.
    ///
    /// # Errors
    /// Those of `write`, of which nothing is kept.
    pub(super) fn get<E>(
        &self,
        now: Instant,
        write: impl FnOnce() -> Result<Bytes, E>,
    ) -> Result<Bytes, E> {
        let mut last = lock(&self.0);
        if let Some((time, body)) = &*last
            && now.saturating_duration_since(*time) < FRESH
        {
            return Ok(body.clone());
        }
        let body = write()?;
        *last = Some((now, body.clone()));
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_anew_when_it_is_old_and_never_kept_where_it_failed() {
        let recent = Recent::default();
        let begun = Instant::now();
        let get = |ms, write: Result<&'static str, &'static str>| {
            recent.get(begun + Duration::from_millis(ms), || write.map(Bytes::from))
        };
        assert_eq!(get(0, Err("no")), Err("no"));
        assert_eq!(get(10, Ok("a")), Ok(Bytes::from("a")));
        assert_eq!(get(109, Ok("b")), Ok(Bytes::from("a")));
        assert_eq!(get(110, Ok("b")), Ok(Bytes::from("b")));
        assert_eq!(get(300, Err("no")), Err("no"));
        assert_eq!(get(310, Ok("c")), Ok(Bytes::from("c")));
    }
}
