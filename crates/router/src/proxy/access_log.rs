//! A line for each request, written by a thread of its own.
//!
//! ```text
//! request ends ─► Line::write_json ─► buffer of 8192 lines ─► thread ─► file or stdout
//!                 in its own thread   full: the line is dropped and counted
//! ```
//!
//! Whoever logs never waits for a disk: it copies its line into a buffer and goes on. The
//! thread takes the whole buffer at once, shortly after the first line came. A file that
//! was moved away is opened anew when [`AccessLog::reopen`] says so.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use lifecycle::ThreadError;

mod line;

pub use line::Line;

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Standard output.
    Stdout,
    /// The end of a file, which is made if there is none.
    File(PathBuf),
}

/// The log. Dropping it writes what there is and ends the thread.
#[derive(Debug)]
pub struct AccessLog {
    shared: Arc<Shared>,
    destination: Destination,
    thread: Option<JoinHandle<()>>,
}

/// There is no log.
#[derive(Debug, thiserror::Error)]
pub enum AccessLogError {
    /// The file can't be written.
    #[error("access log {path:?} could not be opened")]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No thread.
    #[error("access log was not started")]
    Thread(#[from] ThreadError),
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    news: Condvar,
    written: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    text: Vec<u8>,
    lines: u64,
    is_reopening: bool,
    is_ending: bool,
}

enum Output {
    Stdout(io::Stdout),
    File(PathBuf, File),
}

impl AccessLog {
    /// Opens the destination and starts the thread.
    ///
    /// # Errors
    ///
    /// If the file can't be opened, or there is no thread to be had.
    pub fn start(destination: Destination) -> Result<Self, AccessLogError> {
        let output = match destination.clone() {
            Destination::Stdout => Output::Stdout(io::stdout()),
            Destination::File(path) => {
                let file = open(&path).map_err(|source| AccessLogError::Open {
                    path: path.clone(),
                    source,
                })?;
                Output::File(path, file)
            }
        };
        let shared = Arc::new(Shared::default());
        let thread = lifecycle::thread("tidegate-access-log", {
            let shared = Arc::clone(&shared);
            move || shared.write_all(output)
        })?;
        Ok(Self {
            shared,
            destination,
            thread: Some(thread),
        })
    }

    /// Takes a line, or drops it if 8192 lines or 8 MiB wait already.
    pub fn write(&self, line: &Line<'_>) {
        // Made before the lock, which others wait for.
        let mut text = Vec::with_capacity(LINE_USUAL);
        line.write_json(&mut text);
        text.push(b'\n');
        self.take(&text);
    }

    /// Where lines go.
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Opens the file anew, because the old one was moved away.
    pub fn reopen(&self) {
        self.shared.lock().is_reopening = true;
        self.shared.news.notify_one();
    }

    /// Lines written since the start.
    pub fn written(&self) -> u64 {
        self.shared.written.load(Relaxed)
    }

    /// Lines dropped since the start, because too many waited or the destination failed.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Relaxed)
    }

    fn take(&self, text: &[u8]) {
        let mut waiting = self.shared.lock();
        let is_full = waiting.lines >= LINES_MAX || waiting.text.len() + text.len() > BYTES_MAX;
        if is_full {
            drop(waiting);
            self.shared.dropped.fetch_add(1, Relaxed);
            return;
        }
        waiting.text.extend_from_slice(text);
        waiting.lines += 1;
        let is_news = waiting.lines == 1 || waiting.lines == LINES_MAX / 2;
        drop(waiting);
        if is_news {
            self.shared.news.notify_one();
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.shared.lock().is_ending = true;
        self.shared.news.notify_one();
        if let Some(thread) = self.thread.take() {
            // It has said what there was to say about its own end.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// What the thread does.
    fn write_all(&self, mut output: Output) {
        let mut text = Vec::new();
        let mut has_failed = false;
        loop {
            let (lines, is_reopening, is_ending) = self.wait(&mut text);
            // What waited belongs to the old file.
            let result = if text.is_empty() {
                Ok(())
            } else {
                output.write(&text)
            };
            let result = match result {
                Ok(()) => {
                    self.written.fetch_add(lines, Relaxed);
                    if is_reopening {
                        output.reopen()
                    } else {
                        Ok(())
                    }
                }
                Err(error) => {
                    self.dropped.fetch_add(lines, Relaxed);
                    // A file that can't be written may be one that is gone.
                    output.reopen().and(Err(error))
                }
            };
            match result {
                Ok(()) => has_failed = false,
                Err(error) if !has_failed => {
                    has_failed = true;
                    tracing::error!(%error, "access log could not be written");
                }
                Err(_) => {}
            }
            if is_ending {
                return;
            }
            text.clear();
            text.shrink_to(TEXT_KEPT);
        }
    }

    /// Waits until there is something to write, and a moment longer, so that lines go
    /// together. Takes all of them.
    fn wait(&self, text: &mut Vec<u8>) -> (u64, bool, bool) {
        let is_idle = |waiting: &mut Waiting| {
            waiting.lines == 0 && !waiting.is_reopening && !waiting.is_ending
        };
        let is_short = |waiting: &mut Waiting| {
            waiting.lines < LINES_MAX / 2 && !waiting.is_reopening && !waiting.is_ending
        };
        let waiting = self
            .news
            .wait_while(self.lock(), is_idle)
            .unwrap_or_else(PoisonError::into_inner);
        let (mut waiting, _) = self
            .news
            .wait_timeout_while(waiting, TOGETHER, is_short)
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut waiting.text, text);
        let lines = std::mem::take(&mut waiting.lines);
        let is_reopening = std::mem::take(&mut waiting.is_reopening);
        (lines, is_reopening, waiting.is_ending)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Output {
    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout(stdout) => {
                let mut stdout = stdout.lock();
                stdout.write_all(text)?;
                stdout.flush()
            }
            Self::File(_, file) => file.write_all(text),
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        if let Self::File(path, file) = self {
            *file = open(path)?;
        }
        Ok(())
    }
}

fn open(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Lines that wait at most.
const LINES_MAX: u64 = 8192;
/// Bytes that wait at most.
const BYTES_MAX: usize = 8 << 20;
/// How long the first line waits for others.
const TOGETHER: Duration = Duration::from_millis(50);
/// A line is seldom longer.
const LINE_USUAL: usize = 1024;
/// Memory that is kept for the next lines.
const TEXT_KEPT: usize = 256 << 10;

#[cfg(test)]
mod tests;
