//! What nobody can be faster than: the finished archive's bytes, uploaded by Adit's own client and written with `dd`.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adit_packager::PART_SIZE;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::Outcome;
use super::site::{Package, Site};

/// Parts that a packager uploads at once.
const UPLOADS: usize = 2;

/// An archive in a local file, out of which it is uploaded again.
pub(crate) struct Copy<'a> {
    site: &'a Site,
    path: PathBuf,
    size: u64,
}

/// Shortest times.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Floors {
    /// To upload the archive in parts.
    pub(crate) upload: Duration,
    /// To write it to a file and to the disk; `None` where there is no `dd`.
    pub(crate) dd: Option<Duration>,
}

impl Floors {
    pub(crate) fn least(self, other: Self) -> Self {
        Self { upload: self.upload.min(other.upload), dd: self.dd.zip(other.dd).map(|(a, b)| a.min(b)) }
    }
}

impl<'a> Copy<'a> {
    /// Takes the archive home.
    pub(crate) async fn of(site: &'a Site, package: &Package) -> Outcome<Self> {
        let path = site.dir.path().join("archive");
        let mut file = File::create(&path)?;
        let mut chunks = site.objects.read(&site.archive(package).await?, None).await?;
        while let Some(chunk) = chunks.try_next().await? {
            file.write_all(&chunk)?;
        }
        Ok(Self { site, path, size: package.size })
    }

    /// Measures both once.
    pub(crate) async fn measure(&self) -> Outcome<Floors> {
        Ok(Floors { upload: self.upload().await?, dd: self.dd()? })
    }

    async fn upload(&self) -> Outcome<Duration> {
        let (objects, key) = (&self.site.objects, "packages/0/floor.zip");
        let file = Arc::new(File::open(&self.path)?);
        let began = Instant::now();
        let upload = objects.create_upload(key, PART_SIZE).await?;
        let parts = (1..=self.size.div_ceil(PART_SIZE)).map(|number| {
            let (file, upload) = (file.clone(), &upload);
            async move {
                let start = (number - 1) * PART_SIZE;
                let mut bytes = vec![0; (self.size - start).min(PART_SIZE) as usize];
                let bytes = tokio::task::spawn_blocking(move || file.read_exact_at(&mut bytes, start).map(|()| bytes));
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(
                    objects.put_part(upload, u32::try_from(number)?, bytes.await??.into()).await?,
                )
            }
        });
        let parts: Vec<_> = stream::iter(parts).buffered(UPLOADS).try_collect().await?;
        objects.complete_upload(&upload, &parts).await?;
        let took = began.elapsed();
        objects.delete(&[key.to_owned()]).await?;
        Ok(took)
    }

    fn dd(&self) -> Outcome<Option<Duration>> {
        let to = self.site.dir.path().join("dd");
        let mut dd = Command::new("dd");
        dd.arg(format!("if={}", self.path.display())).arg(format!("of={}", to.display()));
        dd.args(["bs=8M", "conv=fsync", "status=none"]);
        let began = Instant::now();
        let Ok(status) = dd.status() else { return Ok(None) };
        let took = began.elapsed();
        fs::remove_file(to)?;
        Ok(status.success().then_some(took))
    }
}
