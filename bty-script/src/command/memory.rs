//! One setting of the C library's allocator.

/// Lets every large buffer go back to the system when it is freed.
///
/// glibc raises its threshold for that whenever such a buffer is freed, up to 32 MiB, and then
/// keeps what decoders grow and free in the heap of each thread: bzip2 takes 150 MiB more that way,
/// and is slower.
pub(crate) fn return_large_buffers() {
    #[cfg(target_env = "gnu")]
    {
        const THRESHOLD_BYTES: libc::c_int = 1 << 20;
        // SAFETY: mallopt takes two integers and touches nothing but the allocator's own settings;
        // no other thread runs yet.
        #[allow(unsafe_code)]
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, THRESHOLD_BYTES);
        }
    }
}
