//! The box's own stack: decoys, and its address.

use super::Source;
use super::family::Families;

pub(super) fn decoys(families: &mut Families, source: &Source<'_>) {
    let decoys = &source.decoys;
    families
        .gauge(
            "portcullis_decoy_conversations",
            "Connections that are being answered in their destination's place.",
        )
        .count(&[], decoys.open);
    families
        .counter(
            "portcullis_decoy_conversations_total",
            "Connections that were answered in their destination's place.",
        )
        .count(&[], decoys.begun);
    let mut refused = families.counter(
        "portcullis_decoy_refused_total",
        "Connections that were dropped instead, by what there were as many of as may be: conversations, or those of their host.",
    );
    refused.count(&[("bound", "all")], decoys.refused);
    refused.count(&[("bound", "host")], decoys.refused_host);
    for (name, help, n) in [
        (
            "portcullis_decoy_stray_frames_total",
            "Frames for decoys that are of no conversation.",
            decoys.strays,
        ),
        (
            "portcullis_decoy_unsent_frames_total",
            "Frames of decoys that found no room on their way out.",
            decoys.unsent,
        ),
        (
            "portcullis_decoy_unreported_total",
            "Conversations that no alert tells of: too many waited.",
            decoys.unreported,
        ),
    ] {
        families.counter(name, help).count(&[], n);
    }
}

/// Only where the box has an address.
pub(super) fn inband(families: &mut Families, source: &Source<'_>) {
    let Some(inband) = &source.inband else {
        return;
    };
    families
        .gauge(
            "portcullis_inband_connections",
            "Connections to the box's own address.",
        )
        .count(&[], inband.open);
    for (name, help, n) in [
        (
            "portcullis_inband_connections_total",
            "Connections to the box's own address that were served.",
            inband.opened,
        ),
        (
            "portcullis_inband_refused_total",
            "Connections to the box's own address that nobody had time for.",
            inband.refused,
        ),
        (
            "portcullis_inband_received_frames_total",
            "Frames that the box's own address was given.",
            inband.received,
        ),
        (
            "portcullis_inband_sent_frames_total",
            "Frames that the box's own address has sent.",
            inband.sent,
        ),
        (
            "portcullis_inband_unsent_frames_total",
            "Frames of the box's own address that found no room on their way out.",
            inband.unsent,
        ),
        (
            "portcullis_inband_narrowed_total",
            "Messages of routers that a packet of the box's own address was too big, which were heeded.",
            inband.narrowed,
        ),
    ] {
        families.counter(name, help).count(&[], n);
    }
}
