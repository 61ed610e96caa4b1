//! Holdings: what a key has at one time, and how much of it the key may have. Allowances, beside
//! them, are of windows of time.

use std::fmt;

/// Things that a key has at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Holding {
    /// Docsets.
    Docsets,
    /// Packages that are being built or are there to be fetched.
    Packages,
    /// Packages that are being built or wait for it.
    Unfinished,
    /// Bytes of the packages that are there, and of those that are being built as far as their size
    /// is known.
    StoredBytes,
}

impl Holding {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Docsets, Self::Packages, Self::Unfinished, Self::StoredBytes];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Docsets => "docsets",
            Self::Packages => "packages",
            Self::Unfinished => "unfinished",
            Self::StoredBytes => "stored_bytes",
        }
    }
}

impl fmt::Display for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Docsets => "docset(s)",
            Self::Packages => "package(s) at one time",
            Self::Unfinished => "unfinished package(s) at one time",
            Self::StoredBytes => "byte(s) of stored packages",
        })
    }
}

/// One value for each holding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holdings<T> {
    /// Docsets.
    pub docsets: T,
    /// Packages that are being built or are there.
    pub packages: T,
    /// Packages that are being built.
    pub unfinished: T,
    /// Bytes of packages.
    pub stored_bytes: T,
}

impl<T: Copy> Holdings<T> {
    /// That of one holding.
    #[must_use]
    pub fn of(&self, holding: Holding) -> T {
        match holding {
            Holding::Docsets => self.docsets,
            Holding::Packages => self.packages,
            Holding::Unfinished => self.unfinished,
            Holding::StoredBytes => self.stored_bytes,
        }
    }

    /// Makes another value of each, for its holding.
    #[must_use]
    pub fn map<U>(&self, change: impl Fn(Holding, T) -> U) -> Holdings<U> {
        Holdings {
            docsets: change(Holding::Docsets, self.docsets),
            packages: change(Holding::Packages, self.packages),
            unfinished: change(Holding::Unfinished, self.unfinished),
            stored_bytes: change(Holding::StoredBytes, self.stored_bytes),
        }
    }
}
