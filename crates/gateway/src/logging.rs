//! Logs: one JSON object per line, or text for people, on standard error.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::config::{Level, Log, LogFormat};

/// The running log; its levels can be changed.
#[derive(Debug, Clone)]
pub struct Logging {
    levels: reload::Handle<Targets, Registry>,
}

/// The process has a log already.
#[derive(Debug, thiserror::Error)]
#[error("logging was set up twice")]
pub struct LoggingError(#[from] tracing::dispatcher::SetGlobalDefaultError);

impl Logging {
    /// Sets up the process's log, and has panics written to it. Once per process.
    pub fn start(log: &Log) -> Result<Self, LoggingError> {
        let terminal = std::io::stderr().is_terminal();
        let human = is_human(log.format, terminal);
        let (subscriber, logging) = subscriber(log, human, terminal, std::io::stderr);
        tracing::subscriber::set_global_default(subscriber)?;
        std::panic::set_hook(Box::new(log_panic));
        Ok(logging)
    }

    /// Takes over the levels; the format stays.
    pub fn set_levels(&self, log: &Log) {
        // Fails only if the subscriber is gone, and then there is nobody to log for.
        let _ = self.levels.reload(targets(log));
    }
}

fn subscriber<W>(
    log: &Log,
    human: bool,
    colours: bool,
    writer: W,
) -> (impl tracing::Subscriber + Send + Sync + use<W>, Logging)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, levels) = reload::Layer::new(targets(log));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(colours);
    let lines = match human {
        true => lines.boxed(),
        // Fields stand beside the message, so that a query needs no path into the event.
        false => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .boxed(),
    };
    (
        Registry::default().with(filter).with(lines),
        Logging { levels },
    )
}

fn is_human(format: LogFormat, terminal: bool) -> bool {
    match format {
        LogFormat::Auto => terminal,
        LogFormat::Json => false,
        LogFormat::Human => true,
    }
}

fn targets(log: &Log) -> Targets {
    let all = filter(log.level);
    Targets::new()
        .with_default(all)
        // What it tells of the connection is told by `bus`, in our words.
        .with_target("async_nats", all.min(LevelFilter::WARN))
        .with_targets(
            log.targets
                .iter()
                .map(|(target, level)| (target, filter(*level))),
        )
}

fn filter(level: Level) -> LevelFilter {
    match level {
        Level::Off => LevelFilter::OFF,
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    }
}

fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let payload = panic.payload();
    let reason = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no reason given");
    let place = panic
        .location()
        .map(ToString::to_string)
        .unwrap_or_default();
    let thread = std::thread::current().name().unwrap_or_default().to_owned();
    tracing::error!(target: "panic", reason, place, thread, "panicked");
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::{Logging, is_human, subscriber};
    use crate::config::{Level, Log, LogFormat};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn take(&self) -> Vec<serde_json::Value> {
            let text = String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap();
            text.lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        }
    }

    fn logged(log: &Log, body: impl FnOnce(&Logging, &Lines)) {
        let lines = Lines::default();
        let writer = lines.clone();
        let (subscriber, logging) = subscriber(log, false, false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || body(&logging, &lines));
    }

    #[test]
    fn fields_stand_beside_the_message() {
        logged(&Log::default(), |_, lines| {
            tracing::info!(listener = "main", address = %"127.0.0.1:80", "listening");
            let line = lines.take().remove(0);
            assert_eq!(line["message"], "listening");
            assert_eq!(line["listener"], "main");
            assert_eq!(line["address"], "127.0.0.1:80");
            assert_eq!(line["level"], "INFO");
            assert!(line["target"].is_string() && line["timestamp"].is_string());
        });
    }

    #[test]
    fn levels_change_while_running_and_differ_by_target() {
        let mut log = Log::default();
        logged(&log.clone(), |logging, lines| {
            tracing::debug!("unseen");
            assert!(lines.take().is_empty());
            log.level = Level::Warn;
            log.targets.insert("edge".into(), Level::Debug);
            logging.set_levels(&log);
            tracing::info!("unseen");
            tracing::debug!(target: "edge::worker", "seen");
            assert_eq!(lines.take().len(), 1);
        });
    }

    #[test]
    fn people_get_text_and_machines_get_json() {
        assert!(is_human(LogFormat::Auto, true) && !is_human(LogFormat::Auto, false));
        assert!(is_human(LogFormat::Human, false) && !is_human(LogFormat::Json, true));
    }
}
