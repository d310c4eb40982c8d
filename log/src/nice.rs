//! Threads that do what can wait.

/// As far behind as the system lets a thread be.
const NICE: i32 = 19;

/// Lets every other thread go before the calling one, from now on.
pub(crate) fn let_others_first() {
    // On Linux this is of the calling thread.
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        let thread = std::thread::current();
        tracing::debug!(%error, name = thread.name(), "a thread has the priority of everybody");
    }
}
