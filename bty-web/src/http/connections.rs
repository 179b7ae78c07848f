//! Limits on connections, and the choice of a connection to close when there are too many.
//!
//! At the limit, the client with the most connections loses one that is waiting for a request, so a
//! flood of connections hurts only the client that causes it. A connection with a request in
//! progress is never closed to make room.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ConnectInfo;
use hyper::body::{Frame, SizeHint};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tower::ServiceExt as _;

use crate::config::limits::Limits;
use crate::domain::limit::Limit;
use crate::domain::network::{Networks, network_of};
use crate::services::metrics::Metrics;

/// Maximum size of a request head, and of the buffers of a connection.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Time after which a client that reads nothing of its response is disconnected.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Interval between checks for stalled responses.
const STALL_CHECK: Duration = Duration::from_secs(15);

/// The connections of one listener.
pub struct Connections {
    limits: Limits,
    trusted: Networks,
    metrics: Arc<Metrics>,
    table: Mutex<Table>,
    gone: Notify,
}

#[derive(Default)]
struct Table {
    last_id: u64,
    open: HashMap<u64, Arc<State>>,
    by_network: HashMap<IpAddr, usize>,
}

/// An open connection. Times are milliseconds after `opened_at`.
struct State {
    network: IpAddr,
    opened_at: Instant,
    /// True once a request has arrived.
    has_served: AtomicBool,
    /// When it started to wait for a request; [`NOT_WAITING`] while a request is in progress.
    idle_since: AtomicU64,
    /// When it started to wait for the client to read more of a response; [`NOT_WAITING`] if it is
    /// not waiting for that.
    sends_since: AtomicU64,
    end: Notify,
}

const NOT_WAITING: u64 = u64::MAX;

impl State {
    fn now(&self) -> u64 {
        u64::try_from(self.opened_at.elapsed().as_millis()).unwrap_or(NOT_WAITING - 1)
    }

    fn is_stalled(&self) -> bool {
        let since = self.sends_since.load(Ordering::Relaxed);
        since != NOT_WAITING
            && self.now().saturating_sub(since)
                > u64::try_from(STALL_TIMEOUT.as_millis()).unwrap_or(NOT_WAITING)
    }
}

impl Connections {
    /// Creates an empty set of connections. The limit per address does not apply to proxies in
    /// `trusted`.
    #[must_use]
    pub fn new(limits: Limits, trusted: Networks, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { limits, trusted, metrics, table: Mutex::default(), gone: Notify::new() })
    }

    /// Serves each client of `listener` until `stopped` ends, then waits for all connections to
    /// end. `serve` must end its connection once the permit says so.
    pub async fn serve<F: Future<Output = io::Result<()>> + Send + 'static>(
        self: Arc<Self>,
        listener: TcpListener,
        stopped: impl Future<Output = ()>,
        serve: impl Fn(TcpStream, SocketAddr, Permit) -> F,
    ) {
        let mut stopped = std::pin::pin!(stopped);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut stopped => break,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // out of file descriptors: wait until other connections have ended
                    tracing::warn!(%error, "a client was not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            // responses are small: do not delay them to fill packets
            let _ = stream.set_nodelay(true);
            let Some(permit) = self.admit(peer.ip()) else { continue };
            let serving = serve(stream, peer, permit);
            tokio::spawn(async move {
                if let Err(error) = serving.await {
                    tracing::debug!(%peer, %error, "a connection ended");
                }
            });
        }
        drop(listener);
        self.drain().await;
    }

    /// Ends idle connections and waits for the others.
    async fn drain(&self) {
        loop {
            let mut gone = std::pin::pin!(self.gone.notified());
            // from here on, each ending connection wakes this task
            gone.as_mut().enable();
            if self.end_all() == 0 {
                return;
            }
            gone.await;
        }
    }

    /// Asks all connections to end. Returns how many are still open.
    fn end_all(&self) -> usize {
        let table = self.lock();
        table.open.values().for_each(|state| state.end.notify_one());
        table.open.len()
    }

    /// Admits a client, if necessary by ending an idle connection; `None` at the limit.
    fn admit(self: &Arc<Self>, ip: IpAddr) -> Option<Permit> {
        let network = network_of(ip);
        let mut table = self.lock();
        let held = table.by_network.get(&network).copied().unwrap_or_default();
        if held >= self.limits.connections_per_address
            && !self.trusted.contains(ip.to_canonical())
            && !self.end_idle(&mut table, network, Limit::ConnectionsPerAddress)
        {
            return None;
        }
        if table.open.len() >= self.limits.connections {
            let most =
                table.by_network.iter().max_by_key(|(_, held)| **held).map(|(network, _)| *network);
            let has_room =
                most.is_some_and(|most| self.end_idle(&mut table, most, Limit::Connections));
            if !has_room {
                return None;
            }
        }
        table.last_id += 1;
        let id = table.last_id;
        *table.by_network.entry(network).or_default() += 1;
        let state = Arc::new(State {
            network,
            opened_at: Instant::now(),
            has_served: AtomicBool::new(false),
            idle_since: AtomicU64::new(0),
            sends_since: AtomicU64::new(NOT_WAITING),
            end: Notify::new(),
        });
        table.open.insert(id, Arc::clone(&state));
        Some(Permit { id, state, connections: Arc::clone(self) })
    }

    /// Ends the connection of `network` that has been idle longest; returns false if none is idle.
    /// Counts as a refusal in both cases.
    fn end_idle(&self, table: &mut Table, network: IpAddr, limit: Limit) -> bool {
        self.metrics.refuse(limit);
        let waiting = table.open.iter().filter(|(_, state)| state.network == network);
        let idle_from = |state: &State| match state.idle_since.load(Ordering::Relaxed) {
            NOT_WAITING => None,
            since => state.opened_at.checked_add(Duration::from_millis(since)),
        };
        let longest = waiting.filter_map(|(id, state)| Some((idle_from(state)?, *id))).min();
        let Some((_, id)) = longest else { return false };
        if let Some(state) = table.remove(id) {
            state.end.notify_one();
        }
        true
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn remove(&mut self, id: u64) -> Option<Arc<State>> {
        let state = self.open.remove(&id)?;
        if let Some(held) = self.by_network.get_mut(&state.network) {
            *held -= 1;
            if *held == 0 {
                self.by_network.remove(&state.network);
            }
        }
        Some(state)
    }
}

