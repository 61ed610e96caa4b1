use proptest::prelude::*;

use super::*;

fn decode_all(decoder: &mut Decoder, buffer: &mut BytesMut) -> Result<Vec<Item>, FrameError> {
    let mut items = Vec::new();
    while let Some(item) = decoder.decode(buffer)? {
        items.push(item);
    }
    Ok(items)
}

fn decode(bytes: &[u8]) -> Result<Vec<Item>, FrameError> {
    decode_all(&mut Decoder::default(), &mut BytesMut::from(bytes))
}

fn encoded(frame: &Frame) -> BytesMut {
    let mut out = BytesMut::new();
    frame.encode(&mut out);
    out
}

#[test]
fn a_frame_looks_as_the_specification_says() {
    let frame = Frame::new(Command::Send).header("destination", "/queue/a:b").header("n", "1\r\n\\").body("hi");
    assert_eq!(&encoded(&frame)[..], b"SEND\ndestination:/queue/a\\cb\nn:1\\r\\n\\\\\ncontent-length:2\n\nhi\0");
    let connect = Frame::new(Command::Connect).header("passcode", r"a:b\c");
    assert_eq!(&encoded(&connect)[..], b"CONNECT\npasscode:a:b\\c\n\n\0");
    assert_eq!(decode(&encoded(&connect)).unwrap(), [Item::Frame(connect)]);
}

#[test]
fn no_header_breaks_out_of_its_frame() {
    let connect = Frame::new(Command::Connect).header("login:x", "a\r\nhost:evil\0");
    assert_eq!(&encoded(&connect)[..], b"CONNECT\nloginx:ahost:evil\n\n\0");
    let send = Frame::new(Command::Send).header("a\0", "b\n\n\0SEND").header("content-length", "99").body("x");
    assert_eq!(&encoded(&send)[..], b"SEND\na:b\\n\\nSEND\ncontent-length:1\n\nx\0");
}

#[test]
fn a_secret_is_not_shown() {
    let shown = format!("{:?}", Frame::new(Command::Connect).header("login", "me").header("passcode", "hunter2"));
    assert!(shown.contains("me") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn line_ends_may_be_crlf_and_heart_beats_stand_between_frames() {
    let items =
        decode(b"\r\n\n\r\nMESSAGE\r\nsubscription:0\r\ncontent-length:3\r\n\r\na\0b\0\nRECEIPT\nreceipt-id:7\n\n\0");
    let message = Frame::new(Command::Message).header("subscription", "0").body(&b"a\0b"[..]);
    let receipt = Frame::new(Command::Receipt).header("receipt-id", "7");
    assert_eq!(items.unwrap(), [Item::HeartBeat, Item::Frame(message), Item::HeartBeat, Item::Frame(receipt)]);
}

#[test]
fn the_first_of_a_repeated_header_counts() {
    let items = decode(b"SEND\nfoo:1\nfoo:2\ncontent-length:1\ncontent-length:9\n\nx\0").unwrap();
    let [Item::Frame(frame)] = &items[..] else { panic!("{items:?}") };
    assert_eq!((frame.headers.get("foo"), frame.headers.0.len(), &frame.body[..]), (Some("1"), 2, &b"x"[..]));
}

#[test]
fn what_is_not_stomp_is_refused_with_its_place() {
    let command = Command::Send;
    for (bytes, error) in [
        (&b"GET / HTTP/1.1\r\n"[..], FrameError::UnknownCommand("GET / HTTP/1.1".into())),
        (b"SEND\nnocolon\n", FrameError::Header { command, line: "nocolon".into() }),
        (b"SEND\n:v\n", FrameError::Header { command, line: ":v".into() }),
        (b"SEND\na:\\t\n", FrameError::Escape { command, name: "a".into() }),
        (b"SEND\na:b\\\n", FrameError::Escape { command, name: "a".into() }),
        (b"SEND\n\xff:b\n", FrameError::NotUtf8("\u{fffd}:b".into())),
        (b"SEND\na:b\0", FrameError::NulInHead("a:b".into())),
        (b"SEND\na\0:b\n", FrameError::NulInHead("a".into())),
        (b"SEND\ncontent-length:-1\n", FrameError::ContentLength { command, value: "-1".into() }),
        (b"SEND\ncontent-length:99999999999999999999\n", FrameError::BodyTooLong { command, limit: 4 << 20 }),
        (b"SEND\ncontent-length:1\n\nab\0", FrameError::NotTerminated { command, length: 1 }),
    ] {
        assert_eq!(decode(bytes), Err(error));
    }
}

#[test]
fn limits_hold_before_the_memory_is_spent() {
    let limits = Limits { headers: 2, head_bytes: 50, body_bytes: 8 };
    let decode = |bytes: &[u8]| decode_all(&mut Decoder::new(limits), &mut BytesMut::from(bytes));
    assert_eq!(decode(&[b'A'; 51]), Err(FrameError::HeadTooLong(50)));
    assert_eq!(decode(format!("SEND\na:1\nb:{}", "x".repeat(50)).as_bytes()), Err(FrameError::HeadTooLong(50)));
    let command = Command::Send;
    assert_eq!(decode(b"SEND\na:1\nb:2\nc:3\n"), Err(FrameError::TooManyHeaders { command, limit: 2 }));
    assert_eq!(decode(b"SEND\ncontent-length:9\n"), Err(FrameError::BodyTooLong { command, limit: 8 }));
    assert_eq!(decode(b"SEND\n\n123456789"), Err(FrameError::BodyTooLong { command, limit: 8 }));
    assert_eq!(decode(b"SEND\na:1\nb:2\n\n12345678\0").unwrap().len(), 1);
}

fn frames() -> impl Strategy<Value = Frame> {
    let command = prop::sample::select(Command::ALL).prop_filter("escapes", |command| command.escapes());
    let text = r"[a-z:\\\r\n ]{1,8}|[^\x00]{1,12}";
    let headers = prop::collection::vec((text, text), 0..6);
    let body = prop_oneof![prop::collection::vec(any::<u8>(), 0..200), "[^\0]{0,40}".prop_map(String::into_bytes)];
    (command, headers, body).prop_map(|(command, mut headers, body)| {
        headers.retain(|(name, _)| name != CONTENT_LENGTH);
        Frame { command, headers: Headers(headers), body: body.into() }
    })
}

proptest! {
    #[test]
    fn frames_survive_the_wire_however_it_is_cut(frames in prop::collection::vec(frames(), 1..4), cut in 1_usize..40) {
        let wire = frames.iter().fold(BytesMut::new(), |mut wire, frame| {
            frame.encode(&mut wire);
            wire
        });
        for size in [1, cut, wire.len()] {
            let (mut decoder, mut buffer, mut items) = (Decoder::default(), BytesMut::new(), Vec::new());
            for piece in wire.chunks(size) {
                buffer.extend_from_slice(piece);
                items.extend(decode_all(&mut decoder, &mut buffer).unwrap());
            }
            prop_assert_eq!(&items, &frames.iter().cloned().map(Item::Frame).collect::<Vec<_>>());
            prop_assert!(buffer.is_empty());
        }
    }

    #[test]
    fn hostile_bytes_never_panic_and_mean_the_same_however_they_are_cut(
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300),
            r"(SEND|CONNECT|MESSAGE|X)?(\r?\n)?((a|content-length|é|\\c)?:?(1|20|\\n|\\q|\r)?\r?\n){0,5}\n?[a\x00\n]{0,30}".prop_map(String::into_bytes),
        ],
        cut in 1_usize..20,
    ) {
        let whole = decode(&bytes);
        let (mut decoder, mut buffer, mut pieces) = (Decoder::default(), BytesMut::new(), Ok(Vec::new()));
        for piece in bytes.chunks(cut) {
            buffer.extend_from_slice(piece);
            match (decode_all(&mut decoder, &mut buffer), &mut pieces) {
                (Ok(items), Ok(all)) => all.extend(items),
                (Err(error), _) => { pieces = Err(error); break }
                (Ok(_), Err(_)) => {}
            }
        }
        // A run of line ends counts as one heart-beat; cut in two it is two.
        let beatless = |items: Vec<Item>| items.into_iter().filter(|i| *i != Item::HeartBeat).collect::<Vec<_>>();
        match (whole.map(beatless), pieces.map(beatless)) {
            (Ok(whole), Ok(pieces)) => prop_assert_eq!(whole, pieces),
            (whole, pieces) => prop_assert!(whole.is_err() && pieces.is_err(), "{whole:?} {pieces:?}"),
        }
    }
}

