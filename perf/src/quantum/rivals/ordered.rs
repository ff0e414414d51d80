//! Calls over one ordered byte stream: a length, then the body; answers come in the order of
//! the requests.

use anyhow::Context as _;
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf};
use tokio::sync::{mpsc, oneshot};

use crate::quantum::load::Caller;

/// Answers each body with itself.
pub(super) async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> anyhow::Result<()> {
    let mut body = Vec::new();
    loop {
        read(&mut stream, &mut body).await?;
        write(&mut stream, &body).await?;
    }
}

/// Somebody who calls over an ordered stream.
pub(crate) struct OrderedCaller {
    calls: mpsc::Sender<(Bytes, oneshot::Sender<usize>)>,
}

impl OrderedCaller {
    pub(super) fn new(stream: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        let (calls, mut called) = mpsc::channel::<(Bytes, oneshot::Sender<usize>)>(WAITING_MAX);
        let (waiting, answered) = mpsc::channel(WAITING_MAX);
        let (reader, mut writer) = tokio::io::split(stream);
        // Both end with the runtime that they were started on, and tell callers by ending.
        tokio::task::spawn(async move {
            while let Some((body, answer)) = called.recv().await {
                if waiting.send(answer).await.is_err() || write(&mut writer, &body).await.is_err() {
                    return;
                }
            }
        });
        tokio::task::spawn(answer(reader, answered));
        Self { calls }
    }
}

impl Caller for OrderedCaller {
    async fn call(&self, body: Bytes) -> anyhow::Result<()> {
        let length = body.len();
        let (answer, answered) = oneshot::channel();
        self.calls
            .send((body, answer))
            .await
            .ok()
            .context("stream has ended")?;
        let answer = answered.await.context("stream has ended")?;
        anyhow::ensure!(answer == length, "an answer is not what was sent");
        Ok(())
    }
}

/// Hands answers to those who wait, in order.
async fn answer<S: AsyncRead + AsyncWrite>(
    mut reader: ReadHalf<S>,
    mut waiting: mpsc::Receiver<oneshot::Sender<usize>>,
) {
    let mut body = Vec::new();
    while let Some(answer) = waiting.recv().await {
        if read(&mut reader, &mut body).await.is_err() {
            return;
        }
        // A caller may have given up.
        let _ = answer.send(body.len());
    }
}

async fn read(stream: &mut (impl AsyncRead + Unpin), body: &mut Vec<u8>) -> anyhow::Result<()> {
    let length = stream.read_u32().await?;
    body.resize(length as usize, 0);
    stream.read_exact(body).await?;
    Ok(())
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), body: &[u8]) -> anyhow::Result<()> {
    // In one piece, as KCP sends at once what it is given.
    let mut framed = Vec::with_capacity(4 + body.len());
    framed.extend_from_slice(&(body.len() as u32).to_be_bytes());
    framed.extend_from_slice(body);
    stream.write_all(&framed).await?;
    stream.flush().await?;
    Ok(())
}

/// Calls that wait for their turn to be written, or for their answer.
const WAITING_MAX: usize = 100_000;
