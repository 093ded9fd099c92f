//! Which letters a command is about.

use super::summary::Summary;

/// What a letter has to be; what is not given is not asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Why it is dead.
    pub reason: Option<String>,
    /// The account its request names.
    pub provider: Option<String>,
    /// The kind of failure of the reply that could not be delivered.
    pub kind: Option<String>,
    /// The request's id, message id or correlation id.
    pub id: Option<String>,
}

impl Filter {
    /// Whether a letter is meant: it is everything that is asked.
    pub fn matches(&self, letter: &Summary) -> bool {
        let same =
            |asked: &Option<String>, told: Option<&str>| asked.as_deref().is_none_or(|asked| told == Some(asked));
        same(&self.reason, Some(&letter.reason))
            && same(&self.provider, letter.provider.as_deref())
            && same(&self.kind, letter.kind.as_deref())
            && self.id.as_ref().is_none_or(|id| letter.names.contains(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dead::summary::tests::letter;
    use serde_json::json;

    #[test]
    fn a_letter_has_to_be_everything_that_is_asked() {
        let reply = json!({"error": {"kind": "notFound"}}).to_string();
        let headers = json!({"sharelink-reason": "unroutable", "sharelink-reply": reply});
        let letter = Summary::of(&letter(json!({"message_id": "m"}), headers, r#"{"id": "a", "provider": "contoso"}"#));
        let some = |text: &str| Some(text.to_owned());
        let all =
            Filter { reason: some("unroutable"), provider: some("contoso"), kind: some("notFound"), id: some("m") };
        assert!(Filter::default().matches(&letter));
        assert!(all.matches(&letter));
        for one_wrong in [
            Filter { reason: some("malformed"), ..all.clone() },
            Filter { provider: some("content"), ..all.clone() },
            Filter { kind: some("internal"), ..all.clone() },
            Filter { id: some("b"), ..all.clone() },
        ] {
            assert!(!one_wrong.matches(&letter), "{one_wrong:?}");
        }
    }

    #[test]
    fn a_letter_without_a_provider_is_not_of_the_one_asked_for() {
        let letter = Summary::of(&letter(json!({}), json!({}), "{}"));
        assert!(!Filter { provider: Some("contoso".to_owned()), ..Filter::default() }.matches(&letter));
    }
}