#[test]
fn a_large_frame_in_small_pieces_is_read_in_linear_time() {
    // 4 MiB without content-length, 64 bytes at a time: searching it anew with each piece would be 137 GB of search.
    let mut wire = BytesMut::from(&b"SEND\n\n"[..]);
    wire.resize(4 << 20, b'x');
    wire.put_u8(0);
    let (mut decoder, mut buffer, mut items) = (Decoder::default(), BytesMut::new(), Vec::new());
    for piece in wire.chunks(64) {
        buffer.extend_from_slice(piece);
        items.extend(decode_all(&mut decoder, &mut buffer).unwrap());
    }
    assert_eq!(items.len(), 1);
}

#[test]
fn a_lenient_reader_can_acknowledge_whatever_somebody_wrote() {
    let limits = Limits { headers: 3, head_bytes: 200, body_bytes: 4 };
    let body = |rest: &str| format!("MESSAGE\nack:1\n{rest}\0RECEIPT\nreceipt-id:7\n\n\0").into_bytes();
    let with_length = body("content-length:9\n\n123\x0056789");
    for (bytes, kept) in
        [(&with_length, &b"123\x005"[..]), (&body("\n123456789"), b"12345"), (&body("\n1234"), b"1234")]
    {
        // However it is cut.
        for step in 1..bytes.len() {
            let (mut decoder, mut buffer, mut items) = (Decoder::lenient(limits), BytesMut::new(), Vec::new());
            for piece in bytes.chunks(step) {
                buffer.extend_from_slice(piece);
                items.extend(decode_all(&mut decoder, &mut buffer).unwrap());
                assert!(buffer.len() <= step.max(200), "{} bytes are kept", buffer.len());
            }
            let message = Frame::new(Command::Message).header("ack", "1").body(kept.to_vec());
            let receipt = Frame::new(Command::Receipt).header("receipt-id", "7");
            assert_eq!(items, [Item::Frame(message), Item::Frame(receipt)]);
        }
    }
    let odd = b"MESSAGE\nack:1\na\xff:\\t\\n\\\n\n\0";
    let items = decode_all(&mut Decoder::lenient(limits), &mut BytesMut::from(&odd[..])).unwrap();
    let [Item::Frame(frame)] = &items[..] else { panic!("{items:?}") };
    assert_eq!(frame.headers.get("a\u{fffd}"), Some("\\t\n\\"));
}
