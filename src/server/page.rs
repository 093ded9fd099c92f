//! The page around its parts, pure: the parts are put into `page.html`, with its style and its script; and what the browser may do.
//!
//! It works without JavaScript and asks no other server for anything. The policy allows exactly this style and this
//! script, by their hashes, and connections to this server.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};

use super::parts::Parts;

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The whole page.
pub fn document(parts: &Parts) -> String {
    let mut page = String::with_capacity(TEMPLATE.len() + STYLE.len() + SCRIPT.len() + 16 * 1_024);
    let mut rest = TEMPLATE;
    while let Some((before, (name, after))) =
        rest.split_once("{{").and_then(|(before, after)| Some((before, after.split_once("}}")?)))
    {
        page.push_str(before);
        page.push_str(match name {
            "style" => STYLE,
            "script" => SCRIPT,
            name => parts.iter().find(|(id, _)| *id == name).map_or("", |(_, inside)| inside),
        });
        rest = after;
    }
    page.push_str(rest);
    page
}

/// The content security policy of the page. No frame, no form, no other server.
pub fn policy() -> String {
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(digest(&SHA256, text.as_bytes())));
    format!(
        "default-src 'none'; style-src {}; script-src {}; connect-src 'self'; img-src data:; frame-ancestors 'none'; \
         base-uri 'none'; form-action 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::parts;
    use crate::server::samples::{view, worker};

    #[test]
    fn every_part_has_its_place_and_every_place_its_part() {
        let parts = parts::render(&view(worker(41), |_| {}));
        let page = document(&parts);
        assert!(!page.contains("{{") && !page.contains("}}"));
        for (id, inside) in &parts {
            assert_eq!(TEMPLATE.matches(&format!(" id=\"{id}\"")).count(), 1, "{id}");
            assert!(page.contains(&format!(">{inside}</")), "{id}");
        }
        let places = TEMPLATE.matches("{{").count();
        // The build stands twice: to be read, and for the script.
        assert_eq!(places, parts.len() + 3);
    }

    #[test]
    fn the_page_asks_no_other_server_for_anything_and_holds_no_inline_style() {
        let page = document(&parts::render(&view(worker(41), |_| {})));
        for foreign in ["http://", "https://", "//cdn", " style=", " onclick=", "@import", "url(http"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        for line in TEMPLATE.lines().filter(|line| line.contains("src=") || line.contains("href=")) {
            assert!(
                line.contains("href=\"#main\"") || line.contains("href=\"data:,\"") || line.contains("href=\"/"),
                "{line}"
            );
        }
    }

    #[test]
    fn neither_style_nor_script_can_end_its_own_element() {
        assert!(!STYLE.contains("</") && !SCRIPT.contains("</") && !STYLE.contains("{{") && !SCRIPT.contains("{{"));
    }
}
