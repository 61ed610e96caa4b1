//! Keeps the data folder to its owner: who can read its database can sign links, and who can write
//! there is trusted like the program.
//!
//! Verbs on a data folder come here first. Files that miners make elsewhere (`adit package --out`)
//! have the permissions that their umask gives.

use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use adit_shared::config::Config;
use anyhow::{Context as _, bail};
use nix::sys::stat::{Mode, umask};
use nix::unistd::geteuid;

/// Permission bits of the group and of all others.
const OTHERS: u32 = 0o077;
/// Those of all who are not in the group.
const NO_GROUP: u32 = 0o007;
/// The bits of [`OTHERS`] by which something can be put into a folder or a file.
const OTHERS_WRITE: u32 = 0o022;
/// The superuser, who may do everything anyway.
const ROOT: u32 = 0;

/// Makes the data folder where it is missing, and takes it, and what lies directly in it, from the
/// group and all others. Each that is mended gives a line in the log. From then on this process
/// makes files for its owner only; where the objects lie in a folder elsewhere, which processes of
/// other users may share, the umask stays as it is.
///
/// # Errors
/// When the folder, the database's file or the objects' folder belongs to another user (to root
/// too: what root makes there its owner cannot read), or something cannot be mended.
pub(crate) fn secure_data_folder(config: &Config) -> anyhow::Result<()> {
    let data = &config.data;
    let made = DirBuilder::new().recursive(true).mode(0o700).create(data);
    made.with_context(|| format!("cannot make the data folder {}; choose another with --data", data.display()))?;
    if !objects_are_elsewhere(config) {
        umask(Mode::S_IRWXG | Mode::S_IRWXO);
    }
    let folder = fs::metadata(data).with_context(|| format!("cannot look at {}", data.display()))?;
    let own = geteuid().as_raw();
    if folder.uid() != own {
        bail!(
            "the data folder {} belongs to another user ({}); run this as that user{}, or choose a folder of your own with --data",
            data.display(),
            folder.uid(),
            hint_at_sudo(own, folder.uid())
        );
    }
    refuse_foreign_parts(config)?;
    // First, so that nobody can change what is looked at after that.
    close_to(OTHERS, data, &folder)?;
    let entries = fs::read_dir(data).with_context(|| format!("cannot list {}", data.display()))?;
    close_database_elsewhere(config)?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", data.display()))?;
        // Of a file that another process has just removed nothing is to be said.
        let Ok(about) = entry.metadata() else { continue };
        let path = entry.path();
        if ![own, folder.uid(), ROOT].contains(&about.uid()) {
            bail!(
                "{} belongs to another user ({}), who may have put it there: look at it, and remove it from the data folder",
                path.display(),
                about.uid()
            );
        }
        if about.is_file() || about.is_dir() {
            close_to(OTHERS, &path, &about)?;
        }
    }
    Ok(())
}

/// Refuses root where the objects' folder or the database's file belongs to another user: what root
/// makes there that user's service cannot read. Other users may share them by their group.
///
/// # Errors
/// When root would write into another user's database or folder of objects.
pub(crate) fn refuse_foreign_parts(config: &Config) -> anyhow::Result<()> {
    let own = geteuid().as_raw();
    let parts = [("database", database_file(config)), ("folder of objects", objects_folder(config))];
    for (part, path) in parts.into_iter().filter_map(|(part, path)| Some((part, path?))).filter(|_| own == ROOT) {
        if let Some(owner) = fs::metadata(&path).ok().map(|about| about.uid()).filter(|owner| *owner != own) {
            bail!(
                "the {part} {} belongs to another user ({owner}), who could not read what root makes there; run this as \
                 that user{}",
                path.display(),
                hint_at_sudo(own, owner)
            );
        }
    }
    Ok(())
}

/// Shows root how to become another user for one command.
fn hint_at_sudo(own: u32, owner: u32) -> String {
    if own == ROOT { format!(" (`sudo -u '#{owner}' adit …`)") } else { String::new() }
}

/// Gives the folder of objects, where they lie in a folder.
fn objects_folder(config: &Config) -> Option<PathBuf> {
    let url = url::Url::parse(&config.store_url).ok().filter(|url| url.scheme() == "file")?;
    url.to_file_path().ok()
}

