//! One file on its way to one client.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_io::{Async, Timer};
use futures_lite::future;

use crate::packet::{self, BLOCK_BYTES, DATA_HEADER_BYTES, Refusal, Reply, RequestOptions};
use crate::server::{BootFile, Options};

pub(crate) struct Transfer<F> {
    socket: Async<UdpSocket>,
    client: SocketAddr,
    file: F,
    /// The options that are acknowledged.
    agreed: RequestOptions,
    limits: Options,
    /// Wakes up at `alarm`, or never.
    timer: Timer,
    alarm: Option<Instant>,
    /// Smoothed time of a round trip, once one was measured.
    round_trip: Option<Duration>,
    client_has_replied: bool,
}

/// What a client says about a window.
enum Answer {
    /// This number of its blocks has arrived.
    Acked(u16),
    /// The block before the window was acknowledged again: the first block of the window was lost,
    /// and others have arrived.
    Repeated,
    /// The client has ended the transfer.
    Ended,
}

impl<F: BootFile> Transfer<F> {
    pub(crate) fn new(
        socket: Async<UdpSocket>,
        client: SocketAddr,
        file: F,
        len: Option<u64>,
        requested: &RequestOptions,
        limits: &Options,
    ) -> Self {
        let agreed = RequestOptions {
            blksize: requested.blksize.map(|bytes| bytes.min(limits.block_bytes_max)),
            timeout: requested.timeout.filter(|seconds| *seconds <= limits.client_timeout_max_s),
            tsize: len.filter(|_| requested.tsize == Some(0)),
            windowsize: requested.windowsize.map(|blocks| blocks.min(limits.window_max)),
        };
        let mut limits = limits.clone();
        if let Some(seconds) = agreed.timeout {
            limits.timeout = Duration::from_secs(seconds.into());
        }
        Self {
            socket,
            client,
            file,
            agreed,
            limits,
            timer: Timer::never(),
            alarm: None,
            round_trip: None,
            client_has_replied: false,
        }
    }

    /// Sends the file. Sets `client_has_replied` with the first acknowledgment.
    pub(crate) async fn run(mut self, client_has_replied: &AtomicBool) {
        let Err(error) = self.send(client_has_replied).await else { return };
        let is_silent = error.kind() == io::ErrorKind::TimedOut;
        if is_silent && !self.client_has_replied {
            return;
        }
        let refusal = match error.kind() {
            io::ErrorKind::TimedOut => "too many retries".to_owned(),
            kind => format!("I/O error: {kind}"),
        };
        // an error is never acknowledged, so it is sent once
        let _ = self.socket.send_to(&Refusal::Other(refusal).to_packet(), self.client).await;
    }

    async fn send(&mut self, client_has_replied: &AtomicBool) -> io::Result<()> {
        let (mut window, mut base) = (VecDeque::new(), 1_u16);
        // before the options are acknowledged, so that a file that cannot be read is refused
        let (first, mut is_last) = self.read_block(base)?;
        window.push_back(first);
        if let Some(options) = self.agreed.acknowledgment()
            && self.send_window(&[options].into(), 0, client_has_replied).await?.is_none()
        {
            return Ok(());
        }
        let window_blocks = self.agreed.windowsize.unwrap_or(1);
        loop {
            while !is_last && window.len() < usize::from(window_blocks) {
                let (block, last) = self.read_block(base.wrapping_add(window.len() as u16))?;
                window.push_back(block);
                is_last = last;
            }
            let Some(acked) = self.send_window(&window, base, client_has_replied).await? else {
                return Ok(());
            };
            base = base.wrapping_add(acked);
            window.drain(..usize::from(acked));
            if is_last && window.is_empty() {
                return Ok(());
            }
        }
    }

    /// Reads the next block into a packet. True for the last one, which is shorter than a block.
    fn read_block(&mut self, number: u16) -> io::Result<(Vec<u8>, bool)> {
        let block_bytes = usize::from(self.agreed.blksize.unwrap_or(BLOCK_BYTES));
        let mut data = packet::empty_data(number, block_bytes);
        let mut end = DATA_HEADER_BYTES;
        while end < data.len() {
            match self.file.read(&mut data[end..])? {
                0 => break,
                n => end += n,
            }
        }
        let is_last = end < data.len();
        data.truncate(end);
        Ok((data, is_last))
    }

