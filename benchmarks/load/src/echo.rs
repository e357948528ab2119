//! A bare tonic server: one unary method that decodes nothing and answers bytes.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes};
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, body::Body};
use tower_service::Service;

/// Serves on a free port of loopback until stdin ends, and so with who started it; the first line
/// on stdout is {pid, port}.
pub async fn serve(answer_bytes: usize) -> Result<(), String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(told)?;
    let port = listener.local_addr().map_err(told)?.port();
    println!("{}", json!({"pid": std::process::id(), "port": port}));
    let stdin_ended = async {
        // An error is an end as well.
        while matches!(tokio::io::stdin().read(&mut [0; 64]).await, Ok(1..)) {}
    };
    Server::builder()
        .add_service(Echo(vec![0x55; answer_bytes].into()))
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            stdin_ended,
        )
        .await
        .map_err(told)
}

/// The service; any method of it echoes.
#[derive(Debug, Clone)]
struct Echo(Bytes);

impl NamedService for Echo {
    const NAME: &'static str = "benchmark.Echo";
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answer = self.clone();
        Box::pin(async move { Ok(Grpc::new(Raw).unary(answer, request).await) })
    }
}

impl UnaryService<()> for Echo {
    type Response = Bytes;
    type Future = Ready<Result<Response<Bytes>, Status>>;

    fn call(&mut self, _request: Request<()>) -> Self::Future {
        ready(Ok(Response::new(self.0.clone())))
    }
}

/// Bytes out, nothing in.
#[derive(Debug, Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, answer: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(answer);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        buffer.advance(buffer.remaining());
        Ok(Some(()))
    }
}

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}
