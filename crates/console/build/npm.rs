//! Builds the pages with npm, in a copy of their sources.
//!
//! The copy lies in the target folder and not in `OUT_DIR`, so that profiles share it:
//! packages are installed again only if a lock file changed, and pages are built again
//! only if a source did. A lock keeps two build scripts from working on it at once. The
//! source tree is read and never written.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::embed;

/// Why there are no built pages.
pub(crate) enum Missing {
    Skipped,
    Npm,
    /// Too old a Node.js, with what it says its version is.
    Node(String),
    Sources,
    Step(&'static str, String),
    Copy(io::Error),
}

impl Missing {
    /// For whoever reads the output of cargo.
    pub(crate) fn for_builders(&self) -> String {
        match self {
            Self::Step(step, said) => format!("`{step}` failed: {said}"),
            Self::Copy(error) => format!("its sources could not be copied: {error}"),
            Self::Node(version) => {
                format!("Node.js {NEEDED} is needed to build it, and `node` is {version}")
            }
            Self::Skipped | Self::Npm | Self::Sources => self.for_readers().to_owned(),
        }
    }

    /// For whoever opens the page; it holds nothing of the machine that built it.
    pub(crate) fn for_readers(&self) -> &'static str {
        match self {
            Self::Skipped => "the build was told to leave it out (TIDEGATE_SKIP_CONSOLE=1)",
            Self::Npm => "npm was not found on the path",
            Self::Node(_) => {
                "the Node.js on the path is too old: 20.19, or 22.12 or newer, is needed"
            }
            Self::Sources => "the folder console/ was not there",
            Self::Step(..) => "npm could not build it; the output of cargo says why",
            Self::Copy(_) => "its sources could not be copied; the output of cargo says why",
        }
    }
}

impl From<io::Error> for Missing {
    fn from(error: io::Error) -> Self {
        Self::Copy(error)
    }
}

/// Builds what `console/` beside `crates/` holds, and puts its output to `copy`.
pub(crate) fn build(here: &Path, out: &Path, copy: &Path) -> Result<(), Missing> {
    let root = here.ancestors().nth(2).ok_or(Missing::Sources)?;
    if !PACKAGES
        .iter()
        .all(|name| root.join(name).join("package-lock.json").is_file())
    {
        for name in PACKAGES {
            println!("cargo::rerun-if-changed={}", root.join(name).display());
        }
        return Err(Missing::Sources);
    }
    let sources = sources(root)?;
    if !has_npm() {
        return Err(Missing::Npm);
    }
    if let Some(version) = old_node() {
        return Err(Missing::Node(version));
    }
    let shop = shop(out);
    fs::create_dir_all(&shop)?;
    let door = File::create(shop.join("lock"))?;
    door.lock()?;
    let (stamp, dist) = (shop.join("built"), shop.join("console/dist"));
    let print = fingerprint(root, &sources)?;
    if !says(&stamp, &print) || !dist.is_dir() {
        drop(fs::remove_file(&stamp));
        lay_out(root, &shop, &sources)?;
        for name in PACKAGES {
            let package = shop.join(name);
            install(&package)?;
            npm(&package, "npm run build", &["run", "build"], BUILD_TIME)?;
        }
        fs::write(&stamp, &print)?;
    }
    if copy.exists() {
        fs::remove_dir_all(copy)?;
    }
    for file in embed::files(&dist)? {
        let target = copy.join(file.strip_prefix(&dist).map_err(io::Error::other)?);
        copy_file(&file, &target)?;
    }
    Ok(())
}

/// Files of the packages that their builds read, relative to the root.
fn sources(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for name in PACKAGES.iter().chain(&["proto"]) {
        let Ok(entries) = fs::read_dir(root.join(name)) else {
            continue;
        };
        for entry in entries {
            let path = entry?.path();
            let last = path.file_name().unwrap_or_default().to_string_lossy();
            if last.starts_with('.') || NOT_SOURCES.iter().any(|name| last.starts_with(name)) {
                continue;
            }
            println!("cargo::rerun-if-changed={}", path.display());
            let below = match path.is_dir() {
                true => embed::files(&path)?,
                false => vec![path],
            };
            for file in below {
                let file = file.strip_prefix(root).map_err(io::Error::other)?;
                if !file.iter().any(|part| part == "gen") {
                    found.push(file.to_owned());
                }
            }
        }
    }
    found.sort();
    Ok(found)
}

