//! `portcullis detach`.

use super::{ConfigFile, cannot};
use crate::config::{Bridge, Config};
use crate::control::bringup;
use crate::control::socket::{self, Request};
use crate::os::nic;
use crate::os::offload::{self, Before};
use crate::port::gate;
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(super) struct Detach {
    #[command(flatten)]
    config: ConfigFile,
}

impl Detach {
    pub(super) fn run(self) -> ExitCode {
        let config = match self.config.load() {
            Ok(config) => config,
            Err(code) => return code,
        };
        match detach(&config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => cannot(e),
        }
    }
}

fn detach(config: &Config) -> Result<(), Box<dyn Error>> {
    let bridge = config
        .bridge
        .as_ref()
        .ok_or("the config has no [bridge] section, so there are no NICs to give back")?;
    let socket = &config.control.socket;
    if let Ok(answer) = socket::ask(socket, &Request::Status) {
        return Err(format!(
            "the gate is running (process {}); stop it first: kill {0}",
            answer["pid"]
        )
        .into());
    }
    // One that does not answer: stopped, or started with another control socket.
    for name in [&bridge.lan, &bridge.uplink] {
        if nic::block_on(nic::inspect(name)).is_ok_and(|nic| bringup::in_use(&nic)) {
            return Err(format!(
                "{name}: a gate or another AF_XDP program is running on it; stop it first"
            )
            .into());
        }
    }
    let state = socket.parent().unwrap_or(Path::new("/run/portcullis"));
    // One that fails, being gone for example, is no reason to keep the other.
    let [lan, uplink] = [&bridge.lan, &bridge.uplink].map(|name| give_back(name, bridge, state));
    lan.and(uplink)
}

/// Takes the gate off one NIC, and undoes what a start switched.
fn give_back(name: &str, bridge: &Bridge, state: &Path) -> Result<(), Box<dyn Error>> {
    let nic = nic::block_on(nic::inspect(name))?;
    let was_there = gate::detach(name, nic.index, &bridge.bpffs)?;
    if let Some(before) = Before::load(state, &nic) {
        offload::switch(name, &before.features, true)?;
        nic::block_on(nic::set_flags(&nic, before.promisc))?;
        Before::forget(state, name);
    }
    println!(
        "{name}: {}",
        if was_there {
            "the gate is off, the NIC is as it was"
        } else {
            "no gate of ours is on it"
        }
    );
    Ok(())
}
