//! Which cores a thread may run on.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Keeps the calling thread off `cores`, if that leaves it any: the control thread must not take time from a worker.
pub fn keep_off(cores: &[usize]) {
    let here = Pid::from_raw(0);
    let Ok(allowed) = sched_getaffinity(here) else {
        return;
    };
    let mut left = CpuSet::new();
    let mut some = false;
    for core in (0..CpuSet::count()).filter(|core| !cores.contains(core)) {
        if allowed.is_set(core).unwrap_or(false) {
            some |= left.set(core).is_ok();
        }
    }
    if some {
        // It is for speed alone: where the kernel refuses, the thread stays where it was.
        let _ = sched_setaffinity(here, &left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cores of this thread.
    fn mine() -> Vec<usize> {
        let set = sched_getaffinity(Pid::from_raw(0)).unwrap();
        (0..CpuSet::count())
            .filter(|core| set.is_set(*core).unwrap())
            .collect()
    }

    #[test]
    fn a_thread_keeps_off_the_cores_of_the_workers_where_others_are_left() {
        std::thread::spawn(|| {
            let before = mine();
            keep_off(&before);
            assert_eq!(mine(), before, "none would be left");
            if let [first, rest @ ..] = &before[..]
                && !rest.is_empty()
            {
                keep_off(&[*first]);
                assert_eq!(mine(), rest);
            }
        })
        .join()
        .unwrap();
    }
}
