//! Power cuts: a file system on a loop device is shut down while a process appends, with what it had not yet written
//! (`FS_IOC_SHUTDOWN`), mounted again, and its log judged.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use revenant_log::storage::sim::Dice;
use serde_json::{Value, json};

use crate::Arguments;
use crate::tally::Tally;

/// Appends until it is cut off.
const FOR_EVER: &str = "1000000";

/// The ioctl, `_IOR('X', 125, u32)`, by perl, which is on every Debian: the crate allows itself no `unsafe` for it.
/// Its argument says whether the journal is written out before: 1 yes, 2 no.
const SHUT_DOWN: &str = "open(my $dir, '<', $ARGV[0]) or die $!; \
                         ioctl($dir, 0x8004587d, pack('L', $ARGV[1])) or die $!;";

/// Figures, or why it cannot run here.
pub(crate) fn run(
    file_system: &str,
    asked: &Arguments,
    tally: &mut Tally,
) -> Result<Value, String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (image, at) = (dir.path().join("image"), dir.path().join("mounted"));
    std::fs::create_dir(&at).map_err(|error| error.to_string())?;
    let file = std::fs::File::create(&image).map_err(|error| error.to_string())?;
    file.set_len(512 << 20).map_err(|error| error.to_string())?; // the least that mkfs.xfs takes is 300 MiB
    done(Command::new(format!("mkfs.{file_system}")).arg("-q").arg(&image))?;
    let mut dice = Dice::new(asked.seed);
    let (mut cuts, mut acknowledged) = (0, 0);
    for number in 0..asked.cuts {
        let mounted = Mounted::mount(&image, &at)?;
        let log = at.join(format!("log-{number}"));
        let (acks, flag) = (1 + dice.below(150), 1 + u64::from(dice.coin()));
        let told = cut(&at, &log, acks, flag)?;
        drop(mounted);
        let mounted = Mounted::mount(&image, &at)?;
        cuts += 1;
        acknowledged += told.matches("\nack ").count();
        let what = format!("{file_system}, cut {number} of seed {}", asked.seed);
        tally.judge(&what, &log, &told);
        std::fs::remove_dir_all(&log).map_err(|error| error.to_string())?;
        drop(mounted);
    }
    Ok(json!({ "cuts": cuts, "acknowledged": acknowledged }))
}

/// Cuts a process off after so many acknowledgements; what it told until then.
fn cut(at: &Path, log: &Path, acks: u64, flag: u64) -> Result<String, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut child = Command::new(program)
        .arg("child")
        .arg(log)
        .arg(FOR_EVER)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut output = BufReader::new(child.stdout.take().ok_or("the child has no output")?);
    let mut told = String::new();
    let (mut line, mut seen) = (String::new(), 0);
    while seen < acks && output.read_line(&mut line).map_err(|error| error.to_string())? > 0 {
        seen += u64::from(line.starts_with("ack "));
        told.push_str(&line);
        line.clear();
    }
    let shut = done(Command::new("perl").args(["-e", SHUT_DOWN]).arg(at).arg(flag.to_string()));
    if shut.is_err() {
        child.kill().map_err(|error| error.to_string())?;
    }
    // It ends by itself, since its next sync fails; what it acknowledged before that counts.
    output.read_to_string(&mut told).map_err(|error| error.to_string())?;
    child.wait().map_err(|error| error.to_string())?;
    shut.map(|()| told)
}

/// A mounted image.
struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn mount(image: &Path, at: &'a Path) -> Result<Self, String> {
        done(Command::new("mount").args(["-o", "loop"]).arg(image).arg(at))?;
        Ok(Self(at))
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        if let Err(error) = done(Command::new("umount").arg(self.0)) {
            eprintln!("{error}");
        }
    }
}

/// Runs a command; an error is what it said.
fn done(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
