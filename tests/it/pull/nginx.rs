//! The real nginx over a folder.

use anyhow::{Context, Result};
use std::path::Path;
use std::process::Stdio;
use tokio::process::{Child, Command};

use super::stage::SOON;
use crate::harness::wait_for;
use crate::services::free_port;

/// Starts it on a port of its own, as one process; with its address. Dropping it stops it.
pub async fn nginx(folder: &Path) -> Result<(Child, String)> {
    let port = free_port()?;
    let at = folder.display();
    let config = format!(
        "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log; events {{}}
         http {{
             access_log off; types {{ application/vnd.apple.mpegurl m3u8; video/mp2t ts; }}
             client_body_temp_path {at}/b; proxy_temp_path {at}/p; fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u;
             scgi_temp_path {at}/s;
             server {{ listen 127.0.0.1:{port}; root {at}; }}
         }}"
    );
    std::fs::write(folder.join("nginx.conf"), config)?;
    let child = Command::new("/usr/sbin/nginx")
        .args(["-e", "stderr", "-c"])
        .arg(folder.join("nginx.conf"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("nginx cannot be started; `make setup` installs what the tests need")?;
    let up = || async { Ok(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok().then_some(())) };
    wait_for("nginx", SOON, up).await?;
    Ok((child, format!("http://127.0.0.1:{port}")))
}
