//! nginx and HAProxy with the same features: connections kept on both sides, the prefix taken
//! off, forwarding fields set, counters on, no access log.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use super::subject::{Origins, PATH, PATH_HTTP2};

/// A proxy as a child process, with the folder of its files; both end with this value.
pub(super) struct Rival {
    name: &'static str,
    pub(super) pid: u32,
    pub(super) address: SocketAddr,
    child: Child,
    folder: TempDir,
}

/// What nginx tells of its version; an error if it is too old.
pub(super) fn nginx_version() -> anyhow::Result<String> {
    version("nginx", NGINX_MIN)
}

/// What HAProxy tells of its version; an error if it is too old.
pub(super) fn haproxy_version() -> anyhow::Result<String> {
    version("haproxy", HAPROXY_MIN)
}

/// Starts nginx with one worker.
pub(super) fn nginx(origins: Origins) -> anyhow::Result<Rival> {
    Rival::start("nginx", |folder, address| {
        let files = folder.display();
        let location = |path: &str, upstream: &str, version: &str| {
            format!(
                "location {path}/ {{ proxy_pass http://{upstream}/; proxy_http_version {version}; \
                 proxy_set_header Connection \"\"; \
                 proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; \
                 proxy_set_header X-Forwarded-Host $host; \
                 proxy_set_header X-Forwarded-Proto $scheme; }}\n\
                 location {path}/sse {{ proxy_pass http://{upstream}/sse; proxy_http_version {version}; \
                 proxy_set_header Connection \"\"; proxy_buffering off; }}\n"
            )
        };
        let upstream = |name: &str, origin: SocketAddr| {
            format!(
                "upstream {name} {{ server {origin}; keepalive 1024; \
                 keepalive_requests 1000000000; keepalive_timeout 90s; }}\n"
            )
        };
        let mut upstreams = upstream("origin", origins.http1);
        let mut locations = location(PATH, "origin", "1.1");
        if let Some(origin) = origins.http2 {
            upstreams.push_str(&upstream("origin2", origin));
            locations.push_str(&location(PATH_HTTP2, "origin2", "2"));
        }
        let configuration = format!(
            "daemon off;\nworker_processes 1;\nuser {user};\npid {files}/nginx.pid;\n\
             error_log {files}/error.log warn;\n\
             events {{ worker_connections 19900; }}\n\
             http {{\naccess_log off;\n\
             client_body_temp_path {files}/body;\nproxy_temp_path {files}/proxy;\n\
             fastcgi_temp_path {files}/fastcgi;\nuwsgi_temp_path {files}/uwsgi;\n\
             scgi_temp_path {files}/scgi;\n\
             keepalive_requests 1000000000;\nkeepalive_timeout 90s;\nproxy_read_timeout 300s;\n\
             {upstreams}\
             server {{ listen {address} backlog=4096;\n{locations}\
             location = /stub_status {{ stub_status; }} }}\n}}\n",
            user = user(),
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, configuration)?;
        let mut command = Command::new(program("nginx")?);
        command
            .arg("-p")
            .arg(folder)
            .arg("-e")
            .arg(folder.join("error.log"))
            .arg("-c")
            .arg(file);
        Ok(command)
    })
}

/// Starts HAProxy with one thread.
pub(super) fn haproxy(origins: Origins) -> anyhow::Result<Rival> {
    Rival::start("haproxy", |folder, address| {
        let backend = |name: &str, path: &str, origin: SocketAddr, more: &str| {
            format!(
                "backend {name}\n http-reuse always\n \
                 http-request set-path %[path,bytes({})]\n server one {origin}{more}\n",
                path.len()
            )
        };
        let mut rules = String::new();
        let mut backends = backend("origin", PATH, origins.http1, "");
        if let Some(origin) = origins.http2 {
            rules = format!(" use_backend origin2 if {{ path_beg {PATH_HTTP2}/ }}\n");
            backends.push_str(&backend("origin2", PATH_HTTP2, origin, " proto h2"));
        }
        let configuration = format!(
            "global\n nbthread 1\n maxconn 9900\n\
             defaults\n mode http\n timeout connect 5s\n timeout client 300s\n timeout server 300s\n \
             option http-keep-alive\n option forwardfor\n\
             frontend main\n bind {address} backlog 4096\n \
             http-request set-header X-Forwarded-Host %[req.hdr(host)]\n \
             http-request set-header X-Forwarded-Proto http\n{rules} \
             use_backend origin if {{ path_beg {PATH}/ }}\n\
             {backends}\
             listen stats\n bind {stats}\n stats enable\n stats uri /\n",
            stats = free_address()?,
        );
        let file = folder.join("haproxy.cfg");
        fs::write(&file, configuration)?;
        let mut command = Command::new(program("haproxy")?);
        // -db: stays in the foreground, as one process.
        command.args(["-db", "-f"]).arg(file);
        Ok(command)
    })
}

