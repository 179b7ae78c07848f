use std::sync::mpsc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::flash::FlashOptions;
use crate::progress::{Counts, Phase};
use crate::size::MIB;
use crate::testing::{Faults, MemoryDisk, MemoryHost};

/// Large enough for several writes.
const IMAGE_BYTES: u64 = 16 * MIB;

fn runtime() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

fn image() -> Image {
    let mut bytes = vec![7; usize::try_from(IMAGE_BYTES).unwrap()];
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    let (client, options) = (Client::default(), OpenOptions::default());
    let bytes: Arc<[u8]> = bytes.into();
    Image::from_source(&client, "memory", bytes, &options, &CancelToken::new()).unwrap()
}

fn disk(faults: Faults) -> Arc<MemoryDisk> {
    Arc::new(MemoryDisk::new(20 << 20).with_faults(faults))
}

fn plan(image: &Image, host: &MemoryHost) -> FlashPlan {
    FlashPlan::new(image.info(), host.list().unwrap(), FlashOptions::default())
}

fn is_phase(event: &Event, wanted: Phase) -> bool {
    matches!(event, Event::Phase { phase } if *phase == wanted)
}

#[test]
fn a_flash_is_awaited_and_its_events_end_with_it() {
    let (image, disk) = (image(), disk(Faults::default()));
    let host = Arc::new(MemoryHost::with(&disk));
    let (report, phases) = runtime().block_on(async {
        let mut flash = plan(&image, &host).execute_async(&image, Arc::clone(&host));
        let mut events = flash.events();
        let mut phases = Vec::new();
        let report = loop {
            tokio::select! {
                biased;
                Some(event) = events.next() => {
                    if let Event::Phase { phase } = event {
                        phases.push(phase);
                    }
                }
                report = &mut flash => break report.unwrap(),
            }
        };
        while let Some(event) = events.next().await {
            if let Event::Phase { phase } = event {
                phases.push(phase);
            }
        }
        (report, phases)
    });
    assert!(report.is_success());
    assert_eq!(phases, [Phase::Wipe, Phase::Write, Phase::Verify]);

    let options = VerifyOptions::default();
    let probed = host.list().unwrap().remove(0);
    let compared = runtime().block_on(verify_async(&image, &probed, host, &options)).unwrap();
    assert!(compared.is_equal);
    let contents = runtime().block_on(image.read_fully_async()).unwrap();
    assert_eq!(contents.disk_bytes, IMAGE_BYTES);
}

#[test]
fn a_flash_that_is_dropped_leaves_a_disk_that_does_not_boot() {
    let slow = Faults { delay: Duration::from_millis(100), ..Faults::default() };
    let (image, disk) = (image(), disk(slow));
    let host = Arc::new(MemoryHost::with(&disk));
    let runtime = runtime();
    runtime.block_on(async {
        let mut flash = plan(&image, &host).execute_async(&image, host);
        let mut events = flash.events();
        loop {
            tokio::select! {
                Some(event) = events.next() => if is_phase(&event, Phase::Write) { break },
                report = &mut flash => panic!("it ended before it wrote: {report:?}"),
            }
        }
    });
    // waits for the threads of the operation
    drop(runtime);
    assert_eq!(disk.content()[..512], [0; 512]);
}

#[test]
fn dropping_cancels_the_work_and_closes_the_stream() {
    let (started, has_started) = mpsc::channel();
    let (ended, has_ended) = mpsc::channel();
    let runtime = runtime();
    let mut events = runtime.block_on(async {
        let mut endless = Operation::new(move |observer, cancel| {
            observer.event(&Event::Phase { phase: Phase::Read });
            started.send(()).unwrap();
            while !cancel.is_cancelled() {
                std::thread::yield_now();
            }
            ended.send(()).unwrap();
            cancel.check()
        });
        let mut events = endless.events();
        tokio::select! {
            event = events.next() => assert!(is_phase(&event.unwrap(), Phase::Read)),
            _ = &mut endless => panic!("it does not end by itself"),
        }
        has_started.recv().unwrap();
        events
    });
    has_ended.recv().unwrap();
    assert_eq!(runtime.block_on(events.next()), None);
}

#[test]
fn an_operation_that_is_never_polled_does_nothing() {
    let (image, disk) = (image(), disk(Faults::default()));
    let host = Arc::new(MemoryHost::with(&disk));
    let flash = plan(&image, &host).execute_async(&image, host);
    let mut events = flash.events();
    drop(flash);
    assert_eq!(runtime().block_on(events.next()), None);
    assert_eq!(disk.log(), []);
}

#[test]
fn its_token_cancels_an_operation_with_an_error() {
    let reading = image().read_fully_async();
    reading.cancel_token().cancel();
    let error = runtime().block_on(reading).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}

#[test]
fn outside_of_a_runtime_an_operation_fails_with_the_next_step() {
    let mut opening = Image::open_async(&Client::default(), "a.img", &OpenOptions::default());
    let polled = Pin::new(&mut opening).poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(Err(error)) = polled else { panic!("it has started") };
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.next_step().unwrap().contains("#[tokio::main]"), "{error:?}");
}

#[test]
fn progress_that_was_not_read_is_replaced_by_newer_progress() {
    let progress = |phase, decoded_bytes| Event::Progress {
        phase,
        elapsed_ms: 0,
        counts: Counts { decoded_bytes, ..Counts::default() },
        targets: Vec::new(),
    };
    let working = Operation::new(move |observer, _| {
        for decoded_bytes in 0..1000 {
            observer.event(&progress(Phase::Write, decoded_bytes));
        }
        observer.event(&Event::Notice { message: "retrying".into() });
        observer.event(&progress(Phase::Write, 1000));
        observer.event(&progress(Phase::Verify, 0));
        Ok(())
    });
    let events = working.events();
    runtime().block_on(working).unwrap();
    let kept: Vec<Event> = events.0.lock().events.iter().cloned().collect();
    let notice = Event::Notice { message: "retrying".into() };
    let last = |n| progress(Phase::Write, n);
    assert_eq!(kept, [last(999), notice, last(1000), progress(Phase::Verify, 0)]);
}

#[test]
fn events_without_a_stream_are_dropped() {
    let working = Operation::new(|observer, _| {
        observer.event(&Event::Phase { phase: Phase::Read });
        Ok(())
    });
    let queue = Arc::clone(&working.queue);
    runtime().block_on(working).unwrap();
    assert!(queue.lock().events.is_empty());
}
