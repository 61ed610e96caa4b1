//! Settings of the system's allocator (glibc), so that the process gives back what it has freed
//! (docs/decisions/0014-heaps.md).

/// Bytes from which a block is taken from the system by itself, and goes back when it is freed.
/// It is where glibc begins; left alone, it moves up to 32 MiB with each large block that is freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const BLOCK_OF_ITS_OWN: i32 = 128 * 1024;
/// Fewest and most heaps that all threads share, one for each core. Left alone there are eight for
/// each core, and each keeps what its threads once needed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const HEAPS: (i32, i32) = (2, 8);

/// Bounds what the allocator keeps. To be called before there are threads. Settings of the
/// environment (`MALLOC_ARENA_MAX`, `MALLOC_MMAP_THRESHOLD_`) go first.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn bound_heaps() {
    let cores =
        std::thread::available_parallelism().map_or(HEAPS.0, |cores| i32::try_from(cores.get()).unwrap_or(HEAPS.1));
    let settings = [
        ("MALLOC_ARENA_MAX", libc::M_ARENA_MAX, cores.clamp(HEAPS.0, HEAPS.1)),
        ("MALLOC_MMAP_THRESHOLD_", libc::M_MMAP_THRESHOLD, BLOCK_OF_ITS_OWN),
    ];
    for (variable, parameter, value) in settings {
        if std::env::var_os(variable).is_some() {
            continue;
        }
        // SAFETY: mallopt(3) takes two numbers by value, and locks the heap that it changes.
        #[expect(unsafe_code, reason = "no crate sets these; glibc has no other way in a running process")]
        let set = unsafe { libc::mallopt(parameter, value) };
        if set == 0 {
            tracing::warn!("the allocator did not take {variable}={value}; memory may grow");
        }
    }
}

/// Does nothing: other allocators have no such settings.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn bound_heaps() {}
