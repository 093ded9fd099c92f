//! The file in which a rotated refresh token outlives the process.
//!
//! It is replaced whole and only its owner can read it; a crash leaves the old or the new token, never half of one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::model::Secret;

/// The store. See the module.
#[derive(Debug, Clone)]
pub struct TokenStore {
    path: PathBuf,
}

impl TokenStore {
    /// A store at this path; the file may not be there yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The token that was kept; `None` where there is none yet.
    ///
    /// # Errors
    /// Where the file is there and cannot be read: a sentence that names it.
    pub fn read(&self) -> Result<Option<Secret>, String> {
        match fs::read_to_string(&self.path) {
            Ok(text) if text.trim().is_empty() => Ok(None),
            Ok(text) => Ok(Some(Secret::new(text.trim()))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("`token_store` {} cannot be read: {error}", self.path.display())),
        }
    }

    /// Keeps a token. That it could not be kept is logged and no error: the token itself is good, and this process
    /// goes on with it.
    pub async fn write(&self, token: &Secret) {
        let (path, token) = (self.path.clone(), token.clone());
        let written = tokio::task::spawn_blocking(move || replace(&path, token.reveal())).await;
        if let Err(error) = written.map_err(io::Error::other).flatten() {
            let file = self.path.display();
            tracing::error!(%file, %error, "the new refresh token could not be kept; it is lost when the worker stops");
        }
    }
}

fn replace(path: &Path, token: &str) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = path.file_name().ok_or_else(|| io::Error::other("the path names no file"))?.to_owned();
    name.push(".new");
    let new = folder.join(name);
    // What a crash left behind may have another owner's mode.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = private(OpenOptions::new().write(true).create_new(true)).open(&new)?;
    writeln!(file, "{token}")?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(unix)]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(0o600)
}

#[cfg(not(unix))]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_kept_token_is_read_back_and_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let store = TokenStore::new(folder.path().join("refresh"));
        assert_eq!(store.read(), Ok(None));
        store.write(&Secret::new("first")).await;
        // What a crash may have left must not stand in the way.
        fs::write(folder.path().join("refresh.new"), "half").unwrap();
        store.write(&Secret::new("second")).await;
        assert_eq!(store.read(), Ok(Some(Secret::new("second"))));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn only_the_owner_can_read_the_kept_token() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("refresh");
        fs::write(&path, "old").unwrap();
        TokenStore::new(path.clone()).write(&Secret::new("new")).await;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_store_that_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let problem = TokenStore::new(folder.path().to_owned()).read().unwrap_err();
        assert!(problem.contains(&folder.path().display().to_string()), "{problem}");
    }
}
