//! What the tests share: processes of the binary, and questions to them.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

/// How long anything may take in a test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The binary, with nothing in its environment that could configure it.
pub(crate) fn revenant(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_revenant"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SPKY_") {
            command.env_remove(name);
        }
    }
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// A process that ends with the test.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Ports that are free now.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    let held = [(); N].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

/// SurrealDB's server on `port`, with its data in `dir`.
pub(crate) fn database(dir: &Path, port: u16) -> Process {
    let (bind, path) = (format!("127.0.0.1:{port}"), format!("surrealkv://{}", dir.display()));
    let user = ["--user", "root", "--pass", "root", "--no-banner"];
    let args: Vec<_> =
        ["surrealdb", "start", "--bind", &bind].into_iter().chain(user).chain([&*path]).collect();
    Process::start(&mut revenant(&args))
}

/// What `url` answers, status and body, as soon as `well` is content with it.
pub(crate) async fn until(url: &str, well: impl Fn(u16, &Json) -> bool) -> Json {
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
    let (begun, mut last) = (Instant::now(), None);
    loop {
        if let Ok(answer) = client.get(url).send().await {
            let status = answer.status().as_u16();
            let body: Json = answer.json().await.unwrap_or_default();
            if well(status, &body) {
                return body;
            }
            last = Some((status, body));
        }
        assert!(begun.elapsed() < PATIENCE, "{url} does not become well: {last:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until `done`.
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "waiting until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
