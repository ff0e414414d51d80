//! nginx in front of the same kind of origin.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};
use testkit::PATIENCE;

/// A running nginx.
pub(crate) struct Nginx {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Nginx {
    /// Starts it in front of an origin; `None` if it is not there.
    pub(crate) fn start(origin: SocketAddr) -> anyhow::Result<Option<Self>> {
        let Some(program) = program() else {
            return Ok(None);
        };
        let folder = tempfile::tempdir()?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let path = folder.path().display();
        let config = format!(
            "daemon off; master_process off; pid {path}/pid; error_log {path}/error.log info;
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_body_temp_path {path}/body; proxy_temp_path {path}/proxy;
  fastcgi_temp_path {path}/fastcgi; uwsgi_temp_path {path}/uwsgi; scgi_temp_path {path}/scgi;
  client_header_timeout 1s; client_body_timeout 1s; lingering_timeout 1s;
  upstream origin {{ server {origin}; keepalive 1; }}
  server {{
    listen {address};
    location /-/o/ {{ proxy_pass http://origin/; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_request_buffering off; }}
    location /-/w/ {{ proxy_pass http://origin/; proxy_http_version 1.1; proxy_set_header Connection $http_connection; proxy_set_header Upgrade $http_upgrade; proxy_request_buffering off; }}
    location / {{ return 404; }}
  }}
}}
"
        );
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, config)?;
        let mut child = Command::new(&program)
            .arg("-p")
            .arg(folder.path())
            .arg("-e")
            .arg(folder.path().join("error.log"))
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("{} could not be started", program.display()))?;
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            let has_ended = child.try_wait()?.is_some();
            let log =
                || std::fs::read_to_string(folder.path().join("error.log")).unwrap_or_default();
            ensure!(!has_ended, "nginx has ended: {}", log());
            ensure!(
                Instant::now() < deadline,
                "nginx does not listen: {}",
                log()
            );
            std::thread::yield_now();
        }
        Ok(Some(Self {
            child,
            address,
            _folder: folder,
        }))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It may have ended already, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What `cargo xtask deps --rivals` unpacked beside the build. Other versions differ in other
/// things.
fn program() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    own.ancestors()
        .map(|folder| folder.join("services/nginx/run"))
        .find(|program| program.is_file())
}
