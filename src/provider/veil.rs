//! What must not be seen of an account's credentials, wherever somebody else repeats it: a provider or a sign-in service
//! may quote in an error what it was sent.

use std::sync::{Mutex, PoisonError};

use crate::config::Auth;
use crate::model::Secret;
use crate::pipeline::ports::CallFailure;

/// Access tokens that are remembered: a call with the last one may still be under way.
const TOKENS: usize = 2;

/// Covers an account's secrets in texts.
pub struct Veil {
    fixed: Vec<Secret>,
    tokens: Mutex<Vec<Secret>>,
}

impl Veil {
    /// Knows the configured secrets.
    pub fn of(auth: &Auth) -> Self {
        let fixed: Vec<&Secret> = match auth {
            Auth::Bearer { token } => vec![token],
            Auth::Basic { password, .. } => vec![password],
            Auth::ClientCredentials { client_secret, .. } => vec![client_secret],
            Auth::RefreshToken { client_secret, refresh_token, .. } => {
                client_secret.iter().chain([refresh_token]).collect()
            }
        };
        Self { fixed: fixed.into_iter().cloned().collect(), tokens: Mutex::default() }
    }

    /// Knows one more: an access token, or a rotated refresh token.
    pub fn learn(&self, token: Secret) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if !tokens.contains(&token) {
            tokens.insert(0, token);
            tokens.truncate(TOKENS * 2);
        }
    }

    /// The same failure without any secret in what is told of it.
    pub fn over(&self, mut failure: CallFailure) -> CallFailure {
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        for secret in self.fixed.iter().chain(tokens.iter()) {
            failure.failure.cover(secret.reveal());
        }
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ErrorKind, Failure, ProviderSays};

    #[test]
    fn whatever_a_provider_repeats_of_the_credentials_is_covered() {
        let veil = Veil::of(&Auth::Bearer { token: Secret::new("first-token") });
        veil.learn(Secret::new("second-token"));
        let mut failure = Failure::new(ErrorKind::InvalidRequest, "got Bearer first-token, then second-token");
        failure.provider = ProviderSays {
            http_status: Some(400),
            code: Some("bad second-token".into()),
            request_id: Some("first-token".into()),
        };
        let covered = veil.over(CallFailure::final_(failure)).failure;
        assert_eq!(covered.message, "got Bearer …, then …");
        assert_eq!(covered.provider.code.as_deref(), Some("bad …"));
        assert_eq!(covered.provider.request_id.as_deref(), Some("…"));
    }
}
