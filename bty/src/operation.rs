//! Operations for programs on tokio: futures that run the blocking functions of this library on
//! tokio's blocking threads.
//!
//! Needs the feature `tokio`. Each of [`Image::open_async`], [`Image::read_fully_async`],
//! [`FlashPlan::execute_async`] and [`verify_async`] returns an
//! [`Operation`]; [`Operation::new`] makes one of any other blocking function.
//!
//! ```no_run
//! use bty::flash::{FlashOptions, FlashPlan};
//! use bty::image::OpenOptions;
//! use bty::{Client, Disk, Image, Result, SystemHost};
//!
//! async fn flash(disk: Disk) -> Result<()> {
//!     let (client, url) = (Client::default(), "https://images.example/debian.img.zst");
//!     let image = Image::open_async(&client, url, &OpenOptions::default()).await?;
//!     let plan = FlashPlan::new(image.info(), vec![disk], FlashOptions::default());
//!     let mut flash = plan.execute_async(&image, SystemHost::new());
//!     let mut events = flash.events();
//!     let report = loop {
//!         tokio::select! {
//!             Some(event) = events.next() => println!("{event:?}"),
//!             report = &mut flash => break report?,
//!         }
//!     };
//!     assert!(report.is_success());
//!     Ok(())
//! }
//! ```

use std::collections::VecDeque;
use std::future::poll_fn;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use futures_core::Stream;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::flash::{FlashPlan, FlashReport, VerifyOptions, VerifyReport, verify};
use crate::image::{Contents, OpenOptions};
use crate::{
    CancelGuard, CancelToken, Client, Disk, DiskHost, Error, ErrorKind, Event, Image, Observer,
    Result, threads,
};

/// A future that runs blocking work on a thread, from the first time it is polled.
///
/// Dropping it cancels the work, which ends within a second. Until then it keeps its thread, and
/// the shutdown of a tokio runtime waits for it.
///
/// # Errors
/// - Every error of the function that the operation runs.
/// - [`ErrorKind::Usage`]: it was first polled outside of a tokio runtime.
/// - [`ErrorKind::Host`]: the system refuses a thread.
/// - [`ErrorKind::Cancelled`]: [`cancel_token`](Self::cancel_token) was cancelled, or the runtime
///   is shutting down.
#[must_use = "an operation does nothing until it is awaited"]
pub struct Operation<T> {
    /// Until the first poll.
    work: Option<Box<dyn FnOnce() -> Result<T> + Send>>,
    /// From the first poll on.
    task: Option<JoinHandle<Result<T>>>,
    queue: Arc<EventQueue>,
    cancel: CancelToken,
    _guard: CancelGuard,
}

impl<T: Send + 'static> Operation<T> {
    /// Makes an operation of `work`, which must pass on the observer and the token.
    ///
    /// ```
    /// use bty::create::{CreateOptions, create};
    /// use bty::operation::Operation;
    /// use bty::{Disk, SystemHost};
    ///
    /// # async fn back_up(disk: Disk) -> bty::Result<()> {
    /// let options = CreateOptions::default();
    /// let report = Operation::new(move |observer, cancel| {
    ///     create(&disk, "card.img.zst".as_ref(), &options, &SystemHost::new(), observer, cancel)
    /// })
    /// .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(
        work: impl FnOnce(&dyn Observer, &CancelToken) -> Result<T> + Send + 'static,
    ) -> Self {
        let (cancel, queue) = (CancelToken::new(), Arc::new(EventQueue::default()));
        let (token, events) = (cancel.clone(), QueueObserver(Arc::clone(&queue)));
        let work = move || {
            token.check()?;
            work(&events, &token)
        };
        let _guard = cancel.cancel_on_drop();
        Self { work: Some(Box::new(work)), task: None, queue, cancel, _guard }
    }

    /// The events of the operation, from now on. Call it before the operation is first polled to
    /// get all of them. Each event goes to one stream, so a second stream takes events from the
    /// first.
    ///
    /// The stream ends with the operation. It does not slow down the operation: progress that was
    /// not read in time is replaced by newer progress, so the stream keeps few events.
    pub fn events(&self) -> Events {
        self.queue.lock().is_read = true;
        Events(Arc::clone(&self.queue))
    }

    /// A token that cancels the operation, for example when a signal arrives. Unlike dropping the
    /// future, this lets the program see the error.
    #[must_use]
    pub fn cancel_token(&self) -> CancelToken {
        self.cancel.clone()
    }
}

