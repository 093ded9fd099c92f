//! Which item a Microsoft path means, and what is to be done with it. Pure.
//!
//! Every item exists until its name says otherwise. An item addressed by path or by sharing URL has an id that is
//! derived from the address and contains the item's name, so its fault words hold however it is addressed next.

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::http::{Method, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::super::answer::Refused;
use super::super::call::Mount;
use super::Drives;

/// The drive that `/me/drive` and `/drive` mean.
const OWN_DRIVE: &str = "b!me";
/// The drive of items found by a sharing URL.
const SHARED_DRIVE: &str = "b!shared";

/// An item.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Item {
    /// The drive's id.
    pub drive: String,
    /// The item's id in the drive.
    pub id: String,
}

impl Item {
    /// The item's name in statistics.
    pub fn label(&self) -> String {
        format!("{}/{}", self.drive, self.id)
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// `createLink`
    Create(Item),
    /// Get the item.
    Item(Item),
    /// List the permissions.
    List(Item),
    /// Get one permission, by its id.
    Permission(Item, String),
    /// Delete one permission, by its id.
    Delete(Item, String),
}

impl Operation {
    /// The item it is about.
    pub fn item(&self) -> &Item {
        match self {
            Self::Create(item)
            | Self::Item(item)
            | Self::List(item)
            | Self::Permission(item, _)
            | Self::Delete(item, _) => item,
        }
    }

    /// Whether it makes a link.
    pub fn creates(&self) -> bool {
        matches!(self, Self::Create(_))
    }

    /// Resource units: 5 for every operation on permissions, 1 for a single item (SharePoint's published costs).
    pub fn cost(&self) -> u32 {
        if matches!(self, Self::Item(_)) { 1 } else { 5 }
    }
}

/// Reads a path below the API's root.
///
/// # Errors
/// 400 for a path that means nothing or a wrong action name, 405 for a wrong method.
pub fn read(mount: Mount, method: &Method, path: &[&str], drives: &Drives) -> Result<Operation, Refused> {
    if let ["shares", token, rest @ ..] = path {
        let url = decode_share(token)
            .ok_or_else(|| Refused::new(StatusCode::BAD_REQUEST, "invalidRequest", "Invalid shares key."))?;
        return match rest {
            [] | ["driveItem" | "root"] if method == Method::GET => Ok(Operation::Item(shared_item(&url, drives))),
            [] | ["driveItem" | "root"] => Err(method_not_allowed()),
            // Posting here is legal by the metadata but stands on no page, so it is not played.
            _ => Err(no_such_resource()),
        };
    }
    let (drive, rest) = drive(path).ok_or_else(no_such_resource)?;
    let (id, rest) = item(rest)?;
    let item = Item { drive, id };
    match rest {
        [] if method == Method::GET => Ok(Operation::Item(item)),
        [action] if is_create(mount, action) && method == Method::POST => Ok(Operation::Create(item)),
        ["permissions"] if method == Method::GET => Ok(Operation::List(item)),
        ["permissions", id] if method == Method::GET => Ok(Operation::Permission(item, (*id).to_owned())),
        ["permissions", id] if method == Method::DELETE => Ok(Operation::Delete(item, (*id).to_owned())),
        ["permissions"] | ["permissions", _] => Err(method_not_allowed()),
        // A path whose closing colon is missing has eaten the action: the service's answer to that is a bare 400.
        [action] if is_create(mount, action) => Err(method_not_allowed()),
        _ => Err(no_such_resource()),
    }
}

/// Action names are case-sensitive, and each API knows only its own.
fn is_create(mount: Mount, action: &str) -> bool {
    match mount {
        Mount::Graph => matches!(action, "createLink" | "microsoft.graph.createLink"),
        Mount::OneDrive => matches!(action, "action.createLink" | "oneDrive.createLink"),
        Mount::Oracle => false,
    }
}

/// The drive's id and the rest of the path.
fn drive<'a, 'p>(path: &'a [&'p str]) -> Option<(String, &'a [&'p str])> {
    match path {
        ["drive", rest @ ..] | ["me", "drive", rest @ ..] => Some((OWN_DRIVE.to_owned(), rest)),
        ["drives", id, rest @ ..] | ["me", "drives", id, rest @ ..] if !id.is_empty() => Some(((*id).to_owned(), rest)),
        ["sites", host, rest @ ..] if host.ends_with(':') => {
            let (path, rest) = colon_path(rest)?;
            owned_drive("sites", &format!("{host}/{path}"), rest)
        }
        [kind @ ("users" | "groups" | "sites"), owner, rest @ ..] if !owner.is_empty() => {
            owned_drive(kind, owner, rest)
        }
        _ => None,
    }
}

