//! Programs from newer suites of Debian than the machine's own, unpacked beside the build.
//!
//! apt gets a configuration of its own for this: sources derived from the machine's (same
//! mirror, same keyring, other suite), lists and archives in a folder of their own. Nothing
//! is installed and the machine's own apt never learns of it, so no privileges are needed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::run;

/// Where unpacked services lie; tests look for them there.
pub(super) fn services_folder() -> anyhow::Result<PathBuf> {
    // This program lies in <target>/<profile>/.
    let own = std::env::current_exe()?;
    let target = own.ancestors().nth(2);
    Ok(target
        .context("this program lies outside a target folder")?
        .join("services"))
}

/// Unpacks the newest `package` of at least this version into `folder`.
pub(super) fn unpack(
    package: &str,
    at_least: (u32, u32),
    with: With,
    folder: &Path,
) -> anyhow::Result<()> {
    let release = release()?;
    let own = own_source(&release)?;
    let private = services_folder()?.join("apt");
    let mut seen = Vec::new();
    for suite in SUITES {
        let apt = Apt::new(&private, &own, suite)?;
        println!("    looking for {package} in Debian {suite}");
        if let Err(error) = apt.update() {
            // A mirror need not carry every suite.
            seen.push(format!("{suite}: {error:#}"));
            continue;
        }
        match apt.candidate(package)? {
            Some(candidate) if version(&candidate).is_some_and(|found| found >= at_least) => {
                println!(
                    "    unpacking {package} {candidate} into {}",
                    folder.display()
                );
                return apt.unpack(package, with, folder);
            }
            Some(candidate) => seen.push(format!("{suite}: {candidate}")),
            None => seen.push(format!("{suite}: none")),
        }
    }
    let (major, minor) = at_least;
    bail!(
        "no {package} {major}.{minor} or newer in the suites of this machine's Debian mirror ({}); \
         put one on the path by hand",
        seen.join("; ")
    )
}

/// What is unpacked beside the package itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum With {
    /// Nothing: the program is linked statically.
    Nothing,
    /// The libraries it needs, the C library among them: programs of a newer suite do not
    /// start with the machine's own. See [`start_script`].
    Libraries,
    /// What it needs of the packages whose names begin like this, made from one source with it.
    Family(&'static str),
}

/// A script `run` in `folder` that starts `program` (a path in there) with the libraries
/// unpacked beside it, by their own loader.
pub(super) fn start_script(folder: &Path, program: &str) -> anyhow::Result<PathBuf> {
    let loader = fs::read_dir(folder.join("usr/lib"))?
        .filter_map(|entry| fs::read_dir(entry.ok()?.path()).ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with("ld-linux-") && name.contains(".so."))
        })
        .with_context(|| format!("{} has no dynamic loader", folder.display()))?;
    let libraries = loader.parent().context("the loader lies in no folder")?;
    let program = folder.join(program);
    let quoted = |path: &Path| format!("'{}'", path.display());
    let script = folder.join("run");
    let text = format!(
        "#!/bin/sh\nexec {} --library-path {} {} \"$@\"\n",
        quoted(&loader),
        quoted(libraries),
        quoted(&program)
    );
    fs::write(&script, text).context("start script was not written")?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    Ok(script)
}

