//! Diagnostics on standard error: the events of `tracing`, as text or JSON.
//!
//! No thread that serves ever waits for standard error: events are formatted into a bounded queue, and one
//! thread writes it. What does not fit is dropped and counted. At the end of the process the queue is
//! flushed, for at most [`FLUSH_TIMEOUT`]. Panics are diagnostics as well, since the standard panic hook
//! writes to standard error and would wait for it.

use std::io::{self, IsTerminal};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tracing::{Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

mod event;
mod queue;
mod throttle;

use super::loss_report::LossReport;
use event::DiagnosticEvent;
pub use event::LogFormat;
use queue::Queue;
use throttle::Throttle;

/// The handle of the diagnostics. Dropping it flushes the queue, for a bounded time.
#[derive(Debug)]
#[must_use = "dropping it flushes"]
pub struct Diagnostics(());

impl Drop for Diagnostics {
    fn drop(&mut self) {
        if let Some(pipeline) = PIPELINE.get() {
            pipeline.queue.flush(FLUSH_TIMEOUT);
        }
    }
}

/// The diagnostics of the process; unset until [`init_diagnostics`].
static PIPELINE: OnceLock<Arc<Pipeline>> = OnceLock::new();

#[derive(Debug)]
struct Pipeline {
    format: LogFormat,
    is_terminal: bool,
    queue: Queue,
    throttle: Throttle,
}

/// Starts the diagnostics, once per process; later calls change nothing. Without a `format`, it is text on a
/// terminal and JSON elsewhere.
///
/// # Errors
/// The writer thread could not be started.
pub fn init_diagnostics(level: Level, format: Option<LogFormat>) -> io::Result<Diagnostics> {
    let is_terminal = io::stderr().is_terminal();
    let pipeline = Arc::new(Pipeline {
        format: format.unwrap_or(if is_terminal {
            LogFormat::Text
        } else {
            LogFormat::Json
        }),
        is_terminal,
        queue: Queue::default(),
        throttle: Throttle::default(),
    });
    if PIPELINE.set(pipeline.clone()).is_err() {
        return Ok(Diagnostics(()));
    }
    let writer = pipeline.clone();
    std::thread::Builder::new()
        .name(THREAD_NAME.to_owned())
        .spawn(move || writer.write_forever())?;
    let layer = QueueLayer(pipeline).with_filter(filter(level));
    let _ = tracing_subscriber::registry().with(layer).try_init();
    log_panics();
    Ok(Diagnostics(()))
}

/// Returns how many lines of diagnostics were written and how many were lost.
pub fn diagnostics_lines() -> (u64, u64) {
    PIPELINE
        .get()
        .map_or((0, 0), |pipeline| pipeline.queue.counts())
}

fn filter(level: Level) -> Targets {
    // Libraries log only what an operator can act on: h2 warns about every misbehaving client.
    Targets::new()
        .with_default(level)
        .with_target("h2", Level::ERROR)
        // rustls warns about every client that sends an IP address as SNI.
        .with_target("rustls", Level::ERROR)
        .with_target("hickory_resolver", Level::WARN.min(level))
        .with_target("hickory_net", Level::WARN.min(level))
}

/// Replaces the standard panic hook, except for panics of the writer thread itself.
fn log_panics() {
    let standard_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        if thread.name() == Some(THREAD_NAME) {
            return standard_hook(panic);
        }
        let backtrace = std::backtrace::Backtrace::capture();
        let has_backtrace = backtrace.status() == std::backtrace::BacktraceStatus::Captured;
        tracing::error!(
            target: "panic",
            thread = thread.name(),
            location = panic.location().map(tracing::field::display),
            backtrace = has_backtrace.then(|| tracing::field::display(&backtrace)),
            "panicked: {}",
            panic.payload_as_str().unwrap_or("(no message)")
        );
    }));
}

/// Formats events into the queue.
#[derive(Debug)]
struct QueueLayer(Arc<Pipeline>);

impl<S: Subscriber> Layer<S> for QueueLayer {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let event = DiagnosticEvent::record(event);
        let is_limited = event.level() <= Level::WARN;
        if !is_limited || self.0.throttle.admit(&event, now()) {
            self.0.push(&event, 0);
        }
    }
}

impl Pipeline {
    fn push(&self, event: &DiagnosticEvent, repeated: u64) {
        self.queue.push(&self.format(event, repeated));
    }

    fn format(&self, event: &DiagnosticEvent, repeated: u64) -> Vec<u8> {
        match self.format {
            LogFormat::Json => event.to_json(repeated),
            LogFormat::Text => event.to_text(repeated, self.is_terminal),
        }
    }

    /// The writer thread. It waits only for new lines, unless a repeated event or a loss is to be reported.
    fn write_forever(&self) {
        let mut losses = LossReport::default();
        loop {
            let wake_up = [self.throttle.next_due(), losses.next_due()];
            self.queue.write_next(wake_up.into_iter().flatten().min());
            for (event, repeated) in self.throttle.take_due(now()) {
                self.push(&event, repeated);
            }
            let lost = self.queue.take_lost();
            if let Some(lines) = losses.add(lost, now()) {
                let message = "diagnostics were lost: standard error did not accept them in time";
                self.push(&DiagnosticEvent::loss(message, lines), 0);
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "limits repeated diagnostics")]
fn now() -> Instant {
    Instant::now()
}

const THREAD_NAME: &str = "diagnostics";

/// How long the end of the process waits for standard error. Our choice: a reader that is alive takes the
/// queue within milliseconds.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    /// A process of its own: the panic hook and the diagnostics are global.
    #[test]
    #[ignore = "run by `a_panic_reaches_standard_error`"]
    fn panicking_process() {
        let diagnostics = init_diagnostics(Level::INFO, Some(LogFormat::Json)).unwrap();
        let panicked = std::thread::spawn(|| panic!("on purpose\u{202e}")).join();
        assert!(panicked.is_err());
        drop(diagnostics);
        assert_eq!(diagnostics_lines(), (1, 0));
    }

    #[test]
    fn a_panic_reaches_standard_error() {
        let test = "telemetry::diagnostics::tests::panicking_process";
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--ignored", "--nocapture"])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        let line = text.lines().find(|line| line.contains("panicked"));
        let line: serde_json::Value = serde_json::from_str(line.expect(&text)).unwrap();
        assert_eq!(line["message"], "panicked: on purpose\u{202e}");
        assert_eq!(
            (&line["level"], &line["target"]),
            (&"ERROR".into(), &"panic".into())
        );
        assert!(
            line["location"]
                .as_str()
                .unwrap()
                .contains("diagnostics.rs"),
            "{line}"
        );
    }
}
