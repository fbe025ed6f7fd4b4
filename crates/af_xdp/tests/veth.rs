//! The transmit side and the binds, against real veth pairs in namespaces of their own. Needs root, `ip` and
//! `/run/netns`; says so and passes without.

#![cfg(not(loom))]

#[path = "bpf/redirect.rs"]
mod redirect;

use redirect::Redirect;
use std::{
    collections::VecDeque,
    ffi::CString,
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    process::{Command, id},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use af_xdp::{
    BindError, BusyPoll, Frame, Mode, RingSizes, Socket, SocketConfig, Umem, UmemConfig, WakeError,
    wait,
};

const RINGS: RingSizes = RingSizes {
    fill: 64,
    completion: 64,
    rx: 64,
    tx: 64,
};

/// A namespace with `pairs` veth pairs, `a0`-`b0`, `a1`-`b1` and so on, all up; gone on drop, also after a panic.
struct Lab {
    name: String,
}

impl Lab {
    fn new(pairs: u32) -> Lab {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let lab = Lab {
            name: format!("afxdp-{}-{}", id(), COUNT.fetch_add(1, Ordering::Relaxed)),
        };
        ip(&["netns", "add", &lab.name]);
        for n in 0..pairs {
            let (a, b) = (format!("a{n}"), format!("b{n}"));
            lab.ip(&["link", "add", &a, "type", "veth", "peer", "name", &b]);
            for end in [a, b] {
                // No frames but our own.
                lab.ip(&["link", "set", &end, "addrgenmode", "none", "arp", "off"]);
                lab.ip(&["link", "set", &end, "up"]);
            }
        }
        lab
    }

    fn ip(&self, args: &[&str]) {
        ip(&[&["-n", self.name.as_str()], args].concat());
    }

    /// Runs `test` in a thread that is in the namespace.
    fn enter(&self, test: impl FnOnce(&Lab) + Send) {
        let result = thread::scope(|scope| {
            scope
                .spawn(|| {
                    let namespace = File::open(format!("/run/netns/{}", self.name)).unwrap();
                    // SAFETY: takes numbers; moves this thread only.
                    let moved = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
                    assert_eq!(moved, 0, "setns: {}", io::Error::last_os_error());
                    test(self);
                })
                .join()
        });
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
    }
}

fn ip(args: &[&str]) {
    let out = Command::new("ip")
        .args(args)
        .output()
        .expect("ip (iproute2) is needed");
    assert!(
        out.status.success(),
        "ip {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&out.stderr)
    );
}

/// Runs `test` in a new namespace, if that is allowed.
fn in_lab(pairs: u32, test: impl FnOnce(&Lab) + Send) {
    // SAFETY: no arguments.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("skipped: the veth tests of af_xdp make network namespaces, which needs root");
        return;
    }
    Lab::new(pairs).enter(test);
}

fn index(name: &str) -> u32 {
    let name = CString::new(name).unwrap();
    // SAFETY: a string with its zero.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    assert_ne!(index, 0);
    index
}

fn config(name: &str) -> SocketConfig {
    SocketConfig {
        ifindex: index(name),
        queue: 0,
        mode: Mode::Copy,
        rings: RINGS,
        need_wakeup: true,
        busy_poll: None,
        tx_budget: None,
    }
}

fn umem(frames: u32) -> (Umem, Vec<Frame>) {
    Umem::new(&UmemConfig {
        frames,
        chunk: 2048,
        headroom: 0,
        huge_pages: true,
    })
    .unwrap()
}

/// An `AF_PACKET` socket that receives all frames of an interface.
struct Tap(OwnedFd);

impl Tap {
    fn new(name: &str) -> Tap {
        let all = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: takes and returns numbers.
        let fd = unsafe {
            libc::socket(
                libc::AF_PACKET,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                i32::from(all),
            )
        };
        assert!(fd >= 0, "AF_PACKET: {}", io::Error::last_os_error());
        // SAFETY: just made.
        let tap = Tap(unsafe { OwnedFd::from_raw_fd(fd) });
        // SAFETY: numbers only; zeroes are a value.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = all;
        address.sll_ifindex = index(name) as i32;
        let space: i32 = 64 << 20;
        // SAFETY: both structures are readable for the lengths given.
        unsafe {
            let len = size_of_val(&address) as u32;
            assert_eq!(
                libc::bind(tap.0.as_raw_fd(), (&raw const address).cast(), len),
                0
            );
            let (level, option) = (libc::SOL_SOCKET, libc::SO_RCVBUFFORCE);
            libc::setsockopt(
                tap.0.as_raw_fd(),
                level,
                option,
                (&raw const space).cast(),
                4,
            );
        }
        tap
    }

