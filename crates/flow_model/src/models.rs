//! The models.

use crate::slots::{Fresh, KeyWords, Likely, Opened, Slot, Slots, Tag, V4_WORD};
use loom::sync::Arc;
use loom::thread;

/// Preemptions that a schedule may have: with two threads, faults that need more are next to unknown (loom's own advice).
const PREEMPTIONS: usize = 3;

const ONE: KeyWords = [1, 1, 1, 1, 1];
const TWO: KeyWords = [2, 2, 2, 2, 2];
const THREE: KeyWords = [3, 3, 3, 3, 3];

/// With one bucket it is both of every key. With two the second word says which is the first, 0 or [`UPPER`]; for 2, 4 and 6 the upper is the
/// second, for 1 and 3 the lower.
fn hash(key: &KeyWords) -> u64 {
    key[0] << 51 | key[0] << 32 | key[1] & UPPER
}

const UPPER: u64 = 1 << 31;

fn fresh(control: u64) -> Fresh {
    Fresh {
        class: 2,
        tick: 0,
        control,
        state: [control, control],
    }
}

fn open(slots: &Slots, key: &KeyWords, control: u64) -> Opened {
    let (over, rank) = (|_: Tag| false, |_: Tag| None);
    slots.open(key, hash(key), &fresh(control), over, rank, hash, |_| ())
}

/// The control words of every entry of this key, which is where one looks for it at a glance, too.
fn entries(slots: &Slots, key: &KeyWords) -> Vec<u64> {
    let glance = match slots.likely(hash(key), slots.prefetch_tags(hash(key))) {
        Likely::Elsewhere => slots.likely_elsewhere(hash(key)),
        likely => likely,
    };
    let nowhere = matches!(glance, Likely::Nowhere);
    assert!(!nowhere || slots.find(key, hash(key)).is_none());
    (0..slots.buckets())
        .flat_map(|bucket| slots.live(bucket).collect::<Vec<_>>())
        .filter(|slot| slots.key(slot) == Some(*key))
        .map(|slot| slots.read(&slot).expect("nobody else is there").0)
        .collect()
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    check_up_to(PREEMPTIONS, model);
}

fn check_up_to(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    let orders = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&orders);
    builder.check(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        model();
    });
    println!(
        "{} orders",
        orders.load(std::sync::atomic::Ordering::Relaxed)
    );
}

#[test]
fn two_workers_that_open_one_flow_make_one_entry_and_both_find_it() {
    check(|| {
        let slots = Arc::new(Slots::made_of(1, 2));
        let other = Arc::clone(&slots);
        let thread = thread::spawn(move || matches!(open(&other, &ONE, 5), Opened::New(_)));
        let mine = matches!(open(&slots, &ONE, 6), Opened::New(_));
        let theirs = thread.join().unwrap();
        assert!(mine != theirs, "one of them opens it");
        assert_eq!(entries(&slots, &ONE), [if mine { 6 } else { 5 }]);
        assert!(slots.find(&ONE, hash(&ONE)).is_some());
    });
}

#[test]
fn two_workers_that_open_two_flows_make_two_entries() {
    check(|| {
        let slots = Arc::new(Slots::made_of(1, 2));
        let other = Arc::clone(&slots);
        let thread = thread::spawn(move || matches!(open(&other, &ONE, 5), Opened::New(_)));
        assert!(matches!(open(&slots, &TWO, 6), Opened::New(_)));
        assert!(thread.join().unwrap());
        assert_eq!(
            (entries(&slots, &ONE), entries(&slots, &TWO)),
            (vec![5], vec![6])
        );
    });
}

#[test]
fn who_looks_a_flow_up_while_it_is_opened_sees_nothing_or_all_of_it() {
    check(|| {
        let slots = Arc::new(Slots::made_of(1, 2));
        let other = Arc::clone(&slots);
        let thread = thread::spawn(move || {
            open(&other, &ONE, 5);
        });
        if let Some(slot) = slots.find(&ONE, hash(&ONE)) {
            assert_eq!(slots.read(&slot), Some((5, [5, 5])));
        }
        assert!(slots.find(&TWO, hash(&TWO)).is_none());
        thread.join().unwrap();
    });
}

#[test]
fn who_reads_a_flow_of_ipv4_whose_line_changes_hands_sees_all_of_it_or_a_difference() {
    let key = |inside: u64| [V4_WORD, inside, 0, 9, inside];
    // With three preemptions it would run for over a minute.
    check_up_to(2, move || {
        let slots = Arc::new(Slots::made_of(1, 2));
        let Opened::New(slot) = open(&slots, &key(1), 5) else {
            panic!("it is empty")
        };
        let other = Arc::clone(&slots);
        let thread = thread::spawn(move || {
            assert_eq!(other.remove(&slot, hash), Some(key(1)));
            open(&other, &key(2), 6);
        });
        for inside in [1, 2] {
            let (differ, control, state) = slots.get_v4(&slot, inside << 32 | 9, inside).unwrap();
            if differ == 0 {
                assert_eq!((inside, control, state), (1, 5, [5, 5]));
            }
        }
        thread.join().unwrap();
        assert_ne!(slots.get_v4(&slot, 1 << 32 | 9, 1).unwrap().0, 0);
        assert_ne!(slots.get_v4(&Slot::NONE, 0, 0).unwrap().0, 0);
    });
}

