//! docs/coverage.md: every row of the requirements has a place, a test that exists and, on the wire, a witness.
//!
//! That the tests named there ran, and passed, is checked by `./test.sh unit`, which holds the names against what cargo printed.

use std::collections::BTreeSet;
use std::path::Path;

/// `(prefix, numbers)` of the rows that must be there.
const ROWS: &[(&str, std::ops::RangeInclusive<u8>)] = &[
    ("SIP", 1..=65),
    ("SEC", 1..=7),
    ("SAM", 15..=17),
    ("SAM", 28..=30),
    ("SAM", 32..=36),
    ("MED", 2..=2),
    ("MON", 1..=1),
    ("S", 1..=19),
    ("E2E", 5..=6),
];

struct Row {
    id: String,
    cells: Vec<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn rows() -> Vec<Row> {
    let text = std::fs::read_to_string(root().join("docs/coverage.md")).unwrap();
    let cells = text.lines().filter(|line| line.starts_with("| ")).map(|line| {
        line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()
    });
    let rows = cells.map(|cells| Row { id: cells[0].clone(), cells });
    rows.filter(|row| {
        row.id.split('-').next_back().is_some_and(|end| end.ends_with(|c: char| c.is_ascii_digit()))
    })
    .collect()
}

/// What stands in backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Whether this file has a test of this name that is not ignored.
fn is_test(file: &str, name: &str) -> bool {
    let Ok(source) = std::fs::read_to_string(root().join(file)) else { return false };
    let Some(at) = source.find(&format!("fn {name}(")) else { return false };
    let before = &source[..at];
    let attributes = before[before.rfind("\n\n").unwrap_or(0)..].trim();
    (attributes.contains("#[test]") || attributes.contains("#[tokio::test"))
        && !attributes.contains("#[ignore")
}

#[test]
fn every_row_has_one_place() {
    let mut wanted: BTreeSet<String> = BTreeSet::new();
    for (prefix, numbers) in ROWS {
        wanted.extend(numbers.clone().map(|n| match *prefix {
            "S" => format!("S{n}"),
            _ => format!("{prefix}-{n:02}"),
        }));
    }
    let there: Vec<String> = rows().into_iter().map(|row| row.id).collect();
    let distinct: BTreeSet<String> = there.iter().cloned().collect();
    assert_eq!(distinct.len(), there.len(), "a row stands twice");
    let missing: Vec<_> = wanted.difference(&distinct).collect();
    assert!(missing.is_empty(), "docs/coverage.md lacks {missing:?}");
}

#[test]
fn what_a_row_names_exists() {
    let mut wrong = Vec::new();
    for row in rows() {
        let [_, _, modules, tests, witness] = &row.cells[..] else {
            wrong.push(format!("{}: expected five cells, id | what | module | tests | witness", row.id));
            continue;
        };
        for path in quoted(modules).filter(|path| !root().join(path).exists()) {
            wrong.push(format!("{}: there is no {path}", row.id));
        }
        if quoted(modules).next().is_none() || quoted(tests).next().is_none() {
            wrong.push(format!("{}: a module and a test are needed", row.id));
        }
        for test in quoted(tests) {
            if !test.split_once("::").is_some_and(|(file, name)| is_test(file, name)) {
                wrong.push(format!("{}: no test that runs: {test}", row.id));
            }
        }
        for case in quoted(witness) {
            if !is_case(case) {
                wrong.push(format!("{}: the laboratory has no case {case}", row.id));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn is_case(name: &str) -> bool {
    let folder = std::fs::read_dir(root().join("lab/cases")).unwrap();
    folder.flatten().any(|file| {
        std::fs::read_to_string(file.path()).is_ok_and(|text| text.contains(&format!("@case(\"{name}\"")))
    })
}
