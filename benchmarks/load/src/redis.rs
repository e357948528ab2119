//! `GET` of values of 200 bytes; RESP, as much of it as that needs.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::answer::Answer;
use crate::pace::Caller;

const VALUE_BYTES: usize = 200;
/// So many are set before their replies are awaited.
const SETS_AT_ONCE: usize = 500;

/// The requests and right replies of all keys, encoded once.
#[derive(Debug)]
pub struct Keys(Vec<(Bytes, Bytes)>);

impl Keys {
    /// Those of lines `0..count`.
    pub fn new(count: usize) -> Self {
        let pair = |line| (command(&[b"GET", &key(line)]), bulk(&value(line)));
        Self((0..count).map(pair).collect())
    }
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    socket: TcpStream,
    received: BytesMut,
    keys: Arc<Keys>,
}

impl Connection {
    /// Opens it.
    pub async fn connect(target: &str, keys: Arc<Keys>) -> Result<Self, String> {
        let socket = TcpStream::connect(target)
            .await
            .map_err(|error| told(&error))?;
        socket.set_nodelay(true).map_err(|error| told(&error))?;
        Ok(Self {
            socket,
            received: BytesMut::new(),
            keys,
        })
    }
}

impl Caller for Connection {
    async fn call(&mut self, line: usize) -> Result<(Answer, usize), String> {
        let (request, right) = self.keys.0.get(line).ok_or("no such key")?;
        self.socket
            .write_all(request)
            .await
            .map_err(|error| told(&error))?;
        self.received.clear();
        while self.received.len() < right.len() {
            if self
                .socket
                .read_buf(&mut self.received)
                .await
                .map_err(|error| told(&error))?
                == 0
            {
                return Err("Redis has closed a connection".into());
            }
            // Nothing of this length will follow an error or an absent value.
            if self.received.starts_with(b"-") || self.received.starts_with(b"$-") {
                let reply = String::from_utf8_lossy(&self.received)
                    .trim_end()
                    .to_owned();
                return Err(format!("Redis answered `{reply}`"));
            }
        }
        let answer = if self.received == *right {
            Answer::Right
        } else {
            Answer::Wrong
        };
        Ok((answer, VALUE_BYTES))
    }
}

/// Stores the values of lines `0..count`.
pub async fn fill(target: &str, count: usize) -> Result<(), String> {
    let mut socket = TcpStream::connect(target)
        .await
        .map_err(|error| told(&error))?;
    for first in (0..count).step_by(SETS_AT_ONCE) {
        let lines = first..count.min(first + SETS_AT_ONCE);
        let mut replies = vec![0; b"+OK\r\n".len() * lines.len()];
        let sets: BytesMut = lines
            .flat_map(|line| command(&[b"SET", &key(line), &value(line)]))
            .collect();
        socket
            .write_all(&sets)
            .await
            .map_err(|error| told(&error))?;
        socket
            .read_exact(&mut replies)
            .await
            .map_err(|error| told(&error))?;
        if !replies.chunks(5).all(|reply| reply == b"+OK\r\n") {
            let reply = String::from_utf8_lossy(&replies);
            return Err(format!(
                "Redis refused a value: `{}`",
                reply.lines().next().unwrap_or("")
            ));
        }
    }
    Ok(())
}

fn key(line: usize) -> Vec<u8> {
    format!("session:{line}").into_bytes()
}

/// Another one for each line, so that a reply to another key is seen.
fn value(line: usize) -> Vec<u8> {
    format!("{line:0VALUE_BYTES$}").into_bytes()
}

fn command(words: &[&[u8]]) -> Bytes {
    let mut command = BytesMut::from(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        command.put(bulk(word));
    }
    command.freeze()
}

fn bulk(text: &[u8]) -> Bytes {
    let mut bulk = BytesMut::from(format!("${}\r\n", text.len()).as_bytes());
    bulk.put_slice(text);
    bulk.put_slice(b"\r\n");
    bulk.freeze()
}

fn told(error: &std::io::Error) -> String {
    format!("Redis: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_an_array_of_bulk_strings_and_a_value_has_200_bytes() {
        assert_eq!(
            command(&[b"GET", b"k"]).as_ref(),
            b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"
        );
        assert_eq!(value(7).len(), VALUE_BYTES);
        assert_ne!(value(7), value(8));
    }
}
