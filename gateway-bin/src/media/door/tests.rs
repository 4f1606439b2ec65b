use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream as Blocking;

use super::*;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("farend-door-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        Self(folder)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("run/media.sock")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn a_socket_that_was_removed_is_made_anew_with_its_folder_and_lock() {
    let folder = Folder::new("anew");
    let mut door = Door::open(&folder.socket()).unwrap();
    assert_eq!(door.watch(), Found::Ours);
    assert_eq!(holder(&folder.socket()), Some(std::process::id()));

    std::fs::remove_file(folder.socket()).unwrap();
    assert_eq!(holder(&folder.socket()), Some(std::process::id()), "its process is known all the same");
    assert_eq!(door.watch(), Found::Anew);
    assert_eq!(door.watch(), Found::Ours);
    Blocking::connect(folder.socket()).unwrap();

    std::fs::remove_dir_all(folder.0.join("run")).unwrap();
    assert_eq!(holder(&folder.socket()), None);
    assert_eq!(door.watch(), Found::Anew);
    Blocking::connect(folder.socket()).unwrap();
    assert_eq!(holder(&folder.socket()), Some(std::process::id()));
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder.socket()), mode(&folder.0.join("run"))), (0o600, 0o700));
    let second = Door::open(&folder.socket()).unwrap_err().to_string();
    assert!(second.ends_with(&format!("({}) serves this socket", std::process::id())), "{second}");
    drop(door);
    assert_eq!(holder(&folder.socket()), None);
    assert!(!folder.socket().exists());
}

#[tokio::test]
async fn what_somebody_else_has_put_there_stays() {
    let folder = Folder::new("foreign");
    let mut door = Door::open(&folder.socket()).unwrap();
    std::fs::remove_file(folder.socket()).unwrap();
    std::fs::write(folder.socket(), "precious").unwrap();
    let Found::Barred(why) = door.watch() else { panic!("it is in the way") };
    assert!(why.ends_with("media.sock: somebody else has put a file there"), "{why}");
    assert_eq!(std::fs::read(folder.socket()).unwrap(), b"precious");
    std::fs::remove_file(folder.socket()).unwrap();
    assert_eq!(door.watch(), Found::Anew);

    // All names removed at once: another process took the place before we looked.
    std::fs::remove_dir_all(folder.0.join("run")).unwrap();
    let other = Door::open(&folder.socket()).unwrap();
    assert_eq!(door.watch(), Found::Superseded);
    drop(door);
    Blocking::connect(folder.socket()).unwrap();
    drop(other);
}
