//! Addresses of object stores: folders by path, buckets by URL.

use std::path::{Component, Path, PathBuf};

use url::Url;

/// Schemes of the stores that Tidemill writes to.
const SCHEMES: [&str; 6] = ["file", "s3", "gs", "az", "abfs", "abfss"];

/// Turns a path (relative to `base`, or to the home folder after `~/`) or a URL into a URL with a trailing slash.
///
/// # Errors
/// A sentence that says what is wrong, without the text itself: a URL may hold a password.
pub(super) fn parse(text: &str, base: &Path, home: Option<&str>) -> Result<Url, String> {
    if text.is_empty() {
        return Err("write a path or a URL".to_owned());
    }
    if !text.contains("://") {
        let path = match (text.strip_prefix("~/"), home) {
            (Some(rest), Some(home)) => Path::new(home).join(rest),
            _ => base.join(text),
        };
        return Url::from_directory_path(normalize(&path)).map_err(|()| "the path is not absolute".to_owned());
    }
    let mut url = Url::parse(text).map_err(|error| format!("the URL is not valid: {error}"))?;
    if !SCHEMES.contains(&url.scheme()) {
        return Err(format!("the scheme is not known; write a path or one of: {}://", SCHEMES.join("://, ")));
    }
    if url.scheme() != "file" && url.host_str().is_none_or(str::is_empty) {
        return Err(format!("the bucket is missing: {}://bucket/prefix", url.scheme()));
    }
    // In abfss://container@account/ the part before the at sign is no user.
    if url.password().is_some() || (!url.username().is_empty() && !url.scheme().starts_with("abfs")) {
        return Err("credentials do not belong into a URL; put them into `options`".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("a URL of a store has no `?` and no `#`".to_owned());
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

/// Takes `.` and `..` out of a path, without looking at the disk: the folder may not exist yet.
pub(super) fn normalize(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, String> {
        parse(text, Path::new("/project"), Some("/home/me")).map(|url| url.to_string())
    }

    #[test]
    fn paths_and_urls_become_folders() {
        assert_eq!(read("lake").as_deref(), Ok("file:///project/lake/"));
        assert_eq!(read("./a/../lake/").as_deref(), Ok("file:///project/lake/"));
        assert_eq!(read("/data/my lake").as_deref(), Ok("file:///data/my%20lake/"));
        assert_eq!(read("~/lake").as_deref(), Ok("file:///home/me/lake/"));
        assert_eq!(read("file:///data/lake").as_deref(), Ok("file:///data/lake/"));
        assert_eq!(read("s3://bucket").as_deref(), Ok("s3://bucket/"));
        assert_eq!(read("gs://bucket/a/b").as_deref(), Ok("gs://bucket/a/b/"));
        assert_eq!(read("abfss://container@account/x").as_deref(), Ok("abfss://container@account/x/"));
    }

    #[test]
    fn what_is_no_store_is_refused_without_being_quoted() {
        for text in ["", "ftp://host/lake", "s3:///lake", "s3://key:hunter2@bucket/", "s3://bucket/?x=hunter2"] {
            let why = read(text).expect_err(text);
            assert!(!why.contains("hunter2"), "{why}");
        }
    }
}
