//! `[[sip.users]]`: accounts that requests can be authenticated by.

use std::collections::HashMap;

use sip_core::auth::{Account, Algorithm};
use sip_core::edge::credentials::Users;

use super::Judge;
use crate::config::file;

/// The longest password that is read.
const LONGEST: usize = 1024;

pub(super) fn users(sip: &file::Sip, judge: &mut Judge<'_>) -> Users {
    let mut out = HashMap::new();
    for (at, row) in sip.users.iter().enumerate() {
        let at = at.to_string();
        let key = |name: &'static str| ["sip", "users", &at, name].map(str::to_owned);
        if row.name.is_empty() || row.name.contains(|c: char| c.is_control() || "@\"\\:".contains(c)) {
            judge.refuse_at(&key("name"), format!("{:?} can't be a user", row.name));
        }
        if let Some(account) = account(row, &key, judge)
            && out.insert(row.name.clone(), account).is_some()
        {
            judge.refuse_at(&key("name"), format!("a second row is named \"{}\"", row.name));
        }
    }
    let asks = sip.preloaded_routes == "authenticate"
        || sip.preloaded_route_rules.iter().any(|rule| rule.action == "authenticate");
    if asks && sip.users.is_empty() {
        judge
            .warn(&["sip", "preloaded_routes"], "\"authenticate\" without [[sip.users]] lets nobody through");
    }
    out.into()
}

fn account(
    row: &file::User,
    key: &dyn Fn(&'static str) -> [String; 4],
    judge: &mut Judge<'_>,
) -> Option<Account> {
    match (&row.password_file, &row.ha1) {
        (Some(path), None) => {
            if row.algorithm.is_some() {
                judge.refuse_at(&key("algorithm"), "a password serves all algorithms: leave the key out");
            }
            let path = judge.base.join(path);
            let text = match std::fs::read_to_string(&path) {
                Ok(text) => text,
                Err(error) => {
                    judge.refuse_at(
                        &key("password_file"),
                        format!("{} can't be read: {error}", path.display()),
                    );
                    return None;
                }
            };
            let password = text.strip_suffix('\n').unwrap_or(&text);
            if password.is_empty() || password.len() > LONGEST || password.contains(char::is_control) {
                judge.refuse_at(&key("password_file"), "expected one line with the password");
                return None;
            }
            Some(Account::of_password(password))
        }
        (None, Some(hash)) => {
            let token = row.algorithm.as_deref().unwrap_or("MD5");
            let Some(algorithm) = Algorithm::of(token.as_bytes()) else {
                let message = format!("\"{token}\" is not known: expected MD5, SHA-256 or SHA-512-256");
                judge.refuse_at(&key("algorithm"), message);
                return None;
            };
            let account = Account::of_hash(algorithm, &hash.0);
            account.map_err(|error| judge.refuse_at(&key("ha1"), error.to_string())).ok()
        }
        _ => {
            judge.refuse_at(&key("name"), "expected either password_file or ha1");
            None
        }
    }
}