    /// Sends a frame, which the tap itself does not see.
    fn send(&self, bytes: &[u8]) {
        // SAFETY: readable for the length given.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        assert_eq!(sent, bytes.len() as isize, "{}", io::Error::last_os_error());
    }

    /// The next frame, if one comes within 200 ms.
    fn next(&self) -> Option<Vec<u8>> {
        if !wait(&[self.0.as_fd()], Duration::from_millis(200)).unwrap() {
            return None;
        }
        let mut bytes = vec![0; 4096];
        // SAFETY: writable for the length given.
        let len = unsafe {
            libc::recv(
                self.0.as_raw_fd(),
                bytes.as_mut_ptr().cast(),
                bytes.len(),
                libc::MSG_DONTWAIT,
            )
        };
        bytes.truncate(usize::try_from(len).ok()?);
        Some(bytes)
    }

    fn all(&self) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.next()).collect()
    }
}

/// Frame `n`: to a group address, of the local experimental ethertype (IEEE 802, 88-B5), of a length of its own.
fn content(n: u32) -> Vec<u8> {
    let mut bytes = vec![0x03, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x88, 0xb5];
    bytes.extend(n.to_be_bytes());
    bytes.extend((0..42 + n * 7 % 1400).map(|i| (i * 31 + n) as u8));
    bytes
}

/// Sends frames `numbers` with frames from `pool`, which has all of them back in the end.
fn send_all(
    umem: &Umem,
    socket: &mut Socket,
    pool: &mut Vec<Frame>,
    numbers: std::ops::Range<u32>,
) {
    let owned = pool.len();
    let mut next = numbers.start;
    let mut ready = Vec::with_capacity(64);
    let until = Instant::now() + Duration::from_secs(20);
    while next < numbers.end || !ready.is_empty() || socket.in_flight() > 0 {
        assert!(
            Instant::now() < until,
            "stuck: {socket:?} {} in flight, {:?}",
            socket.in_flight(),
            socket.statistics()
        );
        while ready.len() < 64 && next < numbers.end {
            let Some(mut frame) = pool.pop() else { break };
            umem.write(&mut frame, &content(next)).unwrap();
            ready.push(frame);
            next += 1;
        }
        socket.send(&mut ready);
        if socket.tx_pending() > 0 && socket.tx_needs_wakeup() {
            match socket.wake_tx() {
                Ok(()) | Err(WakeError::Again) => {}
                Err(e) => panic!("{e}"),
            }
        }
        socket.complete(pool);
    }
    assert_eq!(
        (pool.len(), socket.tx_pending(), socket.invalid()),
        (owned, 0, 0)
    );
}

#[test]
fn three_thousand_frames_arrive_unchanged_and_in_order_and_all_chunks_come_back() {
    in_lab(1, |_| {
        for tx_budget in [None, Some(64), Some(1_000_000)] {
            let tap = Tap::new("b0");
            let (umem, mut pool) = umem(100);
            let mut socket = Socket::bind(
                &umem,
                &SocketConfig {
                    tx_budget,
                    ..config("a0")
                },
                None,
            )
            .unwrap();
            assert!(!socket.zero_copy());
            assert_eq!((socket.ifindex(), socket.queue()), (index("a0"), 0));
            send_all(&umem, &mut socket, &mut pool, 0..3_000);
            for n in 0..3_000 {
                assert_eq!(tap.next().as_deref(), Some(&content(n)[..]), "frame {n}");
            }
            assert_eq!(socket.statistics().unwrap().tx_invalid_descs, 0);
        }
    });
}