fn owned_drive<'a, 'p>(kind: &str, owner: &str, rest: &'a [&'p str]) -> Option<(String, &'a [&'p str])> {
    match rest {
        ["drive", rest @ ..] => Some((format!("b!{kind}-{}", hash(owner)), rest)),
        ["drives", id, rest @ ..] if !id.is_empty() => Some(((*id).to_owned(), rest)),
        _ => None,
    }
}

/// The item's id and the rest of the path.
fn item<'a, 'p>(path: &'a [&'p str]) -> Result<(String, &'a [&'p str]), Refused> {
    match path {
        ["items", id, rest @ ..] if id.ends_with(':') => relative(id, rest),
        ["items", id, rest @ ..] if !id.is_empty() => Ok(((*id).to_owned(), rest)),
        ["special", name, rest @ ..] if name.ends_with(':') => relative(name, rest),
        ["special", name, rest @ ..] if !name.is_empty() => Ok((derived_id(name, name), rest)),
        ["root", rest @ ..] => Ok(("root".to_owned(), rest)),
        ["root:", rest @ ..] => relative("root:", rest),
        _ => Err(no_such_resource()),
    }
}

/// `{anchor}:/{path}:` or, at the end of the address, `{anchor}:/{path}`. Paths do not heed case.
fn relative<'a, 'p>(anchor: &str, rest: &'a [&'p str]) -> Result<(String, &'a [&'p str]), Refused> {
    let (path, rest) = colon_path(rest).ok_or_else(|| {
        // The service answers 400 to an empty relative path since October 2019.
        Refused::new(StatusCode::BAD_REQUEST, "invalidRequest", "The path must not be empty.")
    })?;
    if path.chars().count() > 400 {
        return Err(Refused::new(StatusCode::BAD_REQUEST, "pathIsTooLong", "The path is longer than 400 characters."));
    }
    let path = path.to_lowercase();
    let name = path.rsplit('/').next().unwrap_or_default();
    Ok((derived_id(&format!("{anchor}/{path}"), name), rest))
}

/// The segments up to the one that ends in a colon, or all of them; not none.
fn colon_path<'a, 'p>(segments: &'a [&'p str]) -> Option<(String, &'a [&'p str])> {
    let end = segments.iter().position(|segment| segment.ends_with(':')).map_or(segments.len(), |last| last + 1);
    let (path, rest) = segments.split_at_checked(end)?;
    let path = path.join("/");
    let path = path.strip_suffix(':').unwrap_or(&path);
    let whole = !path.is_empty() && path.split('/').all(|segment| !segment.is_empty());
    whole.then(|| (path.to_owned(), rest))
}

fn derived_id(address: &str, name: &str) -> String {
    let name: String =
        name.chars().map(|c| if c.is_alphanumeric() || matches!(c, '.' | '_') { c } else { '-' }).collect();
    format!("01{}!{name}", hash(address))
}

fn hash(text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    format!("{:016X}", hasher.finish())
}

/// `u!` and the URL in base64url without padding.
fn decode_share(token: &str) -> Option<String> {
    let bytes = URL_SAFE_NO_PAD.decode(token.strip_prefix("u!")?).ok()?;
    String::from_utf8(bytes).ok().filter(|url| url.starts_with("https://") || url.starts_with("http://"))
}

/// The item behind one of our own links, else an item named like the URL's last path segment.
fn shared_item(url: &str, drives: &Drives) -> Item {
    let address = url.split(['?', '#']).next().unwrap_or(url);
    drives.item_of(address).cloned().unwrap_or_else(|| {
        let last = address.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let name = percent_encoding::percent_decode_str(last).decode_utf8_lossy();
        Item { drive: SHARED_DRIVE.to_owned(), id: derived_id(address, &name) }
    })
}

fn no_such_resource() -> Refused {
    Refused::new(StatusCode::BAD_REQUEST, "invalidRequest", "Invalid API or resource")
}

