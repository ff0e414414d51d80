//! Reads the text of a key set.

use std::path::Path;
use std::time::SystemTime;

use reqwest::Url;
use reqwest::redirect::Policy;

use super::{FETCH_ATTEMPTS, FETCH_TIMEOUT, SET_BYTES_MAX, Source};

/// What a file looked like when it was read: time of change and length in bytes.
pub(super) type Stamp = (SystemTime, u64);

/// What reading came to.
pub(super) enum Answer {
    /// It is the file that was read last time.
    Unchanged,
    /// A text, perhaps a new one.
    Read { body: Vec<u8>, stamp: Option<Stamp> },
}

/// Why a key set could not be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("TLS could not be set up: {0}")]
    Setup(String),
    #[error("server could not be asked: {0}")]
    Request(String),
    #[error("server answered with status {0}")]
    Status(u16),
    #[error("it is larger than {SET_BYTES_MAX} bytes")]
    TooLarge,
    #[error("file could not be read: {0}")]
    File(#[from] std::io::Error),
    #[error("it is not a key set: {0}")]
    Format(#[from] serde_json::Error),
    #[error("it has no usable key")]
    NoKeys,
}

pub(super) async fn read(source: &Source, last: Option<Stamp>) -> Result<Answer, FetchError> {
    match source {
        Source::File(path) => read_file(path, last),
        Source::Url(url) => {
            let client = client(url)?;
            let mut attempt = 1;
            loop {
                match read_url(&client, url).await {
                    Err(_) if attempt < FETCH_ATTEMPTS => attempt += 1,
                    outcome => return outcome,
                }
            }
        }
    }
}

/// Reading blocks, but briefly: the file is small and local, and looked at once a second.
fn read_file(path: &Path, last: Option<Stamp>) -> Result<Answer, FetchError> {
    let facts = std::fs::metadata(path)?;
    let stamp = (facts.modified()?, facts.len());
    if last == Some(stamp) {
        return Ok(Answer::Unchanged);
    }
    if stamp.1 > SET_BYTES_MAX as u64 {
        return Err(FetchError::TooLarge);
    }
    Ok(Answer::Read {
        body: std::fs::read(path)?,
        stamp: Some(stamp),
    })
}

/// A client for one read; sets are read every few minutes, so nothing is worth keeping.
fn client(url: &Url) -> Result<reqwest::Client, FetchError> {
    let builder = reqwest::Client::builder()
        .timeout(FETCH_TIMEOUT)
        .redirect(Policy::none())
        .pool_max_idle_per_host(0)
        .no_proxy();
    // Without TLS there is no need for the system's certificates, which may be missing.
    let builder = match url.scheme() {
        "http" => builder.tls_certs_only([]),
        _ => builder,
    };
    builder
        .build()
        .map_err(|error| FetchError::Setup(reason(&error)))
}

async fn read_url(client: &reqwest::Client, url: &Url) -> Result<Answer, FetchError> {
    let failed = |error: reqwest::Error| FetchError::Request(reason(&error.without_url()));
    let mut response = client
        .get(url.clone())
        .header("accept", "application/jwk-set+json, application/json")
        .send()
        .await
        .map_err(failed)?;
    if response.status().as_u16() != 200 {
        return Err(FetchError::Status(response.status().as_u16()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > SET_BYTES_MAX {
            return Err(FetchError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer::Read { body, stamp: None })
}

/// An error with its causes, as one line.
fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
