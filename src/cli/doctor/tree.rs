//! `/proc` and `/sys` below a folder, so that tests can make a machine up.

use std::path::{Path, PathBuf};

/// The folder that holds `proc` and `sys`.
pub(super) struct Tree(PathBuf);

impl Tree {
    pub fn new(root: &Path) -> Tree {
        Tree(root.to_owned())
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    /// The text of a file without the white space around it; `None` where there is no such file.
    pub fn read(&self, path: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.path(path)).ok()?;
        Some(text.trim().to_string())
    }

    /// A number in a file.
    pub fn number(&self, path: &str) -> Option<u64> {
        self.read(path)?.parse().ok()
    }

    /// The cores that a file lists.
    pub fn cores(&self, path: &str) -> Option<Vec<usize>> {
        parse_list(&self.read(path)?)
    }

    /// The names in a folder, sorted; none where it is not there.
    pub fn names(&self, path: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(path)).into_iter().flatten();
        let mut names: Vec<String> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }
}

/// `0-3,8` as the kernel writes lists of cores; `None` for what is none. `(null)` is how it writes no `nohz_full`.
pub(super) fn parse_list(text: &str) -> Option<Vec<usize>> {
    let mut cores = Vec::new();
    for part in text.split(',').map(str::trim) {
        match part.split_once('-') {
            _ if part.is_empty() || part == "(null)" => {}
            Some((first, last)) => cores.extend(first.parse::<usize>().ok()?..=last.parse().ok()?),
            None => cores.push(part.parse().ok()?),
        }
    }
    Some(cores)
}

/// The same the other way, each core by itself.
pub(super) fn list(cores: &[usize]) -> String {
    let cores: Vec<String> = cores.iter().map(usize::to_string).collect();
    cores.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cores_are_read_as_the_kernel_writes_them() {
        assert_eq!(parse_list("0-2,8"), Some(vec![0, 1, 2, 8]));
        assert_eq!(parse_list("3"), Some(vec![3]));
        for none in ["", "(null)", " "] {
            assert_eq!(parse_list(none), Some(Vec::new()));
        }
        assert_eq!(parse_list("all"), None);
        assert_eq!(list(&[2, 3]), "2,3");
    }
}
