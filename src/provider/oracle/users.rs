//! The member `assignedUsers`: who a link is for, as a request may write it and as the provider may echo it.
//!
//! A request is read strictly, because the policy is judged by what is read here; an echo is read widely, because the
//! widest reading of it is the safe one.

use std::collections::BTreeSet;
use std::fmt;

use crate::model::Audience;

/// Everybody who has the link.
const EVERYBODY: &str = "@everybody";
/// Everybody with an account on the instance.
const INSTANCE: &str = "@serviceinstance";

/// Who a link is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AssignedUsers {
    /// `@everybody`
    Everybody,
    /// `@serviceinstance`
    Instance,
    /// User ids, login names or e-mail addresses; order and repetition mean nothing.
    Named(BTreeSet<String>),
}

impl AssignedUsers {
    /// Reads the member of a request.
    ///
    /// # Errors
    /// A sentence that names the member.
    pub fn ask(text: &str) -> Result<Self, String> {
        match text.trim() {
            EVERYBODY => return Ok(Self::Everybody),
            INSTANCE => return Ok(Self::Instance),
            _ => {}
        }
        let mut users = BTreeSet::new();
        for user in text.split(',').map(str::trim) {
            if user.is_empty() {
                return Err("link.assignedUsers is empty or has an empty entry".to_owned());
            }
            // `@Everybody`, or the word within a list, would pass the policy as a named user and could open the link to
            // the world at a server that reads it generously.
            if user.starts_with('@') {
                return Err(format!(
                    "link.assignedUsers: {EVERYBODY} and {INSTANCE} are written in lower case and stand alone, and \
                     no other word begins with @"
                ));
            }
            if user.chars().any(char::is_control) {
                return Err("link.assignedUsers must not hold control characters".to_owned());
            }
            users.insert(user.to_owned());
        }
        Ok(Self::Named(users))
    }

    /// Reads an echo; the widest word in it counts. `None` where it names nobody.
    pub fn echo(text: &str) -> Option<Self> {
        let users: BTreeSet<String> =
            text.split(',').map(str::trim).filter(|user| !user.is_empty()).map(str::to_owned).collect();
        let says = |word: &str| users.iter().any(|user| user.eq_ignore_ascii_case(word));
        if users.is_empty() {
            None
        } else if says(EVERYBODY) {
            Some(Self::Everybody)
        } else if says(INSTANCE) {
            Some(Self::Instance)
        } else {
            Some(Self::Named(users))
        }
    }

    /// The neutral audience.
    pub fn audience(&self) -> Audience {
        match self {
            Self::Everybody => Audience::Anonymous,
            Self::Instance => Audience::Organization,
            Self::Named(_) => Audience::Users,
        }
    }
}

/// The member as it is sent.
impl fmt::Display for AssignedUsers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everybody => f.write_str(EVERYBODY),
            Self::Instance => f.write_str(INSTANCE),
            Self::Named(users) => {
                for (at, user) in users.iter().enumerate() {
                    if at > 0 {
                        f.write_str(",")?;
                    }
                    f.write_str(user)?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_is_read_strictly() {
        for (text, audience) in [
            ("@everybody", Some(Audience::Anonymous)),
            (" @serviceinstance ", Some(Audience::Organization)),
            ("user.aa@example.com", Some(Audience::Users)),
            ("U0EAA20910FAF3052ACB79E4T00000000001, user.bb", Some(Audience::Users)),
            ("", None),
            (" ", None),
            ("a,,b", None),
            ("a,", None),
            ("@Everybody", None),
            ("@everyone", None),
            ("a,@everybody", None),
            ("@everybody,@everybody", None),
            ("a\nb", None),
        ] {
            assert_eq!(AssignedUsers::ask(text).ok().map(|users| users.audience()), audience, "{text:?}");
        }
    }

    #[test]
    fn the_widest_word_of_an_echo_counts() {
        for (text, audience) in [
            ("@everybody", Some(Audience::Anonymous)),
            ("user.aa, @EVERYBODY", Some(Audience::Anonymous)),
            ("user.aa,@serviceinstance", Some(Audience::Organization)),
            ("user.aa,,user.bb", Some(Audience::Users)),
            (" , ", None),
        ] {
            assert_eq!(AssignedUsers::echo(text).map(|users| users.audience()), audience, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_sent_reads_back_as_what_was_asked(text in "[a-c@. ,]{0,20}|\\PC{0,20}") {
            if let Ok(asked) = AssignedUsers::ask(&text) {
                prop_assert_eq!(AssignedUsers::ask(&asked.to_string()), Ok(asked.clone()));
                prop_assert_eq!(AssignedUsers::echo(&asked.to_string()), Some(asked));
            }
        }
    }
}
