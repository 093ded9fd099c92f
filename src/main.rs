//! The `sharelink` binary; everything is in the library.

use std::process::ExitCode;

/// A request makes some two hundred small allocations: measured at an eighth less processor time than the C library's
/// allocator, at 2 to 3 MiB more memory (PERFORMANCE.md).
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    sharelink::cli::run()
}
