//! Tells HTTP/2 from HTTP/1.1 by a connection's first bytes, with TLS and without.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// What an HTTP/2 client sends first (RFC 9113, section 3.4).
const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The protocol that a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// Reads until the protocol is certain. The returned stream yields the same bytes again.
///
/// # Errors
/// Those of the stream, which is returned all the same.
pub(super) async fn detect<S: AsyncRead + Unpin>(
    mut stream: S,
) -> (io::Result<Protocol>, Rewind<S>) {
    let mut first = [0; PREFACE.len()];
    let mut read = 0;
    let detected = loop {
        match stream.read(&mut first[read..]).await {
            Ok(0) => break Ok(Protocol::Http1),
            Ok(more) => read += more,
            Err(error) => break Err(error),
        }
        if first[..read] != PREFACE[..read] {
            break Ok(Protocol::Http1);
        }
        if read == PREFACE.len() {
            break Ok(Protocol::Http2);
        }
    };
    (detected, Rewind { first, unread: 0..read, stream })
}

/// A stream whose first bytes have been read, and are yielded again.
pub(super) struct Rewind<S> {
    first: [u8; PREFACE.len()],
    unread: std::ops::Range<usize>,
    stream: S,
}

impl<S> Rewind<S> {
    pub(super) fn into_inner(self) -> S {
        self.stream
    }

    pub(super) fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewind<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let end = self.unread.end.min(self.unread.start + buffer.remaining());
        buffer.put_slice(&self.first[self.unread.start..end]);
        self.unread.start = end;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewind<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::{PREFACE, Protocol, detect};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn the_first_bytes_tell_the_protocol_and_are_read_again() {
        for (sent, expected) in [
            (PREFACE.as_slice(), Protocol::Http2),
            (b"PRI * HTTP/1.1\r\n\r\n", Protocol::Http1),
            (b"POST /detect HTTP/1.1\r\n\r\n", Protocol::Http1),
            (b"P", Protocol::Http1),
        ] {
            // A byte at a time.
            let (mut client, server) = tokio::io::duplex(1);
            let writer =
                tokio::spawn(async move { client.write_all(&[sent, b"rest"].concat()).await });
            let (protocol, mut stream) = detect(server).await;
            assert_eq!(protocol.unwrap(), expected);
            let mut read = Vec::new();
            stream.read_to_end(&mut read).await.unwrap();
            assert_eq!(read, [sent, b"rest"].concat());
            writer.await.unwrap().unwrap();
        }
    }
}
