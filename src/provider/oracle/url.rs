//! The addresses: the API's endpoints for public links, and the public address of a link, which the API never tells.
//!
//! Every id is checked and percent-encoded before it enters an address; it stays one path segment.

use url::Url;

use super::request::Item;
use crate::provider::address;

/// Where the links of an item are listed (GET) and made (POST). `None` where the base is no address to build on.
pub fn links(base: &Url, item: &Item) -> Option<Url> {
    join(base, &format!("publiclinks/{}/{}", item.kind.as_str(), item.id))
}

/// Where one link is deleted. `None` where the id cannot be a path segment.
pub fn link(base: &Url, link_id: &str) -> Option<Url> {
    join(base, &format!("publiclinks/{}", segment(link_id)?))
}

/// The public address of a link, from a template with `{publicUrl}`, `{linkID}` and `{id}`; an unknown word in braces
/// stays. `None` where the link's id cannot be a path segment.
pub fn public(template: &str, public_url: &Url, link_id: &str, item: &Item) -> Option<String> {
    let link_id = segment(link_id)?;
    let mut out = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let values = [
            ("{publicUrl}", public_url.as_str().trim_end_matches('/')),
            ("{linkID}", link_id.as_str()),
            ("{id}", item.id.as_str()),
        ];
        rest = match values.into_iter().find_map(|(word, value)| Some((value, from.strip_prefix(word)?))) {
            Some((value, after)) => {
                out.push_str(value);
                after
            }
            None => {
                out.push('{');
                from.get(1..).unwrap_or_default()
            }
        };
    }
    out.push_str(rest);
    Some(out)
}

fn join(base: &Url, path: &str) -> Option<Url> {
    Url::parse(&format!("{}/{path}", base.as_str().trim_end_matches('/'))).ok()
}

/// An id of the provider's own, encoded as it is. What the provider says enters an address like what a request says.
fn segment(id: &str) -> Option<String> {
    (!matches!(id, "" | "." | "..")).then(|| address::opaque(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::oracle::request::ItemKind;
    use proptest::prelude::*;

    const FOLDER: &str = "{publicUrl}/link/{linkID}/folder/{id}";

    fn item(kind: ItemKind, id: &str) -> Item {
        Item { kind, id: id.to_owned() }
    }

    #[test]
    fn endpoints_follow_the_base_and_the_kind() {
        for version in ["1.1", "1.2"] {
            let base = Url::parse(&format!("https://content.example.com/documents/api/{version}")).unwrap();
            let at = |url: Option<Url>| url.unwrap().path().trim_start_matches(base.path()).to_owned();
            assert_eq!(at(links(&base, &item(ItemKind::Folder, "F1"))), "/publiclinks/folder/F1");
            assert_eq!(at(links(&base, &item(ItemKind::File, "D%201"))), "/publiclinks/file/D%201");
            assert_eq!(at(link(&base, "LF1")), "/publiclinks/LF1");
            assert_eq!(at(link(&base, "a/../b%2e?")), "/publiclinks/a%2F..%2Fb%252e%3F");
            assert!(link(&base, "..").is_none() && link(&base, "").is_none());
        }
    }

    #[test]
    fn a_public_address_is_the_template_with_its_words_replaced_once() {
        let public_url = Url::parse("https://content.example.com/documents").unwrap();
        let folder = item(ItemKind::Folder, "F1");
        assert_eq!(
            public(FOLDER, &public_url, "LF1", &folder).as_deref(),
            Some("https://content.example.com/documents/link/LF1/folder/F1")
        );
        assert_eq!(
            public("https://x.example/{linkID}?i={id}&k={kind}&{", &public_url, "{id}", &folder).as_deref(),
            Some("https://x.example/%7Bid%7D?i=F1&k={kind}&{")
        );
        assert_eq!(public(FOLDER, &public_url, "..", &folder), None);
    }

    proptest! {
        #[test]
        fn whatever_link_id_is_accepted_stays_one_segment(link_id in "[./%2e]{0,6}|\\PC{0,20}") {
            let public_url = Url::parse("https://content.example.com/documents").unwrap();
            if let Some(address) = public(FOLDER, &public_url, &link_id, &item(ItemKind::Folder, "F1")) {
                let address = Url::parse(&address).unwrap();
                prop_assert_eq!(address.path_segments().unwrap().count(), 5);
                prop_assert!(address.query().is_none() && address.fragment().is_none());
            }
        }
    }
}
