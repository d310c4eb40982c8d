//! `Exit`: how a run ended, in the five words that every subcommand shares.

use std::io;
use std::process::ExitCode;

/// The table for `--help`.
pub(crate) const TABLE: &str = "Exit codes:
  0  done, and nothing is wrong
  1  it ran and found something: corruption, a mismatch, a failed check
  2  wrong usage
  3  it could not run: no such directory, not a log, locked, no answer
  4  refused for safety";

/// How a run ended.
#[derive(Debug)]
pub(crate) enum Exit {
    /// Done, and nothing is wrong.
    Done,
    /// It ran and found something, which it printed.
    Found,
    /// The arguments make no sense together.
    Usage(String),
    /// It could not run.
    CouldNot(anyhow::Error),
    /// It would destroy something.
    Refused(String),
}

impl From<anyhow::Error> for Exit {
    /// A reader who closed the pipe has read enough; that is no failure.
    fn from(error: anyhow::Error) -> Self {
        let closed = |cause: &(dyn std::error::Error + 'static)| {
            let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
            kind == Some(io::ErrorKind::BrokenPipe)
        };
        if error.chain().any(closed) { Self::Done } else { Self::CouldNot(error) }
    }
}

/// Says on standard error what there is to say, and gives the code.
pub(crate) fn report(exit: Exit) -> Code {
    match exit {
        Exit::Done => Code(0),
        Exit::Found => Code(1),
        Exit::Usage(text) => {
            eprintln!("error: {text}");
            Code(2)
        }
        Exit::CouldNot(error) => {
            eprintln!("error: {error:#}");
            Code(3)
        }
        Exit::Refused(text) => {
            eprintln!("refused: {text}");
            Code(4)
        }
    }
}

/// A process's exit code.
pub(crate) struct Code(u8);

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code.0)
    }
}
