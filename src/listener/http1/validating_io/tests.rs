use std::task::Waker;

use super::*;

#[test]
fn unread_bytes_are_forwarded_again_before_those_that_follow() {
    let state = Arc::new(Http1State::new(0));
    let limits = HeadLimits {
        size: 1024,
        fields: 10,
    };
    let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    // A whole request, and the beginning of the next.
    let bytes = [&request[..], &request[..5]].concat();
    let mut io = ValidatingIo::new(&bytes[..], state.clone(), limits);
    let read = |io: &mut ValidatingIo<&[u8]>| {
        let mut storage = [0; 100];
        let mut buffer = ReadBuf::new(&mut storage);
        let mut context = Context::from_waker(Waker::noop());
        let polled = Pin::new(io).poll_read(&mut context, &mut buffer);
        assert!(matches!(polled, Poll::Ready(Ok(()))));
        buffer.filled().to_vec()
    };
    assert_eq!(read(&mut io), request);
    io.unread(&request[20..]);
    assert_eq!(read(&mut io), &request[20..]);
    assert_eq!(state.progress.heads(), 1, "it is scanned once");
    assert_eq!(state.reading(), Reading::Head);
    io.unread(b"");
    assert_eq!(read(&mut io), b"", "the end; the next head is incomplete");
}
