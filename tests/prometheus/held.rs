//! One thread of a process that stands still, which no signal can do.

use super::common::Gate;
use nix::libc;

/// A thread of the gate that stands still while this is there (ptrace(2)); the others go on.
pub struct Held(libc::pid_t);

impl Held {
    pub fn new(gate: &Gate<'_>, name: &str) -> Held {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", gate.pid())).expect("threads");
        let is_it = |tid: &libc::pid_t| {
            let comm = std::fs::read_to_string(format!("/proc/{tid}/comm"));
            comm.is_ok_and(|comm| comm.trim_end() == name)
        };
        let tid = tasks
            .filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok())
            .find(is_it);
        let tid = tid.unwrap_or_else(|| panic!("no thread {name}"));
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: neither request reads or writes memory of this process, and waitpid(2) writes one int.
        unsafe {
            assert_eq!(
                libc::ptrace(libc::PTRACE_SEIZE, tid, none, none),
                0,
                "seize"
            );
            assert_eq!(
                libc::ptrace(libc::PTRACE_INTERRUPT, tid, none, none),
                0,
                "stop"
            );
            let mut status = 0;
            assert_eq!(libc::waitpid(tid, &raw mut status, libc::__WALL), tid);
        }
        Held(tid)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: as above; a thread that has ended is an error, which does no harm.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, none, none) };
    }
}
