use proptest::prelude::*;

use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex")).collect()
}

/// As a client writes a command.
fn put_command(command: &Command, into: &mut Vec<u8>) {
    let words = |words: &[u32], into: &mut Vec<u8>| words.iter().for_each(|word| into.extend(word.to_be_bytes()));
    match command {
        Command::Unlink { seqnum, victim } => words(&[2, *seqnum, 0x0001_0002, 0, 0, *victim, 0, 0, 0, 0, 0, 0], into),
        Command::Submit(submit) => {
            let flags = u32::from(submit.short_not_ok) | u32::from(submit.zero_packet) << 6;
            let head = [1, submit.seqnum, 0x0001_0002, u32::from(submit.is_in), u32::from(submit.endpoint), flags];
            words(&head, into);
            words(&[submit.bytes_max, submit.frames.0, submit.frames.1, 4], into);
            into.extend(submit.setup);
            into.extend(&submit.data);
        }
    }
}

#[test]
fn the_capture_in_the_kernels_documentation_is_read_and_written() {
    let data = hex("ffffffff860008a784ce5ae2123763000000000000000000000000000000000000000000000000000000000000000000\
                    00000000000000000000000000000000");
    let mut buffer = BytesMut::new();
    buffer.extend(hex("00000001 00000d05 0001000f 00000001 00000001 00000200 00000040 ffffffff 00000000 00000004 \
                       00000000 00000000"));
    buffer.extend(hex("00000001 00000d06 0001000f 00000000 00000001 00000000 00000040 ffffffff 00000000 00000004 \
                       00000000 00000000"));
    buffer.extend(&data);
    let submit = |seqnum, is_in, data: &[u8]| {
        Command::Submit(Submit {
            seqnum,
            endpoint: 1,
            is_in,
            bytes_max: 64,
            data: data.to_vec(),
            setup: [0; 8],
            short_not_ok: false,
            zero_packet: false,
            frames: (u32::MAX, 0),
        })
    };
    assert_eq!(command(&mut buffer), Ok(Some(submit(0xd05, true, &[]))));
    assert_eq!(command(&mut buffer), Ok(Some(submit(0xd06, false, &data))));
    assert_eq!((command(&mut buffer), buffer.len()), (Ok(None), 0));
    let mut bytes = BytesMut::new();
    put_submitted(0xd06, 0, 64, (u32::MAX, 0), &[], &mut bytes);
    let written = "00000003 00000d06 00000000 00000000 00000000 00000000 00000040 ffffffff 00000000 00000000 00000000 \
                   00000000";
    assert_eq!(bytes, hex(written)[..]);
}

#[test]
fn requests_and_replies_lie_where_the_documentation_says() {
    let mut buffer = BytesMut::from(&hex("0111 8005 00000000")[..]);
    assert_eq!(request(&mut buffer), Ok(Some(Request::List)));
    let mut bytes = hex("0111 8003 00000000");
    bytes.extend(b"1-3");
    bytes.resize(40, 0);
    assert_eq!(bytes, import_request("1-3"));
    assert_eq!(request(&mut BytesMut::from(&bytes[..])), Ok(Some(Request::Import("1-3".to_owned()))));
    let device = DeviceInfo {
        path: "/stationmaster/A3/usb2".to_owned(),
        busid: "1-3".to_owned(),
        busnum: 1,
        devnum: 3,
        speed: SPEED_HIGH,
        vendor_id: 0x05c6,
        product_id: 0x9008,
        bcd_device: 0x0102,
        interfaces: vec![(0xff, 0xfe, 0x11)],
    };
    let list = list_reply(std::slice::from_ref(&device), 1);
    assert_eq!(list.len(), 0x148);
    assert_eq!(list[..12], hex("0111 0005 00000000 00000001"));
    assert_eq!(&list[0x0c..0x23], b"/stationmaster/A3/usb2\0");
    assert_eq!(&list[0x10c..0x110], b"1-3\0");
    assert_eq!(list[0x12c..], hex("00000001 00000003 00000003 05c6 9008 0102 00 00 00 01 01 01 ff fe 11 00"));
    let import = import_reply(Some(&device), 1);
    assert_eq!((import.len(), &import[..8]), (0x140, &hex("0111 0003 00000000")[..]));
    assert_eq!(import[0x128..], list[0x12c..0x144]);
    assert_eq!(import_reply(None, 1), hex("0111 0003 00000001"));
    assert_eq!(parse_import(&import_reply(None, 1)), Ok(Some(Imported::No(1))));
}

