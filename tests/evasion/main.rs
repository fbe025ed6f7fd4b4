//! Packets that are dressed up so that a filter misreads them: each is sent to a real server, first through a bridge that filters nothing, then through
//! the gate. One counts only if the server answers it where nothing filters. Of those, what is forbidden may not arrive and what is allowed must.
//!
//! Every trick of [`tricks`] by itself, on UDP and TCP, IPv4 and IPv6, is a named case; every two of different groups together are variants of them.

#[path = "../common/mod.rs"]
mod common;
mod recipe;
mod server;
mod tools;
mod tricks;

use common::gate::config;
use common::{Gate, Lab};
use recipe::Recipe;
use server::Target;
use std::collections::BTreeMap;
use tricks::{Right, Trick, tricks};

/// One way to dress a packet up.
struct Variant {
    name: String,
    recipe: Recipe,
    right: Right,
    tricks: usize,
}

/// What the gate does with all of it together. Of two reasons for a drop either may come first.
fn right(recipe: &Recipe, put_on: &[&Trick]) -> Right {
    let mut rights = put_on.iter().map(|trick| trick.right);
    if let Some(drops) = rights.find(|right| *right != Right::Passes) {
        return drops;
    }
    let header = if recipe.tcp {
        20 + recipe.tcp_options.len()
    } else {
        8
    };
    let first = recipe.cut.and_then(|cut| cut.first_piece());
    if first.is_some_and(|first| first < header) {
        return Right::Drops("fragment-tiny");
    }
    // Rules look for TFTP and for IRC on any port, and so few bytes of a payload (it begins with zeros) may be the beginning of many things.
    if first.is_some_and(|first| first < header + 8) {
        return Right::Drops("payload-hidden");
    }
    // The fragment header is one of the eight that are walked.
    if recipe.v6 && recipe.cut.is_some() && recipe.ext.len() == 8 {
        return Right::Drops("ext-header");
    }
    Right::Passes
}

/// Nothing, every trick, and every pair of tricks, on all that they can be put on.
fn variants() -> Vec<Variant> {
    let tricks = tricks();
    let mut all = Vec::new();
    for (v6, tcp) in [(false, false), (false, true), (true, false), (true, true)] {
        let base = format!(
            "{} {}",
            if tcp { "TCP" } else { "UDP" },
            if v6 { "IPv6" } else { "IPv4" }
        );
        let fitting: Vec<&Trick> = tricks.iter().filter(|trick| trick.fits(v6, tcp)).collect();
        let mut add = |put_on: &[&Trick]| {
            let mut recipe = Recipe {
                v6,
                tcp,
                body: if tcp { 0 } else { 120 },
                ..Recipe::default()
            };
            let cut = put_on.iter().any(|trick| trick.group == tricks::Group::Cut);
            if tcp && cut {
                recipe.body = 120;
            }
            for trick in put_on {
                (trick.apply)(&mut recipe);
            }
            let right = right(&recipe, put_on);
            let names: Vec<_> = put_on.iter().map(|trick| trick.name).collect();
            all.push(Variant {
                name: format!(
                    "{base}, {}",
                    if names.is_empty() {
                        "plain".into()
                    } else {
                        names.join(" + ")
                    }
                ),
                right,
                tricks: put_on.len(),
                recipe,
            });
        };
        add(&[]);
        for (at, trick) in fitting.iter().enumerate() {
            add(&[trick]);
            for other in fitting[at + 1..]
                .iter()
                .filter(|other| other.group != trick.group)
            {
                add(&[trick, other]);
            }
        }
    }
    all
}

#[test]
fn no_way_to_dress_a_packet_up_gets_what_is_forbidden_out_or_stops_what_is_allowed() {
    let Some(lab) = Lab::addressed() else { return };
    let all = variants();
    let recipes: Vec<&Recipe> = all.iter().map(|variant| &variant.recipe).collect();
    let bridged = {
        server::bridge(&lab);
        let mut target = Target::new(&lab);
        let seen = target.run(&recipes, 0, |_, _| true);
        server::unbridge(&lab);
        seen
    };
    let gate = Gate::with(&lab, &config(&lab, "", "[flows]\nadopt = \"off\"\n"));
    let mut target = Target::new(&lab);
    // Only what should arrive is sent again when it does not.
    let wanted = |at: usize, forbidden: bool| {
        !forbidden && all[at].right == Right::Passes && bridged.both(at)
    };
    let gated = target.run(&recipes, 1, wanted);

    let (mut leaks, mut losses, mut passed_in_spite) = (Vec::new(), Vec::new(), Vec::new());
    let mut effective = [0usize; 3];
    let mut named = 0;
    for (at, variant) in all.iter().enumerate() {
        named += usize::from(variant.tricks == 1);
        if gated.forbidden(at) {
            leaks.push(&variant.name);
        }
        if !bridged.both(at) {
            continue;
        }
        effective[variant.tricks] += 1;
        match (variant.right, gated.allowed(at)) {
            (Right::Passes, false) => losses.push(&variant.name),
            (Right::Drops(_), true) => passed_in_spite.push(&variant.name),
            _ => {}
        }
    }
    let status = gate.assert_balanced();
    let by_reason = status["ports"]["lan"]["dropped"]
        .as_object()
        .expect("counts");
    println!(
        "{} variants, {named} of them named cases; effective without a filter: {} plain, {} cases, {} in pairs",
        all.len(),
        effective[0],
        effective[1],
        effective[2]
    );
    println!(
        "leaks {}, losses {}; dropped by the gate: {by_reason:?}",
        leaks.len(),
        losses.len()
    );
    assert!(leaks.is_empty(), "forbidden, and arrived: {leaks:#?}");
    assert!(losses.is_empty(), "allowed, and lost: {losses:#?}");
    assert!(
        passed_in_spite.is_empty(),
        "to be dropped, and arrived: {passed_in_spite:#?}"
    );
    assert!(
        named >= 150 && effective.iter().sum::<usize>() >= 2000,
        "{named} {effective:?}"
    );
    assert_eq!(effective[0], 4, "every plain packet arrives");
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for trick in tricks() {
        if let Right::Drops(reason) = trick.right {
            *reasons.entry(reason).or_default() += 1;
        }
    }
    for reason in reasons.keys() {
        assert!(
            by_reason.contains_key(*reason),
            "nothing was dropped for {reason}"
        );
    }
}

#[test]
fn every_trick_says_where_the_right_behaviour_is_written() {
    let all = tricks();
    let mut names = std::collections::HashSet::new();
    for trick in &all {
        assert!(
            names.insert((trick.name, format!("{:?}", trick.on))),
            "{} twice",
            trick.name
        );
        let known = ["RFC ", "IEEE ", "SPEC: "];
        assert!(
            known.iter().any(|known| trick.source.starts_with(known)),
            "{}",
            trick.name
        );
    }
}
