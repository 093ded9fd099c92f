//! Takes secrets out of what is shown of a letter: passwords that requests carry, and what foreign headers may hold.
//!
//! Rather too much than too little: a body that is not JSON is masked by what its text looks like.

use serde_json::Value;

use crate::model::Object;

/// What stands in the place of a secret.
const MASK: &str = "***";

/// Parts of names whose values are not shown, in lower case.
const SECRET: [&str; 5] = ["password", "passwd", "secret", "token", "authorization"];

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET.iter().any(|part| name.contains(part))
}

/// Masks the members of an object, and of everything in it, whose name says that they are secret.
pub fn object(object: &mut Object) {
    for (name, value) in object.iter_mut() {
        if is_secret(name) && !value.is_null() && !value.is_boolean() {
            *value = MASK.into();
        } else {
            self::value(value);
        }
    }
}

/// Masks a JSON value.
pub fn value(value: &mut Value) {
    match value {
        Value::Object(members) => object(members),
        Value::Array(values) => values.iter_mut().for_each(self::value),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Masks a text that is no JSON: after each word that names a secret, what looks like its value.
pub fn text(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let mut masked = String::with_capacity(text.len());
    let mut from = 0;
    // `to_ascii_lowercase` keeps every byte's place.
    while let Some((at, word)) = next_secret(&lower, from) {
        let rest = text.get(at + word..).unwrap_or_default();
        let (lead, value) = value_in(rest);
        masked.push_str(text.get(from..at + word + lead).unwrap_or_default());
        if value > 0 {
            masked.push_str(MASK);
        }
        from = at + word + lead + value;
    }
    masked.push_str(text.get(from..).unwrap_or_default());
    masked
}

fn next_secret(lower: &str, from: usize) -> Option<(usize, usize)> {
    let rest = lower.get(from..)?;
    SECRET.iter().filter_map(|word| Some((from + rest.find(word)?, word.len()))).min()
}

/// Where a value begins after the word that names it, and how long it is: the rest of the name, a colon or an equals sign,
/// then a quoted text or a run without blanks and separators.
fn value_in(rest: &str) -> (usize, usize) {
    let separators = |c: char| c.is_whitespace() || matches!(c, ':' | '=' | '"' | '\'' | '\\');
    let name = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '-').unwrap_or(rest.len());
    let after = rest.get(name..).unwrap_or_default();
    let lead = after.find(|c| !separators(c)).unwrap_or(after.len());
    let between = after.get(..lead).unwrap_or_default();
    if !between.contains([':', '=']) {
        return (name, 0);
    }
    let value = after.get(lead..).unwrap_or_default();
    // Quoted: up to the closing quote that no backslash precedes; else up to a separator.
    let end = match between.chars().next_back().filter(|c| matches!(c, '"' | '\'')) {
        Some(quote) => {
            let mut escaped = false;
            value.find(|c| {
                let closes = c == quote && !escaped;
                escaped = c == '\\' && !escaped;
                closes
            })
        }
        None => value.find(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '&' | '}' | ']')),
    };
    (name + lead, end.unwrap_or(value.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn passwords_are_masked_wherever_they_stand() {
        let mut body = json!({
            "link": {"password": "hunter2", "type": "view"},
            "list": [{"Client_Secret": ["hunter2"]}],
            "none": {"password": null, "hasPassword": true},
        });
        value(&mut body);
        assert_eq!(
            body,
            json!({
                "link": {"password": "***", "type": "view"},
                "list": [{"Client_Secret": "***"}],
                "none": {"password": null, "hasPassword": true},
            })
        );
    }

    #[test]
    fn a_body_that_is_not_json_is_masked_by_its_looks() {
        for (shown, masked) in [
            (r#"{"link": {"password": "hunter2", "type": "view""#, r#"{"link": {"password": "***", "type": "view""#),
            (r#"{"password" : "hun\"ter2"}"#, r#"{"password" : "***"}"#),
            (r#"{'password':'hunter2'}"#, r#"{'password':'***'}"#),
            (r#"{"password": "hunter2"#, r#"{"password": "***"#),
            ("PASSWORD=hunter2&type=view", "PASSWORD=***&type=view"),
            (r#"{"password": 1234}"#, r#"{"password": ***}"#),
            ("a token is needed", "a token is needed"),
            ("ß password: hunter2 ß", "ß password: *** ß"),
        ] {
            assert_eq!(text(shown), masked);
        }
    }

    proptest! {
        #[test]
        fn a_quoted_password_never_shows(before in ".{0,20}", secret in "[a-z0-9]{9,12}", after in ".{0,20}") {
            let body = format!("{before}\"password\": \"{secret}\"{after}");
            prop_assume!(!before.contains(&secret) && !after.contains(&secret));
            // Only where the text before does not swallow the name itself.
            prop_assume!(!SECRET.iter().any(|word| before.to_ascii_lowercase().contains(word)));
            prop_assert!(!text(&body).contains(&secret), "{}", text(&body));
        }

        #[test]
        fn any_text_can_be_masked(body in "(password|token|[:=\"'\\\\ {},aß]){0,30}") {
            text(&body);
        }
    }
}
