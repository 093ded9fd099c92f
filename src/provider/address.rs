//! Turns ids and paths that came with a request into pieces of a URL.
//!
//! Pure. Whatever is accepted stays in its place: it is exactly the path segments it stands for, never a `..`, a
//! query, a fragment or a second address. Colons, which mean something in Microsoft's addresses, are never data.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::model::Failure;

/// What stays as it is in a segment: unreserved characters, and those that ids of OneDrive and SharePoint are made of
/// (`b!abc`, `host,guid,guid`, `ann@contoso.com`). Encoding more than RFC 3986 asks for is allowed.
const ENCODED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'!').remove(b',').remove(b'@');

/// Characters that no id and no name at OneDrive or SharePoint has.
const RESERVED: [char; 8] = ['\\', ':', '*', '?', '<', '>', '|', '"'];

/// The longest id or path that is accepted, in characters. Providers' own limits are near 400.
const LONGEST: usize = 1024;

/// An id as one encoded path segment. Ids are often copied out of URLs, so `b%21abc` means `b!abc`.
///
/// # Errors
/// `invalidRequest` naming the member.
pub fn id(member: &str, text: &str) -> Result<String, Failure> {
    let refuse = |why: &str| Failure::invalid(format!("`{member}` {why}"));
    let decoded = decode_once(text).ok_or_else(|| refuse("holds a `%` that begins no percent-encoded character"))?;
    if decoded.is_empty() || decoded == "." || decoded == ".." {
        return Err(refuse("must be an id, not empty and not dots"));
    }
    if decoded.chars().count() > LONGEST {
        return Err(refuse("is too long for an id"));
    }
    let is_foreign = |each: char| {
        each.is_control() || each.is_whitespace() || each == '/' || each == '%' || RESERVED.contains(&each)
    };
    if decoded.contains(is_foreign) {
        return Err(refuse(r#"holds a character that no id has: blanks, control characters, % / \ : * ? < > | or ""#));
    }
    Ok(opaque(&decoded))
}

/// A path from the root of a drive as encoded segments, without slashes at its ends; empty for the root itself. The
/// text is literal: a `%20` in it is three characters of a name.
///
/// # Errors
/// `invalidRequest` naming the member.
pub fn path(member: &str, text: &str) -> Result<String, Failure> {
    let refuse = |why: &str| Failure::invalid(format!("`{member}` {why}"));
    if text == "/" {
        return Ok(String::new());
    }
    if text.chars().count() > LONGEST {
        return Err(refuse("is too long for a path"));
    }
    let segments: Vec<&str> = text.strip_prefix('/').unwrap_or(text).split('/').collect();
    for segment in &segments {
        if segment.is_empty() {
            return Err(refuse("must be a path such as `/a/b.docx`, without empty parts; the root is `/`"));
        }
        if matches!(*segment, "." | "..") {
            return Err(refuse("must be a path from the root, without `.` and `..`"));
        }
        if segment.contains(|each: char| each.is_control() || RESERVED.contains(&each)) {
            return Err(refuse(r#"holds a character that no name has: control characters, \ : * ? < > | or ""#));
        }
    }
    Ok(segments.iter().map(|segment| opaque(segment)).collect::<Vec<_>>().join("/"))
}

/// Any text as one encoded path segment, for ids that the provider itself gave and that are not `.` or `..`.
pub fn opaque(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// Undoes percent-encoding once; `None` where a `%` stands alone or the bytes are not UTF-8.
fn decode_once(text: &str) -> Option<String> {
    let is_encoded = |rest: &str| rest.as_bytes().get(..2).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
    if !text.split('%').skip(1).all(is_encoded) {
        return None;
    }
    percent_decode_str(text).decode_utf8().ok().map(|decoded| decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ErrorKind;
    use proptest::prelude::*;
    use url::Url;

    fn decode(segment: &str) -> String {
        percent_decode_str(segment).decode_utf8().unwrap().into_owned()
    }

    #[test]
    fn ids_of_every_known_shape_are_accepted_in_both_spellings() {
        let table = [
            ("E6C67E2E0C9058E4!2265", "E6C67E2E0C9058E4!2265"),
            ("b!QJ4v-x_Y", "b!QJ4v-x_Y"),
            ("b%21QJ4v", "b!QJ4v"),
            ("contoso.sharepoint.com,1a-2b,3c-4d", "contoso.sharepoint.com,1a-2b,3c-4d"),
            ("ann@contoso.com", "ann@contoso.com"),
            ("ann_x.com#EXT#@contoso.com", "ann_x.com%23EXT%23@contoso.com"),
            ("ann%23x", "ann%23x"),
            ("Ä", "%C3%84"),
        ];
        for (text, encoded) in table {
            assert_eq!(id("itemId", text).as_deref(), Ok(encoded), "{text}");
        }
    }

    #[test]
    fn an_id_that_could_leave_its_place_is_refused_by_the_members_name() {
        let table = [
            "", ".", "..", "%2e%2e", "a/b", "a%2Fb", "a\\b", "a?b", "a:b", "a%3ab", "a*b", "a b", "a\tb", "a%00b", "%",
            "a%2", "a%zz", "a%2525b", "a%ff", "a\u{a0}b", "a|b", "<a>", "a\"b",
        ];
        for text in table {
            let failure = id("itemId", text).unwrap_err();
            assert_eq!(failure.kind, ErrorKind::InvalidRequest, "{text:?}");
            assert!(failure.message.contains("`itemId`"), "{}", failure.message);
        }
        assert!(id("itemId", &"a".repeat(LONGEST + 1)).is_err());
    }

    #[test]
    fn a_path_is_literal_text_and_each_segment_is_encoded_by_itself() {
        let table = [
            ("/", ""),
            ("a.docx", "a.docx"),
            ("/a/b c.docx", "a/b%20c.docx"),
            ("/100%/#1 [x].txt", "100%25/%231%20%5Bx%5D.txt"),
            ("/a%20b", "a%2520b"),
            ("/Ä&b=c;d+e'f()", "%C3%84%26b%3Dc%3Bd%2Be%27f%28%29"),
            ("/..a/b..", "..a/b.."),
        ];
        for (text, encoded) in table {
            assert_eq!(path("itemPath", text).as_deref(), Ok(encoded), "{text}");
        }
        for text in
            ["", "//", "/a//b", "/a/", "/../a", "/a/./b", "/a:/b", "/a?b", "/a\\b", "/a\nb", "/a*", "/\"a\"", "/a|b"]
        {
            let failure = path("itemPath", text).unwrap_err();
            assert!(failure.message.contains("`itemPath`"), "{text:?}: {}", failure.message);
        }
    }

    proptest! {
        #[test]
        fn an_accepted_id_is_exactly_one_segment_and_comes_back_whole(
            text in prop_oneof!["\\PC{0,40}", "[a-z%0-9!./?#:]{0,12}"]
        ) {
            if let Ok(segment) = id("itemId", &text) {
                let url = Url::parse(&format!("https://h/v1.0/drives/{segment}/items")).unwrap();
                let segments: Vec<&str> = url.path_segments().unwrap().collect();
                prop_assert_eq!(segments.len(), 4);
                prop_assert_eq!((segments[0], segments[1], segments[3]), ("v1.0", "drives", "items"));
                prop_assert_eq!(decode(segments[2]), decode_once(&text).unwrap());
                prop_assert!(url.query().is_none() && url.fragment().is_none());
            }
        }

        #[test]
        fn an_accepted_path_keeps_its_segments_and_their_text(
            text in prop_oneof!["(/\\PC{0,12}){1,5}", "[a-z%0-9!./?# :]{0,12}"]
        ) {
            if let Ok(encoded) = path("itemPath", &text) && !encoded.is_empty() {
                let url = Url::parse(&format!("https://h/drive/root:/{encoded}:/createLink")).unwrap();
                let names: Vec<&str> = text.strip_prefix('/').unwrap_or(&text).split('/').collect();
                let mut segments: Vec<String> = url.path_segments().unwrap().map(decode).collect();
                prop_assert_eq!(segments.len(), names.len() + 3);
                prop_assert_eq!(segments.pop(), Some("createLink".to_owned()));
                prop_assert_eq!(segments.drain(..2).collect::<Vec<_>>(), ["drive", "root:"]);
                let last = segments.pop().unwrap();
                segments.push(last.strip_suffix(':').unwrap().to_owned());
                prop_assert_eq!(segments, names);
                prop_assert!(url.query().is_none() && url.fragment().is_none());
            }
        }
    }
}
