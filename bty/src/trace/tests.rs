use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::NoSubscriber;
use tracing::{Dispatch, Event, Metadata, Subscriber};

use crate::flash::{FlashOptions, FlashPlan, VerifyOptions, verify};
use crate::image::OpenOptions;
use crate::testing::{Faults, MemoryDisk, MemoryHost};
use crate::{CancelToken, Client, ClientOptions, DiskHost, Image};

/// The name and the fields of a span or an event, as text.
#[derive(Clone, Debug, Default)]
struct Entry {
    name: String,
    fields: BTreeMap<&'static str, String>,
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }
}

/// Keeps every span and event of the library.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Entry>>>);

impl Collector {
    fn push(&self, name: &str, record: impl FnOnce(&mut Entry)) -> Id {
        let mut entry = Entry { name: name.to_owned(), fields: BTreeMap::new() };
        record(&mut entry);
        let mut entries = self.0.lock().unwrap();
        entries.push(entry);
        Id::from_u64(entries.len() as u64)
    }

    fn named(&self, name: &str) -> Vec<BTreeMap<&'static str, String>> {
        let entries = self.0.lock().unwrap();
        entries
            .iter()
            .filter(|entry| entry.name == name)
            .map(|entry| entry.fields.clone())
            .collect()
    }
}

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("bty::")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.push(span.metadata().name(), |entry| span.record(entry))
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let index = usize::try_from(span.into_u64()).unwrap() - 1;
        values.record(&mut self.0.lock().unwrap()[index]);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        self.push("event", |entry| event.record(entry));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Runs `work`, and returns what its thread has traced.
fn traced(work: impl FnOnce()) -> Collector {
    // While there is only one subscriber, tracing asks that of the current thread whether a span is
    // wanted, and remembers the answer for all threads: a test that traces nothing would say no.
    static OTHER: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::default()));
    LazyLock::force(&OTHER);
    let collector = Collector::default();
    tracing::subscriber::with_default(collector.clone(), work);
    collector
}

fn image() -> Image {
    let mut bytes = vec![7; 4 << 20];
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    let (options, cancel) = (OpenOptions::default(), CancelToken::new());
    let bytes: Arc<[u8]> = bytes.into();
    Image::from_source(&Client::default(), "traced", bytes, &options, &cancel).unwrap()
}

#[test]
fn a_flash_traces_its_phases_and_targets_with_their_bytes() {
    let host = MemoryHost::with(&Arc::new(MemoryDisk::new(8 << 20)));
    let (image, cancel) = (image(), CancelToken::new());
    let spans = traced(|| {
        let plan = FlashPlan::new(image.info(), host.list().unwrap(), FlashOptions::default());
        assert!(plan.execute(&image, &host, &(), &cancel).unwrap().is_success());
    });
    assert_eq!(spans.named("flash")[0]["image"], "traced");
    let phases = spans.named("phase");
    let names: Vec<&str> = phases.iter().map(|fields| &*fields["phase"]).collect();
    assert_eq!(names, ["wipe", "write", "verify"]);
    assert_eq!(phases[1]["decoded_bytes"], (4 << 20).to_string());
    let target = &spans.named("target")[0];
    assert_eq!(target["disk"], "/dev/mem0");
    assert_eq!(target["written_bytes"], (4 << 20).to_string());
    assert_eq!(spans.named("event").len(), 0);

    let spans = traced(|| {
        let disk = host.list().unwrap().remove(0);
        verify(&image, &disk, &host, &VerifyOptions::default(), &(), &cancel).unwrap();
    });
    assert_eq!(spans.named("verify")[0]["compared_bytes"], (4 << 20).to_string());
}

#[test]
fn a_target_that_fails_is_traced_as_an_error() {
    let faults =
        Faults { lose_from: Some(2 << 20), lose_until: Some(3 << 20), ..Faults::default() };
    let host = MemoryHost::with(&Arc::new(MemoryDisk::new(8 << 20).with_faults(faults)));
    let spans = traced(|| {
        let image = image();
        let plan = FlashPlan::new(image.info(), host.list().unwrap(), FlashOptions::default());
        assert!(!plan.execute(&image, &host, &(), &CancelToken::new()).unwrap().is_success());
    });
    let events = spans.named("event");
    assert_eq!((events.len(), &*events[0]["message"]), (1, "the target failed"));
    assert!(events[0]["error"].contains("/dev/mem0"), "{events:?}");
}

/// Answers one request with 503, and all others not at all.
fn failing_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let _ = stream.read(&mut [0; 4096]);
        let answer =
            "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let _ = stream.write_all(answer.as_bytes());
    });
    address.to_string()
}

#[test]
fn a_retry_is_traced_in_its_operation_without_the_password() {
    let options = ClientOptions::default().attempts(2).retry_delay(std::time::Duration::ZERO);
    let collector = Collector::default();
    // requests run on threads of the library, which only a global subscriber reaches
    let _ = tracing::subscriber::set_global_default(collector.clone());
    let url = format!("http://user:secret@{}/disk.img", failing_server());
    let cancel = CancelToken::new();
    assert!(Image::open(&Client::new(options), &url, &OpenOptions::default(), &cancel).is_err());
    let opened = collector.named("open");
    let opened: Vec<_> =
        opened.iter().filter(|span| span["reference"].contains("/disk.img")).collect();
    assert_eq!(opened.len(), 1, "{opened:?}");
    let retries = collector.named("event");
    let retry = retries.iter().find(|event| event.contains_key("attempt")).unwrap();
    assert_eq!((&*retry["attempt"], &*retry["delay_ms"]), ("1", "0"));
    assert!(retry["error"].contains("503"), "{retry:?}");
    let all = format!("{opened:?}{retries:?}");
    assert!(all.contains("127.0.0.1") && !all.contains("secret"), "{all}");
}
