//! Stage 2, pure: whether the configured policy lets such a link be asked for.

use jiff::Timestamp;

use super::clock::between;
use crate::config::Policy;
use crate::model::{Asked, Audience, ErrorKind, Failure};

/// Refuses what the policy does not allow, and a link that would have ended before it is made. An empty policy refuses
/// nothing else.
///
/// A request that leaves the audience to the provider is refused where audiences are restricted: nobody could say
/// beforehand what it would get.
///
/// # Errors
/// `policyRefused`, naming the key of the policy; `invalidRequest` for an end in the past.
pub fn allow(policy: &Policy, asked: &Asked, now: Timestamp) -> Result<(), Failure> {
    if asked.expires.is_some_and(|expires| expires <= now) {
        return Err(Failure::invalid(
            "the end asked for the link (expirationDateTime, expirationTime) lies in the past",
        ));
    }
    if let Some(types) = &policy.allow_types
        && !types.iter().any(|allowed| *allowed == asked.own_type || allowed == asked.neutral_type)
    {
        return refuse(format!(
            "a link of type {} is not allowed here (policy.allow_types: {})",
            asked.own_type,
            types.join(", ")
        ));
    }
    if let Some(scopes) = &policy.allow_scopes {
        let allowed = scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(", ");
        match asked.audience {
            Some(audience) if scopes.contains(&audience) => {}
            Some(audience) => {
                return refuse(format!(
                    "a link for {} is not allowed here (policy.allow_scopes: {allowed})",
                    in_words(audience)
                ));
            }
            None => {
                return refuse(format!("the request must say who the link is for (policy.allow_scopes: {allowed})"));
            }
        }
    }
    match (asked.expires, policy.max_expiry) {
        (Some(expires), Some(longest)) if between(now, expires) > longest => {
            return refuse(format!(
                "the link would live longer than {} (policy.max_expiry)",
                humantime::format_duration(longest)
            ));
        }
        (None, _) if policy.require_expiry => {
            return refuse("the request must say when the link ends (policy.require_expiry)".to_owned());
        }
        _ => {}
    }
    if policy.require_password && !asked.has_password {
        return refuse("the request must set a password (policy.require_password)".to_owned());
    }
    Ok(())
}

fn refuse(message: String) -> Result<(), Failure> {
    Err(Failure::new(ErrorKind::PolicyRefused, message))
}

fn in_words(audience: Audience) -> &'static str {
    match audience {
        Audience::Anonymous => "anybody who has it (anonymous)",
        Audience::Organization => "the whole organization",
        Audience::Users => "named users",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn asked() -> Asked {
        Asked {
            own_type: "downloader".into(),
            neutral_type: "view",
            audience: Some(Audience::Organization),
            expires: None,
            has_password: false,
        }
    }

    fn now() -> Timestamp {
        "2026-11-22T10:00:00Z".parse().unwrap()
    }

    #[test]
    fn an_empty_policy_refuses_nothing() {
        assert_eq!(allow(&Policy::default(), &asked(), now()), Ok(()));
    }

    #[test]
    fn a_type_passes_by_the_neutral_word_or_by_the_providers_own() {
        for (types, passes) in
            [(vec!["view"], true), (vec!["downloader"], true), (vec!["edit"], false), (vec![], false)]
        {
            let policy =
                Policy { allow_types: Some(types.iter().map(ToString::to_string).collect()), ..Policy::default() };
            assert_eq!(allow(&policy, &asked(), now()).is_ok(), passes, "{types:?}");
        }
    }

    #[test]
    fn every_rule_refuses_with_the_key_that_refused() {
        let cases = [
            (Policy { allow_types: Some(vec!["edit".into()]), ..Policy::default() }, asked(), "allow_types"),
            (Policy { allow_scopes: Some(vec![Audience::Users]), ..Policy::default() }, asked(), "allow_scopes"),
            (
                Policy { allow_scopes: Some(vec![Audience::Anonymous]), ..Policy::default() },
                Asked { audience: None, ..asked() },
                "must say who",
            ),
            (Policy { require_expiry: true, ..Policy::default() }, asked(), "require_expiry"),
            (Policy { require_password: true, ..Policy::default() }, asked(), "require_password"),
            (
                Policy { max_expiry: Some(Duration::from_secs(3600)), ..Policy::default() },
                Asked { expires: Some("2026-11-22T11:00:01Z".parse().unwrap()), ..asked() },
                "max_expiry",
            ),
        ];
        for (policy, asked, key) in cases {
            let failure = allow(&policy, &asked, now()).unwrap_err();
            assert_eq!(failure.kind, ErrorKind::PolicyRefused);
            assert!(failure.message.contains(key), "{}", failure.message);
        }
    }

    #[test]
    fn an_expiry_at_the_limit_is_not_too_long() {
        let policy = Policy { max_expiry: Some(Duration::from_secs(3600)), ..Policy::default() };
        let asked = Asked { expires: Some("2026-11-22T11:00:00Z".parse().unwrap()), ..asked() };
        assert_eq!(allow(&policy, &asked, now()), Ok(()));
    }

    #[test]
    fn a_link_that_would_have_ended_already_is_refused_whatever_the_policy() {
        let asked = Asked { expires: Some(now()), ..asked() };
        let failure = allow(&Policy::default(), &asked, now()).unwrap_err();
        assert_eq!(failure.kind, ErrorKind::InvalidRequest);
        assert!(failure.message.contains("expirationTime"));
    }
}
