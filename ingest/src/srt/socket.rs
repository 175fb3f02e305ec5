//! Sockets of libsrt as values: closed when they are dropped, errors with words.

#![allow(unsafe_code, reason = "calls into libsrt")]

use crest_core::{Error, Result};
use socket2::SockAddr;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::library::{BROKEN, Event, Handle, OTHER_SECRET, READABLE, SECURED, Setting, Srt, UNSECURED};
use super::stream_id;

/// Callers that may wait to be accepted; the library refuses further ones.
const BACKLOG: c_int = 64;
/// The longest message of live mode: an Ethernet frame without its headers.
pub(super) const LONGEST_MESSAGE: usize = 1456;
/// `SRT_EASYNCRCV`: there is no message whose time has come.
const NOTHING: c_int = 6002;
/// The pause where waiting is not possible.
const SHORT: Duration = Duration::from_millis(10);
/// The longest stream id, as the library has it.
const LONGEST_STREAM_ID: usize = 512;

/// A socket, closed once: when it is no longer needed, or before, by whoever wants its thread to come back.
#[derive(Debug)]
pub(super) struct Socket {
    srt: &'static Srt,
    handle: Handle,
    closed: AtomicBool,
}

/// Tells when there is something to receive.
#[derive(Debug)]
pub(super) struct Readiness {
    srt: &'static Srt,
    id: c_int,
}

/// What a look for a message came to.
pub(super) enum Received {
    Message(usize),
    Nothing,
    Gone(String),
}

impl Socket {
    fn new(srt: &'static Srt, handle: Handle) -> Self {
        Self { srt, handle, closed: AtomicBool::new(false) }
    }

    /// A socket that listens on the port of `udp`, for callers with this passphrase or without encryption. Others
    /// are connected too: [`Self::understood`] tells them apart.
    pub(super) fn listen(udp: UdpSocket, latency: Duration, passphrase: Option<&str>) -> Result<Self> {
        let srt = Srt::get()?;
        // SAFETY: no arguments.
        let this = Self::new(srt, unsafe { (srt.srt_create_socket)() });
        if this.handle < 0 {
            return Err(this.failure("no SRT socket"));
        }
        let latency = c_int::try_from(latency.as_millis()).unwrap_or(c_int::MAX);
        this.set(Setting::ReceiveLatency, &latency.to_ne_bytes())?;
        this.set(Setting::RefusesOtherSecrets, &c_int::from(false).to_ne_bytes())?;
        if let Some(passphrase) = passphrase {
            this.set(Setting::Passphrase, passphrase.as_bytes())?;
        }
        // SAFETY: the descriptor is ours and from here on the library's; the callback is there as long as the program.
        let bound = unsafe { (srt.srt_bind_acquire)(this.handle, udp.into_raw_fd()) };
        let heard = unsafe { (srt.srt_listen_callback)(this.handle, on_caller, std::ptr::null_mut()) };
        if bound < 0 || heard < 0 || unsafe { (srt.srt_listen)(this.handle, BACKLOG) } < 0 {
            return Err(this.failure("cannot listen"));
        }
        Ok(this)
    }

    /// Waits for the next caller. An error where the socket is closed, or for want of memory.
    pub(super) fn accept(&self) -> Result<(Arc<Self>, SocketAddr)> {
        let mut handle = -1;
        // SAFETY: the library writes at most as many bytes of an address as it is told there are, and how many.
        let address = unsafe {
            SockAddr::try_init(|storage, length| {
                let mut room = *length as c_int;
                handle = (self.srt.srt_accept)(self.handle, storage.cast::<c_void>(), &mut room);
                *length = u32::try_from(room).unwrap_or(0);
                if handle < 0 { Err(std::io::Error::other("")) } else { Ok(()) }
            })
        };
        if handle < 0 {
            return Err(self.failure("no caller"));
        }
        let socket = Self::new(self.srt, handle);
        let address = address.ok().and_then(|((), address)| address.as_socket());
        let address = address.ok_or_else(|| Error::outside("a caller without an address"))?;
        Ok((Arc::new(socket), address))
    }

    /// What the caller named its stream.
    pub(super) fn stream_id(&self) -> String {
        let mut bytes = [0_u8; LONGEST_STREAM_ID + 1];
        let mut length = bytes.len() as c_int;
        // SAFETY: the library writes at most `length` bytes, and says how many.
        let got = unsafe {
            let to = bytes.as_mut_ptr().cast::<c_void>();
            (self.srt.srt_getsockflag)(self.handle, Setting::StreamId as c_int, to, &mut length)
        };
        let length = if got < 0 { 0 } else { usize::try_from(length).unwrap_or(0) };
        let text = bytes.get(..length).unwrap_or_default();
        String::from_utf8_lossy(text).trim_end_matches('\0').to_owned()
    }

