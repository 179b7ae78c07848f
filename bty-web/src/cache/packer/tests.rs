use std::path::PathBuf;

use super::*;
use crate::cache::fill::Fill;
use crate::cache::reconcile::reconcile;
use crate::domain::event::Actor;
use crate::store::database::Database;

/// A cache in a directory of its own.
struct Bench {
    dir: tempfile::TempDir,
    packer: Packer,
}

impl Bench {
    fn new(max_bytes: Option<u64>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let packer = Self::open(dir.path(), max_bytes);
        Self { dir, packer }
    }

    fn open(dir: &Path, max_bytes: Option<u64>) -> Packer {
        let db = Database::open(&dir.join("state.db"), ()).unwrap();
        let objects = dir.join("cache");
        std::fs::create_dir_all(&objects).unwrap();
        let index = reconcile(&objects, &db).unwrap();
        let storage = Storage::new(objects, max_bytes, db, index);
        Packer { patience: Duration::ZERO, ..Packer::new(Arc::new(storage)) }
    }

    /// Opens the same directory again, as after a restart.
    fn restart(self) -> Self {
        let Self { dir, packer } = self;
        let max_bytes = packer.storage.max_bytes;
        drop(packer);
        let packer = Self::open(dir.path(), max_bytes);
        Self { dir, packer }
    }

    /// Caches `bytes` as the object at `address`, last used at `used_at`.
    fn put(&self, address: &str, bytes: &[u8], used_at: Time) -> ObjectRecord {
        let storage = &self.packer.storage;
        let record = ObjectRecord {
            key: Digest::of(address.as_bytes()),
            address: address.into(),
            etag: "\"e\"".into(),
            version: None,
            sha256: Digest::of(bytes),
            size_bytes: bytes.len() as u64,
            is_fixed: true,
            is_pinned: false,
            hits: 0,
            fetched_at: used_at,
            checked_at: used_at,
            used_at,
        };
        std::fs::write(storage.path(&record.key), bytes).unwrap();
        let written = record.clone();
        storage.db.write_blocking(move |t| rows::put_object(t, &written)).unwrap();
        let object = Arc::new(CacheObject::new(record.clone()));
        storage.index().objects.insert(record.key, object);
        record
    }

    /// Packs all that is to be packed, and returns the addresses.
    fn pack_all(&self) -> Vec<String> {
        let next = || self.packer.next().inspect(|object| on_own_thread(&self.packer, object));
        std::iter::from_fn(next).map(|object| object.address).collect()
    }

    fn files(&self) -> Vec<PathBuf> {
        let dir = self.packer.storage.dir.join("packed");
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    fn outcome(&self, object: &ObjectRecord) -> Option<PackOutcome> {
        let index = self.packer.storage.index();
        index.packed.get(&object.sha256).map(|record| record.outcome.clone())
    }

    fn failures(&self) -> usize {
        let filter = crate::store::events::Filter::default();
        let db = &self.packer.storage.db;
        let events =
            db.read_blocking(|conn| crate::store::events::list(conn, &filter, 100)).unwrap();
        events.iter().filter(|event| event.kind == "cache.pack.failed").count()
    }
}

/// The priority of the thread that packs is never raised again.
fn on_own_thread(packer: &Packer, object: &ObjectRecord) {
    std::thread::scope(|scope| {
        scope.spawn(|| packer.run(object));
    });
}

/// A disk image of 1 MiB with a boot sector; `seed` makes its data differ.
fn disk(seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 20];
    for (n, chunk) in bytes[..320_000].chunks_exact_mut(32).enumerate() {
        chunk.copy_from_slice(Digest::of(&[&n.to_le_bytes()[..], &[seed]].concat()).as_bytes());
    }
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    bytes
}

fn now() -> Time {
    Time::now()
}

#[test]
fn an_object_is_packed_once_for_its_content() {
    let bench = Bench::new(None);
    let object = bench.put("http://h/a.img", &disk(1), now());
    bench.put("http://h/copy.img", &disk(1), now());
    bench.put("http://h/b.img", &disk(2), now());
    let before = bench.packer.storage.index().used_bytes();
    assert_eq!(bench.pack_all().len(), 2, "one of the copies");
    let Some(PackOutcome::Packed { file_sha256, index_sha256, size_bytes }) =
        bench.outcome(&object)
    else {
        panic!("{:?}", bench.outcome(&object));
    };
    let path = bench.packer.storage.packed_path(&object.sha256);
    assert_eq!(Digest::of(&std::fs::read(&path).unwrap()), file_sha256);
    let options = OpenOptions::default().pack_index_sha256(index_sha256);
    let cancel = CancelToken::new();
    let image = Image::open(&Client::default(), path.to_str().unwrap(), &options, &cancel).unwrap();
    assert_eq!(image.info().disk_bytes, Some(1 << 20));
    assert!(bench.packer.storage.index().used_bytes() > before + size_bytes, "of two forms");
    assert_eq!(bench.files().len(), 2, "no part and no checksum file is left");
    let bench = bench.restart();
    assert!(bench.outcome(&object).is_some() && bench.packer.next().is_none());
}

