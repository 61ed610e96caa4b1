//! Files of the program, and who may read them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::support::{run, succeed};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_data_folder_that_was_there_before_shows_nothing_to_other_users() {
    let data = tempfile::tempdir().unwrap();
    fs::set_permissions(data.path(), Permissions::from_mode(0o755)).unwrap();
    succeed(data.path(), &["keys", "create", "reader"]);
    let database = data.path().join("adit.sqlite");
    assert_eq!((mode(data.path()), mode(&database)), (0o700, 0o600));
    // As earlier versions left it.
    fs::set_permissions(data.path(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&database, Permissions::from_mode(0o644)).unwrap();
    let listed = run(data.path(), &["keys", "list"]);
    assert!(listed.status.success());
    assert_eq!((mode(data.path()), mode(&database)), (0o700, 0o600));
    let log = String::from_utf8_lossy(&listed.stderr).into_owned();
    assert!(log.contains("adit.sqlite was open to other users: its mode was 0644, and is 0600 now"), "{log}");
}

#[test]
fn the_secret_of_links_can_be_replaced() {
    let data = tempfile::tempdir().unwrap();
    let said = succeed(data.path(), &["keys", "rotate-links"]);
    assert!(said.contains("within a minute"), "{said}");
}
