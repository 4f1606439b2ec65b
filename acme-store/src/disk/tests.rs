use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::key::KeyKind;
use crate::request::{Form, self_signed};

struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("acme-store-disk-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn credential() -> Credential {
    let key = Key::generate(KeyKind::EcdsaP256).unwrap();
    let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    self_signed(&key, &Form::for_names(&["gw.example".to_owned()]), now, Duration::from_secs(86400)).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_is_saved_is_read_and_private() {
    let dir = Dir::new();
    let disk = Disk::open(&dir.0).unwrap();
    assert!(disk.credential("outside").unwrap().is_none());
    assert!(disk.account("main").unwrap().is_none());
    let first = credential();
    disk.save_credential("outside", &first).unwrap();
    assert_eq!(disk.credential("outside").unwrap().unwrap().chain(), first.chain());
    let second = credential();
    disk.save_credential("outside", &second).unwrap();
    assert_eq!(Disk::open(&dir.0).unwrap().credential("outside").unwrap().unwrap().chain(), second.chain());
    let account = AccountSecret("{\"id\":\"x\"}".to_owned());
    disk.save_account("main", &account).unwrap();
    assert_eq!(disk.account("main").unwrap(), Some(account));
    assert_eq!(mode(&dir.0.join("certificates")), 0o700);
    assert_eq!(mode(&dir.0.join("accounts")), 0o700);
    assert_eq!(mode(&dir.0.join("certificates/outside.pem")), 0o600);
    assert_eq!(mode(&dir.0.join("accounts/main.json")), 0o600);
    assert_eq!(fs::read_dir(dir.0.join("certificates")).unwrap().count(), 1, "nothing is left aside");
}

#[test]
fn damage_is_an_error_that_names_the_file() {
    let dir = Dir::new();
    let disk = Disk::open(&dir.0).unwrap();
    let saved = credential();
    disk.save_credential("outside", &saved).unwrap();
    let path = dir.0.join("certificates/outside.pem");
    let whole = fs::read_to_string(&path).unwrap();
    let other = format!("{}{}", credential().key().secret_pem(), saved.chain_pem());
    let two_keys = format!("{}{whole}", credential().key().secret_pem());
    for damaged in
        [&whole[..whole.len() - 10], &whole[..300], &whole[..60], "", &other, &two_keys, &saved.chain_pem()]
    {
        fs::write(&path, damaged).unwrap();
        let error = disk.credential("outside").expect_err(damaged).to_string();
        assert!(error.contains("outside.pem") && error.contains("damaged"), "{error}");
        assert!(!error.contains("-----BEGIN"), "{error}");
    }
    disk.save_account("main", &AccountSecret("{\"id\": \"x\", \"key".to_owned())).unwrap();
    let error = disk.account("main").unwrap_err().to_string();
    assert!(error.contains("main.json") && error.contains("damaged"), "{error}");
}

#[test]
fn a_file_that_others_can_read_is_refused() {
    let dir = Dir::new();
    let disk = Disk::open(&dir.0).unwrap();
    disk.save_credential("outside", &credential()).unwrap();
    let path = dir.0.join("certificates/outside.pem");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let error = disk.credential("outside").unwrap_err();
    assert!(error.to_string().contains("chmod 600"), "{error}");
}

#[test]
fn what_a_crash_left_aside_is_removed_and_the_old_one_stays() {
    let dir = Dir::new();
    let disk = Disk::open(&dir.0).unwrap();
    let saved = credential();
    disk.save_credential("outside", &saved).unwrap();
    let aside = dir.0.join("certificates/outside.1-0.new");
    fs::write(&aside, "half a fi").unwrap();
    assert_eq!(disk.credential("outside").unwrap().unwrap().chain(), saved.chain());
    let disk = Disk::open(&dir.0).unwrap();
    assert!(!aside.exists());
    assert_eq!(disk.credential("outside").unwrap().unwrap().chain(), saved.chain());
}

#[test]
fn writers_at_one_time_leave_one_whole_file() {
    let dir = Dir::new();
    let disk = Disk::open(&dir.0).unwrap();
    let accounts: Vec<AccountSecret> =
        (0..8).map(|n| AccountSecret(format!("\"{}\"", n.to_string().repeat(9000)))).collect();
    for _ in 0..10 {
        std::thread::scope(|scope| {
            for account in &accounts {
                let disk = &disk;
                scope.spawn(move || disk.save_account("main", account).unwrap());
            }
        });
        assert!(accounts.contains(&disk.account("main").unwrap().unwrap()));
    }
    assert_eq!(fs::read_dir(dir.0.join("accounts")).unwrap().count(), 1);
}

#[test]
fn names_stay_inside_the_directory() {
    let dir = Dir::new();
    let disk = Disk::open(&dir.0).unwrap();
    for bad in ["", ".", "..", "../x", "a/b", "a\0b", ".hidden", "a b", &"a".repeat(65)] {
        assert!(matches!(disk.credential(bad), Err(StoreError::BadName(_))), "{bad:?}");
        assert!(disk.save_credential(bad, &credential()).is_err(), "{bad:?}");
        assert!(disk.save_account(bad, &AccountSecret("{}".to_owned())).is_err(), "{bad:?}");
    }
}
