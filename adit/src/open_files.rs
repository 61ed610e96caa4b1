//! The limit of open files (RLIMIT_NOFILE): as high as it may be, and what of it is for
//! connections.

use rlimit::Resource;

/// More are of no use, and some systems allow a thousand million.
const ENOUGH: u64 = 65_536;
/// Files beside connections: database, broker, search indexes, logs, and requests to other servers.
const OTHERS: u64 = 256;
/// Files that a connection may need: its socket, and the object that it is sent.
const A_CONNECTION: u64 = 2;
/// Connections at least; with so few files, the process may run out of them.
const FEWEST: u64 = 16;

/// Raises the soft limit to the hard one, up to [`ENOUGH`].
pub(crate) fn raise_limit() {
    let raised = Resource::NOFILE.get().and_then(|(soft, hard)| {
        let wanted = hard.min(ENOUGH);
        if soft < wanted { Resource::NOFILE.set(wanted, hard) } else { Ok(()) }
    });
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// Connections that the limit allows, beside what else needs files.
pub(crate) fn for_connections() -> usize {
    let soft = Resource::NOFILE.get().map_or(ENOUGH, |(soft, _)| soft);
    let places = connections_within(soft);
    if places == FEWEST {
        tracing::warn!(limit = soft, "few files may be open (ulimit -n): at most {FEWEST} connections are taken");
    }
    usize::try_from(places).unwrap_or(usize::MAX)
}

fn connections_within(limit: u64) -> u64 {
    (limit.saturating_sub(OTHERS) / A_CONNECTION).max(FEWEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_to_the_rest() {
        assert_eq!(connections_within(1024), 384);
        assert_eq!(connections_within(200), FEWEST);
        raise_limit();
        let (soft, hard) = Resource::NOFILE.get().unwrap();
        assert!(soft >= hard.min(ENOUGH));
    }
}
