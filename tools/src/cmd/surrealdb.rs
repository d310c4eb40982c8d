//! `revenant surrealdb ...`: SurrealDB's own server, as linked into this binary, with its own arguments.
//!
//! The server reads the process's arguments itself, so the subcommand becomes a process named `surreal`
//! whose arguments are the rest; the process id stays.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

/// The name under which this binary is the server.
const SERVER: &str = "surreal";

/// Arguments of the server.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// For example `start --user root --pass root --bind 127.0.0.1:8666 surrealkv:data/db`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

/// Whether this process is to be the server.
pub(crate) fn is_called_as_server() -> bool {
    let name = std::env::args_os().next();
    name.is_some_and(|name| Path::new(&name).file_name().is_some_and(|name| name == SERVER))
}

/// Is the server until it ends.
pub(crate) fn serve() -> ExitCode {
    revenant_surreal_server::serve()
}

/// Becomes the server.
pub(crate) fn run(args: Args) -> Result<crate::exit::Exit> {
    let mut server = command(args.rest)?;
    Err(server.exec()).context("become the database server")
}

/// The server as a command of its own.
pub(crate) fn command(args: impl IntoIterator<Item = impl Into<OsString>>) -> Result<Command> {
    let binary = std::env::current_exe().context("find this program's file")?;
    let mut command = Command::new(binary);
    command.arg0(SERVER).args(args.into_iter().map(Into::into));
    command.env("SURREAL_ONLINE_VERSION_CHECK", "false");
    // Else every conflict of two transactions costs the server a stack trace.
    command.env("RUST_LIB_BACKTRACE", "0");
    Ok(command)
}
