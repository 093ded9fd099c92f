//! The permissions of all items of a Microsoft API: the state that makes 201 and 200 mean something. Pure.
//!
//! An item has at most one live link for a type, scope and application; asking again returns it unchanged.

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};

use super::super::call::Mount;
use super::super::work::{Effect, Live, guid, token};
use super::ask::Ask;
use super::{Item, Task};
use crate::model::Object;

/// The longest life that `narrower` allows: 30 days, as a tenant's policy was seen to do it.
const NARROW: SignedDuration = SignedDuration::from_hours(30 * 24);

/// A link's permission.
#[derive(Debug, Clone, PartialEq)]
pub struct Permission {
    /// A guid.
    pub id: String,
    /// `type` and `scope` as asked, and who asked.
    asked: (String, Option<String>, String),
    /// `link.type`
    pub kind: String,
    /// `link.scope`
    pub scope: Option<String>,
    /// `link.preventsDownload`
    pub prevents_download: bool,
    /// `expirationDateTime`, in whole seconds.
    pub expires: Option<Timestamp>,
    /// `hasPassword`
    pub password: bool,
    /// Who may use a link of scope `users`.
    pub recipients: Vec<Object>,
    /// `link.webUrl`
    pub url: String,
    /// `link.application.id`
    pub application: String,
}

impl Permission {
    /// `roles`: only edit links write.
    pub fn role(&self) -> &'static str {
        if matches!(self.kind.as_str(), "edit" | "createOnly") { "write" } else { "read" }
    }

    fn is_live(&self, wall: Timestamp) -> bool {
        self.expires.is_none_or(|expires| wall < expires)
    }
}

/// All items of one API.
#[derive(Debug, Default)]
pub struct Drives {
    items: HashMap<Item, Vec<Permission>>,
    by_url: HashMap<String, Item>,
    /// Mails sent to recipients; a repeated call mails again.
    mails: u64,
}

impl Drives {
    /// The item behind one of our own links; `address` is without query.
    pub fn item_of(&self, address: &str) -> Option<&Item> {
        self.by_url.get(address)
    }

    /// Mails sent to recipients.
    pub fn mails(&self) -> u64 {
        self.mails
    }

    /// The live links of an item.
    pub fn live(&self, item: &Item, wall: Timestamp) -> impl Iterator<Item = &Permission> {
        self.items.get(item).into_iter().flatten().filter(move |permission| permission.is_live(wall))
    }

    /// Every item with its live links in numbers.
    pub fn census(&self, wall: Timestamp) -> impl Iterator<Item = (&Item, Live)> {
        self.items.keys().map(move |item| {
            let mut links = 0;
            let mut different = HashSet::new();
            for link in self.live(item, wall) {
                links += 1;
                different.insert((&link.kind, &link.scope, link.prevents_download, link.expires, link.password));
            }
            (item, Live { links, doubled: links.saturating_sub(different.len() as u64) })
        })
    }

    /// Returns the live link of this type, scope and application, or makes it.
    pub fn create(&mut self, item: &Item, ask: Ask, task: &Task<'_>, rng: &mut fastrand::Rng) -> (Permission, Effect) {
        if ask.notify {
            self.mails = self.mails.saturating_add(ask.recipients.len() as u64);
        }
        let asked = (ask.kind.clone(), ask.scope.clone(), task.application.to_owned());
        let links = self.items.entry(item.clone()).or_default();
        links.retain(|link| link.is_live(task.wall));
        if let Some(existing) = links.iter_mut().find(|link| link.asked == asked) {
            for recipient in ask.recipients {
                if !existing.recipients.contains(&recipient) {
                    existing.recipients.push(recipient);
                }
            }
            return (existing.clone(), Effect::Reused);
        }
        let mut permission = Permission {
            id: guid(rng),
            asked,
            // Recorded: a link that blocks download is answered as a view link that prevents it.
            kind: match ask.kind.as_str() {
                "blocksDownload" | "adminDefault" => "view".to_owned(),
                _ => ask.kind.clone(),
            },
            scope: ask.scope,
            prevents_download: ask.kind == "blocksDownload",
            expires: ask.expires,
            password: ask.password && !task.alteration.no_password,
            recipients: ask.recipients,
            url: String::new(),
            application: task.application.to_owned(),
        };
        if task.alteration.narrower {
            let cap = task.wall.checked_add(NARROW).unwrap_or(Timestamp::MAX);
            let cap = Timestamp::from_second(cap.as_second()).unwrap_or(cap);
            permission.expires = Some(permission.expires.map_or(cap, |expires| expires.min(cap)));
        }
        if task.alteration.wider {
            widen(&mut permission);
        }
        permission.url = url(task.mount, item, &permission, rng);
        self.by_url.insert(permission.url.clone(), item.clone());
        links.push(permission.clone());
        (permission, Effect::Created)
    }

