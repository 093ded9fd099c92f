//! What a provider said in its own words, made fit for a reply.

/// The longest message of a provider that is passed on, in characters.
const LONGEST: usize = 300;

/// A provider's message on one line: control characters become blanks, blanks are gathered, and what is longer than
/// 300 characters is cut with an ellipsis.
pub fn plain(text: &str) -> String {
    let mut out = String::new();
    for word in text.split(|each: char| each.is_control() || each.is_whitespace()).filter(|word| !word.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
        if out.len() > LONGEST * 4 {
            break;
        }
    }
    match out.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", out.get(..end).unwrap_or_default()),
        None => out,
    }
}

/// Our sentence first, then the provider's own message where it has one.
pub fn sentence(ours: &str, theirs: &str) -> String {
    let theirs = plain(theirs);
    if theirs.is_empty() { ours.to_owned() } else { format!("{ours}: {theirs}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_becomes_one_bounded_line() {
        assert_eq!(plain("AADSTS70011: no.\r\nTrace\u{1b}[31m ID\0"), "AADSTS70011: no. Trace [31m ID");
        let long = plain(&"é".repeat(1000));
        assert_eq!(long.chars().count(), LONGEST + 1);
        assert!(long.ends_with('…'));
        assert_eq!(plain(" \n "), "");
    }

    #[test]
    fn a_silent_provider_leaves_our_sentence_alone() {
        assert_eq!(sentence("the item is locked", ""), "the item is locked");
        assert_eq!(sentence("the item is locked", "by Bob"), "the item is locked: by Bob");
    }
}
