//! `SECURITY.md` and `docs/unsafe.md` say what is there: every file with `unsafe`, every function in it, how often; every test and file that they name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const UNSAFE: &str = "docs/unsafe.md";
const PAGES: [&str; 2] = ["SECURITY.md", UNSAFE];
/// Where code is.
const CODE: [&str; 5] = ["src", "crates", "benches", "tests", "fuzz"];
/// Last cells of tables whose rows have to name what shows them.
const SHOWN: [&str; 2] = ["shown by", "held by"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Every Rust file below a folder, builds left out.
fn files(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            files(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

/// A word, or one character that is none.
#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Sign(char),
}

/// What a compiler reads: no comments, no strings, no characters.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let (mut found, mut at) = (Vec::new(), 0);
    let is = |at: usize, c: char| chars.get(at) == Some(&c);
    while let Some(&c) = chars.get(at) {
        if is(at, '/') && is(at + 1, '/') {
            at += chars[at..].iter().take_while(|c| **c != '\n').count();
        } else if is(at, '/') && is(at + 1, '*') {
            let mut deep = 0;
            loop {
                assert!(at < chars.len(), "a comment without an end");
                match (
                    is(at, '/') && is(at + 1, '*'),
                    is(at, '*') && is(at + 1, '/'),
                ) {
                    (true, _) => (deep, at) = (deep + 1, at + 2),
                    (_, true) => (deep, at) = (deep - 1, at + 2),
                    _ => at += 1,
                }
                if deep == 0 {
                    break;
                }
            }
        } else if c == '"' {
            at = past_string(&chars, at);
        } else if c == '\'' {
            // 'x' and '\n' are characters, 'x without a quote behind it is a lifetime.
            if is(at + 1, '\\') {
                at += 3 + chars[at + 3..].iter().take_while(|c| **c != '\'').count() + 1;
            } else if is(at + 2, '\'') {
                at += 3;
            } else {
                at += 1;
            }
        } else if c.is_alphanumeric() || c == '_' {
            let more = chars[at..].iter();
            let word: String = more
                .take_while(|c| c.is_alphanumeric() || **c == '_')
                .collect();
            at += word.chars().count();
            let hashes = chars[at..].iter().take_while(|c| **c == '#').count();
            if ["r", "br", "cr"].contains(&&*word) && is(at + hashes, '"') {
                at = past_raw(&chars, at + hashes + 1, hashes);
            } else {
                found.push(Token::Word(word));
            }
        } else {
            if !c.is_whitespace() {
                found.push(Token::Sign(c));
            }
            at += 1;
        }
    }
    found
}

fn past_string(chars: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

fn past_raw(chars: &[char], mut at: usize, hashes: usize) -> usize {
    let ends =
        |at: usize| chars[at] == '"' && chars[at + 1..].iter().take(hashes).all(|c| *c == '#');
    while !ends(at) {
        at += 1;
    }
    at + 1 + hashes
}

/// How often a text says `unsafe`, by the function that does so, or by `impl Send for X`, `trait X`.
fn uses(text: &str) -> BTreeMap<String, usize> {
    let tokens = tokens(text);
    let word = |at: usize| match tokens.get(at) {
        Some(Token::Word(word)) => word.as_str(),
        _ => "",
    };
    let mut found = BTreeMap::new();
    // Functions that are open, with the depth of braces outside of them; the one whose body is still to come.
    let (mut open, mut coming): (Vec<(String, usize)>, Option<String>) = (Vec::new(), None);
    let (mut braces, mut parens) = (0, 0usize);
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Word(w) if w == "fn" && !word(at + 1).is_empty() => {
                coming = Some(word(at + 1).to_owned());
            }
            Token::Word(w) if w == "unsafe" => {
                let by = match word(at + 1) {
                    "fn" => word(at + 2).to_owned(),
                    "trait" => format!("trait {}", word(at + 2)),
                    "impl" => implemented(&tokens[at + 2..]),
                    _ => open
                        .last()
                        .map_or_else(String::new, |(name, _)| name.clone()),
                };
                assert!(!by.is_empty(), "unsafe in no function");
                *found.entry(by).or_default() += 1;
            }
            Token::Sign('(' | '[') => parens += 1,
            Token::Sign(')' | ']') => parens = parens.saturating_sub(1),
            Token::Sign(';') if parens == 0 => coming = None,
            Token::Sign('{') => {
                if let Some(name) = coming.take_if(|_| parens == 0) {
                    open.push((name, braces));
                }
                braces += 1;
            }
            Token::Sign('}') => {
                braces -= 1;
                open.pop_if(|(_, depth)| *depth == braces);
            }
            _ => {}
        }
    }
    assert_eq!(braces, 0, "braces that do not match");
    found
}