    /// Takes a link back; `None` where there is no such live link.
    pub fn delete(&mut self, item: &Item, id: &str, wall: Timestamp) -> Option<()> {
        let links = self.items.get_mut(item)?;
        let at = links.iter().position(|link| link.id == id && link.is_live(wall))?;
        self.by_url.remove(&links.remove(at).url);
        Some(())
    }
}

/// Widens the audience; where it is the widest, the role; where that is the highest, the life.
fn widen(permission: &mut Permission) {
    match (permission.scope.as_deref(), permission.kind.as_str()) {
        (Some("users"), _) => permission.scope = Some("organization".to_owned()),
        (Some("organization"), _) => permission.scope = Some("anonymous".to_owned()),
        (_, "edit") => permission.expires = None,
        _ => {
            permission.kind = "edit".to_owned();
            permission.prevents_download = false;
        }
    }
}

/// The address of a link, shaped as the API's generation shapes it, with a letter for the kind of item.
fn url(mount: Mount, item: &Item, permission: &Permission, rng: &mut fastrand::Rng) -> String {
    let extension = item.id.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    let letter = match extension.as_deref() {
        _ if item.id == "root" || permission.kind == "createOnly" => "f",
        Some("doc" | "docx") => "w",
        Some("xls" | "xlsx") => "x",
        Some("ppt" | "pptx") => "p",
        Some("pdf") => "b",
        Some("png" | "jpg" | "jpeg" | "gif") => "i",
        Some("txt" | "csv" | "md") => "t",
        _ => "u",
    };
    let token = token(rng, 45);
    match mount {
        _ if permission.kind == "embed" => format!("https://onedrive.live.com/embed/E{token}"),
        Mount::OneDrive => format!("https://1drv.ms/{letter}/s!E{token}"),
        _ => format!("https://contoso-my.sharepoint.com/:{letter}:/g/personal/simulated_contoso_com/E{token}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::call::Credential;
    use super::super::super::faults::Alteration;
    use super::super::Call;
    use super::*;

    const WALL: &str = "2026-11-22T10:00:00Z";

    struct Desk {
        drives: Drives,
        rng: fastrand::Rng,
        item: Item,
        wall: Timestamp,
    }

    fn setup() -> Desk {
        let item = Item { drive: "b!1".to_owned(), id: "01ABC.docx".to_owned() };
        Desk { drives: Drives::default(), rng: fastrand::Rng::with_seed(1), item, wall: WALL.parse().unwrap() }
    }

    fn ask(kind: &str, scope: &str) -> Ask {
        Ask {
            kind: kind.to_owned(),
            scope: Some(scope.to_owned()),
            password: false,
            expires: None,
            recipients: Vec::new(),
            notify: false,
        }
    }

    impl Desk {
        fn create(&mut self, ask: Ask, application: &str, alteration: Alteration) -> (Permission, Effect) {
            let call = Call {
                method: axum::http::Method::POST,
                segments: None,
                credential: Credential::None,
                is_json: true,
                plain_json: false,
                client_request_id: None,
                body: Vec::new(),
            };
            let task = Task { mount: Mount::Graph, call: &call, application, alteration, wall: self.wall };
            self.drives.create(&self.item, ask, &task, &mut self.rng)
        }
    }

    #[test]
    fn the_first_link_is_created_and_the_same_one_is_reused() {
        let mut desk = setup();
        let (first, effect) = desk.create(ask("view", "anonymous"), "app", Alteration::default());
        assert_eq!(effect, Effect::Created);
        assert_eq!(desk.create(ask("view", "anonymous"), "app", Alteration::default()), (first, Effect::Reused));
    }

    #[test]
    fn another_type_scope_or_application_has_a_link_of_its_own() {
        let mut desk = setup();
        desk.create(ask("view", "anonymous"), "app", Alteration::default());
        for (kind, scope, application) in
            [("edit", "anonymous", "app"), ("view", "organization", "app"), ("view", "anonymous", "other")]
        {
            assert_eq!(desk.create(ask(kind, scope), application, Alteration::default()).1, Effect::Created);
        }
        let (_, live) = desk.drives.census(desk.wall).next().unwrap();
        assert_eq!(live, Live { links: 4, doubled: 1 }, "the other application's link gives the same");
    }

    #[test]
    fn a_link_that_has_expired_or_was_deleted_is_not_reused() {
        let mut desk = setup();
        let expires = Some("2026-11-22T11:00:00Z".parse().unwrap());
        let expiring = || Ask { expires, ..ask("view", "anonymous") };
        desk.create(expiring(), "app", Alteration::default());
        desk.wall = "2026-11-22T11:00:00Z".parse().unwrap();
        let (second, effect) = desk.create(ask("view", "anonymous"), "app", Alteration::default());
        assert_eq!(effect, Effect::Created);
        assert_eq!(desk.drives.delete(&desk.item.clone(), &second.id, desk.wall), Some(()));
        assert_eq!(desk.drives.delete(&desk.item.clone(), &second.id, desk.wall), None);
        assert_eq!(desk.create(ask("view", "anonymous"), "app", Alteration::default()).1, Effect::Created);
    }

    #[test]
    fn wider_widens_whatever_can_still_be_widened() {
        let wider = Alteration { wider: true, ..Alteration::default() };
        let mut desk = setup();
        assert_eq!(desk.create(ask("view", "users"), "app", wider).0.scope.as_deref(), Some("organization"));
        assert_eq!(desk.create(ask("view", "organization"), "app", wider).0.scope.as_deref(), Some("anonymous"));
        assert_eq!(desk.create(ask("view", "anonymous"), "app", wider).0.role(), "write");
        let expires = Some("2027-01-01T00:00:00Z".parse().unwrap());
        let edit = Ask { expires, ..ask("edit", "anonymous") };
        assert_eq!(desk.create(edit, "app", wider).0.expires, None);
    }

    #[test]
    fn narrower_caps_the_life_at_thirty_days_and_leaves_a_shorter_one() {
        let narrower = Alteration { narrower: true, ..Alteration::default() };
        let mut desk = setup();
        let cap = Some("2026-12-22T10:00:00Z".parse().unwrap());
        assert_eq!(desk.create(ask("view", "anonymous"), "app", narrower).0.expires, cap);
        let short = Some("2026-11-30T00:00:00Z".parse().unwrap());
        let asked = Ask { expires: short, ..ask("edit", "anonymous") };
        assert_eq!(desk.create(asked, "app", narrower).0.expires, short);
    }

    #[test]
    fn a_password_is_applied_unless_the_word_says_no() {
        let mut desk = setup();
        let asked = |kind| Ask { password: true, ..ask(kind, "anonymous") };
        assert!(desk.create(asked("view"), "app", Alteration::default()).0.password);
        let ignored = Alteration { no_password: true, ..Alteration::default() };
        assert!(!desk.create(asked("edit"), "app", ignored).0.password);
    }

    #[test]
    fn a_link_that_blocks_download_is_a_view_link_of_its_own() {
        let mut desk = setup();
        desk.create(ask("view", "organization"), "app", Alteration::default());
        let (blocked, effect) = desk.create(ask("blocksDownload", "organization"), "app", Alteration::default());
        assert_eq!((effect, blocked.kind.as_str(), blocked.prevents_download), (Effect::Created, "view", true));
    }
}