#[test]
fn an_interrupted_packing_starts_over_after_a_restart() {
    let bench = Bench::new(None);
    let object = bench.put("http://h/a.img", &disk(1), now());
    bench.packer.cancel.cancel();
    on_own_thread(&bench.packer, &object);
    assert!(bench.outcome(&object).is_none() && bench.files().is_empty());
    // what a killed process leaves: a part, or a file whose record was not written
    let path = bench.packer.storage.packed_path(&object.sha256);
    for left in [path.with_extension("zst.part"), path.clone(), path.with_extension("zst.sha256")] {
        std::fs::write(left, "half").unwrap();
    }
    let bench = bench.restart();
    assert!(bench.files().is_empty());
    assert_eq!(bench.pack_all(), ["http://h/a.img"]);
    // a file that was damaged while the process was down
    std::fs::write(&path, "short").unwrap();
    let bench = bench.restart();
    assert!(bench.outcome(&object).is_none() && bench.files().is_empty());
    assert_eq!(bench.pack_all(), ["http://h/a.img"]);
}

#[test]
fn what_cannot_be_packed_is_tried_once() {
    let bench = Bench::new(None);
    let text = bench.put("http://h/page.html", b"<!doctype html><p>not an image", now());
    let bare = bench.put("http://h/data.bin", &[7; 5000], now());
    let damaged = bench.put("http://h/a.img", &disk(1), now());
    std::fs::write(bench.packer.storage.path(&damaged.key), disk(2)).unwrap();
    assert_eq!(bench.pack_all().len(), 3);
    for object in [&text, &bare, &damaged] {
        let outcome = bench.outcome(object);
        assert!(matches!(outcome, Some(PackOutcome::Failed(_))), "{outcome:?}");
    }
    assert_eq!(bench.failures(), 1, "only of the damaged image: a cache may hold anything");
    let bench = bench.restart();
    assert!(bench.packer.next().is_none() && bench.files().is_empty());
}

#[test]
fn a_packed_object_is_its_own_packed_form() {
    let bench = Bench::new(None);
    let object = bench.put("http://h/a.img", &disk(1), now());
    bench.pack_all();
    let packed = std::fs::read(bench.packer.storage.packed_path(&object.sha256)).unwrap();
    let itself = bench.put("http://h/a.img.zst", &packed, now());
    bench.pack_all();
    let outcome = bench.outcome(&itself);
    assert!(matches!(outcome, Some(PackOutcome::Itself { .. })), "{outcome:?}");
    assert_eq!(bench.files().len(), 1);
}

#[test]
fn packing_displaces_only_what_was_not_used_for_a_week() {
    let week = 8 * 24 * 3600 * 1000;
    for (used_at, is_packed) in [(now(), false), (now().plus_ms(-week), true)] {
        let max_bytes = 5 << 19;
        let bench = Bench::new(Some(max_bytes));
        let other = bench.put("http://h/other.img", &[7; 1 << 20], used_at).key;
        let object = bench.put("http://h/a.img", &disk(1), now());
        bench.pack_all();
        let packed = matches!(bench.outcome(&object), Some(PackOutcome::Packed { .. }));
        assert_eq!(packed, is_packed, "{:?}", bench.outcome(&object));
        let has_other = bench.packer.storage.index().objects.contains_key(&other);
        assert_eq!(has_other, !is_packed);
        assert!(bench.packer.storage.index().used_bytes() <= max_bytes);
    }
}

