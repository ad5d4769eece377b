//! Takes connections.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::sleep};

use super::{Notice, Refusal, Shared, connection, listener::Registered};

/// The first wait after a failure, doubled with each one up to [`LONGEST`].
const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(1);

/// Share of the connections that may be open which are taken before those that are open are looked at. Few enough that
/// none is closed for the next before that; many enough that they do not wait long while others keep asking on theirs.
const AT_ONCE: usize = 4;

/// Takes connections for ever; each holds `alive`.
pub(super) async fn run(
    listener: Registered,
    shared: Arc<Shared>,
    alive: mpsc::Sender<Infallible>,
) {
    let mut wait = None;
    let mut taken = 0;
    loop {
        match listener.accept(shared.limits.send_buffer()).await {
            Ok((stream, peer)) => {
                if wait.take().is_some() {
                    (shared.say)(&Notice::Accepting { address: listener.address.clone() });
                }
                let (task, alive) = (shared.clone(), alive.clone());
                shared.connections.open(peer, |entry| async move {
                    connection::serve(stream, entry, &task).await;
                    drop(alive);
                });
                taken += 1;
                if taken >= shared.limits.connections / AT_ONCE {
                    taken = 0;
                    tokio::task::yield_now().await;
                }
            }
            Err(error) if concerns_one(&error) => {}
            // Without a descriptor to spare accept(2) fails though there is nothing to take.
            Err(_) if !listener.is_waited_for() => sleep(SHORTEST).await,
            Err(error) => {
                shared.counters.refuse(Refusal::Accept);
                let pause = wait.map_or(SHORTEST, |wait: Duration| (wait * 2).min(LONGEST));
                if wait.replace(pause).is_none() {
                    let address = listener.address.clone();
                    (shared.say)(&Notice::NotAccepting { address, error });
                }
                // A descriptor that is held by one who does nothing is better used.
                shared.connections.close_one();
                sleep(pause).await;
            }
        }
    }
}

/// Whether only the connection failed that was to be taken: accept(2) hands its errors on.
fn concerns_one(error: &io::Error) -> bool {
    const ERRORS: [i32; 11] = [
        libc::ECONNABORTED,
        libc::ECONNRESET,
        libc::EINTR,
        libc::EINVAL,
        libc::ENETDOWN,
        libc::EPROTO,
        libc::ENOPROTOOPT,
        libc::EHOSTDOWN,
        libc::ENONET,
        libc::EHOSTUNREACH,
        libc::ENETUNREACH,
    ];
    error.raw_os_error().is_some_and(|code| ERRORS.contains(&code))
}
