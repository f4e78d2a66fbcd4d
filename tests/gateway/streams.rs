//! Responses of any size: constant memory, back-pressure, and truncation that a client can detect.

use std::time::Duration;

use ccfs_gateway::client::StreamingClientResponse;
use ccfs_gateway::stand_in::{Fault, When};
use serde_json::json;

use crate::load::Target;
use crate::process::Process;
use crate::support::{SHANGHAI, Setup, signed};

async fn open(target: &Target, size: u64) -> StreamingClientResponse {
    let name = format!("Y:/record/size-{size}.wav");
    let request = target.envelope("downloadRecordFile", &json!({"fileName": name}));
    let response = target
        .client()
        .send_streaming(&signed(request, SHANGHAI))
        .await
        .unwrap();
    assert_eq!(response.status, 200);
    assert_eq!(response.headers["content-length"], size.to_string());
    response
}

/// Reads to the end or to an error; returns the number of bytes.
async fn length(response: &mut StreamingClientResponse) -> Result<u64, String> {
    let mut length = 0;
    while let Some(piece) = response.chunk().await.map_err(|error| error.to_string())? {
        length += piece.len() as u64;
    }
    Ok(length)
}

/// A gateway in a process of its own, whose memory can be measured, and a client of it.
async fn process() -> (Process, Target) {
    let process = Process::start(&Setup {
        nodes: 2,
        tables: "[telemetry]\nlog_level = \"info\"\naccess_log = \"off\"".to_owned(),
        ..Setup::default()
    })
    .await;
    let ca = process.site.folder.path().join("ca.pem");
    let target = Target::at(&process.url(), &ca);
    (process, target)
}

/// The largest growth of the gateway's memory in bytes while `count` responses of `size` bytes are read
/// at once.
async fn growth(count: usize, size: u64) -> u64 {
    let (process, target) = process().await;
    // Warm-up: allocations that happen only once.
    for _ in 0..2 {
        let mut response = open(&target, 8 << 20).await;
        assert_eq!(length(&mut response).await, Ok(8 << 20));
    }
    let before = process.resident();
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..count {
        let target = target.clone();
        readers.spawn(async move {
            let mut response = open(&target, size).await;
            length(&mut response).await
        });
    }
    let mut most = before;
    loop {
        tokio::select! {
            read = readers.join_next() => match read {
                Some(read) => assert_eq!(read.unwrap(), Ok(size)),
                None => break,
            },
            () = tokio::time::sleep(Duration::from_millis(20)) => most = most.max(process.resident()),
        }
    }
    most - before
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_large_streams_leave_memory_flat() {
    let growth = growth(10, 24 << 20).await;
    assert!(growth < 10 << 20, "{growth} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "10 GiB take minutes; `cargo test --release --test gateway of_a_gibibyte -- --ignored`"]
async fn ten_streams_of_a_gibibyte_leave_memory_flat() {
    let growth = growth(10, 1 << 30).await;
    println!("{growth} bytes");
    assert!(growth < 10 << 20, "{growth} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_costs_at_most_four_mebibytes() {
    let growth = growth(1, 48 << 20).await;
    assert!(growth <= 4 << 20, "{growth} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "1 GiB takes seconds; `cargo test --release --test gateway of_a_gibibyte -- --ignored`"]
async fn a_stream_of_a_gibibyte_costs_at_most_four_mebibytes() {
    let growth = growth(1, 1 << 30).await;
    println!("{growth} bytes");
    assert!(growth <= 4 << 20, "{growth} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_costs_less_than_a_mebibyte() {
    const READERS: u64 = 10;
    let (process, target) = process().await;
    let mut response = open(&target, 8 << 20).await;
    assert_eq!(length(&mut response).await, Ok(8 << 20));
    let before = process.resident();
    let mut responses = Vec::new();
    for _ in 0..READERS {
        let mut response = open(&target, 1 << 30).await;
        response.chunk().await.unwrap();
        responses.push(response);
    }
    // Until every buffer on the path is full and memory stops growing.
    let (mut last, mut still) = (0, 0);
    while still < 10 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = process.resident();
        still = if now == last { still + 1 } else { 0 };
        last = now;
    }
    let growth = last.saturating_sub(before);
    assert!(
        growth < READERS << 20,
        "{growth} bytes for {READERS} readers"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_cut_by_its_node_does_not_end_cleanly() {
    let setup = Setup {
        cluster: "ejection = { consecutive_failures = 0 }".to_owned(),
        ..Setup::default()
    };
    let env = setup.start().await;
    let target = Target::of(&env);
    for fault in [Fault::CloseInBody, Fault::ResetInBody] {
        for chunked in [false, true] {
            let faults = env.nodes[0].faults();
            faults.inject(fault.clone(), When::Always);
            if chunked {
                faults.inject(Fault::Chunked, When::Always);
            }
            for name in ["1MiB.wav", "size-20000.wav"].repeat(5) {
                let request = target.envelope("downloadRecord", &json!({ "fileName": name }));
                let response = target
                    .client()
                    .send_streaming(&signed(request, SHANGHAI))
                    .await;
                // Where the cut comes with the beginning, the head is the gateway's.
                let mut response = response.expect("a head");
                let read = length(&mut response).await;
                match response.status.as_u16() {
                    200 => assert!(read.is_err(), "{fault:?}: {read:?}"),
                    status => assert_eq!((status, read.is_ok()), (502, true), "{fault:?}"),
                }
            }
            faults.clear();
        }
    }
}
