//! Configures the C library's allocator.

/// Makes the allocator return large buffers to the system when they are freed.
///
/// By default glibc raises the threshold each time it frees such a buffer, up to 32 MiB, and then
/// keeps the buffers of decoders in the heap of each thread: bzip2 takes 150 MiB more, and is
/// slower.
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
