//! The public links of all folders and files: many named ones and one unnamed one each. Pure.
//!
//! Creating never hands out a link that is there: a second unnamed one, or a name that is taken, is refused with
//! 409 / -17. Oracle does not document that answer; it is the likeliest, and the hardest on a client that repeats.

use std::collections::{HashMap, HashSet};

use axum::http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::super::answer::Refused;
use super::super::faults::Alteration;
use super::super::work::{Live, hex};
use super::bad;
use crate::model::Object;

/// The longest life that `narrower` allows.
const NARROW: SignedDuration = SignedDuration::from_hours(30 * 24);
/// The roles, from low to high.
const ROLES: [&str; 3] = ["viewer", "downloader", "contributor"];

/// A folder or a file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Resource {
    /// Whether it is a folder.
    pub folder: bool,
    /// Its id.
    pub id: String,
}

impl Resource {
    /// `folder` or `file`
    pub fn kind(&self) -> &'static str {
        if self.folder { "folder" } else { "file" }
    }

    /// The resource's name in statistics.
    pub fn label(&self) -> String {
        format!("{}/{}", self.kind(), self.id)
    }
}

/// A public link.
#[derive(Debug, Clone, PartialEq)]
pub struct PublicLink {
    /// `linkID`
    pub id: String,
    /// `linkName`
    pub name: Option<String>,
    /// `assignedUsers`
    pub assigned_users: String,
    /// `role`
    pub role: String,
    /// `password`, which no answer has.
    password: Option<String>,
    /// `createdTime`
    pub created: Timestamp,
    /// `lastModifiedTime`
    pub modified: Timestamp,
    /// `expirationTime`
    pub expires: Option<Timestamp>,
}

/// A link that was asked for. Members that the API does not know are ignored, as it seems to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    assigned_users: String,
    role: String,
    expires: Option<Timestamp>,
    password: Option<String>,
    name: Option<String>,
}

impl Ask {
    /// Reads the body of a create call.
    ///
    /// # Errors
    /// 400 / -1 naming the member.
    pub fn read(body: &Object, wall: Timestamp) -> Result<Self, Refused> {
        Ok(Self {
            assigned_users: assigned_users(body)?.ok_or_else(|| bad("assignedUsers is required."))?,
            role: role(body)?.unwrap_or_else(|| "viewer".to_owned()),
            expires: expires(body, wall)?,
            password: password(body)?,
            name: text(body, "linkName")?.filter(|name| !name.is_empty()).map(str::to_owned),
        })
    }
}

fn assigned_users(body: &Object) -> Result<Option<String>, Refused> {
    match text(body, "assignedUsers")? {
        Some(users) if users.trim().is_empty() => Err(bad("assignedUsers is empty.")),
        users => Ok(users.map(str::to_owned)),
    }
}

fn role(body: &Object) -> Result<Option<String>, Refused> {
    match text(body, "role")? {
        Some(role) if !ROLES.contains(&role) => Err(bad(format!("'{role}' is not a role of a public link."))),
        role => Ok(role.map(str::to_owned)),
    }
}

/// Whole seconds, UTC, with or without `Z`.
fn expires(body: &Object, wall: Timestamp) -> Result<Option<Timestamp>, Refused> {
    let Some(written) = text(body, "expirationTime")? else { return Ok(None) };
    let bare = written.strip_suffix('Z').unwrap_or(written);
    let time = (bare.len() == "yyyy-mm-ddThh:mm:ss".len())
        .then(|| format!("{bare}Z").parse::<Timestamp>().ok())
        .flatten()
        .ok_or_else(|| bad("expirationTime does not have the form yyyy-mm-ddThh:mm:ss."))?;
    if time <= wall {
        return Err(bad("expirationTime has passed."));
    }
    Ok(Some(time))
}

fn password(body: &Object) -> Result<Option<String>, Refused> {
    match text(body, "password")? {
        Some(password) if !(8..=50).contains(&password.chars().count()) => {
            Err(bad("password does not have 8 to 50 characters."))
        }
        password => Ok(password.map(str::to_owned)),
    }
}

fn text<'a>(body: &'a Object, name: &str) -> Result<Option<&'a str>, Refused> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(bad(format!("{name} is not a string."))),
    }
}

/// All links.
#[derive(Debug, Default)]
pub struct Links {
    resources: HashMap<Resource, Vec<PublicLink>>,
    by_id: HashMap<String, Resource>,
}

impl Links {
    /// The folder or file that a link is for.
    pub fn resource_of(&self, link_id: &str) -> Option<&Resource> {
        self.by_id.get(link_id)
    }

