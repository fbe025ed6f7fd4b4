//! Reverse DNS, aside: threads of its own ask the system's resolver, which may take its time, and nobody waits for them.

use super::names::Recent;
use crossbeam::channel::{Receiver, Sender, bounded};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Look-ups at once.
const THREADS: usize = 4;
/// Look-ups that wait; one that finds no room is asked for again by the next line of its host.
const WAITING: usize = 256;
/// Addresses whose names are remembered.
const MOST: usize = 4_096;
/// How long a name is taken for right, and how long an address is not asked for again that had none.
const GOOD_FOR: Duration = Duration::from_secs(3_600);
const NONE_FOR: Duration = Duration::from_secs(600);
/// A look-up that takes longer is given up: the address may be asked for again.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is known of an address, and until when.
#[derive(Debug)]
struct Known {
    name: Option<String>,
    until: Instant,
}

type Cache = Arc<Mutex<Recent<IpAddr, Known>>>;

/// Asks, and remembers.
#[derive(Debug)]
pub struct Resolver {
    known: Cache,
    ask: Sender<IpAddr>,
}

impl Resolver {
    /// Starts the threads, on the cores of the calling one. They end when this is dropped.
    ///
    /// # Errors
    /// That there are no threads to be had.
    pub fn start() -> std::io::Result<Resolver> {
        Resolver::with(|ip| dns_lookup::lookup_addr(&ip).ok())
    }

    fn with(
        look_up: impl Fn(IpAddr) -> Option<String> + Clone + Send + 'static,
    ) -> std::io::Result<Resolver> {
        let known = Arc::new(Mutex::new(Recent::new(MOST)));
        let (ask, asked) = bounded(WAITING);
        for _ in 0..THREADS {
            let (known, asked, look_up) = (Arc::clone(&known), asked.clone(), look_up.clone());
            std::thread::Builder::new()
                .name("names".into())
                .spawn(move || work(&known, &asked, look_up))?;
        }
        Ok(Resolver { known, ask })
    }

    /// The name of an address, if it is known by now; else it is asked for.
    pub fn name(&self, ip: IpAddr) -> Option<String> {
        let now = Instant::now();
        let mut known = lock(&self.known);
        if let Some(there) = known.get(&ip)
            && now < there.until
        {
            return there.name.clone();
        }
        let old = known.get(&ip).and_then(|there| there.name.clone());
        if self.ask.try_send(ip).is_ok() {
            known.put(
                ip,
                Known {
                    name: old.clone(),
                    until: now + PATIENCE,
                },
            );
        }
        // Better a name of an hour ago than none.
        old
    }
}

fn lock(known: &Cache) -> MutexGuard<'_, Recent<IpAddr, Known>> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

fn work(known: &Cache, asked: &Receiver<IpAddr>, look_up: impl Fn(IpAddr) -> Option<String>) {
    while let Ok(ip) = asked.recv() {
        // The address itself, in words, is no name.
        let name = look_up(ip).filter(|name| name.parse::<IpAddr>().is_err());
        let good_for = if name.is_some() { GOOD_FOR } else { NONE_FOR };
        let until = Instant::now() + good_for;
        lock(known).put(ip, Known { name, until });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    #[test]
    fn a_name_is_there_for_a_later_line_and_a_resolver_that_hangs_delays_nobody() {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let resolver = Resolver::with(move |ip| {
            counted.fetch_add(1, SeqCst);
            match ip {
                IpAddr::V4(ip) if ip.octets()[3] == 9 => Some("desk.example".into()),
                IpAddr::V4(ip) => Some(ip.to_string()),
                IpAddr::V6(_) => loop {
                    std::thread::park();
                },
            }
        })
        .unwrap();
        let [named, bare] = ["10.0.0.9", "10.0.0.8"].map(|ip| ip.parse::<IpAddr>().unwrap());
        assert_eq!(resolver.name(named), None);
        let deadline = Instant::now() + Duration::from_secs(5);
        while resolver.name(named).is_none() {
            assert!(Instant::now() < deadline, "no name");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(resolver.name(named).as_deref(), Some("desk.example"));
        assert_eq!(count.load(SeqCst), 1, "asked once");
        resolver.name(bare);
        while lock(&resolver.known)
            .get(&bare)
            .is_none_or(|known| known.until < Instant::now() + PATIENCE)
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(resolver.name(bare), None, "its address is no name");
        let start = Instant::now();
        for n in 0..10_000_u128 {
            assert_eq!(resolver.name(std::net::Ipv6Addr::from(n).into()), None);
        }
        assert!(start.elapsed() < Duration::from_secs(2));
        assert!(resolver.ask.len() <= WAITING);
    }
}
