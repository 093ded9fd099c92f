//! The names of our own links: equal asks give equal names, at every worker and in every life of a process.
//!
//! The API has no conditional create, and it never shows whether a link has a password. So a link that a request does
//! not name gets the name `PREFIX-HASH`, where the hash covers the item, the audience, the role, the expiry and the
//! password. A worker that finds the name in the item's list knows that the link is what it was going to make, whoever
//! made it: an earlier delivery, another worker, or a call whose answer was lost.
//!
//! Whoever may list the item's links can read the name, so the password must not be cheap to guess from it. It enters
//! as a fingerprint: PBKDF2-HMAC-SHA256, 100,000 rounds, salted with the item's id. A secret key would make guessing
//! impossible, but all workers would have to share one, and changing it would make a second link of every ask; each
//! guess at 100,000 rounds costs about as much as at a stored password, and an item's id as salt keeps tables useless.
//!
//! A name can be held by a link of ours that has expired (no expiry asked, one imposed by the tenant's policy). Then the
//! next generation of the name is used; every worker that reads the same list counts the same generation.

use std::num::NonZeroU32;

use ring::digest;
use ring::pbkdf2;

use super::request::{Ask, Item, write_time};

/// Separates these hashes from any other use of the same inputs; a change makes new names.
const DOMAIN: &[u8] = b"sharelink oracle linkName v1";
/// Rounds of PBKDF2 for a password.
const ROUNDS: NonZeroU32 = NonZeroU32::MIN.saturating_add(99_999);
/// Characters of the hash: 26 of base32 hold 130 bits.
const HASH_LENGTH: usize = 26;
/// Longest name. Oracle documents no limit; the examples have a dozen characters.
const MAX_LENGTH: usize = 40;

/// Everything that makes one ask different from another, as bytes; the names of all generations come from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stem {
    prefix: String,
    hash: [u8; digest::SHA256_OUTPUT_LEN],
}

impl Stem {
    /// Takes some tens of milliseconds where a password is asked for; not for an async thread.
    pub(super) fn new(prefix: &str, ask: &Ask) -> Self {
        let mut hash = digest::Context::new(&digest::SHA256);
        let expires = ask.expires.map(write_time);
        let fingerprint = ask.password.as_ref().map(|password| fingerprint(&ask.item, password.reveal()));
        let fields: [Option<&[u8]>; 7] = [
            Some(DOMAIN),
            Some(ask.item.kind.as_str().as_bytes()),
            Some(ask.item.id.as_bytes()),
            Some(&ask.users.to_string().into_bytes()),
            Some(ask.role.as_str().as_bytes()),
            expires.as_ref().map(String::as_bytes),
            fingerprint.as_ref().map(<[u8; 32]>::as_slice),
        ];
        for field in fields {
            absorb(&mut hash, field);
        }
        let mut bytes = [0; digest::SHA256_OUTPUT_LEN];
        copy(hash.finish().as_ref(), &mut bytes);
        let prefix: String = prefix
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
            .take(MAX_LENGTH - HASH_LENGTH - 1)
            .collect();
        Self { prefix: if prefix.is_empty() { "sharelink".to_owned() } else { prefix }, hash: bytes }
    }

    /// The name of a generation; the first is 0.
    pub(super) fn name(&self, generation: usize) -> String {
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(&self.hash);
        hash.update(&(generation as u64).to_be_bytes());
        format!("{}-{}", self.prefix, base32(hash.finish().as_ref(), HASH_LENGTH))
    }
}

/// What a password leaves in the name.
fn fingerprint(item: &Item, password: &str) -> [u8; digest::SHA256_OUTPUT_LEN] {
    let mut salt = DOMAIN.to_vec();
    salt.push(0);
    salt.extend_from_slice(item.id.as_bytes());
    let mut out = [0; digest::SHA256_OUTPUT_LEN];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, &salt, password.as_bytes(), &mut out);
    out
}

