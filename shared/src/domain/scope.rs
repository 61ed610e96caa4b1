//! Scopes: the rights that keys carry, and the table of those that each role has. Which operation
//! needs which is said at the API.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use utoipa::ToSchema;

use super::Role;

/// A right that a key carries, as a scope of OAuth 2.0 (RFC 6749, section 3.3). To write does not
/// include to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema)]
pub enum Scope {
    /// Search.
    #[serde(rename = "search")]
    Search,
    /// Get texts and files of documents.
    #[serde(rename = "documents:read")]
    DocumentsRead,
    /// Read docsets, and what packages of them would be.
    #[serde(rename = "docsets:read")]
    DocsetsRead,
    /// Make, rename, refresh, share and delete docsets, and follow links that share them.
    #[serde(rename = "docsets:write")]
    DocsetsWrite,
    /// See how packages stand, and download them.
    #[serde(rename = "packages:read")]
    PackagesRead,
    /// Ask for packages, and delete them.
    #[serde(rename = "packages:write")]
    PackagesWrite,
    /// Make, read and delete watches.
    #[serde(rename = "watches")]
    Watches,
    /// Read reports of use, and metrics.
    #[serde(rename = "usage")]
    Usage,
    /// Build packages: read where the files of any docset lie, and how any package stands.
    #[serde(rename = "build")]
    Build,
}

impl Scope {
    /// All scopes, in their order.
    pub const ALL: [Self; 9] = [
        Self::Search,
        Self::DocumentsRead,
        Self::DocsetsRead,
        Self::DocsetsWrite,
        Self::PackagesRead,
        Self::PackagesWrite,
        Self::Watches,
        Self::Usage,
        Self::Build,
    ];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Search => "search",
            Self::DocumentsRead => "documents:read",
            Self::DocsetsRead => "docsets:read",
            Self::DocsetsWrite => "docsets:write",
            Self::PackagesRead => "packages:read",
            Self::PackagesWrite => "packages:write",
            Self::Watches => "watches",
            Self::Usage => "usage",
            Self::Build => "build",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|scope| scope.as_str() == text)
            .ok_or_else(|| format!("unknown scope {text:?}; there are: {}", join_scopes(Self::ALL, ", ")))
    }
}

/// Names scopes, with `separator` between them.
#[must_use]
pub fn join_scopes(scopes: impl IntoIterator<Item = Scope>, separator: &str) -> String {
    scopes.into_iter().map(Scope::as_str).collect::<Vec<_>>().join(separator)
}

/// Reads scopes with spaces between them (RFC 6749, section 3.3).
///
/// # Errors
/// The first name that is none.
pub fn parse_scopes(text: &str) -> Result<BTreeSet<Scope>, String> {
    text.split_ascii_whitespace().map(str::parse).collect()
}

/// The scopes that a key is to have: some of its role's, or all (`role`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnScopes(pub Option<BTreeSet<Scope>>);

impl OwnScopes {
    /// Refuses scopes that no key of the role has.
    ///
    /// # Errors
    /// Those scopes, and the ones that there are.
    pub fn check_role(&self, role: Role) -> Result<(), String> {
        let known = role.scopes();
        let strange = self.0.iter().flatten().copied().filter(|scope| !known.contains(scope));
        match join_scopes(strange, ", ") {
            strange if strange.is_empty() => Ok(()),
            strange => {
                let (role, known) = (role.as_str(), join_scopes(known.iter().copied(), ", "));
                Err(format!("no key of role {role} has the scope {strange}; there are: {known}"))
            }
        }
    }
}

impl FromStr for OwnScopes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "role" => Ok(Self(None)),
            list => list.split(',').map(|name| name.trim().parse()).collect::<Result<_, _>>().map(Some).map(Self),
        }
    }
}

impl Role {
    /// Lists the scopes that keys of the role have, unless they were given fewer.
    #[must_use]
    pub fn scopes(self) -> &'static [Scope] {
        match self {
            Self::Miner => &[
                Scope::Search,
                Scope::DocumentsRead,
                Scope::DocsetsRead,
                Scope::DocsetsWrite,
                Scope::PackagesRead,
                Scope::PackagesWrite,
                Scope::Watches,
            ],
            Self::Packager => &[Scope::Build],
            Self::Operator => &Scope::ALL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_read_as_they_are_written() {
        for scope in Scope::ALL {
            assert_eq!(scope.as_str().parse(), Ok(scope));
            assert_eq!(serde_json::to_value(scope).unwrap(), scope.as_str());
        }
        assert_eq!(parse_scopes(&join_scopes(Scope::ALL, " ")), Ok(Scope::ALL.into()));
        assert!("docsets".parse::<Scope>().unwrap_err().contains("docsets:read, docsets:write"));
        assert_eq!("role".parse(), Ok(OwnScopes(None)));
        let two = OwnScopes(Some([Scope::Search, Scope::Build].into()));
        assert_eq!("build, search".parse(), Ok(two.clone()));
        assert!("".parse::<OwnScopes>().is_err() && "search,".parse::<OwnScopes>().is_err());
        assert!(two.check_role(Role::Miner).unwrap_err().contains("has the scope build; there are: search"));
        assert_eq!(two.check_role(Role::Operator), Ok(()));
        assert!(parse_scopes("search admin").unwrap_err().contains("\"admin\""));
    }
}