/// The permission for one connection. Dropping it removes the connection from the count.
pub struct Permit {
    id: u64,
    state: Arc<State>,
    connections: Arc<Connections>,
}

impl Permit {
    /// Time limit for the head of a request.
    #[must_use]
    pub fn head_time(&self) -> Duration {
        self.connections.limits.head_time
    }

    /// Marks the start of a request. The connection is not idle until the result is dropped.
    #[must_use]
    pub fn work(&self) -> RequestInProgress {
        self.state.has_served.store(true, Ordering::Relaxed);
        self.state.idle_since.store(NOT_WAITING, Ordering::Relaxed);
        RequestInProgress(Arc::clone(&self.state))
    }

    /// Serves HTTP on `stream` until the client disconnects, the connection must end, or the client
    /// stops reading.
    ///
    /// # Errors
    /// If the connection breaks or stalls, or the client sends something other than HTTP.
    pub async fn serve_http(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: SocketAddr,
        router: Router,
    ) -> io::Result<()> {
        let state = Arc::clone(&self.state);
        let service =
            hyper::service::service_fn(|mut request: hyper::Request<hyper::body::Incoming>| {
                let work = self.work();
                request.extensions_mut().insert(ConnectInfo(peer));
                let answer = router.clone().oneshot(request.map(Body::new));
                async move {
                    answer.await.map(|response| response.map(|inner| TrackedBody { inner, work }))
                }
            });
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(self.head_time())
            .max_buf_size(HEAD_BYTES_MAX);
        let mut connection =
            std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
        loop {
            tokio::select! {
                served = connection.as_mut() => return served.map_err(io::Error::other),
                () = state.end.notified() => {
                    if !state.has_served.load(Ordering::Relaxed) {
                        return Ok(());
                    }
                    // a response in progress is sent to its end
                    connection.as_mut().graceful_shutdown();
                }
                () = tokio::time::sleep(STALL_CHECK) => {
                    if state.is_stalled() {
                        self.connections.metrics.refuse(Limit::StalledAnswer);
                        return Err(io::Error::new(
                            io::ErrorKind::TimedOut,
                            "the client does not read its response",
                        ));
                    }
                }
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.connections.lock().remove(self.id);
        self.connections.gone.notify_waiters();
    }
}

/// While it exists, the connection is not idle.
pub struct RequestInProgress(Arc<State>);

impl Drop for RequestInProgress {
    fn drop(&mut self) {
        self.0.sends_since.store(NOT_WAITING, Ordering::Relaxed);
        self.0.idle_since.store(self.0.now(), Ordering::Relaxed);
    }
}

/// The body of a response, which records whether it is waiting for the client.
struct TrackedBody {
    inner: Body,
    work: RequestInProgress,
}

impl hyper::body::Body for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        let state = &self.work.0;
        let since = if polled.is_ready() { state.now() } else { NOT_WAITING };
        state.sends_since.store(since, Ordering::Relaxed);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
