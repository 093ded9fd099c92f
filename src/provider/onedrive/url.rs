//! The addresses of OneDrive and Microsoft Graph.
//!
//! Pure. Everything that came with a request is already encoded, so the pieces are only put together; the colons of
//! a path address stay where they are, and go where the path is empty (facts: the API refuses `root:/:/`).

use url::Url;

use super::request::{Drive, Item};
use crate::config::OneDrive;
use crate::provider::address::opaque;

/// Puts addresses together for one account.
#[derive(Debug, Clone)]
pub struct Addresses {
    base: Url,
    drive: String,
    action: String,
}

/// Where an item is, as the path behind the base address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(String);

impl Addresses {
    /// Checks that the settings make addresses.
    ///
    /// # Errors
    /// A sentence that names the setting.
    pub fn new(settings: &OneDrive) -> Result<Self, String> {
        let base = settings.base_url.clone();
        let drive = format!("/{}", settings.drive.trim_matches('/'));
        let addresses = Self { base, drive, action: settings.action.clone() };
        if settings.base_url.query().is_some() || settings.base_url.fragment().is_some() {
            return Err("`base_url` must have no query and no fragment".to_owned());
        }
        let Place(place) = addresses.place_of(&Drive::Configured, "items/1");
        let sample = format!("{}{place}/{}", addresses.base.as_str().trim_end_matches('/'), addresses.action);
        match Url::parse(&sample).ok() {
            Some(url) if url.query().is_none() && url.fragment().is_none() => Ok(addresses),
            _ => Err("`drive` and `action` must be parts of an address, such as /me/drive and createLink".to_owned()),
        }
    }

    /// The place of an item that needs no call to be found; `None` for a sharing URL.
    pub fn place(&self, item: &Item) -> Option<Place> {
        match item {
            Item::Id(drive, id) => Some(self.place_of(drive, &format!("items/{id}"))),
            Item::Path(drive, path) if path.is_empty() => Some(self.place_of(drive, "root")),
            Item::Path(drive, path) => Some(self.place_of(drive, &format!("root:/{path}:"))),
            Item::Shared(_) => None,
        }
    }

    /// The place of an item by ids that the provider itself gave; `None` where they cannot stand in an address.
    pub fn place_by_ids(&self, drive_id: &str, item_id: &str) -> Option<Place> {
        let is_usable = |id: &str| !matches!(id, "" | "." | "..");
        let place = || self.place_of(&Drive::Id(opaque(drive_id)), &format!("items/{}", opaque(item_id)));
        (is_usable(drive_id) && is_usable(item_id)).then(place)
    }

    /// `GET`: the item behind a sharing URL.
    pub fn shared_item(&self, token: &str) -> Option<Url> {
        self.url(&format!("/shares/{token}/driveItem"))
    }

    /// `POST`: make a link.
    pub fn create_link(&self, place: &Place) -> Option<Url> {
        self.url(&format!("{}/{}", place.0, self.action))
    }

    /// `GET`: the item's permissions.
    pub fn permissions(&self, place: &Place) -> Option<Url> {
        self.url(&format!("{}/permissions", place.0))
    }

    /// `DELETE`: one permission.
    pub fn permission(&self, place: &Place, id: &str) -> Option<Url> {
        if matches!(id, "" | "." | "..") {
            return None;
        }
        self.url(&format!("{}/permissions/{}", place.0, opaque(id)))
    }

    fn place_of(&self, drive: &Drive, item: &str) -> Place {
        let drive = match drive {
            Drive::Configured => self.drive.clone(),
            Drive::Id(id) => format!("/drives/{id}"),
            Drive::User(id) => format!("/users/{id}/drive"),
            Drive::Group(id) => format!("/groups/{id}/drive"),
            Drive::Site(id) => format!("/sites/{id}/drive"),
        };
        Place(format!("{drive}/{item}"))
    }

