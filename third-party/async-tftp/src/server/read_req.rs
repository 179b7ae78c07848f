use async_io::{Async, Timer};
use bytes::{BufMut, Bytes, BytesMut};
use futures_lite::{future, AsyncRead, AsyncReadExt};
use log::trace;
use std::cmp;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::slice;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::packet::{Opts, Packet, RwReq, PACKET_DATA_HEADER_LEN};
use crate::server::{ServerConfig, DEFAULT_BLOCK_SIZE};

pub(crate) struct ReadRequest<'r, R>
where
    R: AsyncRead + Send,
{
    peer: SocketAddr,
    socket: Async<UdpSocket>,
    reader: &'r mut R,
    block_size: usize,
    timeout: Duration,
    min_timeout: Option<Duration>,
    timer: Timer,
    /// When the timer rings.
    alarm: Option<Instant>,
    /// Smoothed round trip, once there was one.
    round_trip: Option<Duration>,
    max_send_retries: u32,
    first_packet: Option<(u32, Duration)>,
    /// The client has answered.
    is_answered: Arc<AtomicBool>,
    oack_opts: Option<Opts>,
    window_size: usize,
}

/// What came back from the client.
enum Answer {
    /// So many blocks of the window have arrived.
    Acked(u16),
    /// The block before the window has arrived again: the first block of the
    /// window was lost, and others came.
    Repeated,
    /// The client has ended the transfer.
    Ended,
}

