//! Whether crest can listen where it is told to.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use super::Running;
use super::finding::{Finding, as_root};
use super::holder::{self, Holder};

/// How many ports above a taken one are tried as a way out.
const NEXT: u16 = 50;

/// Looks at one address: `key` is the setting it comes from.
pub fn port(check: &'static str, key: &str, address: SocketAddr, running: &Running) -> Finding {
    if address.port() == 0 {
        return Finding::ok(check, format!("{key} is {address}: a free port is picked at start"));
    }
    let Err(error) = TcpListener::bind(address) else {
        return Finding::ok(check, format!("{key} {address} is free"));
    };
    let elsewhere = |address: SocketAddr| format!("export {}={address}", variable(key));
    let free = (1..NEXT)
        .filter_map(|step| Some(SocketAddr::new(address.ip(), address.port().checked_add(step)?)))
        .find(|other| TcpListener::bind(other).is_ok());
    let free = free.unwrap_or(SocketAddr::new(address.ip(), 0));
    match error.kind() {
        ErrorKind::AddrInUse => taken(check, key, address, holder::of_port(address), running, &elsewhere(free)),
        ErrorKind::PermissionDenied => Finding::wrong(
            check,
            format!("{key} {address}: only root may listen on ports below 1024"),
            format!(
                "{}    # or: {}",
                as_root("setcap cap_net_bind_service=+ep $(command -v crest)"),
                elsewhere(SocketAddr::new(address.ip(), address.port().saturating_add(8000)))
            ),
        ),
        ErrorKind::AddrNotAvailable => Finding::wrong(
            check,
            format!("{key} {address}: this machine does not have that address"),
            format!(
                "ip -brief address    # shows those it has; for all of them: {}",
                elsewhere(SocketAddr::from(([0, 0, 0, 0], address.port())))
            ),
        ),
        _ => Finding::wrong(check, format!("{key} {address}: {error}"), elsewhere(free)),
    }
}

/// Looks at one address for UDP. Who has it is not looked for.
pub fn udp_port(check: &'static str, key: &str, address: SocketAddr, running: &Running) -> Finding {
    if address.port() == 0 {
        return Finding::ok(check, format!("{key} is {address}: a free port is picked at start"));
    }
    let Err(error) = UdpSocket::bind(address) else {
        return Finding::ok(check, format!("{key} {address} (UDP) is free"));
    };
    let who = as_root(format_args!("ss -lunp sport = :{}", address.port()));
    match (error.kind(), running) {
        (ErrorKind::AddrInUse, Running::As(_) | Running::Somebody) => {
            Finding::note(check, format!("{key} {address} (UDP) is taken, probably by the crest that is running"), who)
        }
        (ErrorKind::AddrInUse, Running::No) => Finding::wrong(
            check,
            format!("{key} {address} (UDP) is taken"),
            format!("{who}    # shows who; or: export {}={}", variable(key), SocketAddr::new(address.ip(), 0)),
        ),
        _ => Finding::wrong(
            check,
            format!("{key} {address} (UDP): {error}"),
            format!("export {}=0.0.0.0:{}", variable(key), address.port()),
        ),
    }
}

fn taken(
    check: &'static str,
    key: &str,
    address: SocketAddr,
    holder: Option<Holder>,
    running: &Running,
    elsewhere: &str,
) -> Finding {
    match (holder, running) {
        (Some(holder), Running::As(crest)) if holder.pid == crest.pid => {
            Finding::ok(check, format!("{key} {address}: crest listens there (process {})", crest.pid))
        }
        (Some(holder), _) => Finding::wrong(
            check,
            format!("{key} {address} is taken by {holder}"),
            format!("{}    # or: {elsewhere}", as_root(format_args!("kill {}", holder.pid))),
        ),
        (None, Running::No) => Finding::wrong(
            check,
            format!("{key} {address} is taken; by whom does not show to this user"),
            format!(
                "{}    # shows who; or: {elsewhere}",
                as_root(format_args!("ss -ltnp sport = :{}", address.port()))
            ),
        ),
        (None, _) => Finding::note(
            check,
            format!("{key} {address} is taken, probably by the crest that is running; by whom does not show"),
            as_root(format_args!("ss -ltnp sport = :{}", address.port())),
        ),
    }
}

/// The environment variable of a setting.
fn variable(key: &str) -> String {
    format!("CREST_{}", key.replace('.', "__").to_uppercase())
}

/// Two listeners that stand in each other's way.
pub fn both(http: SocketAddr, rtmp: SocketAddr) -> Option<Finding> {
    let overlap = http.ip() == rtmp.ip() || http.ip().is_unspecified() || rtmp.ip().is_unspecified();
    (http.port() != 0 && http.port() == rtmp.port() && overlap).then(|| {
        Finding::wrong(
            "rtmp-port",
            format!("http.listen {http} and rtmp.listen {rtmp} are the same port"),
            "export CREST_RTMP__LISTEN=0.0.0.0:1935",
        )
    })
}