#[test]
fn two_devices_send_from_one_memory_and_frames_change_sides() {
    in_lab(2, |_| {
        let taps = [Tap::new("b0"), Tap::new("b1")];
        let (umem, mut pool) = umem(100);
        let mut first = Socket::bind(&umem, &config("a0"), None).unwrap();
        let mut second = Socket::bind(&umem, &config("a1"), Some(&first)).unwrap();
        assert!(second.tx_needs_wakeup() && !second.zero_copy());
        for turn in 0..10 {
            send_all(&umem, &mut first, &mut pool, turn * 50..turn * 50 + 50);
            send_all(&umem, &mut second, &mut pool, turn * 50..turn * 50 + 50);
        }
        for tap in taps {
            assert!(tap.all().into_iter().eq((0..500).map(content)));
        }
    });
}

#[test]
fn one_memory_can_be_registered_with_each_of_two_sockets() {
    in_lab(2, |_| {
        let taps = [Tap::new("b0"), Tap::new("b1")];
        let (umem, mut pool) = umem(100);
        for (name, tap) in ["a0", "a1"].into_iter().zip(&taps) {
            let mut socket = Socket::bind(&umem, &config(name), None).unwrap();
            send_all(&umem, &mut socket, &mut pool, 0..200);
            assert!(tap.all().into_iter().eq((0..200).map(content)));
        }
    });
}

#[test]
fn on_a_downed_link_a_wake_up_says_so_and_everything_submitted_can_be_taken_back() {
    in_lab(1, |lab| {
        let (umem, mut pool) = umem(300);
        let mut socket = Socket::bind(&umem, &config("a0"), None).unwrap();
        let fresh = |pool: &mut Vec<Frame>, numbers: std::ops::Range<u32>| -> Vec<Frame> {
            let written = numbers.map(|n| {
                let mut frame = pool.pop().unwrap();
                umem.write(&mut frame, &content(n)).unwrap();
                frame
            });
            written.collect()
        };
        // The kernel has seen the producer at 64 and stops at its budget of 32, half way.
        let mut ready = fresh(&mut pool, 0..64);
        assert_eq!(socket.send(&mut ready), 64);
        assert!(matches!(socket.wake_tx(), Err(WakeError::Again)));
        assert_eq!(socket.tx_pending(), 32);
        lab.ip(&["link", "set", "a0", "down"]);
        assert!(matches!(socket.wake_tx(), Err(WakeError::Down)));
        let mut back = Vec::new();
        assert_eq!(socket.retract(&mut back), 32);
        for (n, frame) in (32..).zip(&back) {
            assert_eq!(umem.bytes(frame), content(n));
        }
        // The ring has room for the other half, and then for nothing.
        let mut ready = fresh(&mut pool, 64..128);
        assert_eq!((socket.send(&mut ready), ready.len()), (32, 32));
        assert!(matches!(socket.wake_tx(), Err(WakeError::Down)));
        assert_eq!(
            (socket.retract(&mut back), socket.retract(&mut back)),
            (32, 0)
        );
        assert_eq!(socket.send(&mut ready), 0);
        pool.append(&mut back);
        pool.append(&mut ready);
        while socket.in_flight() > 0 {
            socket.complete(&mut pool);
        }
        assert_eq!(pool.len(), 300);

        // Up again: none of it is sent, and what is new goes out.
        let tap = Tap::new("b0");
        lab.ip(&["link", "set", "a0", "up"]);
        thread::sleep(Duration::from_millis(50));
        send_all(&umem, &mut socket, &mut pool, 1_000..1_500);
        assert!(tap.all().into_iter().eq((1_000..1_500).map(content)));
        assert_eq!(socket.statistics().unwrap().tx_invalid_descs, 0);
    });
}

#[test]
fn a_link_that_flaps_loses_no_chunk() {
    in_lab(1, |lab| {
        let (umem, mut pool) = umem(200);
        let mut socket = Socket::bind(&umem, &config("a0"), None).unwrap();
        for turn in 0..12 {
            let state = if turn % 2 == 0 { "down" } else { "up" };
            lab.ip(&["link", "set", "a0", state]);
            let mut ready: VecDeque<u32> = (0..100).collect();
            let mut burst = Vec::with_capacity(16);
            while let Some(n) = ready.pop_front() {
                let Some(mut frame) = pool.pop() else { break };
                umem.write(&mut frame, &content(n)).unwrap();
                burst.push(frame);
                socket.send(&mut burst);
                let _ = socket.wake_tx();
                socket.complete(&mut pool);
                pool.append(&mut burst);
            }
            socket.retract(&mut pool);
        }
        let until = Instant::now() + Duration::from_secs(5);
        while socket.in_flight() > 0 && Instant::now() < until {
            let _ = socket.wake_tx();
            socket.complete(&mut pool);
        }
        assert_eq!((pool.len(), socket.invalid()), (200, 0));
    });
}