/// What the sources are, in a few characters.
fn fingerprint(root: &Path, sources: &[PathBuf]) -> io::Result<String> {
    let mut hasher = DefaultHasher::new();
    for file in sources {
        let bytes = fs::read(root.join(file))?;
        hasher.write(file.to_string_lossy().as_bytes());
        hasher.write_usize(bytes.len());
        hasher.write(&bytes);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

/// Makes the copy what the sources are; installed packages stay.
fn lay_out(root: &Path, shop: &Path, sources: &[PathBuf]) -> io::Result<()> {
    for name in PACKAGES.iter().chain(&["proto"]) {
        let folder = shop.join(name);
        fs::create_dir_all(&folder)?;
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.ends_with("node_modules") {
                continue;
            }
            match path.is_dir() {
                true => fs::remove_dir_all(&path)?,
                false => fs::remove_file(&path)?,
            }
        }
    }
    for file in sources {
        copy_file(&root.join(file), &shop.join(file))?;
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(from, to).map(drop)
}

/// Installs the packages that the lock file names, unless they are there.
fn install(package: &Path) -> Result<(), Missing> {
    let stamp = package.join("node_modules/.installed");
    let files = ["package.json", "package-lock.json"].map(PathBuf::from);
    let print = fingerprint(package, &files)?;
    if says(&stamp, &print) {
        return Ok(());
    }
    npm(package, "npm ci", &INSTALL, INSTALL_TIME)?;
    fs::create_dir_all(package.join("node_modules"))?;
    fs::write(stamp, print)?;
    Ok(())
}

fn says(stamp: &Path, print: &str) -> bool {
    fs::read_to_string(stamp).is_ok_and(|text| text == print)
}

fn has_npm() -> bool {
    let asked = Command::new(NPM)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    asked.is_ok_and(|status| status.success())
}

/// What `node` says its version is, if the pages can't be built with it.
fn old_node() -> Option<String> {
    let asked = Command::new("node")
        .arg("--version")
        .stdin(Stdio::null())
        .output();
    let said = asked.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let said = said.unwrap_or_default();
    let mut numbers = said
        .trim_start_matches('v')
        .split('.')
        .map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(20)), Some(Ok(minor))) if minor >= 19 => None,
        (Some(Ok(22)), Some(Ok(minor))) if minor >= 12 => None,
        (Some(Ok(major)), _) if major > 22 => None,
        _ if said.is_empty() => Some("not there".to_owned()),
        _ => Some(said),
    }
}

/// Runs npm; what it says goes to a file, so that no pipe can fill up.
fn npm(
    package: &Path,
    step: &'static str,
    arguments: &[&str],
    patience: Duration,
) -> Result<(), Missing> {
    let log = package.join("npm.log");
    let output = File::create(&log)?;
    let mut child = Command::new(NPM)
        .args(arguments)
        .current_dir(package)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()?;
    let mut waited = Duration::ZERO;
    let succeeded = loop {
        if let Some(status) = child.try_wait()? {
            break status.success();
        }
        if waited >= patience {
            child.kill()?;
            child.wait()?;
            break false;
        }
        std::thread::park_timeout(STEP);
        waited += STEP;
    };
    match succeeded {
        true => Ok(()),
        false => Err(Missing::Step(step, last_words(&log)?)),
    }
}

/// The lines of a log in which npm says what is wrong, or else its last ones, as one line.
fn last_words(log: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(log)?.read_to_string(&mut text)?;
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let errors: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("npm error "))
        .take(LINES)
        .collect();
    if !errors.is_empty() && !lines.iter().any(|line| line.contains("Lifecycle script")) {
        return Ok(errors.join(" | "));
    }
    let lines: Vec<&str> = lines
        .into_iter()
        .filter(|line| !line.starts_with("npm error"))
        .collect();
    let from = lines.len().saturating_sub(LINES);
    Ok(lines.get(from..).unwrap_or_default().join(" | "))
}

/// Where the copy is: in the target folder, or in `OUT_DIR` if that can't be told.
fn shop(out: &Path) -> PathBuf {
    let is_target = |folder: &&Path| {
        let has = |mark: &str| folder.join(mark).is_file();
        has("CACHEDIR.TAG") || has(".rustc_info.json")
    };
    let target = out.ancestors().find(is_target);
    target.unwrap_or(out).join("console-npm")
}

/// In the order in which they are built.
const PACKAGES: [&str; 2] = ["sdk/typescript", "console"];

/// How names of what no build reads begin.
const NOT_SOURCES: [&str; 4] = ["node_modules", "dist", "test", "coverage"];

const NPM: &str = if cfg!(windows) { "npm.cmd" } else { "npm" };

/// What Vite asks for.
const NEEDED: &str = "20.19, or 22.12 or newer,";

/// Packages get no say at installation; what is cached is not fetched.
const INSTALL: [&str; 7] = [
    "ci",
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
    "--prefer-offline",
    "--fetch-retries=1",
    "--fetch-timeout=30000",
];

const INSTALL_TIME: Duration = Duration::from_secs(300);
const BUILD_TIME: Duration = Duration::from_secs(180);
const STEP: Duration = Duration::from_millis(50);

/// Lines of npm's output in a warning.
const LINES: usize = 12;
