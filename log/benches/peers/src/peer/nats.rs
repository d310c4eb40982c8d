//! NATS JetStream with a file store, one publish and its acknowledgement at a time for each caller.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::server::{Server, installed};
use super::{Failure, Peer, Size};
use crate::body::Body;

struct Nats {
    server: Mutex<Server>,
    port: u16,
    connections: Vec<Mutex<Option<Connection>>>,
}

struct Connection(BufReader<TcpStream>);

/// Starts a server in `dir`.
pub fn open(dir: &Path, _: Size) -> Result<Arc<dyn Peer>, Failure> {
    let program = installed("nats-server")?;
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let arguments =
        ["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd", "store", "-P", "nats.pid"]
            .map(Into::into);
    let pid_file = dir.join("nats.pid");
    let (server, mut connection) =
        Server::start(&program, &arguments, dir, pid_file, || Connection::new(port, "setup"))?;
    let stream = br#"{"name":"LOG","subjects":["log"],"storage":"file","retention":"limits","max_consumers":-1,"max_msgs":-1,"max_bytes":-1,"max_age":0,"num_replicas":1}"#;
    let made = connection.ask("$JS.API.STREAM.CREATE.LOG", "setup", stream)?;
    if !made.contains("\"config\"") {
        return Err(made.into());
    }
    let connections = (0..crate::MOST_CALLERS).map(|_| Mutex::new(None)).collect();
    Ok(Arc::new(Nats { server: Mutex::new(server), port, connections }))
}

impl Connection {
    /// Connects and listens for answers to `inbox`.
    fn new(port: u16, inbox: &str) -> Result<Self, Failure> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        let mut connection = Self(BufReader::new(stream));
        connection.line()?;
        let hello = format!("CONNECT {{\"verbose\":false}}\r\nSUB _INBOX.{inbox} 1\r\nPING\r\n");
        connection.0.get_mut().write_all(hello.as_bytes())?;
        while connection.line()? != "PONG" {}
        Ok(connection)
    }

    fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err("the server closed the connection".into());
        }
        Ok(line.trim_end().to_owned())
    }

    /// Publishes and waits for the answer.
    fn ask(&mut self, subject: &str, inbox: &str, body: &[u8]) -> Result<String, Failure> {
        let mut message = format!("PUB {subject} _INBOX.{inbox} {}\r\n", body.len()).into_bytes();
        message.extend_from_slice(body);
        message.extend_from_slice(b"\r\n");
        self.0.get_mut().write_all(&message)?;
        loop {
            let line = self.line()?;
            if line == "PING" {
                self.0.get_mut().write_all(b"PONG\r\n")?;
            } else if line.starts_with("-ERR") {
                return Err(line.into());
            } else if line.starts_with("MSG ") {
                let len: usize = line.rsplit(' ').next().unwrap_or_default().parse()?;
                let mut answer = vec![0; len + 2];
                self.0.read_exact(&mut answer)?;
                return Ok(String::from_utf8_lossy(&answer[..len]).into_owned());
            }
        }
    }
}

impl Peer for Nats {
    fn append(&self, caller: u64, _: u64, body: &Body) -> Result<(), Failure> {
        let at = usize::try_from(caller)?;
        let mut connection = self.connections[at].lock().map_err(|_| "a caller panicked")?;
        let inbox = format!("c{caller}");
        let connection = match &mut *connection {
            Some(connection) => connection,
            none => none.insert(Connection::new(self.port, &inbox)?),
        };
        let answer = connection.ask("log", &inbox, body)?;
        if answer.contains("\"error\"") { Err(answer.into()) } else { Ok(()) }
    }

    fn append_all(&self, _: u64, bodies: &[Body]) -> Result<(), Failure> {
        bodies.iter().try_for_each(|body| self.append(0, 0, body))
    }

    fn scan(&self, _: &mut dyn FnMut(u64, &[u8])) -> Result<(), Failure> {
        Err(super::ABSENT.into())
    }

    fn close(&self) -> Result<(), Failure> {
        for connection in &self.connections {
            *connection.lock().map_err(|_| "a caller panicked")? = None;
        }
        self.server.lock().map_err(|_| "a caller panicked")?.stop()
    }
}
