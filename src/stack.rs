//! Room on the stack for what others nest: lapin reads AMQP headers level by level, on a thread of its own.
//!
//! A table within a table costs a publisher five bytes, and a frame of 128 KiB (RabbitMQ's default) holds 26,000 of
//! them; with the 2 MiB that a thread has by default some 1,500 end the process, and the broker hands the message to
//! the next worker. lapin has no setting for its thread, and the standard library takes the size from the environment
//! of the process only, so the program starts itself once more, in place, with the variable set. What else has to be there before `main` goes with
//! it.

/// The variable from which the standard library takes the size of a stack, in bytes.
const VARIABLE: &str = "RUST_MIN_STACK";

/// Bytes for each thread. Address space, not memory: a page is taken when it is reached. At 26,000 levels a release
/// build was measured to need more than 16 MiB and less than 64.
const ENOUGH: u64 = 128 * 1024 * 1024;

/// How jemalloc is told what it shall do, which it reads before `main`: one arena, for there are four threads and one of
/// them does the work, and memory that was given back is the system's again after a second. Measured: 1 MiB less.
const ALLOCATOR: [&str; 2] = ["_RJEM_MALLOC_CONF", "narenas:1,dirty_decay_ms:1000"];

/// Replaces the process by itself with the variable set, unless it is set; to be called before there is any thread.
/// Goes on as it is where that cannot be done: only headers nested without sense need it.
#[cfg(unix)]
pub fn make_room() {
    use std::os::unix::process::CommandExt;

    if std::env::var_os(VARIABLE).is_some() {
        return;
    }
    let mut arguments = std::env::args_os();
    let name = arguments.next();
    let Ok(program) = std::env::current_exe() else { return };
    let mut again = std::process::Command::new(program);
    if let Some(name) = name {
        again.arg0(name);
    }
    let [conf, words] = ALLOCATOR;
    if std::env::var_os(conf).is_none() {
        again.env(conf, words);
    }
    let failed = again.args(arguments).env(VARIABLE, ENOUGH.to_string()).exec();
    eprintln!(
        "{VARIABLE}={ENOUGH} could not be set ({failed}); a message with absurdly nested headers can end the program"
    );
}

/// Nothing can be replaced in place here.
#[cfg(not(unix))]
pub fn make_room() {}
