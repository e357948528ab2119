//! A connection's bytes: how many were read, and those to be written, which go out together.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What may wait to be sent; the protocol's own buffers and its windows bound the rest.
const OUTBOX_MAX_BYTES: usize = 64 * 1024;

/// The gate's end of a client's stream, whose other end speaks the protocol ([`WireStream`]).
pub(crate) struct Wire<S>(Arc<Mutex<State<S>>>);

/// The stream as the protocol sees it: what it writes is sent later, by [`Wire::poll`].
pub(crate) struct WireStream<S>(Arc<Mutex<State<S>>>);

struct State<S> {
    stream: S,
    read_bytes: u64,
    outbox: BytesMut,
    /// What came into the outbox since it was empty last: what was sent of it takes memory, too.
    gathered: usize,
    /// The protocol could not write, or not shut down, as long as the outbox was not empty.
    is_waiting: bool,
    /// Why nothing can be sent any more, until the protocol was told.
    broken: Option<io::Error>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) fn new(stream: S) -> (Self, WireStream<S>) {
        let state = Arc::new(Mutex::new(State {
            stream,
            read_bytes: 0,
            outbox: BytesMut::new(),
            gathered: 0,
            is_waiting: false,
            broken: None,
        }));
        (Self(Arc::clone(&state)), WireStream(state))
    }

    pub(crate) fn read_bytes(&self) -> u64 {
        lock(&self.0).read_bytes
    }

    /// Polls the protocol, then sends what it wrote: the answers of all calls that were read
    /// together are one system call. HTTP/2 would flush each frame of more than a kilobyte. A protocol
    /// that ends without a shutdown, as one that cannot read does, leaves what the client does not take
    /// at once.
    pub(crate) fn poll<R>(
        &self,
        context: &mut Context<'_>,
        mut protocol: impl FnMut(&mut Context<'_>) -> Poll<R>,
    ) -> Poll<R> {
        // What the client did not take before.
        lock(&self.0).send(context);
        loop {
            let polled = protocol(context);
            // Nobody else would wake it for what it waits for.
            if !lock(&self.0).send(context) || polled.is_ready() {
                return polled;
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> State<S> {
    /// Sends what the stream takes; whether the protocol is to be polled again.
    fn send(&mut self, context: &mut Context<'_>) -> bool {
        while !self.outbox.is_empty() {
            match Pin::new(&mut self.stream).poll_write(context, &self.outbox) {
                Poll::Ready(Ok(0)) => return self.fail(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(sent)) => self.outbox.advance(sent),
                Poll::Ready(Err(error)) => return self.fail(error),
                Poll::Pending => return false,
            }
        }
        // An idle connection holds no memory for it.
        (self.outbox, self.gathered) = (BytesMut::new(), 0);
        std::mem::take(&mut self.is_waiting)
    }

    fn fail(&mut self, error: io::Error) -> bool {
        (self.outbox, self.gathered) = (BytesMut::new(), 0);
        self.broken = Some(error);
        true
    }

    fn told(&mut self) -> io::Result<()> {
        self.broken.take().map_or(Ok(()), Err)
    }
}

impl<S: AsyncRead + Unpin + AsyncWrite> AsyncRead for WireStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = lock(&self.0);
        state.told()?;
        let before = buffer.filled().len();
        let polled = Pin::new(&mut state.stream).poll_read(context, buffer);
        let read = buffer.filled().len().saturating_sub(before);
        let read = u64::try_from(read).unwrap_or(u64::MAX);
        state.read_bytes = state.read_bytes.saturating_add(read);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WireStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = lock(&self.0);
        state.told()?;
        let room = OUTBOX_MAX_BYTES.saturating_sub(state.gathered);
        let (taken, rest) = bytes.split_at(room.min(bytes.len()));
        state.outbox.extend_from_slice(taken);
        state.gathered = state.gathered.saturating_add(taken.len());
        if taken.is_empty() && !rest.is_empty() {
            state.is_waiting = true;
            return Poll::Pending;
        }
        Poll::Ready(Ok(taken.len()))
    }

    /// Nothing: it is sent when the protocol has been polled, at the latest before it is again.
    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(lock(&self.0).told())
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = lock(&self.0);
        state.told()?;
        if !state.outbox.is_empty() {
            state.is_waiting = true;
            return Poll::Pending;
        }
        Pin::new(&mut state.stream).poll_shutdown(context)
    }

    // No `poll_write_vectored`: h2 copies small answers together for one that has none.
}

/// Nothing that runs under this lock can leave the bytes half-way.
fn lock<S>(state: &Mutex<State<S>>) -> MutexGuard<'_, State<S>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "a test fails by panicking"
)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// A client that takes so much and then no more; what it was sent, call by call.
    #[derive(Default)]
    struct Client {
        takes: usize,
        sent: Vec<Vec<u8>>,
        is_gone: bool,
        is_shut_down: bool,
    }

    impl AsyncRead for Client {
        fn poll_read(
            self: Pin<&mut Self>,
            _context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            buffer.put_slice(b"read");
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Client {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            if self.is_gone {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let taken = self.takes.min(bytes.len());
            if taken == 0 {
                return Poll::Pending;
            }
            self.takes = self.takes.saturating_sub(taken);
            self.sent.push(bytes[..taken].to_vec());
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(
            mut self: Pin<&mut Self>,
            _context: &mut Context<'_>,
        ) -> Poll<io::Result<()>> {
            self.is_shut_down = true;
            Poll::Ready(Ok(()))
        }
    }

    fn wire(takes: usize) -> (Wire<Client>, WireStream<Client>) {
        Wire::new(Client {
            takes,
            ..Client::default()
        })
    }

    fn poll<R>(wire: &Wire<Client>, protocol: impl FnMut(&mut Context<'_>) -> Poll<R>) -> Poll<R> {
        wire.poll(&mut Context::from_waker(Waker::noop()), protocol)
    }

    fn write(stream: &mut WireStream<Client>, context: &mut Context<'_>, bytes: &[u8]) {
        assert!(Pin::new(stream).poll_write(context, bytes).is_ready());
    }

    /// What is written in one poll is sent at its end and at once, flushed or not.
    #[test]
    fn writes_go_out_together() {
        let (wire, mut stream) = wire(usize::MAX);
        let polled: Poll<()> = poll(&wire, |context| {
            for part in ["one ", "two"] {
                write(&mut stream, context, part.as_bytes());
                assert!(Pin::new(&mut stream).poll_flush(context).is_ready());
                assert!(lock(&wire.0).stream.sent.is_empty());
            }
            Poll::Pending
        });
        assert!(polled.is_pending());
        let state = lock(&wire.0);
        assert_eq!(state.stream.sent, [b"one two"]);
        assert_eq!(state.outbox.capacity(), 0);
    }

    /// A protocol that finds no room is polled again when there is; a client that takes nothing
    /// holds no more than the outbox, also when it takes a little of it.
    #[test]
    fn an_outbox_is_bounded() {
        let (wire, mut stream) = wire(OUTBOX_MAX_BYTES);
        let much = vec![7; 3 * OUTBOX_MAX_BYTES];
        let mut written = 0;
        let mut write_all = || {
            poll(&wire, |context| {
                while let Poll::Ready(taken) =
                    Pin::new(&mut stream).poll_write(context, &much[written..])
                {
                    written += taken.unwrap();
                    if written == much.len() {
                        return Poll::Ready(());
                    }
                }
                Poll::Pending
            })
        };
        assert!(write_all().is_pending());
        assert_eq!(lock(&wire.0).outbox.len(), OUTBOX_MAX_BYTES);
        for taken in 1..=9 {
            lock(&wire.0).stream.takes = 1_000;
            assert!(write_all().is_pending());
            let state = lock(&wire.0);
            assert_eq!(state.outbox.len(), OUTBOX_MAX_BYTES - taken * 1_000);
            assert!(state.outbox.capacity() <= OUTBOX_MAX_BYTES);
        }
        lock(&wire.0).stream.takes = usize::MAX;
        assert_eq!(write_all(), Poll::Ready(()));
        assert_eq!(lock(&wire.0).stream.sent.concat(), much);
    }

    /// The stream is shut down after what was written before.
    #[test]
    fn a_shutdown_waits_for_what_was_written() {
        let (wire, mut stream) = wire(usize::MAX);
        let mut has_written = false;
        let polled = poll(&wire, |context| {
            if !has_written {
                has_written = true;
                write(&mut stream, context, b"last");
            }
            Pin::new(&mut stream).poll_shutdown(context)
        });
        assert!(matches!(polled, Poll::Ready(Ok(()))));
        let state = lock(&wire.0);
        assert_eq!(state.stream.sent, [b"last"]);
        assert!(state.stream.is_shut_down);
    }

    /// A client that has gone is told of to the protocol, which then ends.
    #[test]
    fn a_failure_is_told() {
        let (wire, mut stream) = wire(0);
        lock(&wire.0).stream.is_gone = true;
        let mut has_written = false;
        let polled = poll(&wire, |context| {
            if !has_written {
                has_written = true;
                write(&mut stream, context, b"lost");
                return Poll::Pending;
            }
            let mut room = [0; 8];
            Pin::new(&mut stream).poll_read(context, &mut ReadBuf::new(&mut room))
        });
        let Poll::Ready(Err(error)) = polled else {
            panic!("nothing was told")
        };
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    /// Bytes that were read are counted.
    #[test]
    fn what_is_read_is_counted() {
        let (wire, mut stream) = wire(0);
        let polled = poll(&wire, |context| {
            let mut room = [0; 8];
            Pin::new(&mut stream).poll_read(context, &mut ReadBuf::new(&mut room))
        });
        assert!(polled.is_ready());
        assert_eq!(wire.read_bytes(), 4);
    }
}