/// The first number with a dot in a text: `(2, 15)` of `nats-server: v2.15.1`.
pub(super) fn version(text: &str) -> Option<(u32, u32)> {
    let at = text.find(|letter: char| letter.is_ascii_digit())?;
    let mut numbers = text[at..].split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// apt with a configuration of its own.
struct Apt {
    private: PathBuf,
    sources: PathBuf,
    lists: PathBuf,
}

impl Apt {
    fn new(private: &Path, own: &Source, suite: &str) -> anyhow::Result<Self> {
        let lists = private.join(format!("lists-{suite}"));
        for folder in [
            lists.join("partial"),
            private.join("cache/archives/partial"),
        ] {
            fs::create_dir_all(folder).context("folder for apt was not made")?;
        }
        let sources = private.join(format!("{suite}.sources"));
        fs::write(&sources, own.stanza(suite)).context("sources for apt were not written")?;
        Ok(Self {
            private: private.to_owned(),
            sources,
            lists,
        })
    }

    fn update(&self) -> anyhow::Result<()> {
        run::run(self.configured("apt-get").args(["-qq", "update"]))
    }

    fn candidate(&self, package: &str) -> anyhow::Result<Option<String>> {
        let output = self
            .configured("apt-cache")
            .args(["policy", package])
            .output();
        let output = output.context("`apt-cache` did not start")?;
        Ok(candidate(&String::from_utf8_lossy(&output.stdout)).map(str::to_owned))
    }

    /// The package and what it needs, what that needs included, as far as it is `wanted`.
    fn closure(&self, package: &str, wanted: impl Fn(&str) -> bool) -> anyhow::Result<Vec<String>> {
        let output = self
            .configured("apt-cache")
            .args(["depends", "--recurse", "--no-recommends", "--no-suggests"])
            .args(["--no-conflicts", "--no-breaks", "--no-replaces"])
            .args(["--no-enhances", package])
            .output()
            .context("`apt-cache` did not start")?;
        ensure!(output.status.success(), "`apt-cache depends` failed");
        let needed = needed(&String::from_utf8_lossy(&output.stdout), |name| {
            name != package && wanted(name)
        });
        Ok([package.to_owned()].into_iter().chain(needed).collect())
    }

    fn unpack(&self, package: &str, with: With, folder: &Path) -> anyhow::Result<()> {
        let packages = match with {
            With::Nothing => vec![package.to_owned()],
            With::Libraries => self.closure(package, is_library)?,
            With::Family(beginning) => self.closure(package, |name| name.starts_with(beginning))?,
        };
        let download = self.private.join("download");
        // What an interrupted run left would be taken for what is fetched now.
        for stale in [&download, folder] {
            if stale.exists() {
                fs::remove_dir_all(stale).context("stale folder was not removed")?;
            }
        }
        fs::create_dir_all(&download).context("folder for the archive was not made")?;
        let mut apt = self.configured("apt-get");
        run::run(
            apt.args(["-qq", "download"])
                .args(&packages)
                .current_dir(&download),
        )?;
        let archives: Vec<PathBuf> = fs::read_dir(&download)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|ending| ending == "deb"))
            .collect();
        ensure!(
            archives.len() == packages.len(),
            "apt downloaded {} archives of {}",
            archives.len(),
            packages.len()
        );
        let fresh = folder.with_extension("new");
        if fresh.exists() {
            fs::remove_dir_all(&fresh).context("stale folder was not removed")?;
        }
        for archive in archives {
            run::run(Command::new("dpkg").arg("-x").arg(archive).arg(&fresh))?;
        }
        fs::rename(&fresh, folder).context("unpacked folder was not put in place")?;
        fs::remove_dir_all(&download).context("downloaded archive was not removed")
    }

    fn configured(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let mut set = |key: &str, value: &str| {
            command.arg("-o").arg(format!("{key}={value}"));
        };
        set("Dir::Etc::SourceList", &self.sources.to_string_lossy());
        set("Dir::Etc::SourceParts", "/dev/null");
        // Pins that keep newer suites off this machine are not meant for this.
        set("Dir::Etc::Preferences", "/dev/null");
        set("Dir::Etc::PreferencesParts", "/dev/null");
        set("Dir::State::Lists", &self.lists.to_string_lossy());
        set("Dir::Cache", &self.private.join("cache").to_string_lossy());
        // The sandbox user of apt can't write here.
        set("APT::Sandbox::User", "root");
        set("Acquire::Retries", "5");
        set("Acquire::Languages", "none");
        set(
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled",
            "false",
        );
        set(
            "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled",
            "false",
        );
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(std::process::Stdio::null());
        command
    }
}

/// Where this machine gets Debian from.
#[derive(Debug, PartialEq, Eq)]
struct Source {
    uris: String,
    /// File of the keyring, or the key itself; empty for apt's default.
    signed_by: String,
    trusted: bool,
}

impl Source {
    fn stanza(&self, suite: &str) -> String {
        let Self {
            uris,
            signed_by,
            trusted,
        } = self;
        let mut stanza = format!("Types: deb\nURIs: {uris}\nSuites: {suite}\nComponents: main\n");
        if !signed_by.is_empty() {
            stanza.push_str(&format!("Signed-By: {signed_by}\n"));
        }
        if *trusted {
            stanza.push_str("Trusted: yes\n");
        }
        stanza
    }
}

