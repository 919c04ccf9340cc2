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
    fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address)
            .unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"));
        stream.set_nodelay(true).expect("a connected socket takes TCP_NODELAY");
        stream.set_read_timeout(Some(ANSWER_LIMIT)).expect("a connected socket takes a limit");
        Self { address: address.to_owned(), stream, answer: Vec::new(), body_start: 0 }
    }

    fn send(&mut self, request: &[u8]) {
        self.stream
            .write_all(request)
            .unwrap_or_else(|error| panic!("cannot send to {}: {error}", self.address));
    }

    /// Reads one whole answer; anything but a 200 ends the measurement, since errors are fast and prove nothing.
    fn receive(&mut self) {
        self.answer.clear();
        let head_end = loop {
            let searched = self.answer.len().saturating_sub(3);
            self.read_some();
            if let Some(found) = self.answer[searched..].windows(4).position(|four| four == b"\r\n\r\n") {
                break searched + found + 4;
            }
        };
        let head = String::from_utf8_lossy(&self.answer[..head_end]).to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok())
            .unwrap_or_else(|| panic!("{} answered without a content-length: {head}", self.address));
        while self.answer.len() < head_end + length {
            self.read_some();
        }
        self.body_start = head_end;
        if !head.starts_with("http/1.1 200") {
            panic!("{} answered {head}{}", self.address, String::from_utf8_lossy(self.body()));
        }
    }

    fn read_some(&mut self) {
        const STEP: usize = 64 * 1024;
        let filled = self.answer.len();
        self.answer.resize(filled + STEP, 0);
        let read = self
            .stream
            .read(&mut self.answer[filled..])
            .unwrap_or_else(|error| panic!("{} gave no answer: {error}", self.address));
        assert!(read > 0, "{} closed the connection", self.address);
        self.answer.truncate(filled + read);
    }

    fn body(&self) -> &[u8] {
        &self.answer[self.body_start..]
    }
}

/// The connections of one client that has one search in flight at a time.
#[derive(Debug, Default)]
pub struct Line {
    connections: Vec<Connection>,
}

impl Line {
    /// Sends all parts, then waits for all answers.
    pub fn exchange(&mut self, parts: &[Part]) {
        for (place, part) in parts.iter().enumerate() {
            // A connection already used by an earlier part has an answer to come.
            let free = (place..self.connections.len())
                .find(|candidate| self.connections[*candidate].address == part.address);
            let free = free.unwrap_or_else(|| {
                self.connections.push(Connection::open(&part.address));
                self.connections.len() - 1
            });
            self.connections.swap(place, free);
            self.connections[place].send(&part.bytes);
        }
        for connection in &mut self.connections[..parts.len()] {
            connection.receive();
        }
    }

    /// The body of the first part's answer.
    pub fn first_body(&self) -> &[u8] {
        self.connections.first().map_or(&[], Connection::body)
    }
}