    /// The links of a resource, expired ones too: whether the service leaves those out is not known.
    pub fn of(&self, resource: &Resource) -> &[PublicLink] {
        self.resources.get(resource).map_or(&[], Vec::as_slice)
    }

    /// One link.
    pub fn get(&self, id: &str) -> Option<&PublicLink> {
        self.of(self.by_id.get(id)?).iter().find(|link| link.id == id)
    }

    /// Every resource with its live links in numbers.
    pub fn census(&self, wall: Timestamp) -> impl Iterator<Item = (&Resource, Live)> {
        self.resources.iter().map(move |(resource, links)| {
            let live = || links.iter().filter(|link| link.expires.is_none_or(|expires| wall < expires));
            let different: HashSet<_> =
                live().map(|link| (&link.assigned_users, &link.role, link.expires, &link.password)).collect();
            let count = live().count() as u64;
            (resource, Live { links: count, doubled: count.saturating_sub(different.len() as u64) })
        })
    }

    /// Makes a link.
    ///
    /// # Errors
    /// 409 / -17 where there is an unnamed one already or the name is taken.
    pub fn create(
        &mut self,
        resource: &Resource,
        ask: Ask,
        alteration: Alteration,
        wall: Timestamp,
        rng: &mut fastrand::Rng,
    ) -> Result<PublicLink, Refused> {
        let links = self.resources.entry(resource.clone()).or_default();
        if links.iter().any(|link| link.name == ask.name) {
            let message = match &ask.name {
                Some(name) => format!("A public link named '{name}' already exists."),
                None => "A public link without a name already exists.".to_owned(),
            };
            return Err(Refused::new(StatusCode::CONFLICT, "-17", message));
        }
        let wall = Timestamp::from_second(wall.as_second()).unwrap_or(wall);
        let mut link = PublicLink {
            id: format!("L{}{}T0000000000100000001", if resource.folder { 'F' } else { 'D' }, hex(rng, 22)),
            name: ask.name,
            assigned_users: ask.assigned_users,
            role: ask.role,
            password: ask.password.filter(|_| !alteration.no_password),
            created: wall,
            modified: wall,
            expires: ask.expires,
        };
        if alteration.narrower {
            let cap = wall.checked_add(NARROW).unwrap_or(Timestamp::MAX);
            link.expires = Some(link.expires.map_or(cap, |expires| expires.min(cap)));
        }
        if alteration.wider {
            widen(&mut link);
        }
        self.by_id.insert(link.id.clone(), resource.clone());
        links.push(link.clone());
        Ok(link)
    }

    /// Changes the members that are given; a name cannot be changed. `None` where there is no such link.
    ///
    /// # Errors
    /// 400 / -1 naming the member.
    pub fn edit(&mut self, id: &str, body: &Object, wall: Timestamp) -> Result<Option<&PublicLink>, Refused> {
        let (users, role, expires, password) =
            (assigned_users(body)?, role(body)?, expires(body, wall)?, password(body)?);
        let Some(links) = self.by_id.get(id).and_then(|resource| self.resources.get_mut(resource)) else {
            return Ok(None);
        };
        let Some(link) = links.iter_mut().find(|link| link.id == id) else { return Ok(None) };
        link.assigned_users = users.unwrap_or_else(|| link.assigned_users.clone());
        link.role = role.unwrap_or_else(|| link.role.clone());
        link.expires = expires.or(link.expires);
        link.password = password.or_else(|| link.password.clone());
        link.modified = Timestamp::from_second(wall.as_second()).unwrap_or(wall);
        Ok(Some(link))
    }

    /// Takes a link back; `None` where there is no such link.
    pub fn delete(&mut self, id: &str) -> Option<()> {
        let resource = self.by_id.remove(id)?;
        self.resources.get_mut(&resource)?.retain(|link| link.id != id);
        Some(())
    }
}

