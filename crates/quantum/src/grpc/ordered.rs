//! HTTP/2 on one stream, for clients and servers that want it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;
use http::Uri;
use hyper_util::rt::TokioIo;
use lifecycle::Tasks;
use quantum_proto::streams::Priority;
use tokio::sync::mpsc;
use tower_service::Service;

use super::Target;
use crate::{ByteStream, Connection, Endpoint};

/// Streams that wait to be served; beyond it their clients wait.
const WAITING: usize = 64;

/// Every stream of every connection that comes in, for `serve_with_incoming_shutdown`. Ends with
/// the endpoint. `tasks` own one task per connection.
pub fn incoming(
    endpoint: Endpoint,
    tasks: &Tasks,
) -> impl Stream<Item = io::Result<ByteStream>> + Send + 'static {
    let (queue, mut streams) = mpsc::channel(WAITING);
    let owner = tasks.clone();
    tasks.spawn("quantum accepting", async move {
        loop {
            tokio::select! {
                connection = endpoint.accept() => match connection {
                    Some(connection) => {
                        owner.spawn("quantum streams", accept(connection, queue.clone()));
                    }
                    None => return,
                },
                () = queue.closed() => return,
            }
        }
    });
    futures_util::stream::poll_fn(move |cx| streams.poll_recv(cx).map(|it| it.map(Ok)))
}

/// Ends with the connection, or when nobody serves any more.
async fn accept(connection: Connection, queue: mpsc::Sender<ByteStream>) {
    loop {
        let (send, recv) = tokio::select! {
            accepted = connection.accept() => match accepted {
                Ok(halves) => halves,
                Err(_) => return,
            },
            () = queue.closed() => return,
        };
        if queue.send(ByteStream::new(send, recv)).await.is_err() {
            return;
        }
    }
}

/// Connects, for `connect_with_connector`. The address of the URI is not used.
pub fn connector(endpoint: Endpoint, target: Target) -> Connector {
    Connector { endpoint, target }
}

/// See [`connector`]. Each call makes a connection and opens one stream.
#[derive(Debug, Clone)]
pub struct Connector {
    endpoint: Endpoint,
    target: Target,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<ByteStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let connection = this.target.connect(&this.endpoint).await;
            let connection = connection.map_err(io::Error::other)?;
            let stream = connection.open(Priority::Unary).await;
            let (send, recv) = stream.map_err(io::Error::other)?;
            Ok(TokioIo::new(ByteStream::new(send, recv)))
        })
    }
}
