//! A database that is not there: services answer, say what they wait for, and catch up.

use std::path::Path;

use crate::rig::{Process, database, free_ports, revenant, until, wait_until};

/// A scheduler and an SSP of one database, each on its port.
struct Ports {
    database: u16,
    scheduler: u16,
    ssp: u16,
}

impl Ports {
    fn service(&self, name: &str, dir: &Path) -> Process {
        let mut command = revenant(&[name]);
        command
            .current_dir(dir)
            .env("SPKY_DB_WS", format!("ws://127.0.0.1:{}", self.database))
            .env("SPKY_DB_NS", "main")
            .env("SPKY_DB_NAME", "app")
            .env("SPKY_INGEST_HOST", "127.0.0.1")
            .env("SPKY_INGEST_PORT", self.scheduler.to_string())
            .env("SPKY_SCHEDULER_URL", format!("http://127.0.0.1:{}", self.scheduler))
            .env("SPKY_SSP_ID", "ssp-1")
            .env("SPKY_SSP_LISTEN_ADDR", format!("127.0.0.1:{}", self.ssp));
        Process::start(&mut command)
    }

    /// Prepares the database, as soon as it answers.
    fn install_schema(&self) {
        let url = format!("ws://127.0.0.1:{}", self.database);
        let args = ["schema", "install", "--url", &url, "--ns", "main", "--db", "app"];
        wait_until("the schema is installed", || revenant(&args).status().unwrap().success());
    }

    fn health_of_scheduler(&self) -> String {
        format!("http://127.0.0.1:{}/health", self.scheduler)
    }

    fn health_of_ssp(&self) -> String {
        format!("http://127.0.0.1:{}/health", self.ssp)
    }
}

#[tokio::test]
async fn services_that_start_without_a_database_say_so_and_catch_up_once_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let [database_port, scheduler_port, ssp_port] = free_ports();
    let ports = Ports { database: database_port, scheduler: scheduler_port, ssp: ssp_port };
    let scheduler = ports.service("scheduler", dir.path());
    let ssp = ports.service("ssp", dir.path());

    let is_down = |body: &serde_json::Value| {
        body["trouble"]["tables"].as_str().is_some_and(|text| text.contains("unavailable"))
    };
    let health = until(&ports.health_of_scheduler(), |_, body| is_down(body)).await;
    assert_eq!(health["status"], "unavailable");
    assert_eq!(health["waiting_for"], "database");
    assert_eq!(health["capture"]["connected"], false);
    // It has no rows yet, so the SSP has nothing to begin with.
    let health = until(&ports.health_of_ssp(), |status, _| status == 503).await;
    assert_eq!(health["waiting_for"], "scheduler");

    let server = database(&dir.path().join("db"), ports.database);
    ports.install_schema();
    let health = until(&ports.health_of_ssp(), |status, _| status == 200).await;
    assert_eq!(health["waiting_for"], serde_json::Value::Null);
    let health = until(&ports.health_of_scheduler(), |status, _| status == 200).await;
    assert_eq!(health["waiting_for"], serde_json::Value::Null);

    // Once more, with a scheduler that has rows.
    drop((ssp, scheduler, server));
    let _scheduler = ports.service("scheduler", dir.path());
    let _ssp = ports.service("ssp", dir.path());
    let waits = |_: u16, body: &serde_json::Value| body["waiting_for"] == "database";
    until(&ports.health_of_ssp(), waits).await;
    until(&ports.health_of_scheduler(), waits).await;
    let _server = database(&dir.path().join("db"), ports.database);
    until(&ports.health_of_ssp(), |status, _| status == 200).await;
    until(&ports.health_of_scheduler(), |status, body| {
        status == 200 && body["waiting_for"].is_null()
    })
    .await;
}

#[tokio::test]
async fn a_service_that_the_database_turns_away_ends_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let [database_port, scheduler_port] = free_ports();
    let _server = database(&dir.path().join("db"), database_port);
    let mut command = revenant(&["scheduler"]);
    command
        .current_dir(dir.path())
        .env("SPKY_DB_WS", format!("ws://127.0.0.1:{database_port}"))
        .env("SPKY_DB_PASS", "wrong")
        .env("SPKY_INGEST_HOST", "127.0.0.1")
        .env("SPKY_INGEST_PORT", scheduler_port.to_string())
        .stderr(std::process::Stdio::piped());
    let ended = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let words = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(3), "{words}");
    assert!(words.contains("connect to ws://127.0.0.1"), "{words}");
}