#[test]
fn zero_copy_on_veth_is_not_supported() {
    in_lab(1, |_| {
        let (umem, _frames) = umem(16);
        let error = Socket::bind(
            &umem,
            &SocketConfig {
                mode: Mode::ZeroCopy,
                ..config("a0")
            },
            None,
        )
        .unwrap_err();
        assert!(
            matches!(
                error,
                BindError::NotSupported {
                    mode: Mode::ZeroCopy,
                    ..
                }
            ),
            "{error}"
        );
        // Nothing of the attempt remains: the queue can be bound at once.
        Socket::bind(&umem, &config("a0"), None).unwrap();
    });
}

#[test]
fn a_queue_that_is_held_is_busy_after_half_a_second_and_taken_when_let_go() {
    in_lab(1, |_| {
        let (umem, mut pool) = umem(100);
        let holder = Socket::bind(&umem, &config("a0"), None).unwrap();
        let start = Instant::now();
        let error = Socket::bind(&umem, &config("a0"), None).unwrap_err();
        let took = start.elapsed();
        assert!(matches!(error, BindError::Busy { queue: 0, .. }), "{error}");
        assert!(
            (Duration::from_millis(450)..Duration::from_millis(1_500)).contains(&took),
            "{took:?}"
        );
        let error = Socket::bind(&umem, &config("a0"), Some(&holder)).unwrap_err();
        assert!(matches!(error, BindError::Busy { .. }), "{error}");

        thread::scope(|scope| {
            scope.spawn(move || {
                thread::sleep(Duration::from_millis(100));
                drop(holder);
            });
            let mut socket = Socket::bind(&umem, &config("a0"), None).unwrap();
            let tap = Tap::new("b0");
            send_all(&umem, &mut socket, &mut pool, 0..100);
            assert!(tap.all().into_iter().eq((0..100).map(content)));
        });
    });
}

#[test]
fn what_cannot_be_bound_is_refused_by_name() {
    in_lab(2, |_| {
        let (memory, _frames) = umem(16);
        let good = config("a0");
        let refused = |config: SocketConfig| Socket::bind(&memory, &config, None).unwrap_err();

        let error = refused(SocketConfig { queue: 7, ..good });
        assert!(
            matches!(
                error,
                BindError::Queue {
                    queue: 7,
                    queues: Some(_),
                    ..
                }
            ),
            "{error}"
        );
        let error = refused(SocketConfig {
            queue: 7,
            mode: Mode::ZeroCopy,
            ..good
        });
        assert!(
            matches!(
                error,
                BindError::Queue { queue: 7, .. } | BindError::NotSupported { .. }
            ),
            "{error}"
        );
        let error = refused(SocketConfig {
            ifindex: 999_999,
            ..good
        });
        assert!(
            matches!(error, BindError::NoDevice { ifindex: 999_999 }),
            "{error}"
        );
        for size in [0, 3, 65, u32::MAX] {
            let error = refused(SocketConfig {
                rings: RingSizes { tx: size, ..RINGS },
                ..good
            });
            assert!(
                matches!(error, BindError::RingSize { ring: "tx", .. }),
                "{error}"
            );
        }
        let first = Socket::bind(&memory, &good, None).unwrap();
        let (other, _frames) = umem(16);
        let error = Socket::bind(&other, &config("a1"), Some(&first)).unwrap_err();
        assert!(matches!(error, BindError::ForeignUmem), "{error}");
    });
}

