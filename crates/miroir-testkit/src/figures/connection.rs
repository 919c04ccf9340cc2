//! The load generator's own HTTP client: blocking sockets, requests written once before the measurement, bodies read
//! and not parsed. It shares the machine with the servers it measures, so what it costs would be measured too.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Longest wait for one answer: a measurement that hangs must end.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// One request, and the `host:port` it goes to.
#[derive(Debug, Clone)]
pub struct Part {
    /// Where to.
    pub address: String,
    /// Head and body.
    pub bytes: Vec<u8>,
}

impl Part {
    /// A `POST` of JSON.
    pub fn post(address: &str, path: &str, key: &str, body: &[u8]) -> Self {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        Self { address: address.to_owned(), bytes: [head.as_bytes(), body].concat() }
    }

    /// A `GET`.
    pub fn get(address: &str, path: &str, key: &str) -> Self {
        let head = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\n\r\n");
        Self { address: address.to_owned(), bytes: head.into_bytes() }
    }
}

/// A kept-alive connection.
#[derive(Debug)]
struct Connection {
    address: String,
    stream: TcpStream,
    answer: Vec<u8>,
    body_start: usize,
}

impl Connection {
    fn open(address: &str) -> Result<Self, String> {
        let stream =
            TcpStream::connect(address).map_err(|error| format!("cannot connect to {address}: {error}"))?;
        stream.set_nodelay(true).expect("a connected socket takes TCP_NODELAY");
        stream.set_read_timeout(Some(ANSWER_LIMIT)).expect("a connected socket takes a limit");
        Ok(Self { address: address.to_owned(), stream, answer: Vec::new(), body_start: 0 })
    }

    fn send(&mut self, request: &[u8]) -> Result<(), String> {
        let sent = self.stream.write_all(request);
        sent.map_err(|error| format!("cannot send to {}: {error}", self.address))
    }

    /// Reads one whole answer; anything but a success is an error, since errors are fast and prove nothing.
    fn receive(&mut self) -> Result<(), String> {
        self.answer.clear();
        let head_end = loop {
            let searched = self.answer.len().saturating_sub(3);
            self.read_some()?;
            if let Some(found) = self.answer[searched..].windows(4).position(|four| four == b"\r\n\r\n") {
                break searched + found + 4;
            }
        };
        let head = String::from_utf8_lossy(&self.answer[..head_end]).to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok())
            .ok_or_else(|| format!("{} answered without a content-length: {head}", self.address))?;
        while self.answer.len() < head_end + length {
            self.read_some()?;
        }
        self.body_start = head_end;
        if !head.starts_with("http/1.1 20") {
            return Err(format!("{} answered {head}{}", self.address, String::from_utf8_lossy(self.body())));
        }
        Ok(())
    }

    fn read_some(&mut self) -> Result<(), String> {
        const STEP: usize = 64 * 1024;
        let filled = self.answer.len();
        self.answer.resize(filled + STEP, 0);
        let read = self.stream.read(&mut self.answer[filled..]);
        let read = read.map_err(|error| format!("{} gave no answer: {error}", self.address))?;
        if read == 0 {
            return Err(format!("{} closed the connection", self.address));
        }
        self.answer.truncate(filled + read);
        Ok(())
    }

    fn body(&self) -> &[u8] {
        &self.answer[self.body_start..]
    }
}

/// The connections of one client that has one request in flight at a time.
#[derive(Debug, Default)]
pub struct Line {
    connections: Vec<Connection>,
}

impl Line {
    /// Sends all parts, then waits for all answers. After an error it begins with new connections.
    pub fn exchange(&mut self, parts: &[Part]) -> Result<(), String> {
        let outcome = self.try_exchange(parts);
        if outcome.is_err() {
            self.connections.clear();
        }
        outcome
    }

    fn try_exchange(&mut self, parts: &[Part]) -> Result<(), String> {
        for (place, part) in parts.iter().enumerate() {
            // A connection already used by an earlier part has an answer to come.
            let free = (place..self.connections.len())
                .find(|candidate| self.connections[*candidate].address == part.address);
            let free = match free {
                Some(free) => free,
                None => {
                    self.connections.push(Connection::open(&part.address)?);
                    self.connections.len() - 1
                }
            };
            self.connections.swap(place, free);
            self.connections[place].send(&part.bytes)?;
        }
        self.connections[..parts.len()].iter_mut().try_for_each(Connection::receive)
    }

    /// The body of the first part's answer.
    pub fn first_body(&self) -> &[u8] {
        self.connections.first().map_or(&[], Connection::body)
    }

    /// Whether the first part's answer has a header of that name, written in lower case.
    pub fn first_has_header(&self, name: &str) -> bool {
        let Some(connection) = self.connections.first() else { return false };
        let head = String::from_utf8_lossy(&connection.answer[..connection.body_start]).to_ascii_lowercase();
        head.lines().any(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(':')))
    }
}