    fn url(&self, path: &str) -> Option<Url> {
        // Only the path is new; the base was read once.
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        Some(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::OneDriveApi;

    fn graph() -> Addresses {
        Addresses::new(&OneDrive {
            api: OneDriveApi::Graph,
            base_url: "https://graph.microsoft.com/v1.0".parse().unwrap(),
            drive: "/me/drive".to_owned(),
            action: "createLink".to_owned(),
            batch: false,
        })
        .unwrap()
    }

    #[test]
    fn every_documented_address_is_made() {
        let table = [
            (Item::Id(Drive::Configured, "I".to_owned()), "/me/drive/items/I"),
            (Item::Id(Drive::Id("b!D".to_owned()), "I".to_owned()), "/drives/b!D/items/I"),
            (Item::Id(Drive::User("U".to_owned()), "I".to_owned()), "/users/U/drive/items/I"),
            (Item::Id(Drive::Group("G".to_owned()), "I".to_owned()), "/groups/G/drive/items/I"),
            (Item::Id(Drive::Site("h,1,2".to_owned()), "I".to_owned()), "/sites/h,1,2/drive/items/I"),
            (Item::Path(Drive::Configured, "a/b%20c.txt".to_owned()), "/me/drive/root:/a/b%20c.txt:"),
            (Item::Path(Drive::Id("D".to_owned()), String::new()), "/drives/D/root"),
        ];
        for (item, place) in table {
            let url = graph().create_link(&graph().place(&item).unwrap()).unwrap();
            assert_eq!(url.as_str(), format!("https://graph.microsoft.com/v1.0{place}/createLink"));
        }
        assert_eq!(graph().place(&Item::Shared("u!x".to_owned())), None);
        assert_eq!(graph().shared_item("u!x").unwrap().path(), "/v1.0/shares/u!x/driveItem");
    }

    #[test]
    fn the_older_apis_addresses_are_made() {
        let settings = OneDrive {
            api: OneDriveApi::Legacy,
            base_url: "https://api.onedrive.com/v1.0/".parse().unwrap(),
            drive: "drive".to_owned(),
            action: "action.createLink".to_owned(),
            batch: false,
        };
        let legacy = Addresses::new(&settings).unwrap();
        let url = |item| legacy.create_link(&legacy.place(&item).unwrap()).unwrap().to_string();
        let by_id = url(Item::Id(Drive::Configured, "E6C6!22".to_owned()));
        assert_eq!(by_id, "https://api.onedrive.com/v1.0/drive/items/E6C6!22/action.createLink");
        let by_path = url(Item::Path(Drive::Configured, "a.txt".to_owned()));
        assert_eq!(by_path, "https://api.onedrive.com/v1.0/drive/root:/a.txt:/action.createLink");
    }

    #[test]
    fn ids_that_the_provider_gave_keep_their_place_whatever_they_hold() {
        let place = graph().place_by_ids("b!D", "a/b?c").unwrap();
        let url = graph().permission(&place, "aTowIy5m/+=#").unwrap();
        assert_eq!(url.path(), "/v1.0/drives/b!D/items/a%2Fb%3Fc/permissions/aTowIy5m%2F%2B%3D%23");
        assert_eq!(graph().permissions(&place).unwrap().path(), "/v1.0/drives/b!D/items/a%2Fb%3Fc/permissions");
        assert_eq!(graph().place_by_ids("..", "1"), None);
        assert_eq!(graph().permission(&place, ".."), None);
    }

    #[test]
    fn settings_that_make_no_address_are_refused_by_name() {
        let with = |base: &str, drive: &str| {
            Addresses::new(&OneDrive {
                api: OneDriveApi::Graph,
                base_url: base.parse().unwrap(),
                drive: drive.to_owned(),
                action: "createLink".to_owned(),
                batch: false,
            })
        };
        assert!(with("https://h/v1.0?x=1", "/me/drive").unwrap_err().contains("`base_url`"));
        assert!(with("https://h/v1.0", "/me/drive?x=1").unwrap_err().contains("`drive`"));
    }
}