#[test]
fn what_cannot_be_served_is_refused_by_its_header() {
    let submit = |word: usize, value: u32| {
        let mut words = [1, 5, 0x0001_0001, 0, 1, 0, 8, 0, 0, 0, 0, 0];
        words[word] = value;
        let bytes: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_be_bytes()).collect();
        command(&mut BytesMut::from(&bytes[..]))
    };
    assert_eq!(submit(1, 5), Ok(None), "its eight bytes are missing");
    assert_eq!(submit(0, 9), Err(CodecError::Command(9)));
    assert_eq!(submit(4, 16), Err(CodecError::Endpoint(16)));
    assert_eq!(submit(6, 1 << 30), Err(CodecError::Length(1 << 30)));
    assert_eq!(submit(8, 3), Err(CodecError::Isochronous));
    assert_eq!(request(&mut BytesMut::from(&hex("0106 8005 00000000")[..])), Err(CodecError::Version(0x0106)));
    assert_eq!(request(&mut BytesMut::from(&hex("0111 0005 00000000")[..])), Err(CodecError::Code(5)));
    let mut long = hex("0111 8003 00000000");
    long.extend([b'1'; 32]);
    assert_eq!(request(&mut BytesMut::from(&long[..])), Err(CodecError::Text));
}

fn any_command() -> impl Strategy<Value = Command> {
    let submit = (any::<u32>(), 0_u8..16, any::<bool>(), prop::collection::vec(any::<u8>(), 0..200), any::<[u8; 8]>());
    let submit = (submit, any::<bool>(), any::<bool>(), 0..=limits::USBIP_TRANSFER_BYTES_MAX, any::<u32>());
    let submit =
        submit.prop_map(|((seqnum, endpoint, is_in, data, setup), short_not_ok, zero_packet, length, frame)| {
            let bytes_max = if is_in { length } else { u32::try_from(data.len()).expect("short") };
            let data = if is_in { Vec::new() } else { data };
            let frames = (frame, if frame % 2 == 0 { 0 } else { u32::MAX });
            Command::Submit(Submit {
                seqnum,
                endpoint,
                is_in,
                bytes_max,
                data,
                setup,
                short_not_ok,
                zero_packet,
                frames,
            })
        });
    let unlink = (any::<u32>(), any::<u32>()).prop_map(|(seqnum, victim)| Command::Unlink { seqnum, victim });
    prop_oneof![3 => submit, 1 => unlink]
}

fn any_device() -> impl Strategy<Value = DeviceInfo> {
    let texts = ("[ -~]{0,255}", "[!-~]{1,31}");
    let numbers = (any::<u32>(), any::<u32>(), any::<u32>(), any::<[u16; 3]>());
    (texts, numbers, prop::collection::vec(any::<(u8, u8, u8)>(), 0..8)).prop_map(
        |((path, busid), (busnum, devnum, speed, ids), interfaces)| DeviceInfo {
            path,
            busid,
            busnum,
            devnum,
            speed,
            vendor_id: ids[0],
            product_id: ids[1],
            bcd_device: ids[2],
            interfaces,
        },
    )
}

proptest! {
    #[test]
    fn commands_survive_any_split(
        commands in prop::collection::vec(any_command(), 1..6),
        pieces in prop::collection::vec(1_usize..90, 1..20),
    ) {
        let mut bytes = Vec::new();
        commands.iter().for_each(|command| put_command(command, &mut bytes));
        let mut buffer = BytesMut::new();
        let mut found = Vec::new();
        let mut rest = &bytes[..];
        let mut turn = pieces.iter().cycle();
        while !rest.is_empty() {
            let (piece, later) = rest.split_at((*turn.next().expect("endless")).min(rest.len()));
            buffer.extend_from_slice(piece);
            rest = later;
            while let Some(command) = command(&mut buffer).expect("valid") {
                found.push(command);
            }
        }
        prop_assert_eq!(found, commands);
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn no_input_panics_or_asks_for_more_than_a_transfer(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut buffer = BytesMut::from(&bytes[..]);
        while let Ok(Some(_)) = command(&mut buffer) {}
        let most = limits::USBIP_TRANSFER_BYTES_MAX as usize;
        prop_assert!(buffer.capacity() < 2 * most + HEADER_BYTES);
        let mut buffer = BytesMut::from(&bytes[..]);
        while let Ok(Some(_)) = request(&mut buffer) {}
        let _ = (parse_list(&bytes), parse_import(&bytes));
    }

    #[test]
    fn lists_and_imports_are_read_as_they_were_written(
        devices in prop::collection::vec(any_device(), 0..4),
        cut in 0_usize..1000,
    ) {
        let bytes = list_reply(&devices, 1);
        prop_assert_eq!(parse_list(&bytes), Ok(Some(devices.clone())));
        prop_assert_eq!(parse_list(&bytes[..cut.min(bytes.len() - 1)]), Ok(None));
        for device in devices {
            let bytes = import_reply(Some(&device), 1);
            let expected = DeviceInfo { interfaces: Vec::new(), ..device };
            prop_assert_eq!(import_reply_bytes(&bytes[..8]), Ok(Some(bytes.len())));
            prop_assert_eq!(parse_import(&bytes), Ok(Some(Imported::Yes(expected))));
            prop_assert_eq!(parse_import(&bytes[..cut.min(bytes.len() - 1)]), Ok(None));
        }
    }
}
