//! Whether the tests notice: plants faults in a copy of the crate, one at a time, and runs the test that must
//! fail. All are compiled at once, behind a switch that only the copy has; a fault whose place is not found is
//! an error, as is a test that fails without one. The last line is JSON; exits 0 only if all are caught.
//!
//! `cargo run -p revenant-log --example planted [-- NAME...]`: all faults, or those named.
// Clippy knows `#[test]` functions as tests, not this program.
#![allow(clippy::unwrap_used)]

mod faults;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};
use std::time::{Duration, Instant};

use faults::{FAULTS, Fault};

/// A test that takes longer hangs, which tells as well.
const LONGEST: Duration = Duration::from_secs(300);
/// What a fault's text asks for its switch.
const SWITCH: &str = "
/// Whether this fault is switched on.
pub(crate) fn planted(name: &str) -> bool {
    static CHOSEN: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var(\"REVENANT_PLANTED\").unwrap_or_default()) == name
}
";

fn main() -> ExitCode {
    let only: Vec<String> = std::env::args().skip(1).collect();
    match run(&only) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("planted: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(only: &[String]) -> Result<bool, String> {
    let chosen: Vec<&Fault> = FAULTS
        .iter()
        .filter(|fault| only.is_empty() || only.iter().any(|n| n == fault.name))
        .collect();
    let names: BTreeSet<_> = FAULTS.iter().map(|fault| fault.name).collect();
    if names.len() != FAULTS.len() || chosen.is_empty() {
        return Err("no such fault, or two of the same name".into());
    }
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let copy = Copy::of(crate_dir.parent().ok_or("the crate has no workspace")?)?;
    for fault in FAULTS {
        plant(&copy.dir.join("log/src"), fault)?;
    }
    let binary = build(&copy.dir)?;
    let tests: BTreeSet<_> = chosen.iter().map(|fault| fault.test).collect();
    for test in &tests {
        if let Caught::By(how) = try_out(&binary, "", test)? {
            return Err(format!("{test} fails without a fault: {how}"));
        }
    }
    println!("{} tests pass without a fault", tests.len());
    let mut missed = Vec::new();
    for fault in &chosen {
        match try_out(&binary, fault.name, fault.test)? {
            Caught::By(how) => println!("caught  {:<34} {}: {how}", fault.name, fault.test),
            Caught::Not => {
                println!("MISSED  {:<34} {}", fault.name, fault.test);
                missed.push(fault.name);
            }
        }
    }
    let (planted, caught) = (chosen.len(), chosen.len() - missed.len());
    let pass = missed.is_empty() && (planted >= 25 || !only.is_empty());
    let json = serde_json::json!({
        "show": "planted", "pass": pass, "planted": planted, "caught": caught, "missed": missed,
    });
    println!("{json}");
    Ok(pass)
}

/// A copy of the crate that goes away.
struct Copy {
    dir: PathBuf,
}

impl Copy {
    /// Of the crate in a workspace of its own, with the same dependencies.
    fn of(workspace: &Path) -> Result<Self, String> {
        let dir = std::env::temp_dir().join(format!("revenant-planted-{}", std::process::id()));
        let copy = Self { dir };
        copy_dir(&workspace.join("log"), &copy.dir.join("log"))?;
        copy_dir(&workspace.join(".cargo"), &copy.dir.join(".cargo"))?;
        for file in ["Cargo.lock", "rust-toolchain.toml"] {
            fs::copy(workspace.join(file), copy.dir.join(file))
                .map_err(|e| format!("{file}: {e}"))?;
        }
        let manifest =
            fs::read_to_string(workspace.join("Cargo.toml")).map_err(|e| e.to_string())?;
        let lines = manifest.lines().map(|line| match line.split_once('=') {
            Some((name, _)) if matches!(name.trim(), "members" | "default-members") => {
                format!("{name}= [\"log\"]")
            }
            _ => line.to_owned(),
        });
        let manifest = lines.collect::<Vec<_>>().join("\n");
        fs::write(copy.dir.join("Cargo.toml"), manifest).map_err(|e| e.to_string())?;
        let lib = copy.dir.join("log/src/lib.rs");
        let text = fs::read_to_string(&lib).map_err(|e| e.to_string())?;
        fs::write(&lib, text + SWITCH).map_err(|e| e.to_string())?;
        Ok(copy)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("planted: cannot remove {}: {error}", self.dir.display());
        }
    }
}

fn copy_dir(from: &Path, to: &Path) -> Result<(), String> {
    let told = |path: &Path| {
        let path = path.display().to_string();
        move |error: std::io::Error| format!("copy {path}: {error}")
    };
    fs::create_dir_all(to).map_err(told(to))?;
    for entry in fs::read_dir(from).map_err(told(from))? {
        let entry = entry.map_err(told(from))?;
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_name() == "target" || entry.file_name() == "fuzz" {
            continue;
        }
        if path.is_dir() {
            copy_dir(&path, &to)?;
        } else {
            fs::copy(&path, &to).map_err(told(&path))?;
        }
    }
    Ok(())
}

/// Changes the one place that the fault names.
fn plant(src: &Path, fault: &Fault) -> Result<(), String> {
    let path = src.join(fault.file);
    let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let places = text.matches(fault.old).count();
    if places != 1 {
        return Err(format!("{}: its text is {places} times in {}", fault.name, fault.file));
    }
    if !fault.new.contains(&format!("crate::planted(\"{}\")", fault.name)) {
        return Err(format!("{}: its text does not ask for its switch", fault.name));
    }
    fs::write(&path, text.replacen(fault.old, fault.new, 1)).map_err(|e| e.to_string())
}

/// Builds the copy's tests; the path of their binary.
fn build(dir: &Path) -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["test", "-q", "--offline", "-p", "revenant-log", "--test", "it", "--no-run"])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(dir)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("run cargo: {error}"))?;
    if !output.status.success() {
        return Err("the copy does not compile".into());
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| Some(PathBuf::from(message["executable"].as_str()?)))
        .next_back()
        .ok_or_else(|| "cargo names no test binary".into())
}

enum Caught {
    By(String),
    Not,
}

/// Runs one test with one fault.
fn try_out(binary: &Path, fault: &str, test: &str) -> Result<Caught, String> {
    let mut child = Command::new(binary)
        .args(["--exact", test, "--test-threads", "2"])
        .env("REVENANT_PLANTED", fault)
        .env("RUST_BACKTRACE", "0")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("run the tests: {error}"))?;
    let started = Instant::now();
    let out = child.stdout.take().ok_or("no output")?;
    let reader = std::thread::spawn(move || std::io::read_to_string(out));
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            break status;
        }
        if started.elapsed() > LONGEST {
            child.kill().and_then(|()| child.wait()).map_err(|error| error.to_string())?;
            return Ok(Caught::By("it hangs".into()));
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let stdout = reader.join().map_err(|_| "the reader died")?.map_err(|e| e.to_string())?;
    let output = Output { status, stdout: stdout.into_bytes(), stderr: Vec::new() };
    judge(&output, test)
}

fn judge(output: &Output, test: &str) -> Result<Caught, String> {
    let text = String::from_utf8_lossy(&output.stdout);
    if text.contains("running 0 tests") {
        return Err(format!("there is no test {test}"));
    }
    if output.status.success() {
        return Ok(Caught::Not);
    }
    let said = text.lines().skip_while(|line| !line.contains("panicked at")).nth(1);
    let said = said.map(|line| line.chars().take(100).collect::<String>());
    Ok(Caught::By(said.unwrap_or_else(|| output.status.to_string())))
}
