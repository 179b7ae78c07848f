//! The listener: one task for each request, all on the thread that runs [`serve`].

use std::collections::HashMap;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_executor::{Executor, Task};
use async_io::Async;

use crate::packet::{Refusal, Request};
use crate::transfer::Transfer;

/// Time in which a repeated request is ignored. It bounds the number of first packets that are sent
/// to an address, which may be spoofed.
const RESTART_AFTER: Duration = Duration::from_millis(200);

/// Limits of a server, and how it waits for clients.
#[derive(Clone, Debug)]
pub struct Options {
    /// Time without an acknowledgment after which a packet is sent again, unless the client
    /// requests another one.
    pub timeout: Duration,
    /// Minimum of that time once round trips have been measured. It is then four of them, and
    /// doubles with each retry, up to `timeout`.
    pub timeout_min: Duration,
    /// Maximum timeout that a client may request, in seconds; a longer one is ignored.
    pub client_timeout_max_s: u8,
    /// Number of times that a packet is sent again.
    pub retries: u32,
    /// The same for the first packet of a transfer. Until a client replies, its address may be
    /// spoofed, so it should get little.
    pub first_retries: u32,
    /// Time to wait for the reply to the first packet.
    pub first_timeout: Duration,
    /// Maximum size of a block in bytes.
    pub block_bytes_max: u16,
    /// Maximum number of blocks before an acknowledgment.
    pub window_max: u16,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(1),
            timeout_min: Duration::from_millis(20),
            client_timeout_max_s: 5,
            retries: 12,
            // a long timeout instead, in which the client can send a lost reply again
            first_retries: 0,
            first_timeout: Duration::from_secs(5),
            // the largest block that fits into an Ethernet frame with its headers
            block_bytes_max: 1468,
            window_max: 16,
        }
    }
}

/// Opens the files that clients request. Its methods run between packets, so they must not block.
pub trait Handler: Send + Sync + 'static {
    /// An opened file. It is dropped when its transfer ends, whether complete or not.
    type File: BootFile;

    /// Opens `name` as the client sent it, directories included. Also returns the length in bytes
    /// if it is known, for clients that request it.
    ///
    /// # Errors
    /// What the client is told instead.
    fn open(&self, client: SocketAddr, name: &str) -> Result<(Self::File, Option<u64>), Refusal>;

    /// Called for a request to write, which the server refuses.
    fn write_refused(&self, _client: SocketAddr) {}
}

/// A file in transfer. Reading must not block.
pub trait BootFile: Read + Send + 'static {
    /// Called when the client has acknowledged the first packet: its address is not spoofed.
    fn client_replied(&mut self) {}
}

impl<T: AsRef<[u8]> + Send + 'static> BootFile for io::Cursor<T> {}

/// Serves the requests that arrive at `socket`. Responses come from its address, which therefore
/// should not be unspecified on a host with several.
///
/// Runs until it is dropped, which ends all transfers. [`block_on`](crate::block_on) drives it with
/// the least delay; any other executor works too.
///
/// # Errors
/// When the socket fails.
pub async fn serve<H: Handler>(socket: UdpSocket, handler: H, options: Options) -> io::Result<()> {
    let local = socket.local_addr()?.ip();
    let socket = Async::new(socket)?;
    let server = Arc::new(Server { handler, options, local, in_progress: Mutex::default() });
    let executor = Executor::new();
    let listening = async {
        let mut buf = [0; 4096];
        loop {
            let (len, client) = socket.recv_from(&mut buf).await?;
            if let Some(request) = Request::parse(&buf[..len]) {
                server.begin(&executor, client, request);
            }
        }
    };
    executor.run(listening).await
}

struct Server<H> {
    handler: H,
    options: Options,
    /// Address from which files are sent.
    local: IpAddr,
    in_progress: Mutex<HashMap<SocketAddr, InProgress>>,
}

/// A request that is being served.
struct InProgress {
    client_has_replied: Arc<AtomicBool>,
    begun: Instant,
    /// Cancelled when this is dropped.
    _task: Task<()>,
}

