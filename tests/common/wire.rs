//! An end of a cable, in raw frames (packet(7)).

use super::craft::{Packet, UDP, number_of, numbered};
use super::{Lab, SOON};
use nix::libc;
use std::io::{Error, ErrorKind};
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// `struct tpacket_auxdata` has the tag that the kernel took out of the frame (linux/if_packet.h).
const TP_STATUS_VLAN_VALID: u32 = 1 << 4;
const TP_STATUS_VLAN_TPID_VALID: u32 = 1 << 6;
/// linux/if_packet.h
const PACKET_IGNORE_OUTGOING: i32 = 23;

/// Sends frames as they are, and receives them as they were on the wire, tags included.
pub struct Wire(OwnedFd);

impl Wire {
    /// `lan0` of `lan`, for example.
    pub fn open(lab: &Lab, role: &str, interface: &str) -> Wire {
        lab.within(role, || open(interface))
    }

    /// Both ends.
    pub fn both(lab: &Lab) -> (Wire, Wire) {
        (
            Wire::open(lab, "lan", "lan0"),
            Wire::open(lab, "uplink", "up0"),
        )
    }

    /// One try: false where the far end had no room.
    pub fn try_send(&self, frame: &[u8]) -> bool {
        // SAFETY: readable for the length given.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent >= 0 {
            return true;
        }
        let e = Error::last_os_error();
        match e.raw_os_error() {
            Some(libc::ENOBUFS | libc::EAGAIN) => false,
            _ => panic!("cannot send {} bytes: {e}", frame.len()),
        }
    }

    /// Sends, again until there is room.
    pub fn send(&self, frame: &[u8]) {
        super::until("room on the wire", SOON, || {
            self.try_send(frame).then_some(())
        });
    }

    /// The next frame, if one comes in time.
    pub fn next(&self, limit: Duration) -> Option<Vec<u8>> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(frame) = self.take() {
                return Some(frame);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let mut poll = libc::pollfd {
                fd: self.0.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: one structure, writable.
            unsafe { libc::poll(&raw mut poll, 1, left.as_millis().clamp(1, 1000) as i32) };
        }
    }

    /// `count` frames, or fewer if they do not come in time.
    pub fn frames(&self, count: usize, limit: Duration) -> Vec<Vec<u8>> {
        let deadline = Instant::now() + limit;
        let mut frames = Vec::new();
        while frames.len() < count {
            match self.next(deadline.saturating_duration_since(Instant::now())) {
                Some(frame) => frames.push(frame),
                None => break,
            }
        }
        frames
    }

    /// All that has come until now.
    pub fn drain(&self) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.take()).collect()
    }

    fn take(&self) -> Option<Vec<u8>> {
        let mut bytes = vec![0u8; 1 << 16];
        // Aligned as cmsg(3) wants.
        let mut space = [0u64; 16];
        let mut part = libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: bytes.len(),
        };
        // SAFETY: zeroes are a value of it.
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = space.as_mut_ptr().cast();
        message.msg_controllen = size_of::<[u64; 16]>() as _;
        // SAFETY: everything that it points to is there and writable.
        let len =
            unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
        if len < 0 {
            let e = Error::last_os_error();
            // A link that went down says so once.
            assert!(
                e.kind() == ErrorKind::WouldBlock || e.raw_os_error() == Some(libc::ENETDOWN),
                "cannot receive: {e}"
            );
            return None;
        }
        bytes.truncate(len as usize);
        if let Some([tpid, tci]) = tag(&message) {
            let at = 12.min(bytes.len());
            bytes.splice(at..at, [tpid.to_be_bytes(), tci.to_be_bytes()].concat());
        }
        Some(bytes)
    }
}

/// How long a frame that must not come is waited for.
pub const NOT_COMING: Duration = Duration::from_millis(150);

/// Sends some frames and sees that none arrives.
pub fn assert_closed(lan: &Wire, uplink: &Wire, count: u64) {
    uplink.drain();
    for n in 0..count {
        lan.send(&numbered(n));
        uplink.send(&Packet::back(UDP, 53).frame());
    }
    assert_eq!(
        uplink.next(NOT_COMING),
        None,
        "a frame passed a closed gate"
    );
    assert_eq!(lan.next(NOT_COMING), None, "a frame passed a closed gate");
}

/// Sends a frame and sees it arrive.
pub fn assert_open(lan: &Wire, uplink: &Wire) {
    uplink.drain();
    lan.send(&numbered(77));
    let got = uplink.next(SOON).expect("a frame through an open gate");
    assert_eq!(number_of(&got), 77);
}

/// TPID and TCI of the tag that the kernel took out.
fn tag(message: &libc::msghdr) -> Option<[u16; 2]> {
    // SAFETY: a message that recvmsg(2) filled in.
    let header = unsafe { libc::CMSG_FIRSTHDR(message).as_ref() }?;
    if header.cmsg_level != libc::SOL_PACKET || header.cmsg_type != libc::PACKET_AUXDATA {
        return None;
    }
    // SAFETY: the kernel wrote this structure behind a header of this type.
    let aux: libc::tpacket_auxdata =
        unsafe { std::ptr::read_unaligned(libc::CMSG_DATA(header).cast()) };
    if aux.tp_status & TP_STATUS_VLAN_VALID == 0 {
        return None;
    }
    assert!(aux.tp_status & TP_STATUS_VLAN_TPID_VALID != 0);
    Some([aux.tp_vlan_tpid, aux.tp_vlan_tci])
}

fn open(interface: &str) -> Wire {
    let all = (libc::ETH_P_ALL as u16).to_be();
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: takes and returns numbers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind, i32::from(all)) };
    assert!(fd >= 0, "AF_PACKET: {}", Error::last_os_error());
    // SAFETY: just made.
    let wire = Wire(unsafe { OwnedFd::from_raw_fd(fd) });
    let options = [
        (libc::SOL_PACKET, libc::PACKET_AUXDATA, 1),
        (libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1),
        (libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 128 << 20),
    ];
    for (level, option, value) in options {
        let value: i32 = value;
        // SAFETY: readable for the length given.
        let set = unsafe { libc::setsockopt(fd, level, option, (&raw const value).cast(), 4) };
        assert_eq!(set, 0, "option {option}: {}", Error::last_os_error());
    }
    let name = std::ffi::CString::new(interface).expect("a name");
    // SAFETY: numbers only; zeroes are a value.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = all;
    // SAFETY: a string with its zero.
    address.sll_ifindex = unsafe { libc::if_nametoindex(name.as_ptr()) } as i32;
    assert_ne!(address.sll_ifindex, 0, "{interface}");
    let len = size_of::<libc::sockaddr_ll>() as u32;
    // SAFETY: readable for the length given.
    let bound = unsafe { libc::bind(fd, (&raw const address).cast(), len) };
    assert_eq!(bound, 0, "bind: {}", Error::last_os_error());
    wire
}
