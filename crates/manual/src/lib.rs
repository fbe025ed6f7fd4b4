//! Writes the man pages and the shell completions of `portcullis`: `cargo run -p manual -- FOLDER`.
//!
//! They come from the definitions that the command line itself is parsed by, so a package built from a tree says what that
//! tree's binary does.

mod package;

pub use package::package;

use clap::Command;
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;
use std::io::Result;
use std::path::Path;

const NAME: &str = "portcullis";

/// Man pages into `man/`, one for the command and one for each subcommand at any depth; completions into `completions/`,
/// one folder a shell, under the names that the shells look for.
///
/// # Errors
/// That a file or folder cannot be written.
pub fn write(dir: &Path) -> Result<()> {
    let mut command = portcullis::cli::command();
    command.build();
    let man = dir.join("man");
    std::fs::create_dir_all(&man)?;
    pages(&command, NAME, &man)?;
    for (shell, name) in [
        (Shell::Bash, NAME.to_string()),
        (Shell::Zsh, format!("_{NAME}")),
        (Shell::Fish, format!("{NAME}.fish")),
    ] {
        let folder = dir.join("completions").join(shell.to_string());
        std::fs::create_dir_all(&folder)?;
        let made = generate_to(shell, &mut portcullis::cli::command(), NAME, &folder)?;
        std::fs::rename(made, folder.join(name))?;
    }
    Ok(())
}

/// The page of `command`, called `name`, and those of its subcommands, called `name-sub`.
fn pages(command: &Command, name: &str, dir: &Path) -> Result<()> {
    let mut text = Vec::new();
    // The subcommand's own name is one word; on its page it is what the page is called. A name of a command lives as long as the
    // program, which is soon over.
    let own: &'static str = name.to_string().leak();
    Man::new(command.clone().name(own))
        .title(name.to_uppercase())
        .section("1")
        .source(format!("{NAME} {}", env!("CARGO_PKG_VERSION")))
        .manual("Portcullis")
        .render(&mut text)?;
    std::fs::write(dir.join(format!("{name}.1")), text)?;
    for sub in command.get_subcommands() {
        if sub.get_name() != "help" && !sub.is_hide_set() {
            pages(sub, &format!("{name}-{}", sub.get_name()), dir)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path()).unwrap();
        dir
    }

    #[test]
    fn every_command_has_a_page_that_names_its_options() {
        let dir = made();
        let read = |name: &str| std::fs::read_to_string(dir.path().join("man").join(name)).unwrap();
        let main = read("portcullis.1");
        for sub in portcullis::cli::command().get_subcommands() {
            let name = format!("portcullis-{}.1", sub.get_name());
            let page = read(&name);
            assert!(
                page.contains(".SH NAME") && page.contains("\\-\\-help"),
                "{name}: {page}"
            );
            assert!(
                main.contains(&sub.get_name().replace('-', "\\-")),
                "{name} is not on the main page"
            );
            for option in sub
                .get_arguments()
                .filter_map(|argument| argument.get_long())
            {
                assert!(
                    page.contains(&option.replace('-', "\\-")),
                    "{name}: no --{option}"
                );
            }
        }
        assert!(read("portcullis-sets-add.1").contains("portcullis\\-sets\\-add"));
    }

    #[test]
    fn each_shell_completes_every_command() {
        let dir = made();
        for file in ["bash/portcullis", "zsh/_portcullis", "fish/portcullis.fish"] {
            let text = std::fs::read_to_string(dir.path().join("completions").join(file)).unwrap();
            for sub in portcullis::cli::command().get_subcommands() {
                assert!(
                    text.contains(sub.get_name()),
                    "{file}: no {}",
                    sub.get_name()
                );
            }
        }
    }
}
