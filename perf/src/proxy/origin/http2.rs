//! Event streams over HTTP/2 by prior knowledge.

use std::net::TcpListener;

use anyhow::Context as _;
use bytes::Bytes;
use h2::server::SendResponse;
use http::Response;

use super::{EVENT, EVENT_INTERVAL};

/// Serves until the process is killed.
pub(super) fn serve(listener: TcpListener) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("runtime was not made")?;
    listener.set_nonblocking(true)?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            // A connection that breaks takes its streams with it; the generator sees that.
            tokio::spawn(async { drop(connection(stream).await) });
        }
    })
}

async fn connection(stream: tokio::net::TcpStream) -> Result<(), h2::Error> {
    let mut connection = h2::server::Builder::new()
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .handshake(stream)
        .await?;
    while let Some(request) = connection.accept().await {
        let (_, respond) = request?;
        tokio::spawn(async { drop(events(respond).await) });
    }
    Ok(())
}

async fn events(mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let mut response = Response::new(());
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("text/event-stream"),
    );
    let mut body = respond.send_response(response, false)?;
    let mut interval = tokio::time::interval(EVENT_INTERVAL);
    loop {
        interval.tick().await;
        body.send_data(Bytes::from_static(EVENT), false)?;
    }
}

/// What a server usually allows is a hundred or a few; it is ample here, so that few
/// connections carry all streams.
const STREAMS_PER_CONNECTION: u32 = 1000;