impl Rival {
    fn start(
        name: &'static str,
        command: impl FnOnce(&std::path::Path, SocketAddr) -> anyhow::Result<Command>,
    ) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("temporary folder was not made")?;
        let address = free_address()?;
        let mut command = command(folder.path(), address)?;
        let output = File::create(folder.path().join(LOG)).context("log file was not made")?;
        let errors = output.try_clone().context("log file was not shared")?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("{name} was not started: {command:?}"))?;
        let mut rival = Self {
            name,
            pid: child.id(),
            address,
            child,
            folder,
        };
        rival.wait()?;
        Ok(rival)
    }

    fn wait(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_WITHIN;
        // An answer, not a mere connection: nginx listens before it has its worker.
        while !serves(self.address) {
            let ended = self.child.try_wait().context("child was not waited for")?;
            if ended.is_some() || Instant::now() >= deadline {
                bail!("{} does not serve:\n{}", self.name, self.written());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        self.written().lines().take(3).map(str::to_owned).collect()
    }

    fn written(&self) -> String {
        let read = |file| fs::read_to_string(self.folder.path().join(file)).unwrap_or_default();
        [read(LOG), read("error.log")].concat()
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        // Whatever fails here, the process is gone already or the next step ends it. nginx
        // ends its worker itself, if it is asked to.
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The script that starts a program unpacked beside the build; what the machine has
/// installed is not taken instead.
fn program(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("path of this program is not known")?;
    // This program lies in <target>/<profile>/.
    let target = own.ancestors().nth(2).context("no target folder")?;
    let script = target.join("services").join(name).join("run");
    ensure!(
        script.is_file(),
        "{} is not there; `cargo xtask deps --rivals` makes it",
        script.display()
    );
    Ok(script)
}

fn version(name: &str, at_least: (u32, u32)) -> anyhow::Result<String> {
    let output = Command::new(program(name)?).arg("-v").output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let line = said.lines().next().unwrap_or_default();
    let found = numbers(line).with_context(|| format!("{name} told no version: {line:?}"))?;
    ensure!(
        found >= at_least,
        "{line:?} is older than {}.{}; `cargo xtask deps --rivals` makes a newer one",
        at_least.0,
        at_least.1
    );
    Ok(line.to_owned())
}

/// The first number with a dot in a text.
fn numbers(text: &str) -> Option<(u32, u32)> {
    let at = text.find(|letter: char| letter.is_ascii_digit())?;
    let mut numbers = text[at..].split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Whether a request through the proxy is answered as the origin does.
fn serves(address: SocketAddr) -> bool {
    let asked = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(START_WITHIN))?;
        stream.write_all(format!("GET {PATH}/ HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes())?;
        let mut answer = [0; 64];
        let length = stream.read(&mut answer)?;
        Ok(answer[..length].to_vec())
    };
    asked().is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200 "))
}

/// Who runs this: a worker of nginx would otherwise be somebody who may not be there.
fn user() -> String {
    let names = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let id = rustix::process::getuid().as_raw().to_string();
    let found = names.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == id).then(|| name.to_owned())
    });
    found.unwrap_or_else(|| "nobody".to_owned())
}

/// Somebody else may take it before the proxy does; the proxy then does not start.
fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port")?;
    Ok(listener.local_addr()?)
}

/// Name of the file that a proxy's output goes to.
const LOG: &str = "output.log";

/// A proxy that answers nothing by then is broken.
const START_WITHIN: Duration = Duration::from_secs(10);

/// Keeps upstream connections for HTTP/1.1 as it should since this one.
const NGINX_MIN: (u32, u32) = (1, 28);

const HAPROXY_MIN: (u32, u32) = (3, 0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(numbers("nginx version: nginx/1.30.6"), Some((1, 30)));
        assert_eq!(numbers("HAProxy version 3.2.26-1 2026/10/14"), Some((3, 2)));
        assert_eq!(numbers("none"), None);
    }
}