#[test]
fn a_slot_that_changes_hands_is_not_changed_by_who_knew_the_flow_before() {
    check(|| {
        let slots = Arc::new(Slots::made_of(1, 2));
        let Opened::New(slot) = open(&slots, &ONE, 5) else {
            panic!("it is empty")
        };
        let other = Arc::clone(&slots);
        let thread = thread::spawn(move || {
            assert_eq!(other.remove(&slot, hash), Some(ONE));
            // The same control word as the one before had.
            open(&other, &TWO, 5);
        });
        if slots.is_of(&slot, &ONE) {
            slots.change(&slot, 5, 7);
        }
        thread.join().unwrap();
        assert_eq!(
            (entries(&slots, &TWO), entries(&slots, &ONE)),
            (vec![5], vec![])
        );
    });
}

#[test]
fn a_flow_that_is_used_in_the_moment_of_its_removal_stays_or_goes_and_is_never_half_there() {
    check(|| {
        let slots = Arc::new(Slots::made_of(1, 2));
        let Opened::New(slot) = open(&slots, &ONE, 5) else {
            panic!("it is empty")
        };
        let other = Arc::clone(&slots);
        let thread = thread::spawn(move || other.remove(&slot, hash).is_some());
        slots.touch(&slot, 3, 9);
        let removed = thread.join().unwrap();
        let found = slots.find(&ONE, hash(&ONE));
        assert_eq!(found.is_none(), removed);
        if let Some(slot) = found {
            assert_eq!((slot.tag.class(), slot.tag.tick()), (3, 9));
        }
    });
}

#[test]
fn who_opens_a_flow_that_is_being_restarted_finds_the_new_one() {
    check(|| {
        let slots = Arc::new(Slots::made_of(1, 2));
        let Opened::New(slot) = open(&slots, &ONE, 5) else {
            panic!("it is empty")
        };
        let other = Arc::clone(&slots);
        let thread = thread::spawn(move || other.restart(&slot, &fresh(8)).is_some());
        assert!(matches!(open(&slots, &ONE, 6), Opened::Exists(_)));
        assert!(thread.join().unwrap());
        assert_eq!(entries(&slots, &ONE), [8]);
    });
}

#[test]
fn two_flows_of_different_buckets_take_the_last_slot_once() {
    // The locks are two here, and a third preemption makes ten thousand orders of a few hundred.
    check_up_to(2, || {
        let slots = Arc::new(Slots::made_of(2, 4));
        assert_eq!(slots.buckets(), 2);
        // The lower bucket is full, the upper has one slot left.
        for key in [[2, 0, 0, 0, 0], [4, 0, 0, 0, 0], [1, UPPER, 0, 0, 0]] {
            assert!(matches!(open(&slots, &key, 1), Opened::New(_)));
        }
        // The first of one is full, so that it goes to its second, which is the first of the other.
        let (up, down) = ([6, 0, 0, 0, 0], [3, UPPER, 0, 0, 0]);
        let other = Arc::clone(&slots);
        let thread = thread::spawn(move || matches!(open(&other, &up, 5), Opened::New(_)));
        let mine = matches!(open(&slots, &down, 6), Opened::New(_));
        let theirs = thread.join().unwrap();
        assert!(mine != theirs);
        assert_eq!(slots.find(&up, hash(&up)).is_some(), theirs);
        assert_eq!(slots.find(&down, hash(&down)).is_some(), mine);
    });
}

#[test]
fn who_looks_for_a_flow_in_its_second_bucket_sees_nothing_or_all_of_it() {
    check(|| {
        let slots = Arc::new(Slots::made_of(2, 4));
        for key in [[2, 0, 0, 0, 0], [4, 0, 0, 0, 0]] {
            open(&slots, &key, 1);
        }
        let up = [6, 0, 0, 0, 0];
        let other = Arc::clone(&slots);
        let thread = thread::spawn(move || {
            let Opened::New(slot) = open(&other, &up, 5) else {
                panic!("there is room")
            };
            other.remove(&slot, hash)
        });
        if let Some(slot) = slots.find(&up, hash(&up)) {
            assert_eq!(slots.read(&slot), Some((5, [5, 5])));
        }
        assert_eq!(thread.join().unwrap(), Some(up));
        assert!(slots.find(&up, hash(&up)).is_none());
    });
}

#[test]
fn in_a_full_bucket_two_new_flows_throw_out_at_most_as_many_as_they_are() {
    check(|| {
        let slots = Arc::new(Slots::made_of(1, 2));
        open(&slots, &THREE, 3);
        open(&slots, &[4; 5], 4);
        let crowd = |slots: &Slots, key: &KeyWords| {
            // Those that were there before go, and not each other.
            let rank = |tag: Tag| (tag.class() == 2).then_some(0);
            let new = Fresh {
                class: 3,
                ..fresh(key[0])
            };
            let mut gone = 0;
            let over = |_: Tag| false;
            let opened = slots.open(key, hash(key), &new, over, rank, hash, |_| gone += 1);
            (matches!(opened, Opened::New(_)), gone)
        };
        let other = Arc::clone(&slots);
        let thread = thread::spawn(move || crowd(&other, &ONE));
        let mine = crowd(&slots, &TWO);
        let theirs = thread.join().unwrap();
        let old = entries(&slots, &THREE).len() + entries(&slots, &[4; 5]).len();
        let new = entries(&slots, &ONE).len() + entries(&slots, &TWO).len();
        assert_eq!(new, usize::from(mine.0) + usize::from(theirs.0));
        assert_eq!(old, 2 - mine.1 - theirs.1);
        assert!(old + new <= 2 && new > 0, "{old} {new}");
    });
}
