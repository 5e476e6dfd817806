//! Which commit of this project was measured, as far as git can tell.

use std::path::Path;
use std::process::{Command, Stdio};

/// A file that only a checkout of this project has.
const LANDMARK: &str = "eval/Cargo.toml";

/// Hash of the commit that is checked out around `dir`, with `-dirty` if tracked files differ
/// from it. `None` without git, outside a checkout, or in that of another project.
pub(super) fn of_checkout(dir: &Path) -> Option<String> {
    let top = git(dir, &["rev-parse", "--show-toplevel"])?;
    if !Path::new(&top).join(LANDMARK).is_file() {
        return None;
    }
    let hash = git(dir, &["rev-parse", "HEAD"])?;
    let changes = git(dir, &["status", "--porcelain", "--untracked-files=no"])?;
    Some(match changes.is_empty() {
        true => hash,
        false => format!("{hash}-dirty"),
    })
}

/// What a git command prints; `None` if it fails.
fn git(dir: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .current_dir(dir)
        .args(arguments)
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTHOR: [&str; 4] = ["-c", "user.name=A", "-c", "user.email=a@example.org"];

    #[test]
    fn a_checkout_is_its_commit_and_says_when_files_differ() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let landmark = dir.join(LANDMARK);
        fs_err::create_dir_all(landmark.parent().unwrap()).unwrap();
        fs_err::write(&landmark, "a").unwrap();
        git(dir, &["init"]).unwrap();
        assert_eq!(of_checkout(dir), None, "no commit yet");
        git(dir, &["add", "."]).unwrap();
        git(dir, &[&AUTHOR[..], &["commit", "-m", "a"]].concat()).unwrap();

        let clean = of_checkout(dir).unwrap();
        assert!(clean.len() >= 40 && clean.bytes().all(|byte| byte.is_ascii_hexdigit()));
        fs_err::write(dir.join("untracked"), "b").unwrap();
        assert_eq!(of_checkout(dir), Some(clean.clone()));
        fs_err::write(&landmark, "b").unwrap();
        assert_eq!(of_checkout(dir), Some(format!("{clean}-dirty")));
    }

    #[test]
    fn another_project_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(of_checkout(dir.path()), None);
        git(dir.path(), &["init"]).unwrap();
        let commit = ["commit", "--allow-empty", "-m", "a"];
        git(dir.path(), &[&AUTHOR[..], &commit].concat()).unwrap();
        assert_eq!(of_checkout(dir.path()), None);
    }
}