#[test]
fn a_socket_that_is_bound_with_frames_receives_into_them_without_having_been_filled() {
    in_lab(2, |_| {
        let tap = Tap::new("b1");
        let redirect = Redirect::on(index("a1"));
        let (umem, mut pool) = umem(100);
        let first = Socket::bind_filled(&umem, &config("a0"), None, &mut pool, 20).unwrap();
        // More than the ring has room for.
        let mut shared =
            Socket::bind_filled(&umem, &config("a1"), Some(&first), &mut pool, 90).unwrap();
        assert_eq!((first.fill_level(), shared.fill_level()), (20, 64));
        assert_eq!(pool.len(), 16);
        redirect.to(0, &shared);
        (0..64).for_each(|n| tap.send(&content(n)));
        let (mut out, until) = (
            Vec::with_capacity(64),
            Instant::now() + Duration::from_secs(5),
        );
        while out.len() < 64 {
            assert!(Instant::now() < until, "{} arrived", out.len());
            shared.receive(64, &mut out);
        }
        let found = out.iter().map(|frame| umem.bytes(frame));
        assert!(found.eq((0..64).map(content)));
        assert_eq!(shared.statistics().unwrap().rx_fill_ring_empty_descs, 0);
    });
}

#[test]
fn filling_counts_and_a_socket_without_a_program_receives_nothing() {
    in_lab(1, |_| {
        let (umem, mut pool) = umem(100);
        let busy_poll = Some(BusyPoll {
            usecs: 20,
            budget: 64,
        });
        let mut socket = Socket::bind(
            &umem,
            &SocketConfig {
                busy_poll,
                ..config("a0")
            },
            None,
        )
        .unwrap();
        assert_eq!(
            (socket.fill(&mut pool, 40), socket.fill(&mut pool, 40)),
            (40, 24)
        );
        assert_eq!((socket.fill_level(), pool.len()), (64, 36));
        let mut out = Vec::with_capacity(8);
        assert_eq!(socket.receive(8, &mut out), 0);
        socket.wake_rx().unwrap();
        assert!(!wait(&[socket.as_fd()], Duration::from_millis(10)).unwrap());
        let counted = socket.statistics().unwrap();
        assert_eq!(
            (
                counted.rx_dropped,
                counted.rx_invalid_descs,
                counted.rx_ring_full
            ),
            (0, 0, 0)
        );
    });
}

#[test]
fn after_a_retraction_one_wake_up_passes_the_voids_and_sends_only_what_is_new() {
    in_lab(1, |lab| {
        let (umem, mut pool) = umem(100);
        let tap = Tap::new("b0");
        let mut socket = Socket::bind(&umem, &config("a0"), None).unwrap();
        let mut submit = |socket: &mut Socket, numbers: std::ops::Range<u32>| {
            let mut ready = Vec::new();
            for n in numbers {
                let mut frame = pool.pop().unwrap();
                umem.write(&mut frame, &content(n)).unwrap();
                ready.push(frame);
            }
            socket.send(&mut ready)
        };
        // Stops at the budget: the kernel knows of 64 and has consumed 32.
        assert_eq!(submit(&mut socket, 0..64), 64);
        assert!(matches!(socket.wake_tx(), Err(WakeError::Again)));
        assert!(tap.all().into_iter().eq((0..32).map(content)));
        lab.ip(&["link", "set", "a0", "down"]);
        let mut back = Vec::new();
        assert_eq!(socket.retract(&mut back), 32);
        // Room in the completion ring: this kernel completes the voids too.
        assert_eq!(socket.complete(&mut Vec::with_capacity(64)), 32);
        lab.ip(&["link", "set", "a0", "up"]);
        thread::sleep(Duration::from_millis(50));
        assert_eq!(submit(&mut socket, 1_000..1_002), 2);
        socket.wake_tx().unwrap();
        assert!(tap.all().into_iter().eq((1_000..1_002).map(content)));
    });
}

