//! PostgreSQL: one row for each record. It does not run as root: then it runs as `postgres`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use postgres::{Client, NoTls, Statement};

use super::server::{Server, installed};
use super::{Failure, Peer, Size};
use crate::body::Body;

struct Postgres {
    server: Mutex<Server>,
    socket: PathBuf,
    connections: Vec<Mutex<Option<(Client, Statement)>>>,
}

/// Starts a server in `dir`.
pub fn open(dir: &Path, _: Size) -> Result<Arc<dyn Peer>, Failure> {
    let (program, initdb) = (installed("postgres")?, installed("initdb")?);
    let data = dir.join("data");
    let as_user = |program: &Path| -> Result<(PathBuf, Vec<OsString>), Failure> {
        if !rustix::process::geteuid().is_root() {
            return Ok((program.to_owned(), Vec::new()));
        }
        let before = ["-u", "postgres", "--"].map(Into::into);
        Ok((installed("runuser")?, before.into_iter().chain([program.into()]).collect()))
    };
    if rustix::process::geteuid().is_root() {
        let owned = Command::new("chown").arg("postgres").arg(dir).status()?;
        if !owned.success() {
            return Err("there is no user postgres to run it as".into());
        }
    }
    if !data.exists() {
        let (runner, before) = as_user(&initdb)?;
        let made = Command::new(runner)
            .args(before)
            .args(["-A", "trust", "-U", "bench", "--no-instructions", "-D"])
            .arg(&data)
            .current_dir(dir)
            .output()?;
        if !made.status.success() {
            return Err(String::from_utf8_lossy(&made.stderr).into());
        }
    }
    let (runner, mut arguments) = as_user(&program)?;
    arguments.extend(["-D".into(), data.clone().into()]);
    for setting in [
        "listen_addresses=",
        "wal_sync_method=fdatasync",
        "synchronous_commit=on",
        "autovacuum=off",
        "max_connections=100",
    ] {
        arguments.extend(["-c".into(), setting.into()]);
    }
    arguments.extend(["-k".into(), dir.into()]);
    let (server, mut client) =
        Server::start(&runner, &arguments, dir, data.join("postmaster.pid"), || connect(dir))?;
    client.batch_execute(
        "CREATE TABLE IF NOT EXISTS log (seq bigserial PRIMARY KEY, body bytea NOT NULL)",
    )?;
    let connections = (0..crate::MOST_CALLERS).map(|_| Mutex::new(None)).collect();
    Ok(Arc::new(Postgres { server: Mutex::new(server), socket: dir.to_owned(), connections }))
}

fn connect(socket: &Path) -> Result<Client, Failure> {
    let mut config = postgres::Config::new();
    Ok(config.host_path(socket).user("bench").dbname("postgres").connect(NoTls)?)
}

impl Postgres {
    fn with<T>(
        &self,
        caller: u64,
        run: impl FnOnce(&mut Client, &Statement) -> Result<T, postgres::Error>,
    ) -> Result<T, Failure> {
        let at = usize::try_from(caller)?;
        let mut connection = self.connections[at].lock().map_err(|_| "a caller panicked")?;
        let (client, insert) = match &mut *connection {
            Some(connection) => connection,
            none => {
                let mut client = connect(&self.socket)?;
                let insert = client.prepare("INSERT INTO log (body) VALUES ($1)")?;
                none.insert((client, insert))
            }
        };
        Ok(run(client, insert)?)
    }
}

impl Peer for Postgres {
    fn append(&self, caller: u64, _: u64, body: &Body) -> Result<(), Failure> {
        self.with(caller, |client, insert| client.execute(insert, &[&body.as_slice()]).map(drop))
    }

    fn append_all(&self, _: u64, bodies: &[Body]) -> Result<(), Failure> {
        self.with(0, |client, insert| {
            let mut transaction = client.transaction()?;
            for body in bodies {
                transaction.execute(insert, &[&body.as_slice()])?;
            }
            transaction.commit()
        })
    }

    fn scan(&self, see: &mut dyn FnMut(u64, &[u8])) -> Result<(), Failure> {
        let rows =
            self.with(0, |client, _| client.query("SELECT body FROM log ORDER BY seq", &[]))?;
        (1..).zip(&rows).for_each(|(number, row)| see(number, row.get(0)));
        Ok(())
    }

    fn close(&self) -> Result<(), Failure> {
        for connection in &self.connections {
            *connection.lock().map_err(|_| "a caller panicked")? = None;
        }
        self.server.lock().map_err(|_| "a caller panicked")?.stop()
    }
}
