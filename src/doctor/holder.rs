//! Who has a port or a file, as far as `/proc` tells it. Processes of other users and of other
//! containers do not show: then nobody knows.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// Its program, at most 15 characters.
    pub name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

fn holder(pid: u32) -> Option<Holder> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(Holder { pid, name: name.trim().to_owned() })
}

/// Whether a process holds the lock of a file. One that takes it in this very moment tries again.
pub fn is_locked(file: &Path) -> bool {
    let asked = std::fs::File::open(file).map(|file| file.try_lock_shared());
    matches!(asked, Ok(Err(std::fs::TryLockError::WouldBlock)))
}

/// Who holds the lock of a file.
pub fn of_lock(file: &Path) -> Option<Holder> {
    let file = file.metadata().ok()?;
    let device = (rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| holder(lock_owner(line, device, file.ino())?))
}

/// The process in a line of `/proc/locks` (proc_locks(5)), where the lock is on this file.
fn lock_owner(line: &str, device: (u32, u32), inode: u64) -> Option<u32> {
    let mut fields = line.split_whitespace().skip(1);
    if fields.next()? != "FLOCK" {
        return None;
    }
    let pid = fields.nth(2)?.parse().ok()?;
    let mut file = fields.next()?.split(':');
    let mut hex = || u32::from_str_radix(file.next()?, 16).ok();
    let found = (hex()?, hex()?);
    (found == device && file.next()?.parse() == Ok(inode)).then_some(pid)
}

/// Who listens on an address over TCP, or over UDP, or on one that stands in its way.
pub fn of_port(address: SocketAddr, udp: bool) -> Option<Holder> {
    let mut sockets = Vec::new();
    // `TCP_LISTEN`; a UDP socket that is bound is in the state `TCP_CLOSE`.
    let (tables, state) = if udp { (["udp", "udp6"], "07") } else { (["tcp", "tcp6"], "0A") };
    for table in tables {
        let text = std::fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
        sockets.extend(text.lines().filter_map(|line| listener(line, address, state)));
    }
    let wanted: Vec<String> = sockets.iter().map(|inode| format!("socket:[{inode}]")).collect();
    if wanted.is_empty() {
        return None;
    }
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find_map(|pid: u32| {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
        let mut targets = files.filter_map(|file| std::fs::read_link(file.path()).ok());
        targets.any(|target| wanted.iter().any(|w| target.as_os_str() == w.as_str())).then(|| holder(pid))?
    })
}

/// The inode in a line of `/proc/net/tcp` (proc_net(5)), where it is a socket in this state in the way of `address`.
fn listener(line: &str, address: SocketAddr, state: &str) -> Option<u64> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (ip, port) = fields.get(1)?.split_once(':')?;
    let listens = *fields.get(3)? == state && u16::from_str_radix(port, 16) == Ok(address.port());
    let (ip, wanted) = (parse_ip(ip)?.to_canonical(), address.ip().to_canonical());
    let in_the_way = ip == wanted || ip.is_unspecified() || wanted.is_unspecified();
    (listens && in_the_way).then_some(())?;
    fields.get(9)?.parse().ok()
}

/// Words of four bytes in the order of this machine.
fn parse_ip(hex: &str) -> Option<IpAddr> {
    let words = hex.as_bytes().chunks(8).map(|word| u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok());
    let bytes: Vec<u8> = words.collect::<Option<Vec<u32>>>()?.into_iter().flat_map(u32::to_ne_bytes).collect();
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc_are_read() {
        let line = "3: FLOCK  ADVISORY  WRITE 4798 fe:00:10346806 0 EOF";
        assert_eq!(lock_owner(line, (0xfe, 0), 10_346_806), Some(4798));
        assert_eq!(lock_owner(line, (0xfe, 1), 10_346_806), None);
        assert_eq!(lock_owner(&line.replace("FLOCK", "POSIX"), (0xfe, 0), 10_346_806), None);
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000  0 4711 1 x";
        if cfg!(target_endian = "little") {
            assert_eq!(listener(line, "127.0.0.1:8080".parse().unwrap(), "0A"), Some(4711));
            assert_eq!(listener(line, "0.0.0.0:8080".parse().unwrap(), "0A"), Some(4711));
            assert_eq!(listener(line, "127.0.0.2:8080".parse().unwrap(), "0A"), None);
            assert_eq!(listener(line, "127.0.0.1:8081".parse().unwrap(), "0A"), None);
            assert_eq!(listener(&line.replace(" 0A ", " 01 "), "127.0.0.1:8080".parse().unwrap(), "0A"), None);
        }
    }
}