#[test]
fn a_fill_displaces_packed_forms_before_objects() {
    let bench = Bench::new(Some(3 << 20));
    let sha256 = bench.put("http://h/a.img", &disk(1), now()).sha256;
    bench.pack_all();
    let storage = &bench.packer.storage;
    let key = Digest::of(b"new");
    let fill = Arc::new(Fill::new(key, "http://h/new.img".into()));
    storage.index().fills.insert(key, fill);
    storage.make_room(Claim::Fill(&key), 2 << 20, 0).unwrap();
    assert!(bench.files().is_empty() && !storage.index().packed.contains_key(&sha256));
    assert_eq!(storage.index().objects.len(), 1);
    assert_eq!(storage.db.read_blocking(rows::packed).unwrap(), []);
    storage.make_room(Claim::Fill(&key), 3 << 20, 0).unwrap();
    assert!(storage.index().objects.is_empty());
}

#[test]
fn a_packed_form_that_is_read_stays_with_its_object() {
    let bench = Bench::new(Some(3 << 20));
    let sha256 = bench.put("http://h/a.img", &disk(1), now()).sha256;
    bench.pack_all();
    let storage = &bench.packer.storage;
    let reading = Arc::clone(&storage.index().packed[&sha256]);
    let key = Digest::of(b"new");
    storage.index().fills.insert(key, Arc::new(Fill::new(key, "http://h/new.img".into())));
    assert!(storage.make_room(Claim::Fill(&key), 2 << 20, 0).is_err());
    assert_eq!((bench.files().len(), storage.index().objects.len()), (1, 1));
    drop(reading);
    assert!(storage.make_room(Claim::Fill(&key), 2 << 20, 0).is_ok());
}

#[test]
fn a_deleted_object_takes_its_packed_form_along() {
    let bench = Bench::new(None);
    let object = bench.put("http://h/a.img", &disk(1), now());
    let copy = bench.put("http://h/copy.img", &disk(1), now());
    bench.pack_all();
    let storage = &bench.packer.storage;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let delete = |object: &ObjectRecord| {
        let object = &storage.find(&object.key).unwrap();
        let (kind, summary) = ("cache.object.deleted", "deleted".to_owned());
        runtime.block_on(storage.remove_object(object, kind, summary, Actor::Operator)).unwrap();
    };
    delete(&object);
    assert_eq!(bench.files().len(), 1, "the copy still has it");
    delete(&copy);
    assert!(bench.files().is_empty() && storage.index().packed.is_empty());
    assert_eq!(storage.db.read_blocking(rows::packed).unwrap(), []);
}

#[test]
fn packing_waits_while_clients_are_served_but_not_for_ever() {
    let bench = Bench::new(None);
    let storage = &bench.packer.storage;
    let left = |courtesy: &Courtesy<'_>| *courtesy.left.lock().unwrap();
    let idle = Courtesy::new(storage, POLL, &bench.packer.cancel);
    idle.wait();
    assert_eq!(left(&idle), POLL, "nobody to wait for");
    storage.counters.sent_bytes.fetch_add(1, Ordering::Relaxed);
    idle.wait();
    assert_eq!(left(&idle), Duration::ZERO, "once, and then the client was done");
    let key = Digest::of(b"new");
    storage.index().fills.insert(key, Arc::new(Fill::new(key, "http://h/new.img".into())));
    let busy = Courtesy::new(storage, 2 * POLL, &bench.packer.cancel);
    busy.wait();
    assert_eq!(left(&busy), Duration::ZERO, "a fetch that never ends");
    bench.packer.cancel.cancel();
    let cancelled = Courtesy::new(storage, POLL, &bench.packer.cancel);
    cancelled.wait();
    assert_eq!(left(&cancelled), POLL);
}

#[test]
fn a_fill_takes_the_room_of_an_object_that_is_being_packed() {
    for (total, is_kept) in [(2 << 20, true), (3 << 20, false)] {
        let bench = Bench::new(Some(3 << 20));
        let object = bench.put("http://h/a.img", &disk(1), now());
        let storage = &bench.packer.storage;
        let cancel = CancelToken::new();
        let packing =
            Packing { sha256: object.sha256, reserved_bytes: 1 << 20, cancel: cancel.clone() };
        storage.index().packing = Some(packing);
        let key = Digest::of(b"new");
        storage.index().fills.insert(key, Arc::new(Fill::new(key, "http://h/new.img".into())));
        storage.make_room(Claim::Fill(&key), total, 0).unwrap();
        assert!(cancel.is_cancelled() && storage.index().packing.is_none());
        assert_eq!(storage.index().objects.len(), usize::from(is_kept));
        assert_eq!(bench.packer.is_displaced(&object), is_kept);
        assert_eq!(bench.packer.is_gone(&object), !is_kept);
    }
}