/// The code name of this machine's Debian.
fn release() -> anyhow::Result<String> {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.map(|value| value.trim_matches('"').to_owned())
    };
    ensure!(
        value("ID=").as_deref() == Some("debian"),
        "this machine does not run Debian; put recent programs on the path by hand"
    );
    value("VERSION_CODENAME=").context("/etc/os-release names no release")
}

fn own_source(release: &str) -> anyhow::Result<Source> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(parts) = fs::read_dir("/etc/apt/sources.list.d") {
        let mut parts: Vec<_> = parts.filter_map(|part| Some(part.ok()?.path())).collect();
        parts.sort();
        files.extend(parts);
    }
    files
        .iter()
        .find_map(|file| {
            let text = fs::read_to_string(file).ok()?;
            match file.extension()?.to_str()? {
                "list" => from_lines(&text, release),
                "sources" => from_stanzas(&text, release),
                _ => None,
            }
        })
        .with_context(|| {
            format!("the sources of apt name no `main` of Debian {release} to derive others from")
        })
}

/// `deb [signed-by=FILE] URI bookworm main contrib`.
fn from_lines(text: &str, release: &str) -> Option<Source> {
    text.lines().find_map(|line| {
        let rest = line.trim().strip_prefix("deb ")?.trim_start();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(bracketed) => bracketed.split_once(']')?,
            None => ("", rest),
        };
        let mut words = rest.split_whitespace();
        let (uri, suite) = (words.next()?, words.next()?);
        if suite != release || !words.any(|component| component == "main") {
            return None;
        }
        let option = |key: &str| {
            let mut options = options.split_whitespace();
            options.find_map(|option| option.strip_prefix(key))
        };
        Some(Source {
            uris: uri.to_owned(),
            signed_by: option("signed-by=").unwrap_or_default().to_owned(),
            trusted: option("trusted=") == Some("yes"),
        })
    })
}

/// Paragraphs of `Key: value`, values going on in indented lines.
fn from_stanzas(text: &str, release: &str) -> Option<Source> {
    let mut stanza = Vec::<(String, String)>::new();
    // The empty line at the end closes the last paragraph.
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if let (true, Some((_, value))) = (line.starts_with([' ', '\t']), stanza.last_mut()) {
            value.push('\n');
            value.push_str(line);
        } else if let Some((key, value)) = line.split_once(':') {
            stanza.push((key.trim().to_ascii_lowercase(), value.trim().to_owned()));
        } else if line.trim().is_empty() {
            let found = from_stanza(&stanza, release);
            if found.is_some() {
                return found;
            }
            stanza.clear();
        }
    }
    None
}

fn from_stanza(stanza: &[(String, String)], release: &str) -> Option<Source> {
    let value = |wanted: &str| {
        let found = stanza.iter().find(|(key, _)| key == wanted);
        found.map_or("", |(_, value)| value.as_str())
    };
    let has = |key: &str, word: &str| value(key).split_whitespace().any(|found| found == word);
    let wanted = has("types", "deb")
        && has("suites", release)
        && has("components", "main")
        && value("enabled") != "no";
    wanted.then(|| Source {
        uris: value("uris").to_owned(),
        signed_by: value("signed-by").to_owned(),
        trusted: value("trusted") == "yes",
    })
}

/// Reads the line `  Candidate: 2.15.1-1` of `apt-cache policy`.
fn candidate(policy: &str) -> Option<&str> {
    let mut lines = policy.lines();
    let found = lines.find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    // Versions may begin with an epoch, which says nothing about the program.
    let found = found.split_once(':').map_or(found, |(_, version)| version);
    (found != "(none)").then_some(found)
}

/// The `wanted` ones in the output of `apt-cache depends --recurse`, whose packages stand
/// at the beginning of a line.
fn needed(depends: &str, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let names = depends
        .lines()
        .filter(|line| !line.contains(char::is_whitespace) && wanted(line));
    names.map(str::to_owned).collect()
}

/// Scripts and their helpers are nothing a program is linked with.
fn is_library(package: &str) -> bool {
    package.starts_with("lib") || package.starts_with("zlib")
}

/// From the one that changes least to the one that has everything.
const SUITES: &[&str] = &["testing", "unstable"];

#[cfg(test)]
mod tests;
