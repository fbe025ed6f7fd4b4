//! The smallest XDP program that gives frames to a socket, by bpf(2) alone: this crate loads none, and its tests want to receive.

use std::{
    ffi::c_long,
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
};

/// `enum bpf_cmd`, `bpf_map_type`, `bpf_prog_type`, `bpf_attach_type` of `linux/bpf.h`, and a flag of `linux/if_link.h`.
const MAP_CREATE: c_long = 0;
const MAP_UPDATE_ELEM: c_long = 2;
const PROG_LOAD: c_long = 5;
const LINK_CREATE: c_long = 28;
const XSKMAP: u32 = 17;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
const DRIVER_MODE: u32 = 4;

/// The program on an interface; gone when it is dropped.
pub struct Redirect {
    map: OwnedFd,
    _program: OwnedFd,
    _link: OwnedFd,
}

impl Redirect {
    /// Drops what comes on a queue without a socket.
    pub fn on(ifindex: u32) -> Redirect {
        let map = made(MAP_CREATE, &[XSKMAP, 4, 4, 8, 0]);
        let fd = map.as_raw_fd() as u32;
        // r2 = the queue; r1 = the map; r3 = XDP_DROP where there is none; redirect_map; exit.
        let code: [u64; 6] = [
            instruction(0x61, 0x12, 16, 0),
            instruction(0x18, 0x11, 0, fd),
            0,
            instruction(0xb7, 0x03, 0, 1),
            instruction(0x85, 0, 0, 51),
            instruction(0x95, 0, 0, 0),
        ];
        let (license, at) = (c"GPL", code.as_ptr() as u64);
        let name = license.as_ptr() as u64;
        let words = [at, at >> 32, name, name >> 32].map(|word| word as u32);
        let program = made(
            PROG_LOAD,
            &[PROG_TYPE_XDP, 6, words[0], words[1], words[2], words[3]],
        );
        let fd = program.as_raw_fd() as u32;
        let link = made(LINK_CREATE, &[fd, ifindex, ATTACH_XDP, DRIVER_MODE]);
        Redirect {
            map,
            _program: program,
            _link: link,
        }
    }

    /// Frames of `queue` go to this socket.
    pub fn to(&self, queue: u32, socket: &impl AsFd) {
        let value = socket.as_fd().as_raw_fd() as u32;
        let [key, value] = [&raw const queue as u64, &raw const value as u64];
        let map = self.map.as_raw_fd() as u32;
        let words = [key, key >> 32, value, value >> 32].map(|word| word as u32);
        let update = [map, 0, words[0], words[1], words[2], words[3], 0, 0];
        bpf(MAP_UPDATE_ELEM, &update).unwrap();
    }
}

/// `struct bpf_insn`, little-endian.
fn instruction(code: u8, registers: u8, offset: u16, immediate: u32) -> u64 {
    u64::from(code)
        | u64::from(registers) << 8
        | u64::from(offset) << 16
        | u64::from(immediate) << 32
}

fn made(command: c_long, words: &[u32]) -> OwnedFd {
    let fd = bpf(command, words).unwrap();
    // SAFETY: just made, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

/// bpf(2) with the beginning of a `union bpf_attr`; the rest is zero.
fn bpf(command: c_long, words: &[u32]) -> io::Result<c_long> {
    let mut attributes = [0u32; 32];
    attributes[..words.len()].copy_from_slice(words);
    let len = size_of_val(&attributes);
    // SAFETY: readable for the length given, and what its addresses point to outlives the call.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), len) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(done)
}
