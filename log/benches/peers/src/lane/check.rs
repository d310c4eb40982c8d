//! What is left of a log: opened in a process of its own, and judged by the records it shows.

use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use crate::body::body;
use crate::child::{Said, Talk};
use crate::lane::stored::BATCH;
use crate::peer::{Engine, Failure, Size};

/// What became of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Every acknowledged record, and nothing that was never appended.
    Right,
    /// Refused, with an error.
    Refused,
    /// Acknowledged records are missing, and nobody said so.
    Lost,
    /// A record that was never appended, or half of an atomic append.
    Wrong,
    /// It panicked, ended or hung.
    Panicked,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::Refused => "refused",
            Self::Lost => "lost",
            Self::Wrong => "wrong",
            Self::Panicked => "panicked",
        }
    }

    fn parse(word: &str) -> Self {
        [Self::Right, Self::Refused, Self::Lost, Self::Wrong]
            .into_iter()
            .find(|outcome| outcome.name() == word)
            .unwrap_or(Self::Panicked)
    }
}

/// An outcome, and what the engine said where it refused.
#[derive(Clone, Debug)]
pub struct Judged {
    /// What became of it.
    pub outcome: Outcome,
    /// In the engine's words.
    pub reason: String,
}

/// How often each outcome came.
pub type Outcomes = BTreeMap<Outcome, usize>;

/// The outcomes in words.
pub fn words(outcomes: &Outcomes) -> String {
    let of = |outcome| outcomes.get(&outcome).copied().unwrap_or(0);
    use Outcome::{Lost, Panicked, Refused, Right, Wrong};
    format!(
        "right {} refused {} LOST {} WRONG {} PANIC {}",
        of(Right),
        of(Refused),
        of(Lost),
        of(Wrong),
        of(Panicked)
    )
}

/// A child that judges one directory after the other.
pub struct Judge {
    engine: Engine,
    talk: Option<Talk>,
}

/// How long an opening may take.
const PATIENCE: Duration = Duration::from_secs(20);

impl Judge {
    /// For logs of `engine`.
    pub fn new(engine: Engine) -> Self {
        Self { engine, talk: None }
    }

    /// Judges the log in `dir`, of which records up to `acked` were acknowledged.
    pub fn judge(&mut self, dir: &Path, acked: u64) -> Result<Judged, Failure> {
        let talk = match &mut self.talk {
            Some(talk) => talk,
            none => none.insert(Talk::start(&["judge", self.engine.name])?),
        };
        talk.say(&format!("{acked} {}", dir.display()));
        let judged = match talk.hear(PATIENCE) {
            Said::Line(line) => {
                let (word, reason) = line.split_once(' ').unwrap_or((&line, ""));
                Judged { outcome: Outcome::parse(word), reason: reason.to_owned() }
            }
            Said::Ended => Judged { outcome: Outcome::Panicked, reason: "it ended".into() },
            Said::Nothing => Judged { outcome: Outcome::Panicked, reason: "it hangs".into() },
        };
        if judged.outcome == Outcome::Panicked {
            self.talk = None;
        }
        Ok(judged)
    }
}

/// The judging child: one line for each line.
pub fn serve(engine: Engine) -> Result<(), Failure> {
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (acked, dir) = line.split_once(' ').ok_or("not understood")?;
        let acked = acked.parse()?;
        let judged = catch_unwind(AssertUnwindSafe(|| look(engine, Path::new(dir), acked)));
        let panicked = Judged { outcome: Outcome::Panicked, reason: String::new() };
        let Judged { outcome, reason } = judged.unwrap_or(panicked);
        println!("{} {}", outcome.name(), reason.replace('\n', " "));
    }
    Ok(())
}

fn look(engine: Engine, dir: &Path, acked: u64) -> Judged {
    let peer = match (engine.open)(dir, Size::Small) {
        Ok(peer) => peer,
        Err(error) => return Judged { outcome: Outcome::Refused, reason: error.to_string() },
    };
    let (mut next, mut gap, mut wrong) = (1, false, false);
    let seen = peer.verify(&mut |number, bytes| {
        gap |= number > next;
        wrong |= number < next || *bytes != body(number)[..];
        next = number + 1;
    });
    let reason = seen.as_ref().err().map(ToString::to_string).unwrap_or_default();
    let outcome = match seen {
        _ if wrong => Outcome::Wrong,
        Err(_) => Outcome::Refused,
        Ok(()) if gap || next <= acked => Outcome::Lost,
        // What was never acknowledged may be there, as whole appends.
        Ok(()) if !(next - 1 - acked).is_multiple_of(BATCH as u64) => Outcome::Wrong,
        Ok(()) => Outcome::Right,
    };
    // A log that closes badly after damage was still judged by what it showed.
    drop(peer.close());
    Judged { outcome, reason }
}
