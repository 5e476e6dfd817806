//! How much of a file is in the page cache, and dropping it from there, so that a measurement of disk reads can make sure
//! that it reads the disk.

use std::io;
use std::path::Path;

use memmap2::Mmap;

/// The size of a file and how much of it is in memory, both rounded up to whole pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Residency {
    pub bytes: u64,
    pub resident_bytes: u64,
}

/// File systems that keep files only in memory, by their numbers in statfs(2).
const IN_MEMORY: [(u64, &str); 3] = [
    (0x0102_1994, "tmpfs"),
    (0x8584_58F6, "ramfs"),
    (0x9584_58F6, "hugetlbfs"),
];

/// The name of the file system of `path` if it keeps files only in memory: its pages cannot be dropped.
///
/// # Errors
/// Where the system cannot tell.
pub fn memory_file_system(path: &Path) -> io::Result<Option<&'static str>> {
    // The type's width and sign differ by architecture; the numbers have 32 bits.
    let kind = rustix::fs::statfs(path)?.f_type as u64 & 0xFFFF_FFFF;
    let known = IN_MEMORY.iter().find(|(number, _)| *number == kind);
    Ok(known.map(|(_, name)| *name))
}

/// Writes a file to disk, drops it from the page cache, and returns what is still there: the kernel keeps pages that
/// another process uses, and those of an in-memory file system.
///
/// # Errors
/// Where the file cannot be opened, synced, dropped or looked at.
pub fn forget(path: &Path) -> io::Result<Residency> {
    let file = fs_err::File::open(path)?;
    // A page that has not been written is not dropped.
    file.sync_data()?;
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    residency(file.file())
}

/// How much of a file is in memory now.
///
/// # Errors
/// Where it cannot be mapped.
#[expect(
    unsafe_code,
    reason = "mincore(2) reports pages by their address in a mapping"
)]
pub fn residency(file: &std::fs::File) -> io::Result<Residency> {
    if file.metadata()?.len() == 0 {
        return Ok(Residency::default());
    }
    // SAFETY: it takes a number and returns a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let page = usize::try_from(page).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: no byte of the mapping is read, so it does not matter if another process truncates the file.
    let map = unsafe { Mmap::map(file)? };
    let mut pages = vec![0_u8; map.len().div_ceil(page)];
    // SAFETY: the mapping is valid and has this length, and there is a byte for each of its pages.
    let status = unsafe {
        libc::mincore(
            map.as_ptr().cast_mut().cast(),
            map.len(),
            pages.as_mut_ptr(),
        )
    };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    let resident = pages.iter().filter(|&&page| page & 1 == 1).count();
    Ok(Residency {
        bytes: (pages.len() * page) as u64,
        resident_bytes: (resident * page) as u64,
    })
}

impl Residency {
    /// The sum of this file and another.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            bytes: self.bytes + other.bytes,
            resident_bytes: self.resident_bytes + other.resident_bytes,
        }
    }

    /// Whether reading it reads the disk: at most a hundredth is in memory.
    pub fn is_cold(&self) -> bool {
        self.resident_bytes * 100 <= self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(dir: &Path) -> std::path::PathBuf {
        let path = dir.join("file");
        fs_err::write(&path, vec![7; 300_000]).unwrap();
        path
    }

    #[test]
    fn a_file_on_a_disk_is_forgotten_though_it_was_just_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path());
        let before = residency(fs_err::File::open(&path).unwrap().file()).unwrap();
        assert_eq!(before.resident_bytes, before.bytes, "it was just written");
        let after = forget(&path).unwrap();
        // Where temporary files are in memory, they stay there.
        let is_disk = memory_file_system(dir.path()).unwrap().is_none();
        assert_eq!(after.is_cold(), is_disk, "{after:?}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_in_memory_stays_there_and_its_file_system_is_named() {
        let shared = Path::new("/dev/shm");
        assert_eq!(memory_file_system(shared).unwrap(), Some("tmpfs"));
        let dir = tempfile::tempdir_in(shared).unwrap();
        let after = forget(&written(dir.path())).unwrap();
        assert_eq!(after.resident_bytes, after.bytes);
        assert!(!after.is_cold());
    }

    #[test]
    fn nothing_is_cold_and_so_is_an_empty_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("empty");
        fs_err::write(&path, []).unwrap();
        let empty = forget(&path).unwrap();
        assert_eq!(empty, Residency::default());
        let page = Residency {
            bytes: 4096,
            resident_bytes: 4096,
        };
        let rest = Residency {
            bytes: 99 * 4096,
            resident_bytes: 0,
        };
        assert!(empty.is_cold() && page.and(rest).is_cold() && !page.and(page).is_cold());
    }
}
