//! One connection, from its TLS handshake to its end.

use std::{convert::Infallible, future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use ::http::{Request, StatusCode};
use hyper::{
    body::Incoming,
    rt,
    server::conn::http1::{self, Builder},
    service::{HttpService, service_fn},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::{Instant, sleep_until, timeout},
};

use super::{
    Limits, Refusal, Shared,
    answer::{self, Asked},
    connections::{Entry, Phase, State},
    stream::{Measured, Stream, Watched, Whole},
};

/// The least that hyper takes as the size of its buffer.
const BUFFER: usize = 8192;

/// Fields of a request's head.
const FIELDS: usize = 64;

/// What is read of what a client sends though its connection ends, and for how long: it would not see its answer if
/// bytes were left unread.
const LINGER_BYTES: u64 = 64 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(1);

/// Serves a connection until it ends.
pub(super) async fn serve(stream: Stream, entry: Entry, shared: &Arc<Shared>) {
    let web = shared.web.current(&shared.say);
    let stream = Measured { stream, state: entry.state.clone() };
    let Some(tls) = web.tls() else {
        return requests(stream, entry, shared).await;
    };
    match timeout(shared.limits.handshake_time, tls.accept(stream)).await {
        Ok(Ok(stream)) => requests(stream, entry, shared).await,
        Ok(Err(_)) => shared.counters.refuse(Refusal::Handshake),
        Err(_) => shared.counters.refuse(Refusal::HandshakeTime),
    }
}

/// How requests on a connection ended.
enum End {
    /// By the client, by an answer that was the last, or by what is no request.
    Told(hyper::Result<()>),
    /// One took too long.
    Late(Phase),
    /// The server ends.
    Finishing,
}

async fn requests<S>(stream: S, entry: Entry, shared: &Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let state = &entry.state;
    state.set(Phase::Head);
    let service = service_fn(|request: Request<Incoming>| {
        let number = state.request();
        let (shared, state) = (shared.clone(), state.clone());
        let asked = Asked { peer: entry.peer, is_last: number >= shared.limits.requests };
        Box::pin(async move {
            let answer = answer::answer(&shared, asked, request).await;
            if answer.body().len() > shared.limits.large_bytes {
                shared.connections.begin_large(shared.limits.large_answers, &state);
            }
            Ok::<_, Infallible>(answer.map(|bytes| Whole::new(bytes, state)))
        })
    });
    let io = TokioIo::new(Watched { stream, state: state.clone() });
    let mut connection = Builder::new()
        // Times are kept here, for what hyper calls reading a head includes being idle.
        .header_read_timeout(None)
        .max_buf_size(shared.limits.head_bytes.max(BUFFER))
        .max_header_size(shared.limits.head_bytes)
        .max_headers(FIELDS)
        .serve_connection(io, service);
    let end = drive(&mut connection, state, shared).await;
    let mut io = connection.into_parts().io.into_inner().stream;
    match end {
        End::Told(Ok(())) => {}
        End::Told(Err(error)) if error.is_parse_too_large() => {
            shared.counters.answer(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        }
        End::Told(Err(error)) if error.is_parse() => {
            shared.counters.answer(StatusCode::BAD_REQUEST)
        }
        // It is gone.
        End::Told(Err(_)) | End::Finishing | End::Late(Phase::Idle) => return,
        End::Late(Phase::Head) => {
            shared.counters.refuse(Refusal::HeadTime);
            if !state.has_begun() {
                return;
            }
            shared.counters.answer(StatusCode::REQUEST_TIMEOUT);
            const LATE: &[u8] =
                b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
            // A few bytes, of which none wait to be written.
            let _ = timeout(LINGER_TIME, io.write_all(LATE)).await;
        }
        End::Late(_) => {
            shared.counters.refuse(Refusal::AnswerTime);
            return;
        }
    }
    state.set(Phase::End);
    let _ = timeout(LINGER_TIME, linger(io)).await;
}

/// Lets requests be answered until that ends, or one takes too long.
async fn drive<I, S, F>(
    connection: &mut http1::Connection<I, S>,
    state: &State,
    shared: &Shared,
) -> End
where
    I: rt::Read + rt::Write + Unpin,
    S: HttpService<Incoming, ResBody = Whole, Error = Infallible, Future = F> + Unpin,
    F: Unpin,
{
    let mut sleep = pin!(sleep_until(deadline(state, &shared.limits)));
    poll_fn(|context| {
        if let Poll::Ready(result) = connection.poll_without_shutdown(context) {
            return Poll::Ready(End::Told(result));
        }
        let (phase, _) = state.get();
        if shared.connections.is_finishing() && phase != Phase::Answer {
            return Poll::Ready(End::Finishing);
        }
        let deadline = deadline(state, &shared.limits);
        if sleep.deadline() != deadline {
            sleep.as_mut().reset(deadline);
        }
        sleep.as_mut().poll(context).map(|()| End::Late(phase))
    })
    .await
}

/// Until when it may be about what it is about.
fn deadline(state: &State, limits: &Limits) -> Instant {
    let (phase, since) = state.get();
    let time = match phase {
        Phase::Handshake => limits.handshake_time,
        Phase::Head => limits.head_time,
        Phase::Idle => limits.idle_time,
        Phase::Answer => limits.answer_time,
        Phase::End => LINGER_TIME,
    };
    let end = since + time;
    match state.waits_since() {
        Some(waits) if phase == Phase::Answer => end.min(waits + limits.stall_time),
        _ => end,
    }
}

/// Says that nothing follows, and reads what the client still sends.
async fn linger(mut io: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    io.shutdown().await?;
    let mut rest = io.take(LINGER_BYTES);
    let mut buffer = [0; 4096];
    while rest.read(&mut buffer).await? > 0 {}
    Ok(())
}