    /// Sends the packets of a window, whose first block is `base`, until the client acknowledges
    /// some of them. Returns their number, or `None` when the client has ended the transfer.
    ///
    /// # Errors
    /// [`TimedOut`](io::ErrorKind::TimedOut) when the client does not answer.
    async fn send_window(
        &mut self,
        window: &VecDeque<Vec<u8>>,
        base: u16,
        client_has_replied: &AtomicBool,
    ) -> io::Result<Option<u16>> {
        let (retries, mut timeout) = if self.client_has_replied {
            (self.limits.retries, self.first_timeout())
        } else {
            (self.limits.first_retries, self.limits.first_timeout)
        };
        // once, so that a client that repeats itself does not get a window for each packet
        let mut may_repeat = window.len() > 1;
        for retry in 0..=retries {
            for packet in window {
                self.socket.send_to(packet, self.client).await?;
            }
            let sent = Instant::now();
            match self.answer(base, window.len() as u16, timeout, may_repeat).await? {
                Some(Answer::Acked(blocks)) => {
                    if !self.client_has_replied {
                        self.client_has_replied = true;
                        client_has_replied.store(true, Ordering::Relaxed);
                        self.file.client_replied();
                    }
                    // the answer to what was sent more than once may be late for the first time
                    if retry == 0 {
                        self.record_round_trip(sent.elapsed());
                    }
                    return Ok(Some(blocks));
                }
                Some(Answer::Repeated) => may_repeat = false,
                Some(Answer::Ended) => return Ok(None),
                None => timeout = (timeout * 2).min(self.limits.timeout),
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Time to wait before the first retry.
    fn first_timeout(&self) -> Duration {
        let measured = self.round_trip.map(|time| (time * 4).max(self.limits.timeout_min));
        measured.map_or(self.limits.timeout, |time| time.min(self.limits.timeout))
    }

    fn record_round_trip(&mut self, time: Duration) {
        self.round_trip = Some(match self.round_trip {
            Some(smoothed) => (smoothed * 7 + time) / 8,
            None => time,
        });
    }

    /// Waits for the answer to a window; `None` when there was none within `timeout`.
    async fn answer(
        &mut self,
        base: u16,
        blocks: u16,
        timeout: Duration,
        may_repeat: bool,
    ) -> io::Result<Option<Answer>> {
        let deadline = Instant::now() + timeout;
        // setting a timer costs more than a packet, so one that wakes up too early is kept
        if self.alarm.is_none_or(|alarm| alarm > deadline) {
            self.set_alarm(deadline);
        }
        let mut buf = [0; 1024];
        loop {
            if !self.wait_for_packet().await? {
                self.alarm = None;
                if Instant::now() >= deadline {
                    return Ok(None);
                }
                self.set_alarm(deadline);
                continue;
            }
            let (len, from) = match self.socket.get_ref().recv_from(&mut buf) {
                Ok(received) => received,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => continue,
                Err(e) => return Err(e),
            };
            match Reply::parse(&buf[..len]).filter(|_| from == self.client) {
                Some(Reply::Error) => return Ok(Some(Answer::Ended)),
                Some(Reply::Ack(block)) => {
                    // correct also when block numbers wrap
                    let acked = block.wrapping_sub(base).wrapping_add(1);
                    if (1..=blocks).contains(&acked) {
                        return Ok(Some(Answer::Acked(acked)));
                    }
                    if acked == 0 && may_repeat {
                        return Ok(Some(Answer::Repeated));
                    }
                }
                None => {}
            }
        }
    }

    /// False when the timer has woken up first.
    async fn wait_for_packet(&mut self) -> io::Result<bool> {
        let (socket, timer) = (&self.socket, &mut self.timer);
        let arrived = async { socket.readable().await.map(|()| true) };
        let woken = async {
            timer.await;
            Ok(false)
        };
        future::or(arrived, woken).await
    }

    fn set_alarm(&mut self, at: Instant) {
        self.timer.set_at(at);
        self.alarm = Some(at);
    }
}