/// Widens the audience; where it is the widest, the role; where that is the highest, the life.
fn widen(link: &mut PublicLink) {
    match (link.assigned_users.as_str(), link.role.as_str()) {
        ("@everybody", "contributor") => link.expires = None,
        ("@everybody", _) => link.role = "contributor".to_owned(),
        _ => link.assigned_users = "@everybody".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    struct Desk {
        links: Links,
        rng: fastrand::Rng,
        folder: Resource,
        wall: Timestamp,
    }

    fn setup() -> Desk {
        Desk {
            links: Links::default(),
            rng: fastrand::Rng::with_seed(1),
            folder: Resource { folder: true, id: "F1".to_owned() },
            wall: "2026-11-22T10:00:00Z".parse().unwrap(),
        }
    }

    impl Desk {
        fn create(&mut self, body: &Value, alteration: Alteration) -> Result<PublicLink, Refused> {
            let ask = Ask::read(body.as_object().unwrap(), self.wall)?;
            self.links.create(&self.folder, ask, alteration, self.wall, &mut self.rng)
        }

        fn plain(&mut self, body: &Value) -> Result<PublicLink, Refused> {
            self.create(body, Alteration::default())
        }
    }

    #[test]
    fn a_second_unnamed_link_and_a_taken_name_are_conflicts() {
        let mut desk = setup();
        desk.plain(&json!({"assignedUsers": "@everybody"})).unwrap();
        desk.plain(&json!({"assignedUsers": "@everybody", "linkName": "a"})).unwrap();
        for body in [json!({"assignedUsers": "@serviceinstance"}), json!({"assignedUsers": "x", "linkName": "a"})] {
            let refused = desk.plain(&body).unwrap_err();
            assert_eq!((refused.status, refused.code), (StatusCode::CONFLICT, "-17"), "{body}");
        }
    }

    #[test]
    fn equal_links_under_different_names_count_as_doubled() {
        let mut desk = setup();
        for name in ["a", "b", "c"] {
            desk.plain(&json!({"assignedUsers": "@everybody", "linkName": name})).unwrap();
        }
        desk.plain(&json!({"assignedUsers": "@everybody", "linkName": "d", "role": "contributor"})).unwrap();
        let (_, live) = desk.links.census(desk.wall).next().unwrap();
        assert_eq!(live, Live { links: 4, doubled: 2 });
    }

    #[test]
    fn an_id_has_oracles_length_and_prefix() {
        let mut desk = setup();
        let link = desk.plain(&json!({"assignedUsers": "@everybody"})).unwrap();
        assert!(link.id.len() == 44 && link.id.starts_with("LF"), "{link:?}");
    }

    #[test]
    fn what_the_pages_do_not_allow_is_400() {
        for body in [
            json!({}),
            json!({"assignedUsers": " "}),
            json!({"assignedUsers": ["@everybody"]}),
            json!({"assignedUsers": "@everybody", "role": "manager"}),
            json!({"assignedUsers": "@everybody", "password": "short"}),
            json!({"assignedUsers": "@everybody", "expirationTime": "2027-01-01T00:00:00.5Z"}),
            json!({"assignedUsers": "@everybody", "expirationTime": "2027-01-01"}),
            json!({"assignedUsers": "@everybody", "expirationTime": "2016-01-01T00:00:01Z"}),
        ] {
            assert_eq!(setup().plain(&body).unwrap_err().status, StatusCode::BAD_REQUEST, "{body}");
        }
    }

    #[test]
    fn a_time_without_a_zone_is_utc() {
        let link = setup().plain(&json!({"assignedUsers": "@everybody", "expirationTime": "2027-01-01T00:00:00"}));
        assert_eq!(link.unwrap().expires, Some("2027-01-01T00:00:00Z".parse().unwrap()));
    }

    #[test]
    fn the_words_change_what_is_granted() {
        let all = Alteration { wider: true, narrower: true, no_password: true };
        let mut desk = setup();
        let body = json!({"assignedUsers": "@serviceinstance", "password": "long enough"});
        let link = desk.create(&body, all).unwrap();
        assert_eq!(link.assigned_users, "@everybody");
        assert_eq!(link.password, None);
        assert_eq!(link.expires, Some("2026-12-22T10:00:00Z".parse().unwrap()));
        let wider = Alteration { wider: true, ..Alteration::default() };
        let link = desk.create(&json!({"assignedUsers": "@everybody", "linkName": "a"}), wider).unwrap();
        assert_eq!(link.role, "contributor");
    }

    #[test]
    fn an_edit_changes_what_it_names_and_a_deleted_link_is_gone() {
        let mut desk = setup();
        let made = desk.plain(&json!({"assignedUsers": "@everybody", "linkName": "a"})).unwrap();
        let body = json!({"role": "downloader", "linkName": "b"});
        let edited = desk.links.edit(&made.id, body.as_object().unwrap(), desk.wall).unwrap().cloned().unwrap();
        assert_eq!(edited, PublicLink { role: "downloader".to_owned(), ..made.clone() });
        assert_eq!(desk.links.delete(&made.id), Some(()));
        assert_eq!(desk.links.delete(&made.id), None);
        assert!(desk.links.of(&desk.folder).is_empty());
    }
}