/// `impl Send for Heap` of what follows `unsafe impl`.
fn implemented(tokens: &[Token]) -> String {
    let (mut words, mut deep) = (vec!["impl"], 0);
    for token in tokens {
        match token {
            Token::Sign('{') => break,
            Token::Sign('<') => deep += 1,
            Token::Sign('>') => deep -= 1,
            Token::Word(word) if deep == 0 => words.push(word),
            _ => {}
        }
    }
    words.join(" ")
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The sections of the page that are about a file: its path, how often it says `unsafe`, the names in the first cells of its tables.
fn listed() -> BTreeMap<String, (usize, BTreeSet<String>)> {
    let page = read(UNSAFE);
    let mut sections = BTreeMap::new();
    for section in page.split("\n### ").skip(1) {
        let (head, body) = section.split_once('\n').unwrap();
        let body = body.split("\n## ").next().unwrap();
        let (path, count) = head.split_once("`: ").unwrap_or_else(|| panic!("{head}"));
        let rows = body.lines().filter(|line| line.starts_with('|'));
        let cells = rows.flat_map(|row| quoted(row.split('|').nth(1).unwrap()));
        let names = cells.map(str::to_owned).collect();
        let before = sections.insert(
            path.trim_start_matches('`').to_owned(),
            (count.parse().unwrap(), names),
        );
        assert!(before.is_none(), "{path} stands there twice");
    }
    sections
}

#[test]
fn every_unsafe_of_the_tree_stands_in_the_page_under_its_file_and_function() {
    let mut listed = listed();
    let mut all = Vec::new();
    for dir in CODE {
        files(&root().join(dir), &mut all);
    }
    let mut wrong = Vec::new();
    for path in &all {
        let name = path.strip_prefix(root()).unwrap().to_str().unwrap();
        let found = uses(&read(name));
        let (count, names) = (found.values().sum::<usize>(), found.into_keys().collect());
        let said = listed.remove(name).unwrap_or_default();
        if said != (count, names) {
            let found = uses(&read(name));
            wrong.push(format!(
                "{name}: {count} in {found:?}, and the page says {said:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{UNSAFE}:\n{}", wrong.join("\n"));
    assert!(
        listed.is_empty(),
        "{UNSAFE} has files that are not there: {listed:?}"
    );
    assert!(all.len() > 200, "only {} files were looked at", all.len());
}

#[test]
fn what_only_looks_like_unsafe_is_not_counted_and_what_is_counts_where_it_stands() {
    let text = r##"
        #![deny(unsafe_code)]
        // unsafe { } /* unsafe
        /* unsafe /* unsafe */ unsafe */
        const A: &str = "unsafe { \" unsafe"; const B: &str = r#"unsafe " unsafe"#; const C: [char; 3] = ['"', '\'', '{'];
        unsafe impl<T: Send> Send for Heap<T> {}
        pub unsafe trait Memory { unsafe fn read<'a>(&'a self) -> [u8; 2]; }
        fn outer(f: fn(u32) -> u32) { unsafe { g() }; fn inner() { unsafe { unsafe { h() } } } unsafe { g() } }
    "##;
    let found = uses(text);
    let found: Vec<_> = found
        .iter()
        .map(|(name, count)| (&**name, *count))
        .collect();
    let expected = [
        ("impl Send for Heap", 1),
        ("inner", 2),
        ("outer", 2),
        ("read", 1),
        ("trait Memory", 1),
    ];
    assert_eq!(found, expected);
}

/// Whether a text has a test of this name.
fn has_test(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let is_it = |line: &str| {
        let rest = line
            .strip_prefix("async ")
            .unwrap_or(line)
            .strip_prefix("fn ");
        rest.and_then(|rest| rest.strip_prefix(name))
            .is_some_and(|rest| rest.starts_with('('))
    };
    (0..lines.len()).any(|at| {
        let above = lines[..at].iter().rev();
        let mut above = above.take_while(|line| line.starts_with("#[") || line.starts_with("//"));
        is_it(lines[at])
            && above.any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
    })
}

#[test]
fn every_test_and_file_that_the_pages_name_is_there() {
    for page in PAGES {
        let text = read(page);
        let (mut tests, mut wrong) = (0, Vec::new());
        for name in quoted(&text) {
            if let Some((path, test)) = name
                .split_once("::")
                .filter(|(path, _)| path.ends_with(".rs"))
            {
                tests += 1;
                let there = std::fs::read_to_string(root().join(path));
                if !there.is_ok_and(|text| has_test(&text, test)) {
                    wrong.push(name);
                }
            } else if CODE
                .iter()
                .chain(&["docs", "deploy"])
                .any(|dir| name.starts_with(&format!("{dir}/")))
                && !root().join(name).exists()
            {
                wrong.push(name);
            }
        }
        // Links, from where the page is.
        let folder = root().join(page);
        let folder = folder.parent().unwrap();
        for link in text.split("](").skip(1) {
            let link = link.split([')', '#']).next().unwrap();
            if !link.is_empty() && !link.contains("://") && !folder.join(link).exists() {
                wrong.push(link);
            }
        }
        assert!(
            wrong.is_empty(),
            "{page} names what is not there:\n{}",
            wrong.join("\n")
        );
        assert!(tests > 20, "{page} names only {tests} tests");
    }
}

#[test]
fn every_row_that_promises_something_names_a_test_that_shows_it() {
    for page in PAGES {
        let text = read(page);
        let (mut is_shown, mut rows) = (false, 0);
        for line in text.lines() {
            let Some(row) = line.strip_prefix('|') else {
                is_shown = false;
                continue;
            };
            let last = row.trim_end_matches('|').rsplit('|').next().unwrap().trim();
            if SHOWN.contains(&last) {
                is_shown = true;
            } else if is_shown && !last.starts_with("--") {
                rows += 1;
                assert!(
                    quoted(last).any(|name| name.contains(".rs::")),
                    "{page}: no test in: {line}"
                );
            }
        }
        assert!(rows > 20, "{page} has only {rows} such rows");
    }
}

#[test]
fn a_name_that_is_no_test_is_found_out() {
    let text =
        "/// Says so.\n#[test]\n#[ignore]\nfn one() {}\nfn two() {}\n#[test]\nfn three() {\n";
    assert!(has_test(text, "one") && has_test(text, "three"));
    for name in ["two", "on", "three_more", ""] {
        assert!(!has_test(text, name), "{name}");
    }
}