/// Gives the database's file, where it is one.
fn database_file(config: &Config) -> Option<PathBuf> {
    let path = config.database_url.reveal().strip_prefix("sqlite://").and_then(|path| path.split('?').next());
    path.map(PathBuf::from)
}

/// Says if objects are kept in a folder that is not in the data folder.
fn objects_are_elsewhere(config: &Config) -> bool {
    objects_folder(config).is_some_and(|folder| !folder.starts_with(&config.data))
}

/// Takes a SQLite file that is not in the data folder from all but its owner and its group, whose
/// processes may be meant to share it. SQLite gives the files beside it the same permissions.
fn close_database_elsewhere(config: &Config) -> anyhow::Result<()> {
    let Some(path) = database_file(config).filter(|path| !path.starts_with(&config.data)) else { return Ok(()) };
    for beside in ["", "-wal", "-shm"] {
        let mut file = path.as_os_str().to_owned();
        file.push(beside);
        if let Some(about) = fs::metadata(&file).ok().filter(Metadata::is_file) {
            close_to(NO_GROUP, Path::new(&file), &about)?;
        }
    }
    Ok(())
}

/// Takes those of the permissions `bits` from a file or folder that it has.
fn close_to(bits: u32, path: &Path, about: &Metadata) -> anyhow::Result<()> {
    let mode = about.mode() & 0o7777;
    if mode & bits == 0 {
        return Ok(());
    }
    let closed = mode & !bits;
    fs::set_permissions(path, Permissions::from_mode(closed)).with_context(|| {
        format!("{} has mode {mode:04o} and is open to other users: make it {closed:04o}", path.display())
    })?;
    tracing::warn!("{} was open to other users: its mode was {mode:04o}, and is {closed:04o} now", path.display());
    Ok(())
}