/// Adds a field with its length, so that no two lists of fields look alike.
fn absorb(hash: &mut digest::Context, field: Option<&[u8]>) {
    match field {
        None => hash.update(&[0]),
        Some(bytes) => {
            hash.update(&[1]);
            hash.update(&(bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        }
    }
}

fn copy(from: &[u8], to: &mut [u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}

/// The first `length` characters of lower-case base32 (RFC 4648 alphabet): safe where a server ignores case.
fn base32(bytes: &[u8], length: usize) -> String {
    const ALPHABET: [u8; 32] = *b"abcdefghijklmnopqrstuvwxyz234567";
    (0..length)
        .map_while(|at| {
            let bits = at * 5;
            let first = u16::from(*bytes.get(bits / 8)?);
            let second = u16::from(bytes.get(bits / 8 + 1).copied().unwrap_or(0));
            let index = ((first << 8 | second) >> (11 - bits % 8)) & 31;
            ALPHABET.get(usize::from(index)).map(|letter| char::from(*letter))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::oracle::request::ask;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn named(prefix: &str, item: Value, link: Value) -> String {
        Stem::new(prefix, &ask(&item.to_string(), &link.to_string()).unwrap()).name(0)
    }

    #[test]
    fn the_name_of_an_ask_stays_what_it_is() {
        // A change here makes a second link of everything that was ever shared.
        let link = json!({"assignedUsers": "@serviceinstance", "role": "contributor",
            "expirationTime": "2016-01-01T00:00:01Z", "password": "MyPassword"});
        let name = named("sharelink", json!({"folderId": "FBE1117A270E747BB1D95024T0000000000100000001"}), link);
        // Worked out with Python's hashlib from the description above.
        assert_eq!(name, "sharelink-cwcq5jmrsorhrh7peplbw5dy7v");
    }

    #[test]
    fn each_part_of_an_ask_has_its_part_in_the_name() {
        let link = json!({"assignedUsers": "a,b", "role": "viewer", "expirationTime": "2027-01-31T00:00:00Z",
            "password": "MyPassword"});
        let with = |member: &str, value: Option<&str>| {
            let mut link = link.clone();
            match value {
                Some(value) => link[member] = value.into(),
                None => drop(link.as_object_mut().unwrap().remove(member)),
            }
            named("sharelink", json!({"folderId": "F1"}), link)
        };
        let mut names = vec![
            with("role", Some("viewer")),
            named("sharelink", json!({"folderId": "F2"}), link.clone()),
            named("sharelink", json!({"fileId": "F1"}), link.clone()),
            with("assignedUsers", Some("a,c")),
            with("assignedUsers", Some("@everybody")),
            with("role", Some("downloader")),
            with("expirationTime", Some("2027-01-31T00:00:01Z")),
            with("expirationTime", None),
            with("password", Some("MyPassword2")),
            with("password", None),
        ];
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn a_name_says_nothing_of_order_zone_or_defaults() {
        let item = json!({"folderId": "F1"});
        let end = "2027-01-31T00:00:00";
        let one = named("s", item.clone(), json!({"assignedUsers": "a,b", "expirationTime": end}));
        let same =
            json!({"assignedUsers": " b, a,b", "role": "viewer", "expirationTime": "2027-01-31T01:00:00.5+01:00"});
        assert_eq!(one, named("s", item, same));
    }

    #[test]
    fn base32_agrees_with_the_test_vectors_of_rfc_4648() {
        assert_eq!(base32(b"foobar", 10), "mzxw6ytboi");
        assert_eq!(base32(b"fooba", 8), "mzxw6ytb");
        assert_eq!(base32(b"f", 2), "my");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn names_are_short_and_plain_and_generations_differ(prefix in "\\PC{0,60}", id in "[A-Z0-9]{1,44}") {
            let ask = ask(&json!({"fileId": id}).to_string(), r#"{"assignedUsers":"@everybody"}"#).unwrap();
            let stem = Stem::new(&prefix, &ask);
            let name = stem.name(0);
            prop_assert!(name.len() <= MAX_LENGTH && name.len() > HASH_LENGTH);
            prop_assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)), "{}", name);
            prop_assert_ne!(&name, &stem.name(1));
            prop_assert_eq!(name, Stem::new(&prefix, &ask).name(0));
        }

        #[test]
        fn different_items_have_different_names(one in "[A-Z0-9]{1,8}", other in "[A-Z0-9]{1,8}") {
            let link = json!({"assignedUsers": "a"});
            let names = [&one, &other].map(|id| named("s", json!({"fileId": id}), link.clone()));
            prop_assert_eq!(one == other, names[0] == names[1]);
        }
    }
}
