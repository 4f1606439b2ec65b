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
    ("MON", 1..=1),
    ("S", 1..=19),
    ("E2E", 5..=6),
    // Media. What else is called SAM-01 to SAM-27 stands under the row of `ALSO`.
    ("SDP", 1..=21),
    ("MED", 1..=22),
    ("SAM", 9..=9),
    ("SAM", 11..=13),
    ("SAM", 20..=23),
    ("SAM", 27..=27),
    ("B2B", 22..=22),
    ("MON", 4..=4),
    ("M", 1..=7),
    ("E2E", 7..=8),
    ("FUZ", 5..=5),
    ("FUZ", 10..=10),
    ("BEN", 3..=4),
    ("REL", 1..=3),
    ("D", 13..=16),
];

/// A row, and what it is called among the administrator's parameters: `(=SAM-03, INT-50)`.
const ALSO: &[(&str, &str)] = &[
    ("SDP-06", "INT-15"),
    ("SDP-07", "INT-16"),
    ("SDP-08", "INT-17"),
    ("SDP-09", "INT-18"),
    ("SDP-10", "INT-19"),
    ("SDP-11", "INT-20"),
    ("SDP-12", "INT-23"),
    ("SDP-13", "INT-63"),
    ("SDP-14", "SAM-14"),
    ("SDP-15", "SAM-10"),
    ("SDP-15", "SAM-24"),
    ("SDP-16", "SAM-26"),
    ("SDP-17", "SAM-19"),
    ("SDP-18", "SAM-25"),
    ("SDP-19", "INT-27"),
    ("MED-05", "SAM-03"),
    ("MED-06", "SAM-18"),
    ("MED-07", "INT-50"),
    ("MED-08", "INT-53"),
    ("MED-11", "SAM-06"),
    ("MED-12", "SAM-01"),
    ("MED-12", "SAM-02"),
    ("MED-13", "SAM-04"),
    ("MED-14", "SAM-05"),
    ("MED-15", "SAM-07"),
    ("MED-16", "SAM-08"),
    ("MED-17", "INT-60"),
    ("B2B-22", "INT-67"),
    ("B2B-22", "INT-68"),
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
            "S" | "M" | "D" => format!("{prefix}{n}"),
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
fn the_administrators_parameters_have_their_row() {
    let rows = rows();
    for (id, parameter) in ALSO {
        let row = rows.iter().find(|row| row.id == *id).unwrap();
        let also = row.cells[1].split_once("(=").or_else(|| row.cells[1].split_once("; ="));
        let names = also.and_then(|(_, rest)| rest.split_once(')')).unwrap_or_default().0;
        assert!(
            names.split(", ").any(|name| name == *parameter),
            "{id} is {parameter} too: {}",
            row.cells[1]
        );
    }
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
            // A case of the laboratory, or the command that measures.
            if !is_case(case) && !is_command(case) {
                wrong.push(format!("{}: the laboratory has no case {case}", row.id));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn is_command(path: &str) -> bool {
    path.contains('/') && root().join(path).is_file()
}

fn is_case(name: &str) -> bool {
    let folder = std::fs::read_dir(root().join("lab/cases")).unwrap();
    folder.flatten().any(|file| {
        std::fs::read_to_string(file.path()).is_ok_and(|text| text.contains(&format!("@case(\"{name}\"")))
    })
}