fn method_not_allowed() -> Refused {
    // The code of fixture 53's 405.
    let message = "Specified HTTP method is not allowed for the request target.";
    Refused::new(StatusCode::METHOD_NOT_ALLOWED, "Request_BadRequest", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(mount: Mount, path: &str) -> Result<Operation, Refused> {
        let segments: Vec<_> = path.split('/').collect();
        read(mount, &Method::POST, &segments, &Drives::default())
    }

    fn created_item(mount: Mount, path: &str) -> Item {
        match create(mount, path) {
            Ok(Operation::Create(item)) => item,
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn every_documented_address_by_id_names_its_item() {
        for drive in ["me/drive", "drive", "drives/b!1", "users/u", "groups/g", "sites/s", "sites/h:/teams/a:"] {
            let drive = if drive.contains("drive") { drive.to_owned() } else { format!("{drive}/drive") };
            let item = created_item(Mount::Graph, &format!("{drive}/items/01ABC/createLink"));
            assert_eq!(item.id, "01ABC", "{drive}");
        }
        assert_eq!(created_item(Mount::Graph, "sites/s/drives/b!1/items/01ABC/createLink").drive, "b!1");
        assert_eq!(created_item(Mount::Graph, "drives/b!1/root/createLink").id, "root");
        assert_eq!(created_item(Mount::OneDrive, "drive/items/01ABC/action.createLink").id, "01ABC");
        assert_eq!(created_item(Mount::OneDrive, "drives/b!1/items/01ABC/oneDrive.createLink").drive, "b!1");
    }

    #[test]
    fn drives_of_different_owners_are_different() {
        let drive = |owner: &str| created_item(Mount::Graph, &format!("{owner}/drive/items/1/createLink")).drive;
        let drives = [drive("me"), drive("users/a"), drive("users/b"), drive("groups/a"), drive("sites/a")];
        let distinct: std::collections::HashSet<_> = drives.iter().collect();
        assert_eq!(distinct.len(), drives.len(), "{drives:?}");
    }

    #[test]
    fn a_path_means_the_same_item_in_either_case_and_keeps_its_name() {
        let item = created_item(Mount::Graph, "me/drive/root:/A/Lost report.docx:/createLink");
        assert_eq!(item, created_item(Mount::Graph, "drive/root:/a/lost REPORT.docx:/createLink"));
        assert!(item.id.ends_with("!lost-report.docx"), "{item:?}");
        let relative = created_item(Mount::Graph, "me/drive/items/01ABC:/b.txt:/createLink");
        assert!(relative.id.ends_with("!b.txt") && relative != item, "{relative:?}");
    }

    #[test]
    fn each_api_knows_only_its_own_action_name() {
        assert!(create(Mount::Graph, "drive/items/1/action.createLink").is_err());
        assert!(create(Mount::OneDrive, "drive/items/1/createLink").is_err());
        assert!(create(Mount::OneDrive, "drive/items/1/onedrive.createLink").is_err());
    }

    #[test]
    fn a_colon_in_the_wrong_place_and_an_empty_path_are_refused() {
        for path in [
            "me/drive/root:/a:/b.docx/createLink",
            "me/drive/root:/a/b.docx/createLink",
            "me/drive/root:/:/createLink",
            "me/drive/root:/a//b:/createLink",
            "me/drive/items//createLink",
        ] {
            assert_eq!(create(Mount::Graph, path).unwrap_err().status, StatusCode::BAD_REQUEST, "{path}");
        }
    }

    #[test]
    fn a_sharing_url_is_found_by_its_token_and_keeps_the_items_name() {
        let token = format!("u!{}", URL_SAFE_NO_PAD.encode("https://x.test/a/flaky%20one.pdf?d=1"));
        for path in [["shares", &token, "driveItem"], ["shares", &token, "root"]] {
            let found = read(Mount::Graph, &Method::GET, &path, &Drives::default()).unwrap();
            assert!(found.item().id.ends_with("!flaky-one.pdf"), "{found:?}");
        }
        let refused = read(Mount::Graph, &Method::GET, &["shares", "u!%%%", "driveItem"], &Drives::default());
        assert_eq!(refused.unwrap_err().message, "Invalid shares key.");
    }

    #[test]
    fn a_wrong_method_is_405() {
        let get = read(Mount::Graph, &Method::GET, &["drive", "items", "1", "createLink"], &Drives::default());
        assert_eq!(get.unwrap_err().status, StatusCode::METHOD_NOT_ALLOWED);
    }
}