#[test]
fn what_is_in_all_four_rings_is_there_after_a_hand_over_and_so_is_every_chunk() {
    in_lab(1, |_| {
        const FRAMES: u32 = 200;
        let shape = UmemConfig {
            frames: FRAMES,
            chunk: 2048,
            headroom: 0,
            huge_pages: false,
        };
        let tap = Tap::new("b0");
        let redirect = Redirect::on(index("a0"));
        let (mut umem, mut pool) = Umem::shared(&shape).unwrap();
        let mut socket = Socket::bind(&umem, &config("a0"), None).unwrap();
        redirect.to(0, &socket);
        let mut numbers = 0..;
        let mut sent = 0..;
        for turn in 0..20 {
            // Ten wait in the rx ring, 32 were sent and are not taken back, eight are still to be sent, the rest of the fill ring is empty chunks.
            socket.complete(&mut pool);
            assert_eq!(socket.in_flight(), 0);
            let level = socket.fill_level() as usize;
            socket.fill(&mut pool, 40 - level);
            let arriving: Vec<u32> = numbers.by_ref().take(15).collect();
            arriving[..10].iter().for_each(|n| tap.send(&content(*n)));
            let leaving: Vec<u32> = sent.by_ref().take(40).collect();
            let mut ready: Vec<Frame> = leaving
                .iter()
                .map(|n| {
                    let mut frame = pool.pop().unwrap();
                    umem.write(&mut frame, &content(*n)).unwrap();
                    frame
                })
                .collect();
            assert_eq!(socket.send(&mut ready), 40);
            assert!(matches!(socket.wake_tx(), Err(WakeError::Again)));
            let received = |socket: &Socket, count| {
                let until = Instant::now() + Duration::from_secs(5);
                while socket.rx_level() < count {
                    assert!(Instant::now() < until, "{}", socket.rx_level());
                }
            };
            received(&socket, 10);
            assert_eq!((socket.fill_level(), socket.tx_pending()), (30, 8));

            let in_hand: Vec<u32> = pool.iter().map(|f| umem.number(f).unwrap()).collect();
            assert_eq!(in_hand.len(), FRAMES as usize - 80);
            let in_flight = socket.in_flight();
            let memory = umem.file().unwrap().try_clone_to_owned().unwrap();
            let fd = socket.as_fd().try_clone_to_owned().unwrap();
            drop((pool, socket, umem));
            arriving[10..].iter().for_each(|n| tap.send(&content(*n)));

            let (next, mut hand) = Umem::adopt(memory, &shape, &in_hand).unwrap();
            pool = Vec::with_capacity(FRAMES as usize);
            pool.append(&mut hand);
            socket = Socket::take_over(&next, fd, &config("a0"), in_flight).unwrap();
            umem = next;
            received(&socket, 15);
            let mut frames = Vec::with_capacity(64);
            assert_eq!(socket.receive(64, &mut frames), 15);
            for (n, frame) in arriving.iter().zip(&frames) {
                assert_eq!(umem.bytes(frame), content(*n), "turn {turn}, frame {n}");
            }
            pool.append(&mut frames);
            socket.wake_tx().unwrap();
            for n in &leaving {
                assert_eq!(tap.next().as_deref(), Some(&content(*n)[..]), "turn {turn}");
            }
            let until = Instant::now() + Duration::from_secs(5);
            while socket.in_flight() > 0 {
                assert!(Instant::now() < until, "{}", socket.in_flight());
                socket.complete(&mut pool);
            }
            let all = pool.len() as u32 + socket.fill_level();
            assert_eq!((all, socket.invalid()), (FRAMES, 0), "turn {turn}");
        }
        let all = socket.statistics().unwrap();
        assert_eq!(
            (all.rx_dropped, all.rx_ring_full, all.tx_invalid_descs),
            (0, 0, 0)
        );
        assert!(tap.next().is_none());
    });
}

