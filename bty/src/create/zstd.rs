//! Writes a zstd image on all cores: independent frames of 4 MiB, each with its size and a
//! checksum, which can also be decompressed in parallel.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use zstd::bulk::Compressor;

use super::Sink;
use super::part::PartFile;
use crate::{CancelToken, Error, ErrorKind, Result};

const FRAME_BYTES: usize = 4 << 20;

/// The default of zstd(1).
const LEVEL: i32 = 3;

pub(super) struct ZstdSink<'a> {
    part: &'a PartFile,
    jobs: Sender<CompressJob>,
    /// Frames that are not written yet, in the order of the image.
    frames: VecDeque<Frame>,
    frames_max: usize,
    current: Vec<u8>,
    zeros: Arc<[u8]>,
    written: u64,
    cancel: CancelToken,
}

struct CompressJob {
    content: Vec<u8>,
    reply: Sender<io::Result<Vec<u8>>>,
}

enum Frame {
    /// A whole frame of zeros, compressed once in advance.
    Zeros,
    Compressed(Receiver<io::Result<Vec<u8>>>),
}

impl<'a> ZstdSink<'a> {
    pub(super) fn start(part: &'a PartFile, cancel: &CancelToken) -> Result<Self> {
        let failed = |e| Error::from_io(ErrorKind::Host, "starting to compress", e);
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let (jobs, inbox) = bounded(threads);
        for started in 0..threads {
            let inbox = inbox.clone();
            match thread::Builder::new().name("bty-zstd".into()).spawn(move || compress_all(&inbox))
            {
                Ok(_) => {}
                // fewer threads are enough
                Err(_) if started > 0 => break,
                Err(e) => return Err(failed(e)),
            }
        }
        let zeros = compressor()
            .and_then(|mut c| c.compress(&vec![0; FRAME_BYTES]))
            .map_err(failed)?
            .into();
        let (frames, current) = (VecDeque::new(), Vec::new());
        Ok(Self {
            part,
            jobs,
            frames,
            frames_max: 2 * threads,
            current,
            zeros,
            written: 0,
            cancel: cancel.clone(),
        })
    }

    fn add(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let n = bytes.len().min(FRAME_BYTES - self.current.len());
            self.current.extend_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            if self.current.len() == FRAME_BYTES {
                self.end_frame()?;
            }
        }
        Ok(())
    }

    fn end_frame(&mut self) -> Result<()> {
        let (reply, receiver) = bounded(1);
        let content = std::mem::take(&mut self.current);
        self.jobs.send(CompressJob { content, reply }).map_err(|_| gone())?;
        self.push(Frame::Compressed(receiver))
    }

    fn push(&mut self, frame: Frame) -> Result<()> {
        self.frames.push_back(frame);
        while self.frames.len() > self.frames_max {
            self.write_first()?;
        }
        Ok(())
    }

    fn write_first(&mut self) -> Result<()> {
        self.cancel.check()?;
        let bytes = match self.frames.pop_front() {
            None => return Ok(()),
            Some(Frame::Zeros) => return self.write(&Arc::clone(&self.zeros)),
            Some(Frame::Compressed(receiver)) => receiver.recv().map_err(|_| gone())?,
        };
        self.write(&bytes.map_err(|e| Error::from_io(ErrorKind::Host, "compressing", e))?)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.part.write_at(bytes, self.written)?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

impl Sink for ZstdSink<'_> {
    fn data(&mut self, _offset: u64, bytes: &[u8]) -> Result<()> {
        self.add(bytes)
    }

    fn zeros(&mut self, _offset: u64, mut len: u64) -> Result<()> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        while len > 0 {
            if self.current.is_empty() && len >= FRAME_BYTES as u64 {
                self.push(Frame::Zeros)?;
                len -= FRAME_BYTES as u64;
            } else {
                let n = len.min(ZEROS.len() as u64);
                self.add(&ZEROS[..usize::try_from(n).unwrap_or(ZEROS.len())])?;
                len -= n;
            }
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        if !self.current.is_empty() {
            self.end_frame()?;
        }
        while !self.frames.is_empty() {
            self.write_first()?;
        }
        Ok(())
    }
}

fn compressor() -> io::Result<Compressor<'static>> {
    let mut compressor = Compressor::new(LEVEL)?;
    compressor.include_checksum(true)?;
    compressor.include_contentsize(true)?;
    Ok(compressor)
}

fn compress_all(inbox: &Receiver<CompressJob>) {
    let mut compressor = compressor();
    for CompressJob { content, reply } in inbox {
        let result = match &mut compressor {
            Ok(compressor) => compressor.compress(&content),
            Err(e) => Err(io::Error::new(e.kind(), e.to_string())),
        };
        // fails only when the image was abandoned
        let _ = reply.send(result);
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::Host, "a compression thread ended unexpectedly")
}
