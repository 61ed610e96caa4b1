//! Unpacks the archive of a bag.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use zip::ZipArchive;

use super::bag::{Bag, MANIFEST, safe_names};

/// Unpacks all of a ZIP archive into a folder that is not there yet. Of each file its CRC-32 is checked; permissions and times are left.
pub(crate) fn unpack(archive: &Path, folder: &Path) -> anyhow::Result<()> {
    let file = File::open(archive).with_context(|| format!("cannot read {}", archive.display()))?;
    let mut zip = ZipArchive::new(BufReader::new(file))
        .with_context(|| format!("{} is no whole ZIP archive", archive.display()))?;
    fs::create_dir(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for index in 0..zip.len() {
        let mut entry = zip.by_index(index)?;
        let name = entry.name()?.into_owned();
        let directory = name.strip_suffix('/');
        let place: PathBuf = safe_names(directory.unwrap_or(&name))?.iter().collect();
        let place = folder.join(place);
        if directory.is_some() {
            fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()))?;
            continue;
        }
        if entry.is_symlink() {
            bail!("{name}: is a symbolic link, which no bag has");
        }
        let cannot_write = || format!("cannot write {}", place.display());
        fs::create_dir_all(place.parent().unwrap_or(folder)).with_context(cannot_write)?;
        // Two entries of one name are a mistake, or worse.
        let mut file = OpenOptions::new().write(true).create_new(true).open(&place).with_context(cannot_write)?;
        io::copy(&mut entry, &mut file).with_context(|| format!("{name}: cannot be unpacked"))?;
    }
    Ok(())
}

/// Unpacks an archive of a bag beside itself, in the folder that it has inside, or that has its own name. It appears at once or not at
/// all. If the same bag is there already, that is it.
pub(crate) fn unpack_beside(archive: &Path) -> anyhow::Result<Bag> {
    let parent = archive.parent().unwrap_or(Path::new(""));
    let stem = archive.file_stem().unwrap_or_default();
    let unpacked = parent.join(format!(".{}.unpacking", stem.to_string_lossy()));
    remove(&unpacked)?;
    let moved = unpack(archive, &unpacked).and_then(|()| {
        let bag = Bag::find(&unpacked)?;
        let name = if bag.root() == unpacked { Some(stem) } else { bag.root().file_name() };
        let folder = parent.join(name.unwrap_or(stem));
        if folder.exists() {
            let manifest = |root: &Path| fs::read(root.join(MANIFEST)).ok();
            if manifest(&folder) != manifest(bag.root()) {
                bail!("{} is there, and is another bag; move it away", folder.display());
            }
        } else {
            fs::rename(bag.root(), &folder).with_context(|| format!("cannot write {}", folder.display()))?;
        }
        Bag::find(&folder)
    });
    remove(&unpacked)?;
    moved
}

/// Removes a folder with all that is in it, if it is there.
pub(crate) fn remove(folder: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}
