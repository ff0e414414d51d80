//! The client that reads slowly, on a thread of its own.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use hdrhistogram::Histogram;
use socket2::{Domain, Socket, Type};

use super::age;
use crate::live::microseconds;
use crate::live::wire::{self, Heard, Reader, Speech};

/// The thread.
pub(super) struct SlowReader {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<Slow>>,
}

/// What came of it.
pub(super) struct Slow {
    /// Microseconds from publication until the value was read.
    pub(super) age: Histogram<u64>,
    pub(super) bytes: u64,
    pub(super) seconds: f64,
    /// Why the connection ended, if it did.
    pub(super) lost: Option<String>,
}

impl SlowReader {
    /// Connects and reads `pace` bytes a second; `clock` gives the nanoseconds that values
    /// carry.
    pub(super) fn start(
        address: SocketAddr,
        join: Vec<u8>,
        pace: u32,
        clock: impl Fn() -> u64 + Send + 'static,
    ) -> anyhow::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        // Has to be known before the window is negotiated.
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        socket.connect(&address.into())?;
        let mut stream = TcpStream::from(socket);
        stream.write_all(&wire::upgrade(address, Speech::Centrifuge))?;
        stream.set_read_timeout(Some(Duration::from_millis(100)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("slow".to_owned())
            .spawn(move || read(stream, join, pace, &clock, &stopped))
            .context("thread was not started")?;
        Ok(Self { stop, thread })
    }

    pub(super) fn stop(self) -> anyhow::Result<Slow> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.join();
        ended.map_err(|_| anyhow!("the slow client's thread panicked"))?
    }
}

fn read(
    mut stream: TcpStream,
    mut join: Vec<u8>,
    pace: u32,
    clock: &dyn Fn() -> u64,
    stopped: &AtomicBool,
) -> anyhow::Result<Slow> {
    let mut reader = Reader::new(Speech::Centrifuge);
    let mut slow = Slow {
        age: microseconds()?,
        bytes: 0,
        seconds: 0.0,
        lost: None,
    };
    let mut buffer = vec![0; (pace / STEPS_PER_SECOND).max(1) as usize];
    let started = Instant::now();
    while !stopped.load(Ordering::Relaxed) {
        // As much as the pace allows by now, in small steps.
        let allowed = started.elapsed().as_secs_f64() * f64::from(pace);
        if slow.bytes as f64 > allowed {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        }
        let length = match stream.read(&mut buffer) {
            Ok(0) => {
                slow.lost = Some("server ended the connection".to_owned());
                break;
            }
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                continue;
            }
            Err(error) => {
                slow.lost = Some(error.to_string());
                break;
            }
        };
        slow.bytes += length as u64;
        let now = clock();
        let mut out = Vec::new();
        let age_of = &mut slow.age;
        let taken = reader.take(&buffer[..length], &mut out, &mut |heard, out| {
            match heard {
                Heard::Upgraded => out.append(&mut join),
                Heard::Publication { data, .. } => age_of.saturating_record(age(data, now)?),
                Heard::Reply(_) | Heard::Pong => {}
            }
            Ok(())
        });
        if let Err(error) = taken.and_then(|()| Ok(stream.write_all(&out)?)) {
            slow.lost = Some(format!("{error:#}"));
            break;
        }
    }
    slow.seconds = started.elapsed().as_secs_f64();
    Ok(slow)
}

/// Asked of the system, which gives twice as much and uses half of it.
const RECEIVE_BUFFER: usize = 2048;

const STEPS_PER_SECOND: u32 = 16;