    /// Whether both sides have the same passphrase, or neither has one; `secret` says whether this one has.
    ///
    /// # Errors
    /// What is wrong, where they do not.
    pub(super) fn understood(&self, secret: bool) -> std::result::Result<(), &'static str> {
        match (secret, self.get(Setting::ReceiveKeys)) {
            (true, Some(SECURED)) | (false, Some(UNSECURED)) => Ok(()),
            (true, Some(OTHER_SECRET)) => Err("its passphrase is not that of srt.passphrase"),
            (true, Some(UNSECURED)) => Err("it has no passphrase, and srt.passphrase is set"),
            (true, Some(_)) => Err("its encryption is not understood"),
            (false, Some(_)) => Err("it has a passphrase, and srt.passphrase is not set"),
            (_, None) => Err("it was gone at once"),
        }
    }

    /// Whether messages were received that are not read yet, because it is not their time.
    pub(super) fn has_more(&self) -> bool {
        self.get(Setting::ReceivedData).is_some_and(|messages| messages > 0)
    }

    /// For how long messages are kept, as both sides agreed on it.
    pub(super) fn latency(&self) -> Duration {
        let millis = self.get(Setting::ReceiveLatency).and_then(|millis| u64::try_from(millis).ok());
        Duration::from_millis(millis.unwrap_or_default())
    }

    /// With this is waited for messages. (Where the library waits while it receives and the connection ends meanwhile,
    /// it reads one message and throws it away.)
    pub(super) fn readiness(&self) -> Result<Readiness> {
        self.set(Setting::ReceiveWaits, &c_int::from(false).to_ne_bytes())?;
        // SAFETY: no arguments.
        let readiness = Readiness { srt: self.srt, id: unsafe { (self.srt.srt_epoll_create)() } };
        if readiness.id < 0 {
            return Err(self.failure("the system has no descriptor to wait for messages with"));
        }
        // SAFETY: the library reads one number.
        let added = unsafe { (self.srt.srt_epoll_add_usock)(readiness.id, self.handle, &(READABLE | BROKEN)) };
        if added < 0 { Err(self.failure("messages cannot be waited for")) } else { Ok(readiness) }
    }

    /// Puts the next message whose time has come into `buffer`, which must hold [`LONGEST_MESSAGE`] bytes. Called
    /// after [`Self::readiness`] it does not wait.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> Received {
        let room = c_int::try_from(buffer.len()).unwrap_or(c_int::MAX);
        // SAFETY: the library writes at most `room` bytes.
        let got = unsafe { (self.srt.srt_recvmsg)(self.handle, buffer.as_mut_ptr().cast::<c_char>(), room) };
        match usize::try_from(got) {
            Ok(0) => Received::Gone("the publisher closed the connection".to_owned()),
            Ok(length) => Received::Message(length),
            Err(_) => match self.srt.last_error() {
                (NOTHING, _) => Received::Nothing,
                (_, words) => Received::Gone(format!("the connection was lost: {words}")),
            },
        }
    }

    /// Closes it; a thread that waits for it comes back.
    pub(super) fn close(&self) {
        if self.handle >= 0 && !self.closed.swap(true, Ordering::AcqRel) {
            // SAFETY: once only; the library keeps numbers of closed sockets unused for long.
            unsafe { (self.srt.srt_close)(self.handle) };
        }
    }

    /// A setting that is a number.
    fn get(&self, setting: Setting) -> Option<c_int> {
        let mut value: c_int = 0;
        let mut length = size_of::<c_int>() as c_int;
        // SAFETY: the library writes at most `length` bytes.
        let got = unsafe {
            let to = (&raw mut value).cast::<c_void>();
            (self.srt.srt_getsockflag)(self.handle, setting as c_int, to, &mut length)
        };
        (got >= 0).then_some(value)
    }

    fn set(&self, setting: Setting, value: &[u8]) -> Result<()> {
        let length = c_int::try_from(value.len()).unwrap_or(0);
        // SAFETY: the library reads `length` bytes.
        let done = unsafe {
            (self.srt.srt_setsockflag)(self.handle, setting as c_int, value.as_ptr().cast::<c_void>(), length)
        };
        if done < 0 { Err(self.failure(&format!("{setting:?} is refused"))) } else { Ok(()) }
    }

    fn failure(&self, what: &str) -> Error {
        Error::outside(format!("{what}: {}", self.srt.last_error().1))
    }
}

impl Readiness {
    /// Waits until there is a message or the connection is gone, `time` at most.
    pub(super) fn wait(&self, time: Duration) {
        let (mut event, millis) =
            (Event { socket: -1, events: 0 }, i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
        // SAFETY: the library writes at most one event.
        if unsafe { (self.srt.srt_epoll_uwait)(self.id, &mut event, 1, millis) } < 0 {
            // Of a socket that was closed nothing is told.
            std::thread::sleep(time.min(SHORT));
        }
    }
}

impl Drop for Readiness {
    fn drop(&mut self) {
        if self.id >= 0 {
            // SAFETY: once only, and nobody waits.
            unsafe { (self.srt.srt_epoll_release)(self.id) };
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.close();
    }
}

/// Refuses callers whose stream id names no stream to publish, with the code of SRT's access control. Runs in the
/// thread that receives for all connections of the port: whether the stream exists is asked afterwards, elsewhere.
unsafe extern "C" fn on_caller(
    _: *mut c_void,
    socket: Handle,
    _: c_int,
    _: *const c_void,
    stream_id: *const c_char,
) -> c_int {
    let Ok(srt) = Srt::get() else { return -1 };
    let text = if stream_id.is_null() {
        std::borrow::Cow::Borrowed("")
    } else {
        // SAFETY: the library passes a string that ends with zero and is there until this returns.
        unsafe { CStr::from_ptr(stream_id) }.to_string_lossy()
    };
    match stream_id::key(&text) {
        Ok(_) => 0,
        Err(refused) => {
            metrics::counter!("crest_srt_connections_refused_total", "cause" => refused.name()).increment(1);
            tracing::info!(reason = %refused, "an SRT caller was refused");
            // SAFETY: the socket is the one that is asked about.
            unsafe { (srt.srt_setrejectreason)(socket, refused.code()) };
            -1
        }
    }
}