/// Starts `work` on a blocking thread of the current runtime.
fn start<T: Send + 'static>(
    work: Box<dyn FnOnce() -> Result<T> + Send>,
) -> Result<JoinHandle<Result<T>>> {
    let runtime = Handle::try_current().map_err(|e| {
        Error::new(ErrorKind::Usage, "starting an operation outside of a tokio runtime")
            .because(e)
            .hint("await it in a function that tokio runs, for example below #[tokio::main]")
    })?;
    // tokio panics when the system refuses it a thread
    if threads::available(1) < 1 {
        return Err(threads::refused(std::io::ErrorKind::WouldBlock.into()));
    }
    Ok(runtime.spawn_blocking(work))
}

impl<T: Send + 'static> Future for Operation<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        if let Some(work) = self.work.take() {
            self.task = Some(start(work)?);
        }
        let task = self.task.as_mut().expect("nobody polls a future after its end");
        Poll::Ready(match ready!(Pin::new(task).poll(context)) {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(_) => Err(Error::cancelled()),
            },
        })
    }
}

impl Image {
    /// Like [`open`](Self::open), as an [`Operation`]. It has no events; those of its requests go
    /// to [`ClientOptions::observer`](crate::ClientOptions).
    pub fn open_async(client: &Client, reference: &str, options: &OpenOptions) -> Operation<Self> {
        let (client, reference, options) = (client.clone(), reference.to_owned(), options.clone());
        Operation::new(move |_, cancel| Self::open(&client, &reference, &options, cancel))
    }

    /// Like [`read_fully`](Self::read_fully), as an [`Operation`].
    pub fn read_fully_async(&self) -> Operation<Contents> {
        let image = self.clone();
        Operation::new(move |observer, cancel| image.read_fully(observer, cancel))
    }
}

impl FlashPlan {
    /// Like [`execute`](Self::execute), as an [`Operation`]. If it is dropped, targets that were
    /// already written to do not boot, unless they were complete.
    pub fn execute_async(
        &self,
        image: &Image,
        host: impl DiskHost + 'static,
    ) -> Operation<FlashReport> {
        let (plan, image) = (self.clone(), image.clone());
        Operation::new(move |observer, cancel| plan.execute(&image, &host, observer, cancel))
    }
}

/// Like [`verify`], as an [`Operation`].
pub fn verify_async(
    image: &Image,
    disk: &Disk,
    host: impl DiskHost + 'static,
    options: &VerifyOptions,
) -> Operation<VerifyReport> {
    let (image, disk, options) = (image.clone(), disk.clone(), options.clone());
    Operation::new(move |observer, cancel| verify(&image, &disk, &host, &options, observer, cancel))
}

/// The events of an [`Operation`], as a stream. Created by [`Operation::events`].
pub struct Events(Arc<EventQueue>);

impl Events {
    /// The next event; `None` after the end of the operation.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        let mut queue = self.0.lock();
        match queue.events.pop_front() {
            Some(event) => Poll::Ready(Some(event)),
            None if queue.is_closed => Poll::Ready(None),
            None => {
                queue.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[derive(Default)]
struct EventQueue(Mutex<QueuedEvents>);

#[derive(Default)]
struct QueuedEvents {
    events: VecDeque<Event>,
    /// There is a stream: without one, events are dropped.
    is_read: bool,
    is_closed: bool,
    waker: Option<Waker>,
}

impl EventQueue {
    fn lock(&self) -> MutexGuard<'_, QueuedEvents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sending end. Closes the queue when it is dropped, also by a panic.
struct QueueObserver(Arc<EventQueue>);

impl Observer for QueueObserver {
    fn event(&self, event: &Event) {
        let mut queue = self.0.lock();
        if !queue.is_read {
            return;
        }
        match queue.events.back_mut() {
            Some(last) if is_superseded(last, event) => *last = event.clone(),
            _ => queue.events.push_back(event.clone()),
        }
        wake(queue);
    }
}

/// True when both are progress of the same phase.
fn is_superseded(last: &Event, next: &Event) -> bool {
    matches!(
        (last, next),
        (Event::Progress { phase: last, .. }, Event::Progress { phase: next, .. }) if last == next
    )
}

impl Drop for QueueObserver {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.is_closed = true;
        wake(queue);
    }
}

/// Wakes the reader of the stream, after unlocking the queue.
fn wake(mut queue: MutexGuard<'_, QueuedEvents>) {
    let waker = queue.waker.take();
    drop(queue);
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
#[cfg(feature = "testing")]
mod tests;
