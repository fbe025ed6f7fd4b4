//! A system call made by a thread of another process, as if it had made it itself: to see what that may do.

use crate::{Error, Result};
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

/// The instruction `syscall`.
const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// Bytes below the stack pointer that its owner may use (System V ABI, AMD64 supplement, section 3.2.2), and more.
const BELOW: u64 = 4096;

fn os(what: &'static str) -> impl Fn(nix::Error) -> Error {
    move |e| Error::Io {
        what: what.to_owned(),
        source: e.into(),
    }
}

/// Has the thread `thread` of the process `pid` make the system call `number`, and gives what the kernel answered: a negative error number where it refused. `bytes` are put into
/// its memory where there are any, with zeroes after them, and their address takes the place of the argument at that index.
///
/// # Errors
/// That the thread cannot be held.
pub fn system_call(
    pid: u32,
    thread: u32,
    number: i64,
    arguments: [u64; 5],
    bytes: Option<(usize, &[u8])>,
) -> Result<i64> {
    let instruction = instruction(pid)?;
    let tid = Pid::from_raw(thread.cast_signed());
    let wait = || waitpid(tid, Some(WaitPidFlag::__WALL)).map_err(os("holding a thread"));
    ptrace::seize(tid, ptrace::Options::empty()).map_err(os("holding a thread"))?;
    ptrace::interrupt(tid).map_err(os("holding a thread"))?;
    wait()?;
    let before = ptrace::getregs(tid).map_err(os("reading registers"))?;
    let mut arguments = arguments;
    if let Some((at, bytes)) = bytes {
        let place = (before.rsp - BELOW) & !7;
        let mut bytes = bytes.to_vec();
        bytes.resize(bytes.len().next_multiple_of(8) + 8, 0);
        for (word, chunk) in (0..).zip(bytes.chunks_exact(8)) {
            let data = i64::from_ne_bytes(chunk.try_into().unwrap_or_default());
            let address = (place + 8 * word) as ptrace::AddressType;
            ptrace::write(tid, address, data).map_err(os("writing memory"))?;
        }
        arguments[at] = place;
    }
    let mut call = before;
    // Not one that was interrupted and is to be made again.
    call.orig_rax = u64::MAX;
    call.rip = instruction;
    call.rax = number as u64;
    [call.rdi, call.rsi, call.rdx, call.r10, call.r8] = arguments;
    ptrace::setregs(tid, call).map_err(os("setting registers"))?;
    ptrace::step(tid, None).map_err(os("making a system call"))?;
    wait()?;
    let answer = ptrace::getregs(tid).map_err(os("reading registers"))?.rax;
    ptrace::setregs(tid, before).map_err(os("setting registers"))?;
    ptrace::detach(tid, None).map_err(os("letting a thread go"))?;
    Ok(answer.cast_signed())
}

/// The address of a `syscall` in the page of code that the kernel gives every process (vdso(7)).
fn instruction(pid: u32) -> Result<u64> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))
        .map_err(Error::io("reading a memory map"))?;
    let missing = || Error::Answer {
        what: "the memory map of a process".into(),
        said: "there is no vdso in it".into(),
    };
    let line = maps.lines().find(|line| line.ends_with("[vdso]"));
    let range = line.and_then(|line| line.split_whitespace().next()?.split_once('-'));
    let (first, last) = range.ok_or_else(missing)?;
    let number = |text| u64::from_str_radix(text, 16).map_err(|_| missing());
    let (first, last) = (number(first)?, number(last)?);
    let mut bytes = vec![0; (last - first) as usize];
    let io = || Error::io("reading the memory of a process");
    let mut memory = File::open(format!("/proc/{pid}/mem")).map_err(io())?;
    memory.seek(SeekFrom::Start(first)).map_err(io())?;
    memory.read_exact(&mut bytes).map_err(io())?;
    let at = bytes.windows(2).position(|two| two == SYSCALL);
    Ok(first + at.ok_or_else(missing)? as u64)
}