/// Tells why a note in a data folder is not to be trusted, if so: only what this user alone can
/// have written there is.
pub(crate) fn find_distrust(data: &Path, note: &Path) -> Option<String> {
    let own = geteuid().as_raw();
    let (Ok(folder), Ok(about)) = (fs::metadata(data), fs::symlink_metadata(note)) else {
        return Some("it cannot be looked at".to_owned());
    };
    if folder.uid() != own || about.uid() != own {
        return Some("it belongs to another user".to_owned());
    }
    if !about.is_file() || about.nlink() != 1 {
        return Some("it is no plain file".to_owned());
    }
    if folder.mode() & OTHERS_WRITE != 0 || about.mode() & OTHERS != 0 {
        return Some("it, or its folder, is open to other users".to_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    fn config(data: &Path, store_url: Option<&str>) -> Config {
        let get = |name: &str| match name {
            "ADIT_DATA" => Some(data.display().to_string()),
            "ADIT_STORE_URL" => store_url.map(str::to_owned),
            _ => None,
        };
        Config::load(get).unwrap()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_folder_that_was_there_before_is_taken_from_others() {
        let data = tempfile::tempdir().unwrap();
        let open = Permissions::from_mode;
        fs::set_permissions(data.path(), open(0o775)).unwrap();
        for (name, mode) in
            [("adit.sqlite", 0o644), ("adit.sqlite-wal", 0o664), ("signing-key.pem", 0o604), ("running.json", 0o600)]
        {
            fs::write(data.path().join(name), "x").unwrap();
            fs::set_permissions(data.path().join(name), open(mode)).unwrap();
        }
        for name in ["objects", "broker", "cache"] {
            fs::create_dir(data.path().join(name)).unwrap();
            fs::set_permissions(data.path().join(name), open(0o755)).unwrap();
        }
        secure_data_folder(&config(data.path(), None)).unwrap();
        assert_eq!(mode(data.path()), 0o700);
        for entry in fs::read_dir(data.path()).unwrap().map(|entry| entry.unwrap().path()) {
            assert_eq!(mode(&entry), if entry.is_dir() { 0o700 } else { 0o600 }, "{}", entry.display());
        }
        // What is made from now on, too.
        fs::write(data.path().join("new"), "x").unwrap();
        assert_eq!(mode(&data.path().join("new")), 0o600);
    }

    #[test]
    fn the_umask_stays_where_objects_lie_in_a_folder_that_others_may_share() {
        let parent = tempfile::tempdir().unwrap();
        let (data, objects) = (parent.path().join("data"), parent.path().join("objects"));
        umask(Mode::S_IWGRP | Mode::S_IWOTH);
        let url = adit_shared::config::file_url(&objects);
        secure_data_folder(&config(&data, Some(&url))).unwrap();
        fs::create_dir(&objects).unwrap();
        assert_eq!((mode(&data), mode(&objects)), (0o700, 0o755));
    }

    #[test]
    fn a_database_elsewhere_is_taken_from_all_but_its_group() {
        let parent = tempfile::tempdir().unwrap();
        let (data, database) = (parent.path().join("data"), parent.path().join("shared.sqlite"));
        fs::write(&database, "x").unwrap();
        fs::set_permissions(&database, Permissions::from_mode(0o664)).unwrap();
        let get = |name: &str| match name {
            "ADIT_DATA" => Some(data.display().to_string()),
            "ADIT_DATABASE_URL" => Some(format!("sqlite://{}?mode=rwc", database.display())),
            _ => None,
        };
        secure_data_folder(&Config::load(get).unwrap()).unwrap();
        assert_eq!(mode(&database), 0o660);
    }

    #[test]
    fn what_another_user_put_into_the_folder_is_refused() {
        if geteuid().as_raw() != ROOT {
            eprintln!("skipped: only root can give a file to another user");
            return;
        }
        let data = tempfile::tempdir().unwrap();
        let planted = data.path().join("adit.sqlite");
        fs::write(&planted, "x").unwrap();
        chown(&planted, Some(4321), None).unwrap();
        let error = secure_data_folder(&config(data.path(), None)).unwrap_err().to_string();
        assert!(error.contains("adit.sqlite belongs to another user (4321)"), "{error}");
    }

    #[test]
    fn root_leaves_nothing_in_what_belongs_to_a_service() {
        if geteuid().as_raw() != ROOT {
            eprintln!("skipped: only root can give a file to another user");
            return;
        }
        let parent = tempfile::tempdir().unwrap();
        let [data, objects, database] = ["data", "objects", "adit.sqlite"].map(|name| parent.path().join(name));
        fs::create_dir(&data).unwrap();
        fs::create_dir(&objects).unwrap();
        fs::write(&database, "x").unwrap();
        let get = |name: &str| match name {
            "ADIT_DATA" => Some(data.display().to_string()),
            "ADIT_DATABASE_URL" => Some(format!("sqlite://{}?mode=rwc", database.display())),
            "ADIT_STORE_URL" => Some(adit_shared::config::file_url(&objects)),
            _ => None,
        };
        secure_data_folder(&Config::load(get).unwrap()).unwrap();
        for theirs in [&data, &objects, &database] {
            chown(theirs, Some(4321), None).unwrap();
            let error = secure_data_folder(&Config::load(get).unwrap()).unwrap_err().to_string();
            assert!(error.contains(&theirs.display().to_string()), "{error}");
            assert!(error.contains("sudo -u '#4321'"), "{error}");
            chown(theirs, Some(ROOT), None).unwrap();
        }
        assert_eq!(fs::read_dir(&data).unwrap().count(), 0);
    }

    #[test]
    fn a_note_is_trusted_only_where_nobody_else_can_have_written_it() {
        let data = tempfile::tempdir().unwrap();
        let note = data.path().join("running.json");
        assert!(find_distrust(data.path(), &note).is_some(), "there is none");
        fs::write(&note, "{}").unwrap();
        fs::set_permissions(&note, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(find_distrust(data.path(), &note), None);
        let distrusted = |why: &str| {
            let found = find_distrust(data.path(), &note).unwrap_or_default();
            assert!(found.contains(why), "{found:?}, not {why:?}");
        };
        fs::set_permissions(&note, Permissions::from_mode(0o640)).unwrap();
        distrusted("open to other users");
        fs::set_permissions(&note, Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(data.path(), Permissions::from_mode(0o777)).unwrap();
        distrusted("open to other users");
        fs::set_permissions(data.path(), Permissions::from_mode(0o700)).unwrap();
        fs::hard_link(&note, data.path().join("second")).unwrap();
        distrusted("no plain file");
        fs::remove_file(&note).unwrap();
        symlink(data.path().join("second"), &note).unwrap();
        distrusted("no plain file");
        if geteuid().as_raw() == ROOT {
            fs::remove_file(&note).unwrap();
            fs::rename(data.path().join("second"), &note).unwrap();
            chown(&note, Some(4321), None).unwrap();
            distrusted("another user");
        }
    }
}
