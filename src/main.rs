//! Parse, run, exit code.

use std::process::ExitCode;

use defender_sim::exit::Exit;
use defender_sim::{cli, command};

fn main() -> ExitCode {
    let invocation = match cli::parse(std::env::args_os()) {
        Ok(invocation) => invocation,
        Err(answer) => {
            // Help and version are answers, not errors; a closed pipe is no reason to complain.
            let _ = answer.print();
            return if answer.use_stderr() {
                Exit::Usage.into()
            } else {
                Exit::Ok.into()
            };
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(command::carry_out(invocation)).into(),
        Err(_) => Exit::Bug.into(),
    }
}
