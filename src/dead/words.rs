//! Small pieces of text: what others wrote made safe for a terminal, numbers with their nouns.

/// A text on one line, without what a terminal would act on.
pub fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A text of several lines, without what a terminal would act on.
pub fn lines(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c }).collect()
}

/// `1 letter`, `2 letters`
pub fn letters(count: usize) -> String {
    if count == 1 { "1 letter".to_owned() } else { format!("{count} letters") }
}

/// The beginning of a text, at most `limit` characters, with an ellipsis where there was more.
pub fn head(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    let mut head: String = text.chars().take(limit.saturating_sub(1)).collect();
    head.push('…');
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_act_on_is_taken_out() {
        assert_eq!(line("a\u{1b}[2Jb\nc"), "a [2Jb c");
        assert_eq!(lines("a\u{1b}[2Jb\nc"), "a\u{fffd}[2Jb\nc");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(head("ßßß", 3), "ßßß");
        assert_eq!(head("ßßßß", 3), "ßß…");
    }
}