impl<H: Handler> Server<H> {
    fn begin(self: &Arc<Self>, executor: &Executor<'static>, client: SocketAddr, request: Request) {
        let mut in_progress = self.in_progress();
        if let Some(pending) = in_progress.get(&client) {
            let is_early = pending.begun.elapsed() < RESTART_AFTER;
            if is_early || pending.client_has_replied.load(Ordering::Relaxed) {
                return;
            }
            // otherwise the first packet was lost: begin again
        }
        let client_has_replied = Arc::new(AtomicBool::new(false));
        let serving = Arc::clone(self).serve(client, request, Arc::clone(&client_has_replied));
        let begun = Instant::now();
        let pending = InProgress { client_has_replied, begun, _task: executor.spawn(serving) };
        in_progress.insert(client, pending);
    }

    async fn serve(
        self: Arc<Self>,
        client: SocketAddr,
        request: Request,
        client_has_replied: Arc<AtomicBool>,
    ) {
        // without a socket there is no way to tell the client anything
        if let Ok(socket) = Async::<UdpSocket>::bind((self.local, 0)) {
            match self.open(client, &request) {
                Ok((file, len)) => {
                    Transfer::new(socket, client, file, len, &request.options, &self.options)
                        .run(&client_has_replied)
                        .await;
                }
                // an error is never acknowledged, so it is sent once
                Err(refusal) => drop(socket.send_to(&refusal.to_packet(), client).await),
            }
        }
        self.in_progress().remove(&client);
    }

    fn open(
        &self,
        client: SocketAddr,
        request: &Request,
    ) -> Result<(H::File, Option<u64>), Refusal> {
        if request.is_write {
            self.handler.write_refused(client);
            return Err(Refusal::PermissionDenied);
        }
        self.handler.open(client, &request.name)
    }

    fn in_progress(&self) -> MutexGuard<'_, HashMap<SocketAddr, InProgress>> {
        self.in_progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct OneFile;

    impl Handler for OneFile {
        type File = io::Cursor<Vec<u8>>;

        fn open(&self, _: SocketAddr, name: &str) -> Result<(Self::File, Option<u64>), Refusal> {
            match name {
                "a" => Ok((io::Cursor::new(vec![7; 1024]), Some(1024))),
                _ => Err(Refusal::FileNotFound),
            }
        }
    }

    /// A client of a new server.
    fn client() -> (UdpSocket, SocketAddr) {
        let listener = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // it ends with the process
        std::thread::spawn(|| async_io::block_on(serve(listener, OneFile, Options::default())));
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        (socket, address)
    }

    fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        let mut buf = [0; 2048];
        let (len, from) = socket.recv_from(&mut buf).unwrap();
        (buf[..len].to_vec(), from)
    }

    #[test]
    fn a_file_of_whole_blocks_ends_with_an_empty_one() {
        let (socket, server) = client();
        socket.send_to(b"\0\x01a\0octet\0", server).unwrap();
        for (block, len) in [(1, 512), (2, 512), (3, 0)] {
            let (data, from) = receive(&socket);
            assert_eq!(data[..4], [0, 3, 0, block]);
            assert_eq!(data[4..], vec![7; len]);
            socket.send_to(&[0, 4, 0, block], from).unwrap();
        }
    }

    #[test]
    fn an_aborted_transfer_frees_its_port_for_the_next_request() {
        let (socket, server) = client();
        socket.send_to(b"\0\x01a\0octet\0tsize\x000\0", server).unwrap();
        let (oack, from) = receive(&socket);
        assert_eq!(oack, b"\0\x06tsize\x001024\0");
        socket.send_to(b"\0\x05\0\x08aborted\0", from).unwrap();
        // the server may see the request before the error, and ignores it then
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let mut buf = [0; 2048];
        let answered = (0..400).any(|_| {
            socket.send_to(b"\0\x01a\0octet\0blksize\x00600\0", server).unwrap();
            socket.recv_from(&mut buf).is_ok()
        });
        assert!(answered && buf.starts_with(b"\0\x06blksize\x00600\0"), "{:?}", &buf[..32]);
    }

    #[test]
    fn what_does_not_exist_and_what_is_written_is_refused() {
        let (socket, server) = client();
        socket.send_to(b"\0\x01b\0octet\0", server).unwrap();
        assert_eq!(receive(&socket).0, b"\0\x05\0\x01File not found\0");
        let (socket, server) = client();
        socket.send_to(b"\0\x02a\0octet\0", server).unwrap();
        assert_eq!(receive(&socket).0, b"\0\x05\0\x02Permission denied\0");
    }
}