#[test]
fn a_socket_that_is_not_what_it_is_said_to_be_is_not_taken_over() {
    in_lab(1, |lab| {
        let (umem, _frames) = umem(16);
        let asked = config("a0");
        let refused = |fd: OwnedFd, asked: &SocketConfig| {
            let error = Socket::take_over(&umem, fd, asked, 0).unwrap_err();
            error.to_string()
        };
        let of = |fd: &dyn AsFd| fd.as_fd().try_clone_to_owned().unwrap();
        let tap = Tap::new("b0");
        assert!(refused(of(&tap.0), &asked).contains("no AF_XDP socket"));
        let null = File::open("/dev/null").unwrap();
        assert!(refused(of(&null), &asked).contains("no AF_XDP socket"));
        let socket = Socket::bind(&umem, &asked, None).unwrap();
        let zero_copy = SocketConfig {
            mode: Mode::ZeroCopy,
            ..asked
        };
        assert!(refused(of(&socket), &zero_copy).contains("copy mode"));
        for at in 0..4 {
            let mut rings = [64; 4];
            rings[at] = 4096;
            let [fill, completion, rx, tx] = rings;
            let asked = SocketConfig {
                rings: RingSizes {
                    fill,
                    completion,
                    rx,
                    tx,
                },
                ..asked
            };
            let name = ["fill", "completion", "rx", "tx"][at];
            assert!(refused(of(&socket), &asked).contains(&format!("its {name} ring")));
        }
        let (memory, mut pool) = Umem::shared(&UmemConfig {
            frames: 16,
            chunk: 2048,
            headroom: 0,
            huge_pages: false,
        })
        .unwrap();
        let mut other = Socket::bind(&memory, &config("b0"), None).unwrap();
        let lent = memory.number(&pool[15]).unwrap();
        assert_eq!(other.fill(&mut pool, 1), 1);
        let file = memory.file().unwrap().try_clone_to_owned().unwrap();
        let shape = UmemConfig {
            frames: 16,
            chunk: 2048,
            headroom: 0,
            huge_pages: false,
        };
        let (memory, _hand) = Umem::adopt(file, &shape, &[lent]).unwrap();
        let error = Socket::take_over(&memory, of(&other), &config("b0"), 0).unwrap_err();
        assert!(error.to_string().contains("more than one hand"), "{error}");
        in_lab(1, |_| {
            assert!(refused(of(&socket), &asked).contains("namespace"));
        });
        lab.ip(&["link", "del", "a0"]);
        let unbound = |_| refused(of(&socket), &asked).contains("bound to no queue");
        assert!(
            (0..100)
                .map(|_| thread::sleep(Duration::from_millis(10)))
                .any(unbound)
        );
    });
}

#[test]
fn a_descriptor_that_is_known_by_its_number_is_duplicated_and_closed_with_its_duplicate() {
    let file = File::open("/dev/null").unwrap();
    let duplicate = af_xdp::duplicate(file.as_raw_fd()).unwrap();
    assert_ne!(duplicate.as_raw_fd(), file.as_raw_fd());
    let error = af_xdp::duplicate(-1).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EBADF));
}

/// Takes capabilities from the calling thread, and from it only: those of `keep` (a mask of `1 << CAP_*`) are left.
fn keep_capabilities(keep: u64) {
    /// `struct __user_cap_header_struct` of `linux/capability.h`, version 3, and twice `__user_cap_data_struct`.
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    let header = Header {
        version: 0x2008_0522,
        pid: 0,
    };
    let mut sets = [[0u32; 3]; 2];
    // SAFETY: the structures have the shape that the call reads and writes.
    unsafe {
        assert_eq!(
            libc::syscall(libc::SYS_capget, &raw const header, &raw mut sets),
            0
        );
        for (set, keep) in sets.iter_mut().zip([keep as u32, (keep >> 32) as u32]) {
            set[0] &= keep;
        }
        assert_eq!(
            libc::syscall(libc::SYS_capset, &raw const header, &raw const sets),
            0
        );
    }
}

#[test]
fn without_the_right_to_raw_sockets_a_bind_says_which_right_is_missing() {
    in_lab(1, |_| {
        let (umem, _frames) = umem(16);
        let config = config("a0");
        keep_capabilities(0);
        let error = Socket::bind(&umem, &config, None).unwrap_err();
        assert!(matches!(error, BindError::Privilege), "{error}");
        assert!(error.to_string().contains("CAP_NET_RAW"));
    });
}

#[test]
fn memory_beyond_the_limit_on_locked_pages_is_refused_by_name() {
    in_lab(1, |_| {
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: writable for a structure of that kind.
        unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) };
        let chunks = limit.rlim_cur / 2048 + 1;
        if chunks > 1 << 17 {
            eprintln!("skipped: the limit on locked memory is too high to be passed here");
            return;
        }
        let (umem, _frames) = umem(chunks as u32);
        const CAP_IPC_LOCK: u64 = 1 << 14;
        keep_capabilities(!CAP_IPC_LOCK);
        let error = Socket::bind(&umem, &config("a0"), None).unwrap_err();
        assert!(matches!(error, BindError::LockedMemory { .. }), "{error}");
    });
}
