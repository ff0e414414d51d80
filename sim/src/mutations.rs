//! Whether the simulation notices what it is there to notice.
//!
//! Each mutation breaks the protocol in one known way. It is applied to a copy of the sources under
//! `target/mutants`, which is built and run; the check that it must fail is named with it. The
//! product itself has no switches for this.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};
use clap::Args;

/// What to run.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many seeds each mutation has to survive at most
    #[arg(long, default_value_t = 5_000)]
    seeds: u64,
    /// Those only whose name contains this
    #[arg(long)]
    only: Option<String>,
}

/// One way to break the protocol.
struct Mutation {
    name: &'static str,
    file: &'static str,
    /// Stands there exactly once.
    find: &'static str,
    replace: &'static str,
    /// The check that must fail.
    oracle: &'static str,
}

const MUTATIONS: [Mutation; 5] = [
    Mutation {
        name: "acknowledge-unsent-accepted",
        file: "crates/quantum-proto/src/recovery.rs",
        find: "if self.largest_sent.is_none_or(|sent| sent < largest) {",
        replace: "if self.largest_sent.is_none() {",
        oracle: "acknowledging-unsent-ends-the-connection",
    },
    Mutation {
        name: "packet-number-reused",
        file: "crates/quantum-proto/src/connection/outbound/packet.rs",
        find: "        self.counter += 1;\n        if draft.told",
        replace: "        self.counter += u64::from(!flags.contains(Flags::FEC));\n        if draft.told",
        oracle: "counter-used-once",
    },
    Mutation {
        name: "flow-control-unchecked",
        file: "crates/quantum-proto/src/streams/receiving.rs",
        find: "if end > self.window.told() {",
        replace: "if end == u64::MAX {",
        oracle: "flow-control-is-enforced",
    },
    Mutation {
        name: "repaired-not-counted-as-lost",
        file: "crates/quantum-proto/src/connection/inbound/acknowledged.rs",
        find: "        self.stats.packets_lost += outcome.lost.len() as u64;\n",
        replace: "        let sources = &self.sources;
        outcome.lost.retain(|sent| match sent.content {
            Content::Source { seq } => sources.part(seq).is_some(),
            _ => true,
        });
        self.stats.packets_lost += outcome.lost.len() as u64;\n",
        oracle: "what-was-repaired-counts-as-lost",
    },
    Mutation {
        name: "replay-window-off",
        file: "crates/quantum-proto/src/received/replay.rs",
        find: "largest - counter >= SIZE || self.bits[word] & bit != 0",
        replace: "largest - counter >= SIZE && self.bits[word] & bit != 0",
        oracle: "replays-are-counted",
    },
];

/// Builds and runs each; the exit code says whether all were noticed.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the folder of sim has no parent")?;
    let mut missed = Vec::new();
    println!("{:<30} {:>8}  caught by", "mutation", "seconds");
    let only = options.only.as_deref().unwrap_or_default();
    for mutation in MUTATIONS.iter().filter(|it| it.name.contains(only)) {
        let started = now();
        let said = mutation
            .survive(root, options.seeds)
            .with_context(|| format!("mutation {}", mutation.name))?;
        let seconds = now().duration_since(started).as_secs_f64();
        let caught = said.contains(&format!("\"{}\":", mutation.oracle));
        let by = if caught {
            mutation.oracle.to_owned()
        } else {
            missed.push(mutation.name);
            format!("NOT BY {}: {said}", mutation.oracle)
        };
        println!("{:<30} {seconds:>8.1}  {by}", mutation.name);
    }
    println!(
        "{{\"sim\":\"mutations\",\"missed\":[{}]}}",
        missed
            .iter()
            .map(|name| format!("\"{name}\""))
            .collect::<Vec<_>>()
            .join(",")
    );
    Ok(if missed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl Mutation {
    /// Lets the mutant run; gives its last line.
    fn survive(&self, root: &Path, seeds: u64) -> anyhow::Result<String> {
        let mutants = root.join("target/mutants");
        let tree = mutants.join(self.name);
        copy_sources(root, &tree)?;
        self.apply(&tree)?;
        // One folder for all, so that what they have in common is built once.
        let target = mutants.join("target");
        let built = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["build", "--quiet", "--release", "--package", "sim"])
            .current_dir(&tree)
            .env("CARGO_TARGET_DIR", &target)
            .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
            .env("RUSTFLAGS", "--cap-lints=warn")
            .stdin(Stdio::null())
            .output()?;
        ensure!(
            built.status.success(),
            "the mutant does not build:\n{}",
            String::from_utf8_lossy(&built.stderr)
        );
        let ran = Command::new(target.join("release/sim"))
            .args(["quantum", "--failures", "20", "--seeds"])
            .arg(seeds.to_string())
            .stdin(Stdio::null())
            .output()?;
        let said = String::from_utf8_lossy(&ran.stdout);
        Ok(said.lines().last().unwrap_or_default().to_owned())
    }

    fn apply(&self, tree: &Path) -> anyhow::Result<()> {
        let path = tree.join(self.file);
        let source = fs::read_to_string(&path)?;
        let found = source.matches(self.find).count();
        ensure!(
            found == 1,
            "{} holds {found} times what is to be replaced: {}",
            self.file,
            self.find
        );
        fs::write(path, source.replace(self.find, self.replace))?;
        Ok(())
    }
}

/// Makes `tree` a workspace of the two crates.
fn copy_sources(root: &Path, tree: &Path) -> anyhow::Result<()> {
    if tree.exists() {
        fs::remove_dir_all(tree)?;
    }
    for package in ["crates/quantum-proto", "sim"] {
        copy_folder(
            &root.join(package).join("src"),
            &tree.join(package).join("src"),
        )?;
        let manifest = PathBuf::from(package).join("Cargo.toml");
        fs::copy(root.join(&manifest), tree.join(&manifest))?;
    }
    fs::copy(root.join("Cargo.lock"), tree.join("Cargo.lock"))?;
    let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
    let lines = manifest.lines().map(|line| {
        if line.starts_with("members = ") {
            "members = [\"crates/quantum-proto\", \"sim\"]"
        } else if line.starts_with("default-members = ") {
            ""
        } else {
            line
        }
    });
    fs::write(
        tree.join("Cargo.toml"),
        lines.collect::<Vec<_>>().join("\n"),
    )?;
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "says how long a mutation took; nothing in the simulation sees it"
)]
fn now() -> Instant {
    Instant::now()
}
