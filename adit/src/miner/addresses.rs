//! Where a client goes, and where it shows its key. Servers, links and bags name addresses; none of
//! them decides who sees the key.

use std::net::IpAddr;

use adit_shared::digest::Sha256;
use adit_shared::domain::{AssetName, Format};
use anyhow::{bail, ensure};
use url::{Host, Url};

/// Tells whether nobody on the way can read along: by TLS, or because there is no way.
pub(crate) fn is_private(url: &Url) -> bool {
    let here = |address: IpAddr| address.to_canonical().is_loopback() || address.is_unspecified();
    url.scheme() == "https"
        || match url.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(address)) => here(address.into()),
            Some(Host::Ipv6(address)) => here(address.into()),
            None => false,
        }
}

/// Tells whether a URL is an address of content on the server at `base`: a document's file or a
/// package's asset, as our packagers write them into `fetch.txt`. Reading there changes nothing, so
/// that a bag may have the key shown there.
pub(crate) fn is_content(base: &Url, url: &Url) -> bool {
    let plain =
        url.query().is_none() && url.fragment().is_none() && url.username().is_empty() && url.password().is_none();
    let path = url.path().strip_prefix(base.path().trim_end_matches('/'));
    let Some(path) = path.filter(|_| plain && url.origin() == base.origin()) else { return false };
    let is_number = |text: &str| (1..=19).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    match path.split('/').collect::<Vec<_>>().as_slice() {
        ["", "api", "documents", id, "files", format] => is_number(id) && format.parse::<Format>().is_ok(),
        ["", "api", "packages", id, "assets", name] => {
            (is_number(id) || id.parse::<Sha256>().is_ok()) && AssetName::check(name).is_ok()
        }
        _ => false,
    }
}

/// Gives the path of a link that shares a docset of the server at `base`.
///
/// # Errors
/// If it leads to another server, which must not see the key, or to anything but a shared docset.
pub(crate) fn shared_path(base: &Url, link: &str) -> anyhow::Result<String> {
    let url = Url::parse(link).ok().filter(|url| url.origin() == base.origin());
    let root = base.path().trim_end_matches('/');
    let Some(path) = url.as_ref().and_then(|url| url.path().strip_prefix(root)) else {
        bail!("the link leads to another server than {base}; name that with --url")
    };
    let token = path.strip_prefix("/api/shared/").unwrap_or_default();
    let plain = token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    ensure!(plain && (1..=200).contains(&token.len()), "the link is none that shares a docset: …/api/shared/TOKEN");
    Ok(path.to_owned())
}

/// Checks that a redirect may be followed: to http or https, and not from TLS to none.
///
/// # Errors
/// If it may not.
pub(crate) fn check_redirect(from: &Url, to: &Url) -> anyhow::Result<()> {
    ensure!(matches!(to.scheme(), "http" | "https"), "the server redirects to {}:, which is not followed", to.scheme());
    ensure!(
        from.scheme() != "https" || to.scheme() == "https",
        "the server redirects from https to http, which is not followed"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn the_key_is_for_tls_and_for_this_machine() {
        for private in [
            "https://example.org",
            "http://localhost:8080",
            "http://adit.localhost",
            "http://127.0.0.1:1",
            "http://127.8.9.1",
            "http://[::1]:8080",
            "http://[::ffff:127.0.0.1]",
            "http://0.0.0.0:8080",
            "http://2130706433",
        ] {
            assert!(is_private(&url(private)), "{private}");
        }
        for public in ["http://example.org", "http://10.0.0.1", "http://localhost.example.org", "http://[fe80::1]"] {
            assert!(!is_private(&url(public)), "{public}");
        }
    }

    #[test]
    fn only_files_and_assets_are_content() {
        let hash = "a".repeat(64);
        for base in ["https://h", "https://h/", "https://h/adit"] {
            let (base, root) = (url(base), base.trim_end_matches('/'));
            for path in
                ["documents/5/files/txt", "packages/7/assets/a.zip", &format!("packages/{hash}/assets/data-1.parquet")]
            {
                assert!(is_content(&base, &url(&format!("{root}/api/{path}"))), "{base} {path}");
            }
            for path in [
                "docsets/1/dump?fmts=txt",
                "docsets/1/dump",
                "docsets/1/refresh",
                "shared/1-abc",
                "packages/7/download",
                "packages/7/assets/.bashrc",
                "packages/7/assets/a/../../../../docsets/1/dump",
                "packages/7/assets/a%2f..%2f..",
                "packages/7/assets/a?x",
                "packages/7/assets/a#x",
                "packages//assets/a",
                "documents/5/files/..",
                "documents/x/files/txt",
                "documents/5/files/txt/",
                "documents/5/text",
            ] {
                assert!(!is_content(&base, &url(&format!("{root}/api/{path}"))), "{base} {path}");
            }
        }
        let base = url("https://h/adit");
        for other in ["https://h/api/packages/7/assets/a", "http://h/adit/api/packages/7/assets/a"] {
            assert!(!is_content(&base, &url(other)), "{other}");
        }
        assert!(!is_content(&base, &url("https://h:444/adit/api/packages/7/assets/a")));
        assert!(!is_content(&base, &url("https://u:p@h/adit/api/packages/7/assets/a")));
    }

    #[test]
    fn a_link_shares_a_docset_and_nothing_else() {
        let base = url("http://127.0.0.1:80/x");
        let path = shared_path(&base, "http://127.0.0.1/x/api/shared/5-Ab_c-d").unwrap();
        assert_eq!(path, "/api/shared/5-Ab_c-d");
        for wrong in [
            "http://127.0.0.1/x/api/docsets/5/dump?fmts=txt",
            "http://127.0.0.1/x/api/shared/../docsets/5/dump",
            "http://127.0.0.1/x/api/shared/",
            "http://127.0.0.1/api/shared/5-a",
            "http://127.0.0.1:81/x/api/shared/5-a",
            "https://127.0.0.1/x/api/shared/5-a",
            "/api/shared/5-a",
        ] {
            assert!(shared_path(&base, wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_redirect_does_not_leave_tls() {
        let (plain, secret) = (url("http://a"), url("https://a"));
        assert!(check_redirect(&plain, &secret).is_ok() && check_redirect(&plain, &plain).is_ok());
        assert!(check_redirect(&secret, &plain).is_err());
        assert!(check_redirect(&plain, &url("file:///etc/passwd")).is_err());
    }
}
