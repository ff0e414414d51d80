//! The executable: arguments, start, wait, drain, exit code.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use gateway::config::Config;
use gateway::logging::Logging;
use gateway::reload::{LoadError, Source};
use gateway::tokens::{self, Request};
use lifecycle::Clock;

use arguments::{AdminToken, Arguments, Command, Token};

mod arguments;
mod quantum;

/// Takes less time per request than the system's allocator, as much per resting connection,
/// and some more per subscribed one: `perf -- proxy` and `perf -- idle`, run with either.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before anything that may speak TLS: every part uses this one provider.
    let first = rustls::crypto::aws_lc_rs::default_provider().install_default();
    debug_assert!(first.is_ok(), "nothing runs before main");
    let arguments = Arguments::parse();
    let source = Source {
        file: arguments.file(),
        environment: environment(),
    };
    let done = match arguments.command.unwrap_or(Command::Serve) {
        Command::Serve => serve(source),
        Command::Market => serve_market(&source),
        Command::Check => check(source),
        Command::Token(token) => make_token(&source, token),
        Command::AdminToken(token) => administer(source, token),
        Command::Route(route) => explain_route(source, &route.client),
        Command::Quantum(command) => quantum::run(command, &source),
        Command::Schema => print(&gateway::config::reference::schema()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error is gone as well if this fails; the exit status still tells.
            let _ = writeln!(std::io::stderr(), "{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(source: Source) -> Result<()> {
    let loaded = source.load().map_err(|error| not_started(&source, error))?;
    let logging = Logging::start(&loaded.config.log)?;
    gateway::assembly::run(source, loaded, logging)?;
    Ok(())
}

fn serve_market(source: &Source) -> Result<()> {
    let loaded = source.load().map_err(|error| not_started(source, error))?;
    let _logging = Logging::start(&loaded.config.log)?;
    gateway::assembly::run_market(&loaded.config)?;
    Ok(())
}

/// A wrong configuration is found again without starting anything: say how.
fn not_started(source: &Source, error: LoadError) -> anyhow::Error {
    match error {
        LoadError::Config(errors) => {
            let file = source.file.as_ref();
            let file = file.map(|file| format!(" -c {}", file.display()));
            anyhow::anyhow!(
                "{errors}\nnot started; `tidegate check{}` checks the configuration",
                file.unwrap_or_default()
            )
        }
        LoadError::Demo(_) => error.into(),
    }
}

fn check(source: Source) -> Result<()> {
    // Without the demo's preparation: a check writes nothing.
    let loaded = Config::load(source.file.as_deref(), source.environment)?;
    print(&loaded.config.to_yaml())
}

fn make_token(source: &Source, token: Token) -> Result<()> {
    let loaded = source.load()?;
    let Token {
        user,
        ttl,
        channels,
        subjects,
        subscribe,
    } = token;
    let request = Request {
        user,
        ttl,
        channels,
        subjects,
        subscribe,
    };
    let token = tokens::development(&loaded.config, request, now_unix())?;
    print(&format!("{token}\n"))
}

fn explain_route(source: Source, client: &str) -> Result<()> {
    let loaded = Config::load(source.file.as_deref(), source.environment)?;
    let explanation = loaded.config.relay.table.routes().explain(client);
    match explanation.winner {
        Some(_) => print(&format!("{explanation}\n")),
        None => anyhow::bail!("{explanation}"),
    }
}

fn administer(source: Source, token: AdminToken) -> Result<()> {
    let config = Config::load(source.file.as_deref(), source.environment)?.config;
    if let Some(name) = token.name {
        let token = tokens::administrator(&config, &name, now_unix())
            .with_context(|| format!("no administrator token for {name:?} was made"))?;
        return print(&format!("{token}\n"));
    }
    if let Some(name) = token.remove {
        let removed = tokens::remove_administrator(&config, &name)?;
        anyhow::ensure!(
            removed,
            "there is no administrator token of the name {name:?}"
        );
        return Ok(());
    }
    let names: String = tokens::administrators(&config)?
        .into_iter()
        .map(|token| token.name + "\n")
        .collect();
    print(&names)
}

/// A reader that has seen enough (`| head`) is no failure.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("standard output can't be written to")
        }
        _ => Ok(()),
    }
}

/// The environment as text; what is not UTF-8 can't be a setting.
fn environment() -> Vec<(String, String)> {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}

fn now_unix() -> u64 {
    Clock::start().unix_ms() / 1000
}