impl<'r, R> ReadRequest<'r, R>
where
    R: AsyncRead + Send + Unpin,
{
    pub(crate) async fn init(
        reader: &'r mut R,
        file_size: Option<u64>,
        peer: SocketAddr,
        req: &RwReq,
        config: ServerConfig,
        local_ip: IpAddr,
        is_answered: Arc<AtomicBool>,
    ) -> Result<ReadRequest<'r, R>> {
        let oack_opts = build_oack_opts(&config, req, file_size);

        let block_size = oack_opts
            .as_ref()
            .and_then(|o| o.block_size)
            .map(usize::from)
            .unwrap_or(DEFAULT_BLOCK_SIZE);

        // Default window size is 1 as per rfc7440
        let negotiated_window_size: usize =
            oack_opts.as_ref().and_then(|o| o.window_size).unwrap_or(1u16)
                as usize;

        let timeout = oack_opts
            .as_ref()
            .and_then(|o| o.timeout)
            .map(|t| Duration::from_secs(u64::from(t)))
            .unwrap_or(config.timeout);

        let addr = SocketAddr::new(local_ip, 0);
        let socket = Async::<UdpSocket>::bind(addr).map_err(Error::Bind)?;

        Ok(ReadRequest {
            peer,
            socket,
            reader,
            block_size,
            timeout,
            min_timeout: config.min_timeout,
            timer: Timer::never(),
            alarm: None,
            round_trip: None,
            max_send_retries: config.max_send_retries,
            first_packet: config.first_packet,
            is_answered,
            oack_opts,
            window_size: negotiated_window_size,
        })
    }

    pub(crate) async fn handle(&mut self) {
        if let Err(e) = self.try_handle().await {
            trace!("RRQ request failed (peer: {}, error: {})", &self.peer, &e);
            let is_silent = matches!(e, Error::MaxSendRetriesReached(..));
            let is_answered = self.is_answered.load(Ordering::Relaxed);
            if is_silent && !is_answered && self.first_packet.is_some() {
                return;
            }
            let mut buffer = BytesMut::with_capacity(DEFAULT_BLOCK_SIZE);
            Packet::Error(e.into()).encode(&mut buffer);
            let buf = buffer.split().freeze();
            // Errors are never retransmitted.
            // We do not care if `send_to` resulted to an IO error.
            let _ = self.socket.send_to(&buf[..], self.peer).await;
        }
    }

    async fn try_handle(&mut self) -> Result<()> {
        let mut window: VecDeque<Bytes> =
            VecDeque::with_capacity(self.window_size);
        let mut block_id: u16;
        let mut window_base: u16 = 1;
        let mut buf: Bytes;
        let mut is_last_block: bool;

        (buf, is_last_block) = self.fill_data_block(window_base).await?;
        window.push_back(buf);

        // Send OACK after we manage to read the first block from reader.
        //
        // We do this because we want to give the developers the option to
        // produce an error after they construct a reader.
        if let Some(opts) = self.oack_opts.as_ref() {
            trace!("RRQ OACK (peer: {}, opts: {:?}", &self.peer, &opts);
            let mut buff = BytesMut::with_capacity(PACKET_DATA_HEADER_LEN + 64);
            Packet::OAck(opts.to_owned()).encode(&mut buff);
            // OACK is not really part of the window, so we send it separately
            let oack = VecDeque::from([buff.freeze()]);
            if self.send_window(&oack, 0).await?.is_none() {
                return Ok(());
            }
        }

        loop {
            // calculate next block_id, window might not be empty
            block_id = window_base.wrapping_add(window.len() as u16);

            while !is_last_block && (window.len() < self.window_size) {
                // we still have data and window is not full
                (buf, is_last_block) = self.fill_data_block(block_id).await?;
                window.push_back(buf);
                block_id = block_id.wrapping_add(1);
            }

            let Some(blocks_acked) =
                self.send_window(&window, window_base).await?
            else {
                return Ok(());
            };
            window_base = window_base.wrapping_add(blocks_acked);

            // remove acked blocks from window
            if blocks_acked == window.len() as u16 {
                window.clear()
            } else {
                window.drain(..blocks_acked as usize);
            }

            if is_last_block && window.is_empty() {
                // transfer is done
                break;
            }
        }

        trace!("RRQ request served (peer: {})", &self.peer);
        Ok(())
    }

    async fn fill_data_block(
        &mut self,
        block_id: u16,
    ) -> Result<(Bytes, bool), Error> {
        let mut buffer: BytesMut =
            BytesMut::with_capacity(PACKET_DATA_HEADER_LEN + self.block_size);
        Packet::encode_data_head(block_id, &mut buffer);

        // Read block in buffer
        unsafe {
            let uninit_buf = buffer.chunk_mut();
            let data_buf = slice::from_raw_parts_mut(
                uninit_buf.as_mut_ptr(),
                uninit_buf.len(),
            );

            let len = self.read_block(data_buf).await?;
            buffer.advance_mut(len);
            Ok((buffer.split().freeze(), len < self.block_size))
        }
    }

    /// Sends packets contained in a window and waits for client to acknowledge them. Returns amount
    /// of packets acknowledged, `None` when the client has ended the transfer.
    async fn send_window(
        &mut self,
        window: &VecDeque<Bytes>,
        window_base: u16,
    ) -> Result<Option<u16>> {
        let (max_retries, mut timeout) = match self.first_packet {
            Some(first) if !self.is_answered.load(Ordering::Relaxed) => first,
            _ => (self.max_send_retries, self.first_timeout()),
        };
        // a client that repeats itself for every packet must not get the window for every packet
        let mut may_repeat = window.len() > 1;

        // Send packet until we receive an ack
        for retry in 0..=max_retries {
            for packet in window {
                self.socket.send_to(&packet[..], self.peer).await?;
            }

            let sent = Instant::now();
            let answer = self
                .recv_answer(
                    window_base,
                    window.len() as u16,
                    timeout,
                    may_repeat,
                )
                .await;
            match answer {
                Ok(Answer::Acked(blocks_acked)) => {
                    trace!(
                        "RRQ (peer: {}, window_base: {}, blocks_acked: {}, window_len: {}) - Received ACK",
                        &self.peer,
                        window_base,
                        blocks_acked,
                        window.len()
                    );
                    self.is_answered.store(true, Ordering::Relaxed);
                    // what was sent more than once may have been answered for the first time
                    if retry == 0 {
                        self.measured(sent.elapsed());
                    }
                    return Ok(Some(blocks_acked));
                }
                Ok(Answer::Repeated) => may_repeat = false,
                Ok(Answer::Ended) => return Ok(None),
                Err(ref e) if e.kind() == io::ErrorKind::TimedOut => {
                    trace!(
                        "RRQ (peer: {}, block_id: {}) - Timeout",
                        &self.peer,
                        window_base
                    );
                    timeout = (timeout * 2).min(self.timeout);
                    continue;
                }
                Err(e) => return Err(e.into()),
            }
        }

        Err(Error::MaxSendRetriesReached(self.peer, window_base))
    }

    /// How long to wait before the first retry.
    fn first_timeout(&self) -> Duration {
        match (self.min_timeout, self.round_trip) {
            (Some(min), Some(round_trip)) => {
                (round_trip * 4).max(min).min(self.timeout)
            }
            _ => self.timeout,
        }
    }

    /// Takes note of a round trip.
    fn measured(&mut self, round_trip: Duration) {
        self.round_trip = Some(match self.round_trip {
            Some(smoothed) => (smoothed * 7 + round_trip) / 8,
            None => round_trip,
        });
    }

    /// Waits for what the client says.
    async fn recv_answer(
        &mut self,
        window_base: u16,
        window_len: u16,
        timeout: Duration,
        may_repeat: bool,
    ) -> io::Result<Answer> {
        let deadline = Instant::now() + timeout;
        // Setting a timer costs more than a packet, so it stays as it is for as
        // long as it does not ring too late.
        if self.alarm.map_or(true, |alarm| alarm > deadline) {
            self.set_alarm(deadline);
        }
        let mut buf = [0u8; 1024];

        loop {
            let (socket, timer) = (&self.socket, &mut self.timer);
            let has_data = future::or(
                async { socket.readable().await.map(|()| true) },
                async {
                    timer.await;
                    Ok(false)
                },
            )
            .await?;
            if !has_data {
                self.alarm = None;
                if Instant::now() >= deadline {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                self.set_alarm(deadline);
                continue;
            }
            let (len, recved_peer) =
                match self.socket.get_ref().recv_from(&mut buf[..]) {
                    Ok(received) => received,
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => continue,
                    Err(e) => return Err(e),
                };

            // if the packet do not come from the client we are serving, then ignore it
            if recved_peer != self.peer {
                continue;
            }

            // parse only valid packets, the rest are ignored
            match Packet::decode(&buf[..len]) {
                Ok(Packet::Ack(recved_block_id)) => {
                    // number of blocks acked, also when the block id has wrapped
                    let acked = recved_block_id
                        .wrapping_sub(window_base)
                        .wrapping_add(1);
                    if (1..=window_len).contains(&acked) {
                        return Ok(Answer::Acked(acked));
                    }
                    if acked == 0 && may_repeat {
                        return Ok(Answer::Repeated);
                    }
                    trace!("Unexpected ack packet {recved_block_id}, window_base: {window_base}, window_len: {window_len}");
                }
                // an error is never answered
                Ok(Packet::Error(e)) => {
                    trace!("RRQ (peer: {}) - Client error: {e:?}", self.peer);
                    return Ok(Answer::Ended);
                }
                _ => {}
            }
        }
    }

    fn set_alarm(&mut self, at: Instant) {
        self.timer.set_at(at);
        self.alarm = Some(at);
    }

    async fn read_block(&mut self, buf: &mut [u8]) -> Result<usize> {
        let mut len = 0;

        while len < buf.len() {
            match self.reader.read(&mut buf[len..]).await? {
                0 => break,
                x => len += x,
            }
        }

        Ok(len)
    }
}

fn build_oack_opts(
    config: &ServerConfig,
    req: &RwReq,
    file_size: Option<u64>,
) -> Option<Opts> {
    let mut opts = Opts::default();

    if !config.ignore_client_block_size {
        opts.block_size = match (req.opts.block_size, config.block_size_limit) {
            (Some(bsize), Some(limit)) => Some(cmp::min(bsize, limit)),
            (Some(bsize), None) => Some(bsize),
            _ => None,
        };
    }

    if !config.ignore_client_timeout {
        opts.timeout = req.opts.timeout.filter(|seconds| {
            config.client_timeout_limit.map_or(true, |limit| *seconds <= limit)
        });
    }

    if let (Some(0), Some(file_size)) = (req.opts.transfer_size, file_size) {
        opts.transfer_size = Some(file_size);
    }

    if !config.ignore_client_window_size {
        opts.window_size =
            match (req.opts.window_size, config.window_size_limit) {
                (Some(wsize), Some(limit)) => Some(cmp::min(wsize, limit)),
                (Some(wsize), None) => Some(wsize),
                _ => None,
            };
    }

    if opts == Opts::default() {
        None
    } else {
        Some(opts)
    }
}
