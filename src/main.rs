//! Complete, or parse, run, exit code.

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;

use defender_sim::cli;
use defender_sim::commands::{self, completion};
use defender_sim::exit::Exit;

/// musl's own allocator takes three times as long for large files of alerts.
#[cfg(all(target_env = "musl", target_arch = "x86_64"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if let Some(words) = completion::asked(std::env::args_os()) {
        return completion::complete(words).into();
    }
    let invocation = match cli::parse(std::env::args_os()) {
        Ok(invocation) => invocation,
        Err(answer) => return commands::answer(&answer).into(),
    };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Exit::Bug.into();
    };
    let carried_out = std::panic::catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(commands::carry_out(invocation))
    }));
    let exit = carried_out.unwrap_or(Exit::Bug);
    // The name of a host may still be looked up by a thread that nothing can stop; nobody waits for it.
    runtime.shutdown_background();
    exit.into()
}
