//! Redis with its append-only file synced before every answer; a stream is the log.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::server::{Server, installed};
use super::{Failure, Peer, Size};
use crate::body::{BODY_BYTES, Body};

struct Redis {
    server: Mutex<Server>,
    socket: PathBuf,
    /// One for each caller.
    connections: Vec<Mutex<Option<Connection>>>,
}

struct Connection(BufReader<UnixStream>);

/// Starts a server in `dir`.
pub fn open(dir: &Path, _: Size) -> Result<Arc<dyn Peer>, Failure> {
    let program = installed("redis-server")?;
    let (socket, pid_file) = (dir.join("redis.sock"), dir.join("redis.pid"));
    let arguments = [
        "--port",
        "0",
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
        "--save",
        "",
        "--dir",
        ".",
        "--unixsocket",
        "redis.sock",
        "--pidfile",
        "redis.pid",
        "--daemonize",
        "no",
        "--auto-aof-rewrite-percentage",
        "0",
    ]
    .map(Into::into);
    let (server, _) = Server::start(&program, &arguments, dir, pid_file, || {
        let mut connection = Connection::new(&socket)?;
        connection.ask(&[b"XLEN", b"log"])
    })?;
    let connections = (0..crate::MOST_CALLERS).map(|_| Mutex::new(None)).collect();
    Ok(Arc::new(Redis { server: Mutex::new(server), socket, connections }))
}

impl Connection {
    fn new(socket: &Path) -> Result<Self, Failure> {
        Ok(Self(BufReader::new(UnixStream::connect(socket)?)))
    }

    /// Sends a command and returns its answer's values, flattened.
    fn ask(&mut self, parts: &[&[u8]]) -> Result<Vec<Vec<u8>>, Failure> {
        let mut command = format!("*{}\r\n", parts.len()).into_bytes();
        for part in parts {
            write!(command, "${}\r\n", part.len())?;
            command.extend_from_slice(part);
            command.extend_from_slice(b"\r\n");
        }
        self.0.get_mut().write_all(&command)?;
        let mut values = Vec::new();
        self.answer(&mut values)?;
        Ok(values)
    }

    fn answer(&mut self, values: &mut Vec<Vec<u8>>) -> Result<(), Failure> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err("the server closed the connection".into());
        }
        let (kind, rest) = line.trim_end().split_at_checked(1).ok_or("an empty answer")?;
        match kind {
            "-" => return Err(rest.into()),
            "$" => {
                let Ok(len) = usize::try_from(rest.parse::<i64>()?) else { return Ok(()) };
                let mut value = vec![0; len + 2];
                self.0.read_exact(&mut value)?;
                value.truncate(len);
                values.push(value);
            }
            "*" => (0..rest.parse::<i64>()?).try_for_each(|_| self.answer(values))?,
            _ => values.push(rest.as_bytes().to_vec()),
        }
        Ok(())
    }
}

impl Redis {
    fn ask(&self, caller: u64, parts: &[&[u8]]) -> Result<Vec<Vec<u8>>, Failure> {
        let at = usize::try_from(caller)?;
        let mut connection = self.connections[at].lock().map_err(|_| "a caller panicked")?;
        let connection = match &mut *connection {
            Some(connection) => connection,
            none => none.insert(Connection::new(&self.socket)?),
        };
        connection.ask(parts)
    }
}

impl Peer for Redis {
    fn append(&self, caller: u64, _: u64, body: &Body) -> Result<(), Failure> {
        self.ask(caller, &[b"XADD", b"log", b"*", b"b", body]).map(drop)
    }

    fn append_all(&self, _: u64, bodies: &[Body]) -> Result<(), Failure> {
        bodies.iter().try_for_each(|body| self.append(0, 0, body))
    }

    fn scan(&self, see: &mut dyn FnMut(u64, &[u8])) -> Result<(), Failure> {
        let values = self.ask(0, &[b"XRANGE", b"log", b"-", b"+"])?;
        (1..)
            .zip(values.iter().filter(|value| value.len() == BODY_BYTES))
            .for_each(|(number, body)| see(number, body));
        Ok(())
    }

    fn close(&self) -> Result<(), Failure> {
        self.server.lock().map_err(|_| "a caller panicked")?.stop()
    }
}
