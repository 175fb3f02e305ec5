//! The functions of libsrt that are used, found when the first listener starts. They are declared here as `srt.h` of
//! libsrt 1.5 declares them; 1.5 is part of the library's name, and its interface does not change under that name.

#![allow(unsafe_code, reason = "the library is written in C++ and has an interface for C")]

use crest_core::{Error, Result};
use libloading::Library;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::OnceLock;

/// Names under which distributions have it: Debian and Ubuntu with GnuTLS or OpenSSL, others.
const NAMES: [&str; 3] = ["libsrt-gnutls.so.1.5", "libsrt-openssl.so.1.5", "libsrt.so.1.5"];
/// Only what makes it stop is written, by itself and to standard error; the rest is known from its return values.
const LOG_CRITICAL: c_int = 2;

/// A socket of the library.
pub(super) type Handle = c_int;

/// Asked by the library in its receiving thread before it answers a caller; -1 refuses.
pub(super) type ListenCallback =
    unsafe extern "C" fn(*mut c_void, Handle, c_int, *const c_void, *const c_char) -> c_int;

/// Options of sockets (`SRT_SOCKOPT`).
#[derive(Debug, Clone, Copy)]
#[repr(i32)]
pub(super) enum Setting {
    /// Whether receiving waits for a message.
    ReceiveWaits = 2,
    /// Messages that were received and not read.
    ReceivedData = 20,
    Passphrase = 26,
    /// How far the keys are that what is received is encrypted with.
    ReceiveKeys = 41,
    ReceiveLatency = 43,
    StreamId = 46,
    /// Whether the library itself refuses who has another passphrase, without a word.
    RefusesOtherSecrets = 53,
}

/// States of keys (`SRT_KM_STATE`): nobody encrypts; both do, and understand each other; one does with a passphrase
/// that the other does not have.
pub(super) const UNSECURED: c_int = 0;
pub(super) const SECURED: c_int = 2;
pub(super) const OTHER_SECRET: c_int = 4;

/// What happens at a socket that is waited for (`SRT_EPOLL_OPT`): there is a message; it is broken.
pub(super) const READABLE: c_int = 1;
pub(super) const BROKEN: c_int = 8;

/// Something that happened (`SRT_EPOLL_EVENT`).
#[repr(C)]
pub(super) struct Event {
    pub(super) socket: Handle,
    pub(super) events: c_int,
}

macro_rules! functions {
    ($($name:ident: $kind:ty,)*) => {
        /// The library's functions.
        pub(super) struct Srt {
            $(pub(super) $name: $kind,)*
            _library: Library,
        }

        impl Srt {
            fn new(library: Library) -> std::result::Result<Self, libloading::Error> {
                // SAFETY: the types are those of `srt.h`. The functions stay valid: the library is kept beside them.
                unsafe { Ok(Self { $($name: *library.get(concat!(stringify!($name), "\0").as_bytes())?,)* _library: library }) }
            }
        }
    };
}

functions! {
    srt_startup: unsafe extern "C" fn() -> c_int,
    srt_setloglevel: unsafe extern "C" fn(c_int),
    srt_create_socket: unsafe extern "C" fn() -> Handle,
    srt_bind_acquire: unsafe extern "C" fn(Handle, c_int) -> c_int,
    srt_listen: unsafe extern "C" fn(Handle, c_int) -> c_int,
    srt_listen_callback: unsafe extern "C" fn(Handle, ListenCallback, *mut c_void) -> c_int,
    srt_accept: unsafe extern "C" fn(Handle, *mut c_void, *mut c_int) -> Handle,
    srt_close: unsafe extern "C" fn(Handle) -> c_int,
    srt_setsockflag: unsafe extern "C" fn(Handle, c_int, *const c_void, c_int) -> c_int,
    srt_getsockflag: unsafe extern "C" fn(Handle, c_int, *mut c_void, *mut c_int) -> c_int,
    srt_recvmsg: unsafe extern "C" fn(Handle, *mut c_char, c_int) -> c_int,
    srt_epoll_create: unsafe extern "C" fn() -> c_int,
    srt_epoll_add_usock: unsafe extern "C" fn(c_int, Handle, *const c_int) -> c_int,
    srt_epoll_uwait: unsafe extern "C" fn(c_int, *mut Event, c_int, i64) -> c_int,
    srt_epoll_release: unsafe extern "C" fn(c_int) -> c_int,
    srt_setrejectreason: unsafe extern "C" fn(Handle, c_int) -> c_int,
    srt_getlasterror: unsafe extern "C" fn(*mut c_int) -> c_int,
    srt_getlasterror_str: unsafe extern "C" fn() -> *const c_char,
}

impl std::fmt::Debug for Srt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Srt").finish_non_exhaustive()
    }
}

static SRT: OnceLock<std::result::Result<Srt, String>> = OnceLock::new();

impl Srt {
    /// The library, loaded and started by the first call.
    ///
    /// # Errors
    /// `Outside` where it is not installed.
    pub(super) fn get() -> Result<&'static Self> {
        let loaded = SRT.get_or_init(|| {
            let mut reason = String::new();
            for name in NAMES {
                // SAFETY: what the library does when it is loaded is to set up its own state.
                match unsafe { Library::new(name) }.and_then(Self::new) {
                    Ok(srt) => {
                        // SAFETY: both may be called at any time; the library counts how often it was started.
                        unsafe {
                            (srt.srt_setloglevel)(LOG_CRITICAL);
                            if (srt.srt_startup)() >= 0 {
                                return Ok(srt);
                            }
                        }
                        return Err(format!("{name} does not start"));
                    }
                    Err(e) => reason = e.to_string(),
                }
            }
            Err(reason)
        });
        loaded.as_ref().map_err(|reason| {
            Error::outside(format!("libsrt 1.5 cannot be loaded ({reason}); install libsrt1.5-gnutls"))
        })
    }

    /// What the last call in this thread failed with: its number and the library's words.
    pub(super) fn last_error(&self) -> (c_int, String) {
        // SAFETY: a null pointer is allowed for the system's number; the text lies in the thread's own memory.
        unsafe {
            let code = (self.srt_getlasterror)(std::ptr::null_mut());
            let text = (self.srt_getlasterror_str)();
            let text = if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() };
            (code, text)
        }
    }
}
