//! Which frames are fetched by which request.

use std::ops::Range;

use super::super::index::PackIndex;

/// Maximum length of a request in bytes, as storage services advise.
const REQUEST_BYTES_MAX: u64 = 8 << 20;

/// Maximum number of decoded bytes of a request, so that four requests fit into memory.
const REQUEST_DISK_BYTES_MAX: u64 = 16 << 20;

/// Maximum distance between two frames of a request, in bytes. Reading over it takes about as long
/// as another request.
const GAP_BYTES_MAX: u64 = 128 << 10;

/// Divides `frames`, which ascend, into requests. Returns positions in `frames`.
pub(super) fn plan_requests(index: &PackIndex, frames: &[u32]) -> Vec<Range<usize>> {
    let frame = |position: usize| &index.frames()[frames[position] as usize];
    let mut requests = Vec::new();
    let (mut first, mut disk_bytes) = (0, 0);
    for position in 0..frames.len() {
        let fits = position == first || {
            let (begin, last, next) = (frame(first), frame(position - 1), frame(position));
            let last_end = last.file_offset + u64::from(last.file_bytes);
            let end = next.file_offset + u64::from(next.file_bytes);
            next.file_offset - last_end <= GAP_BYTES_MAX
                && end - begin.file_offset <= REQUEST_BYTES_MAX
                && disk_bytes + u64::from(next.disk_bytes) <= REQUEST_DISK_BYTES_MAX
        };
        if !fits {
            requests.push(first..position);
            (first, disk_bytes) = (position, 0);
        }
        disk_bytes += u64::from(frame(position).disk_bytes);
    }
    if first < frames.len() {
        requests.push(first..frames.len());
    }
    requests
}
