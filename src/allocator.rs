//! How the C library's allocator is used: what is freed goes back to the system.
//!
//! Left alone, glibc gives each of many threads a heap of its own, and stops returning large blocks at
//! once after the first of them was freed. A server whose pictures and clips wander between threads then
//! holds several times what it uses. Measured in `docs/decisions/007-glibc-allocator.md`.

use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often free memory is given back.
const EVERY: Duration = Duration::from_secs(30);

/// Heaps that all threads share. Small blocks come from a cache of each thread's own.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const ARENAS: i32 = 2;
/// From this size on a block is mapped on its own and returned as soon as it is freed: pictures, encoded
/// frames, clips.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_FROM: i32 = 64 << 10;
/// Free memory at the end of a heap above which it is returned.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const RETURNED_ABOVE: i32 = 128 << 10;

/// Sets the allocator up; to be called before there are threads. Who sets `MALLOC_*` or
/// `GLIBC_TUNABLES` knows better, and is left alone.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "the only way to tell glibc")]
pub fn set_up() {
    let set = |name: &std::ffi::OsStr| {
        let name = name.to_string_lossy();
        name.starts_with("MALLOC_") || name == "GLIBC_TUNABLES"
    };
    if std::env::vars_os().any(|(name, _)| set(&name)) {
        return;
    }
    for (parameter, value) in
        [(libc::M_ARENA_MAX, ARENAS), (libc::M_MMAP_THRESHOLD, MAPPED_FROM), (libc::M_TRIM_THRESHOLD, RETURNED_ABOVE)]
    {
        // SAFETY: mallopt takes two integers and is called while there is one thread.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// Returns free memory from the middle of the heaps too, now and then until shutdown, and tells what is left.
pub async fn keep_small(shutdown: CancellationToken) -> anyhow::Result<()> {
    loop {
        // About a millisecond, during which those who allocate wait.
        tokio::task::spawn_blocking(give_back).await?;
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "the only way to tell glibc")]
fn give_back() {
    // SAFETY: both may be called from any thread at any time, and take an integer or nothing.
    let heaps = unsafe {
        libc::malloc_trim(0);
        libc::mallinfo2()
    };
    // What is free counts whether its pages were returned just now or not.
    metrics::gauge!("crest_memory_allocated_bytes").set((heaps.uordblks + heaps.hblkhd) as f64);
    metrics::gauge!("crest_memory_unused_bytes").set(heaps.fordblks as f64);
}

/// Other C libraries are used as they are.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn set_up() {}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn give_back() {}
