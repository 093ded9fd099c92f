//! AMQP text and header tables: reading what others wrote, writing what fits.
//!
//! Nothing here can fail on foreign text: too long is cut, of another type is read as absent.

use lapin::types::{AMQPValue, FieldTable, ShortString};

/// Headers of one message must fit one frame, which the broker negotiates down to 8192 bytes at worst; the other
/// properties need up to 3.5 KiB of it.
pub const MAX_HEADERS: usize = 4096;

/// Longest AMQP short string, in bytes.
const MAX_SHORT: usize = 255;

/// Numbers a published message, so that a returned one is recognised.
pub const PUBLISH_ID: &str = "sharelink-publish-id";
/// Attempts made before this delivery.
pub const ATTEMPTS: &str = "sharelink-attempts";
/// When the request was first seen, RFC 3339.
pub const FIRST_SEEN: &str = "sharelink-first-seen";
/// When the first attempt was made, RFC 3339.
pub const FIRST_ATTEMPT: &str = "sharelink-first-attempt";
/// 1 where an earlier attempt may have made the link although no answer came.
pub(crate) const UNSURE: &str = "sharelink-unsure";
/// No call before this time, RFC 3339.
pub const NOT_BEFORE: &str = "sharelink-not-before";

/// Why a letter is dead.
pub(crate) const REASON: &str = "sharelink-reason";
/// The sentence for a person.
pub(crate) const ERROR: &str = "sharelink-error";
/// Who buried it.
pub(crate) const WORKER: &str = "sharelink-worker";
/// The reply that could not be delivered, as JSON.
pub(crate) const REPLY: &str = "sharelink-reply";
/// How long the body was, where it was cut.
pub(crate) const BODY_BYTES: &str = "sharelink-body-bytes";
/// Present on a request that was a dead letter and may have reached the provider before it became one.
pub(crate) const REDRIVEN: &str = "sharelink-redriven";

/// The longest beginning of `text` that has at most `limit` bytes and ends at a character's end.
pub fn cut(text: &str, limit: usize) -> &str {
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// `text` as a short string, cut to 255 bytes.
pub fn short(text: &str) -> ShortString {
    ShortString::try_new(cut(text, MAX_SHORT)).unwrap_or_default()
}

/// A header's text, whether the publisher's library wrote it as a string or as a byte array.
pub fn text(headers: &FieldTable, name: &str) -> Option<String> {
    let bytes = match headers.inner().get(name)? {
        AMQPValue::ShortString(text) => return Some(text.as_str().to_owned()),
        AMQPValue::LongString(text) => text.as_bytes(),
        AMQPValue::ByteArray(bytes) => bytes.as_slice(),
        _ => return None,
    };
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

/// A header's whole number, of whatever width, as far as it is not negative.
pub fn number(headers: &FieldTable, name: &str) -> Option<u64> {
    match headers.inner().get(name)? {
        AMQPValue::ShortShortInt(number) => u64::try_from(*number).ok(),
        AMQPValue::ShortShortUInt(number) => Some(u64::from(*number)),
        AMQPValue::ShortInt(number) => u64::try_from(*number).ok(),
        AMQPValue::ShortUInt(number) => Some(u64::from(*number)),
        AMQPValue::LongInt(number) => u64::try_from(*number).ok(),
        AMQPValue::LongUInt(number) => Some(u64::from(*number)),
        AMQPValue::LongLongInt(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

/// A table that stays within [`MAX_HEADERS`]: what does not fit any more is left out.
#[derive(Debug)]
pub struct Headers {
    table: FieldTable,
    left: usize,
}

impl Default for Headers {
    fn default() -> Self {
        Self::new()
    }
}

impl Headers {
    /// An empty table with room for the publish id.
    pub fn new() -> Self {
        let left = MAX_HEADERS.saturating_sub(PUBLISH_ID.len() + 16);
        Self { table: FieldTable::default(), left }
    }

    /// Adds a text where it fits.
    pub fn text(&mut self, name: &'static str, text: &str) {
        self.add(short(name), AMQPValue::LongString(text.into()));
    }

    /// Adds a text where there is one and it fits.
    pub fn maybe(&mut self, name: &'static str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    /// Adds a number where it fits.
    pub fn number(&mut self, name: &'static str, number: u32) {
        self.add(short(name), AMQPValue::LongLongInt(i64::from(number)));
    }

    /// Adds a value where it fits and the name is not taken yet.
    pub fn add(&mut self, name: ShortString, value: AMQPValue) {
        let size = 2 + name.as_str().len() + size(&value);
        if size <= self.left && !self.table.contains_key(name.as_str()) {
            self.left -= size;
            self.table.insert(name, value);
        }
    }

    /// The table.
    pub fn into_table(self) -> FieldTable {
        self.table
    }
}

/// Bytes of a value on the wire, without its type octet; never less than it really takes.
fn size(value: &AMQPValue) -> usize {
    match value {
        AMQPValue::ShortString(text) => 4 + text.as_str().len(),
        AMQPValue::LongString(text) => 4 + text.len(),
        AMQPValue::ByteArray(bytes) => 4 + bytes.len(),
        AMQPValue::FieldArray(values) => 4 + values.as_slice().iter().map(|value| 1 + size(value)).sum::<usize>(),
        AMQPValue::FieldTable(table) => {
            4 + table.into_iter().map(|(name, value)| 2 + name.as_str().len() + size(value)).sum::<usize>()
        }
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(cut("aßß", 2), "a");
        assert_eq!(cut("aßß", 3), "aß");
        assert_eq!(short(&"ß".repeat(200)).as_str().len(), 254);
    }

    #[test]
    fn a_header_is_read_whichever_text_type_its_library_used() {
        let mut table = FieldTable::default();
        table.insert("a".into(), AMQPValue::LongString("00-ab".into()));
        table.insert("b".into(), AMQPValue::ByteArray(b"00-ab".to_vec().into()));
        table.insert("c".into(), AMQPValue::ShortString("00-ab".into()));
        table.insert("d".into(), AMQPValue::ByteArray(vec![0xff].into()));
        table.insert("e".into(), AMQPValue::Boolean(true));
        for name in ["a", "b", "c"] {
            assert_eq!(text(&table, name).as_deref(), Some("00-ab"));
        }
        for name in ["d", "e", "f"] {
            assert_eq!(text(&table, name), None);
        }
    }

    #[test]
    fn a_number_is_read_from_any_width_and_a_negative_one_is_absent() {
        let mut table = FieldTable::default();
        table.insert("byte".into(), AMQPValue::ShortShortUInt(3));
        table.insert("long".into(), AMQPValue::LongLongInt(3));
        table.insert("negative".into(), AMQPValue::LongInt(-3));
        assert_eq!(number(&table, "byte"), Some(3));
        assert_eq!(number(&table, "long"), Some(3));
        assert_eq!(number(&table, "negative"), None);
    }

    #[test]
    fn headers_never_outgrow_a_frame_and_the_first_writer_of_a_name_wins() {
        let mut headers = Headers::new();
        headers.text("first", "kept");
        headers.text("first", "too late");
        headers.text("huge", &"x".repeat(MAX_HEADERS));
        for number in 0..200 {
            headers.add(short(&format!("n{number}")), AMQPValue::LongString("x".repeat(100).into()));
        }
        let table = headers.into_table();
        assert_eq!(text(&table, "first").as_deref(), Some("kept"));
        assert!(!table.contains_key("huge"));
        assert!(size(&AMQPValue::FieldTable(table)) <= MAX_HEADERS);
    }
}
