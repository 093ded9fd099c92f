//! The `sharelink` binary; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    sharelink::cli::run()
}
