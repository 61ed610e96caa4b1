//! Unpacks the archive of a bag. It is foreign: its names stay in the folder, nothing is made but
//! files and folders, and no more than it announces, which must be in proportion to its length and
//! have room.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use zip::ZipArchive;
use zip::read::ZipFile;

use super::bag::{Bag, MANIFEST, safe_names};
use super::files::check_space;
use super::limits::UnpackLimits;

/// Bits of a Unix mode that tell the kind of a file, and the kinds that are unpacked.
const KIND: u32 = 0o170_000;
const KINDS: [u32; 3] = [0, 0o100_000, 0o040_000];

/// Unpacks all of a ZIP archive into a folder that is not there yet. Of each file its CRC-32 is
/// checked; permissions and times are left.
pub(crate) fn unpack(archive: &Path, folder: &Path) -> anyhow::Result<()> {
    let file = File::open(archive).with_context(|| format!("cannot read {}", archive.display()))?;
    let length = file.metadata().with_context(|| format!("cannot read {}", archive.display()))?.len();
    let mut zip = ZipArchive::new(BufReader::new(file))
        .with_context(|| format!("{} is no whole ZIP archive", archive.display()))?;
    let bytes = announced(&mut zip, length).with_context(|| format!("{} is not unpacked", archive.display()))?;
    fs::create_dir(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    check_space(folder, bytes)?;
    for index in 0..zip.len() {
        let mut entry = zip.by_index(index)?;
        unpack_entry(&mut entry, folder)?;
    }
    Ok(())
}

/// Adds up what the directory announces, before anything is unpacked.
fn announced(zip: &mut ZipArchive<impl io::Read + io::Seek>, length: u64) -> anyhow::Result<u64> {
    let (mut limits, mut sum) = (UnpackLimits::of_archive(length), 0);
    for index in 0..zip.len() {
        let size = zip.by_index_raw(index)?.size();
        limits.take_entry()?;
        limits.take_bytes(size)?;
        sum += size;
    }
    Ok(sum)
}

fn unpack_entry(entry: &mut ZipFile<'_, impl io::Read>, folder: &Path) -> anyhow::Result<()> {
    let name = entry.name()?.into_owned();
    let directory = name.strip_suffix('/');
    let place: PathBuf = safe_names(directory.unwrap_or(&name))?.iter().collect();
    let place = folder.join(place);
    if directory.is_some() {
        return fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()));
    }
    if entry.is_symlink() || !KINDS.contains(&(entry.unix_mode().unwrap_or(0) & KIND)) {
        bail!("{name}: is a symbolic link or a device, which no bag has");
    }
    let cannot_write = || format!("cannot write {}", place.display());
    fs::create_dir_all(place.parent().unwrap_or(folder)).with_context(cannot_write)?;
    // Two entries of one name are a mistake, or worse.
    let mut file = OpenOptions::new().write(true).create_new(true).open(&place).with_context(cannot_write)?;
    let size = entry.size();
    // One byte more, so that an entry that is longer than it says is told of. At the end the CRC-32
    // is compared.
    let copied = io::copy(&mut entry.take(size.saturating_add(1)), &mut file);
    let copied = copied.with_context(|| format!("{name}: cannot be unpacked"))?;
    ensure!(copied == size, "{name}: is not of the {size} bytes that the archive's directory says");
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
        let name = name.unwrap_or(stem);
        // An archive must not bring a folder that other programs look into.
        if name.to_string_lossy().starts_with('.') {
            bail!("the archive's folder is {}, and hidden ones are not unpacked", name.display());
        }
        let folder = parent.join(name);
        let found = fs::symlink_metadata(&folder);
        if found.as_ref().is_ok_and(|found| !found.is_dir()) {
            bail!("{} is there, and is no folder; move it away", folder.display());
        }
        if found.is_ok() {
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
