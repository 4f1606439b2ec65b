//! docs/configuration.md describes every key there is, and no other.

use std::collections::BTreeSet;
use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// All files of a folder of `gateway-bin/src/config` in one.
fn folder(name: &str) -> String {
    let folder = root().join("gateway-bin/src/config").join(name);
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.extension().is_some_and(|end| end == "rs"));
    files.map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

/// What stands between `before` and the next `after`, wherever it does.
fn between<'t>(text: &'t str, before: &'t str, after: &'t str) -> impl Iterator<Item = &'t str> {
    text.split(before).skip(1).filter_map(move |rest| Some(rest.split_once(after)?.0))
}

/// The keys of the file: fields of its structs, rows of the switches, ceilings of the guard.
fn keys() -> BTreeSet<String> {
    let structs = folder("file");
    let mut keys = BTreeSet::new();
    for line in structs.lines() {
        let field = line.trim().strip_prefix("pub(crate) ").and_then(|rest| rest.split_once(':'));
        keys.extend(field.filter(|(name, _)| words(name).eq([*name])).map(|(name, _)| name.to_owned()));
    }
    // The one field that has another name in the file, where a word of the language stands.
    assert!(structs.matches("rename = ").eq(["rename = "]), "more of them");
    assert!(structs.contains("rename = \"match\")]\n    pub(crate) names:"));
    keys.remove("names");
    keys.insert("match".to_owned());
    keys.extend(between(&structs, "alias = \"", "\"").map(str::to_owned));
    let rows = folder("check/interop");
    keys.extend(between(&rows, "row(\"", "\"").map(str::to_owned));
    keys.extend(
        between(&read("gateway-bin/src/config/check/guard.rs"), "table.number(\"", "\"").map(str::to_owned),
    );
    keys
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

#[test]
fn every_key_is_described() {
    let keys = keys();
    assert!(keys.len() > 200 && keys.contains("port_range") && keys.contains("hold_rfc2543"), "{keys:?}");
    let text = read("docs/configuration.md");
    let described: BTreeSet<&str> = text.split('`').skip(1).step_by(2).flat_map(words).collect();
    let missing: Vec<_> = keys.iter().filter(|key| !described.contains(key.as_str())).collect();
    assert!(missing.is_empty(), "docs/configuration.md says nothing of {missing:?}");
}

/// What waits for its builder is listed at the end, and nothing that acts.
#[test]
fn what_waits_for_its_builder_is_listed() {
    let rows = folder("check/interop");
    let text = read("docs/configuration.md");
    let listed: BTreeSet<&str> = text
        .split_once("\n## Not built yet\n")
        .unwrap()
        .1
        .split('`')
        .skip(1)
        .step_by(2)
        .flat_map(words)
        .collect();
    let mut waiting = 0;
    for row in rows.split("row(\"").skip(1) {
        let (name, rest) = row.split_once('"').unwrap();
        let later = rest.split(['(', ')', ',', ' ', '\n']).any(|word| word == "Later");
        let acts = rest.split(['(', ')', ',', ' ', '\n']).any(|word| word == "Acts");
        assert!(later != acts, "{name}: {rest}");
        assert_eq!(listed.contains(name), later, "{name}");
        waiting += usize::from(later);
    }
    assert!(waiting > 0, "all is built: the section may go");
}

#[test]
fn nothing_else_is_described() {
    let mut keys = keys();
    // The interfaces have their names from us.
    keys.extend(["inside", "outside"].map(str::to_owned));
    let text = read("docs/configuration.md");
    let first_cells = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" |"));
    let code = first_cells.flat_map(|(cell, _)| cell.split('`').step_by(2).collect::<Vec<_>>());
    // The name that the operator gives stands in capitals.
    let written = code.flat_map(words).filter(|word| word.chars().all(|c| !c.is_ascii_uppercase()));
    let unknown: BTreeSet<_> = written.filter(|word| !keys.contains(*word)).collect();
    assert!(unknown.is_empty(), "docs/configuration.md describes what is no key: {unknown:?}");
}
