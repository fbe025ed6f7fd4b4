//! The side that leaves.

use super::ledger::{self, Chunks, Layout, Ledger, VERSION};
use super::{LEDGER, MEMORY, monotonic, socket_name};
use crate::os::notify::Manager;
use crate::policy::Side;
use crate::port::Port as _;
use crate::port::afxdp::AfXdpPort;
use crate::worker::Worker;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::time::Duration;

/// What is needed to hand over, made while a file of memory can still be made.
pub struct Giver {
    manager: Manager,
    patience: Duration,
    layout: Layout,
    /// By the processes before this one.
    received: [u64; 2],
    file: File,
}

impl Giver {
    /// A ledger that has nothing in it yet. The gate in the kernel waits so long for the next process, before it does what `on_failure` says.
    ///
    /// # Errors
    /// Those of memfd_create(2).
    pub fn new(
        (manager, patience): (Manager, Duration),
        layout: Layout,
        received: [u64; 2],
    ) -> io::Result<Giver> {
        let sealed = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        // Before Linux 6.3 nobody asks whether it may be executed.
        let unexecuted = sealed | MFdFlags::from_bits_retain(nix::libc::MFD_NOEXEC_SEAL);
        let make = |flags| memfd_create(LEDGER, flags);
        let file = make(unexecuted).or_else(|_| make(sealed))?;
        Ok(Giver {
            manager,
            patience,
            layout,
            received,
            file: File::from(file),
        })
    }

    /// How long the gate in the kernel is to wait.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Hands over all that `workers`, which have come to rest in their order, work with; nothing touches it any more. `received` is what they counted, by side.
    /// Says how many chunks were in hand.
    ///
    /// # Errors
    /// Those of sendmsg(2) and of writing to memory. What the manager has by then it keeps, without a ledger: nobody takes that over.
    pub fn give(
        mut self,
        mut workers: Vec<Worker<AfXdpPort>>,
        received: [u64; 2],
    ) -> io::Result<usize> {
        let left = monotonic();
        let in_hand: Vec<Chunks> = workers.iter_mut().map(in_hand).collect();
        let mut in_flight = self
            .layout
            .ports
            .each_ref()
            .map(|port| vec![0; port.queues as usize]);
        for worker in &workers {
            for side in Side::BOTH {
                for port in worker.ports_ref(side) {
                    let queue = port.socket().queue() as usize;
                    if let Some(place) = in_flight[side as usize].get_mut(queue) {
                        *place = port.in_flight();
                    }
                    let name = socket_name(side.name(), queue);
                    self.manager.keep(&name, port.fd())?;
                }
            }
        }
        let memory = workers.first().and_then(|worker| worker.umem().file());
        let memory = memory.ok_or_else(|| io::Error::other("the memory is in no file"))?;
        self.manager.keep(MEMORY, memory)?;
        let chunks = in_hand.iter().map(Chunks::len).sum();
        let ledger = Ledger {
            version: VERSION,
            layout: self.layout,
            in_hand,
            in_flight,
            received: [0, 1].map(|side: usize| self.received[side] + received[side]),
            left,
            patience: self.patience.as_nanos() as u64,
        };
        self.file.write_all(&ledger.text())?;
        fcntl(&self.file, FcntlArg::F_ADD_SEALS(ledger::seals()))?;
        // Last: what has none is not complete.
        self.manager.keep(LEDGER, self.file.as_fd())?;
        Ok(chunks)
    }
}

fn in_hand(worker: &mut Worker<AfXdpPort>) -> Chunks {
    let umem = worker.umem().clone();
    let pool = worker.pool().iter();
    pool.filter_map(|frame| umem.number(frame)).collect()
}
