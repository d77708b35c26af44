//! The control endpoint: USB 2.0 chapter 9.4 and USB 3.2 chapter 9.4, and the class requests that serial drivers send
//! to these modules. Everything else stalls, as on real ones.

use std::collections::{BTreeMap, BTreeSet};

use super::super::descriptors::Face;
use super::descriptors as bytes;
use crate::hardware::{EndpointKind, Interface, Speed};

const GET_STATUS: u8 = 0;
const CLEAR_FEATURE: u8 = 1;
const SET_FEATURE: u8 = 3;
const SET_ADDRESS: u8 = 5;
const GET_DESCRIPTOR: u8 = 6;
const GET_CONFIGURATION: u8 = 8;
const SET_CONFIGURATION: u8 = 9;
const GET_INTERFACE: u8 = 10;
const SET_INTERFACE: u8 = 11;
const SET_SEL: u8 = 48;
const SET_ISOCH_DELAY: u8 = 49;

const FEATURE_ENDPOINT_HALT: u16 = 0;
const FEATURE_FUNCTION_SUSPEND: u16 = 0;
const FEATURE_REMOTE_WAKEUP: u16 = 1;
/// U1, U2 and latency tolerance messages, of SuperSpeed devices.
const FEATURES_SUPER: [u16; 3] = [48, 49, 50];

/// CDC PSTN 1.2, table 13; Linux' `option` and `qmi_wwan` send the last one to modules of vendor class too.
const SET_LINE_CODING: u8 = 0x20;
const GET_LINE_CODING: u8 = 0x21;
const SET_CONTROL_LINE_STATE: u8 = 0x22;
/// CDC 1.2, table 19: how QMI messages go out. Nobody answers them here.
const SEND_ENCAPSULATED_COMMAND: u8 = 0x00;
const GET_ENCAPSULATED_RESPONSE: u8 = 0x01;
/// 115200 8N1.
const LINE_CODING: [u8; 7] = [0x00, 0xc2, 0x01, 0x00, 0, 0, 8];

/// Direction and recipient in `bmRequestType`.
const IN: u8 = 0x80;
const STANDARD_DEVICE: u8 = 0x00;
const STANDARD_INTERFACE: u8 = 0x01;
const STANDARD_ENDPOINT: u8 = 0x02;
const CLASS_INTERFACE: u8 = 0x21;

/// A setup packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::sim) struct Setup {
    /// `bmRequestType`.
    pub(in crate::sim) request_type: u8,
    /// `bRequest`.
    pub(in crate::sim) request: u8,
    /// `wValue`.
    pub(in crate::sim) value: u16,
    /// `wIndex`.
    pub(in crate::sim) index: u16,
    /// `wLength`.
    pub(in crate::sim) length: u16,
}

impl Setup {
    /// Out of its eight bytes.
    pub(in crate::sim) fn parse(bytes: [u8; 8]) -> Self {
        let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        Self { request_type: bytes[0], request: bytes[1], value: word(2), index: word(4), length: word(6) }
    }

    /// Whether the device sends the data.
    pub(in crate::sim) const fn is_in(self) -> bool {
        self.request_type & IN != 0
    }
}

/// The device refused the request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stall;

/// The control endpoint's state.
#[derive(Debug)]
pub(super) struct Control {
    face: Face,
    speed: Speed,
    configuration: u8,
    remote_wakeup: bool,
    halted: BTreeSet<u8>,
    line_codings: BTreeMap<u8, [u8; 7]>,
}

impl Control {
    /// A device that is configured already, as an exporting host has it.
    pub(super) fn new(face: Face, speed: Speed) -> Self {
        Self {
            face,
            speed,
            configuration: bytes::CONFIGURATION,
            remote_wakeup: false,
            halted: BTreeSet::new(),
            line_codings: BTreeMap::new(),
        }
    }

    /// Whether transfers of an endpoint stall, or there is no such endpoint now.
    pub(super) fn is_halted(&self, address: u8) -> bool {
        self.configuration == 0 || self.halted.contains(&address)
    }

    /// Answers a request: the data of an IN request, not longer than asked for.
    pub(super) fn handle(&mut self, setup: Setup, data: &[u8]) -> Result<Vec<u8>, Stall> {
        if !setup.is_in() && data.len() != usize::from(setup.length) {
            return Err(Stall);
        }
        let mut answer = match setup.request_type & !IN {
            STANDARD_DEVICE => self.device(setup)?,
            STANDARD_INTERFACE => self.interface(setup)?,
            STANDARD_ENDPOINT => self.endpoint(setup)?,
            CLASS_INTERFACE => self.class(setup, data)?,
            _ => return Err(Stall),
        };
        answer.truncate(usize::from(setup.length));
        Ok(answer)
    }

    fn device(&mut self, setup: Setup) -> Result<Vec<u8>, Stall> {
        let is_super = self.speed == Speed::Super;
        match (setup.is_in(), setup.request) {
            (true, GET_STATUS) => Ok(vec![u8::from(self.remote_wakeup) << 1, 0]),
            (true, GET_DESCRIPTOR) => self.descriptor(setup.value),
            (true, GET_CONFIGURATION) => Ok(vec![self.configuration]),
            (false, SET_CONFIGURATION) => match u8::try_from(setup.value) {
                Ok(value) if value <= bytes::CONFIGURATION => {
                    self.configuration = value;
                    self.halted.clear();
                    Ok(Vec::new())
                }
                _ => Err(Stall),
            },
            // The host controller in between gives addresses; a client that asks all the same is not contradicted.
            (false, SET_ADDRESS) if setup.value < 128 => Ok(Vec::new()),
            (false, SET_FEATURE | CLEAR_FEATURE) if setup.value == FEATURE_REMOTE_WAKEUP && self.face.remote_wakeup => {
                self.remote_wakeup = setup.request == SET_FEATURE;
                Ok(Vec::new())
            }
            (false, SET_FEATURE | CLEAR_FEATURE) if is_super && FEATURES_SUPER.contains(&setup.value) => Ok(Vec::new()),
            (false, SET_SEL) if is_super && setup.length == 6 => Ok(Vec::new()),
            (false, SET_ISOCH_DELAY) if is_super && setup.length == 0 => Ok(Vec::new()),
            _ => Err(Stall),
        }
    }

    fn descriptor(&self, value: u16) -> Result<Vec<u8>, Stall> {
        let [index, kind] = value.to_le_bytes();
        let found = match (kind, index) {
            (bytes::TYPE_DEVICE, 0) => Some(bytes::device(&self.face, self.speed)),
            (bytes::TYPE_CONFIGURATION, 0) => Some(bytes::configuration(&self.face, self.speed)),
            (bytes::TYPE_STRING, index) => bytes::string(&self.face, index),
            (bytes::TYPE_QUALIFIER, 0) => bytes::qualifier(&self.face, self.speed),
            (bytes::TYPE_OTHER_SPEED, 0) => bytes::other_speed(&self.face, self.speed),
            (bytes::TYPE_BOS, 0) => bytes::bos(&self.face),
            _ => None,
        };
        found.ok_or(Stall)
    }

    fn find(&self, index: u16) -> Result<&Interface, Stall> {
        let number = index.to_le_bytes()[0];
        let configured = self.configuration != 0;
        self.face.interfaces.iter().find(|interface| configured && interface.number == number).ok_or(Stall)
    }

    fn interface(&mut self, setup: Setup) -> Result<Vec<u8>, Stall> {
        let found = self.find(setup.index)?;
        match (setup.is_in(), setup.request) {
            (true, GET_STATUS) => Ok(vec![0, 0]),
            (true, GET_INTERFACE) => Ok(vec![0]),
            (false, SET_INTERFACE) if setup.value == 0 => {
                let addresses: Vec<u8> = found.endpoints.iter().map(|end| end.address).collect();
                self.halted.retain(|address| !addresses.contains(address));
                Ok(Vec::new())
            }
            (false, SET_FEATURE | CLEAR_FEATURE)
                if self.speed == Speed::Super && setup.value == FEATURE_FUNCTION_SUSPEND =>
            {
                Ok(Vec::new())
            }
            _ => Err(Stall),
        }
    }

    fn endpoint(&mut self, setup: Setup) -> Result<Vec<u8>, Stall> {
        let address = setup.index.to_le_bytes()[0];
        let is_control = address & 0x7f == 0;
        let exists = self.face.interfaces.iter().flat_map(|found| &found.endpoints).any(|end| end.address == address);
        if !is_control && (!exists || self.configuration == 0) {
            return Err(Stall);
        }
        match (setup.is_in(), setup.request, setup.value) {
            (true, GET_STATUS, _) => Ok(vec![u8::from(self.halted.contains(&address)), 0]),
            (false, CLEAR_FEATURE, FEATURE_ENDPOINT_HALT) => {
                self.halted.remove(&address);
                Ok(Vec::new())
            }
            (false, SET_FEATURE, FEATURE_ENDPOINT_HALT) if !is_control => {
                self.halted.insert(address);
                Ok(Vec::new())
            }
            _ => Err(Stall),
        }
    }

    /// Class requests of serial ports and of the network interface. The boot ROM and the dump have none.
    fn class(&mut self, setup: Setup, data: &[u8]) -> Result<Vec<u8>, Stall> {
        let found = self.find(setup.index)?;
        let number = found.number;
        let has_notices = found.endpoints.iter().any(|end| end.kind == EndpointKind::Interrupt);
        if self.face.interfaces.len() < 2 {
            return Err(Stall);
        }
        match (setup.is_in(), setup.request) {
            (false, SET_CONTROL_LINE_STATE) if setup.length == 0 => Ok(Vec::new()),
            (false, SET_LINE_CODING) => {
                self.line_codings.insert(number, data.try_into().map_err(|_| Stall)?);
                Ok(Vec::new())
            }
            (true, GET_LINE_CODING) => Ok(self.line_codings.get(&number).unwrap_or(&LINE_CODING).to_vec()),
            (false, SEND_ENCAPSULATED_COMMAND) if has_notices => Ok(Vec::new()),
            (true, GET_ENCAPSULATED_RESPONSE) if has_notices => Ok(Vec::new()),
            _ => Err(Stall),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::models::Model;
    use super::*;

    fn control(name: &str, speed: Speed) -> Control {
        let model = Model::by_name(name).expect("a model");
        Control::new(Face::normal(model, model.chip_id(9)), speed)
    }

    fn ask(control: &mut Control, bytes: [u8; 8], data: &[u8]) -> Result<Vec<u8>, Stall> {
        control.handle(Setup::parse(bytes), data)
    }

    #[test]
    fn descriptors_are_cut_to_what_was_asked_for() {
        let mut control = control("EG25-G", Speed::High);
        assert_eq!(ask(&mut control, [0x80, 6, 0, 1, 0, 0, 8, 0], &[]).expect("eight bytes").len(), 8);
        assert_eq!(ask(&mut control, [0x80, 6, 0, 1, 0, 0, 64, 0], &[]).expect("the whole").len(), 18);
        assert_eq!(ask(&mut control, [0x80, 6, 0, 6, 0, 0, 10, 0], &[]).expect("a qualifier").len(), 10);
        assert_eq!(ask(&mut control, [0x80, 6, 0, 15, 0, 0, 5, 0], &[]), Err(Stall), "USB 2.0 has no BOS");
        assert_eq!(ask(&mut control, [0x80, 6, 9, 3, 9, 4, 255, 0], &[]), Err(Stall));
        let mut control = self::control("RM520N-GL", Speed::Super);
        assert_eq!(ask(&mut control, [0x80, 6, 0, 15, 0, 0, 255, 0], &[]).expect("a BOS").len(), 22);
        assert_eq!(ask(&mut control, [0x80, 6, 0, 6, 0, 0, 10, 0], &[]), Err(Stall), "SuperSpeed has no qualifier");
        assert_eq!(ask(&mut control, [0x00, 48, 0, 0, 0, 0, 6, 0], &[0; 6]), Ok(vec![]));
    }

    #[test]
    fn halts_configurations_and_lines_are_kept() {
        let mut control = control("EG25-G", Speed::High);
        assert_eq!(ask(&mut control, [0x02, 3, 0, 0, 0x81, 0, 0, 0], &[]), Ok(vec![]));
        assert!(control.is_halted(0x81) && !control.is_halted(0x01));
        assert_eq!(ask(&mut control, [0x82, 0, 0, 0, 0x81, 0, 2, 0], &[]), Ok(vec![1, 0]));
        assert_eq!(ask(&mut control, [0x02, 1, 0, 0, 0x81, 0, 0, 0], &[]), Ok(vec![]));
        assert!(!control.is_halted(0x81));
        assert_eq!(ask(&mut control, [0x02, 1, 0, 0, 0x8f, 0, 0, 0], &[]), Err(Stall));
        assert_eq!(ask(&mut control, [0x21, 0x22, 3, 0, 2, 0, 0, 0], &[]), Ok(vec![]));
        assert_eq!(ask(&mut control, [0x21, 0x22, 3, 0, 9, 0, 0, 0], &[]), Err(Stall), "no such interface");
        let coding = [0, 0x96, 0, 0, 0, 0, 8];
        assert_eq!(ask(&mut control, [0x21, 0x20, 0, 0, 2, 0, 7, 0], &coding), Ok(vec![]));
        assert_eq!(ask(&mut control, [0xa1, 0x21, 0, 0, 2, 0, 7, 0], &[]), Ok(coding.to_vec()));
        assert_eq!(ask(&mut control, [0x40, 1, 0, 0, 0, 0, 0, 0], &[]), Err(Stall), "vendor requests");
        assert_eq!(ask(&mut control, [0x00, 9, 0, 0, 0, 0, 0, 0], &[]), Ok(vec![]));
        assert!(control.is_halted(0x01), "without a configuration there are no endpoints");
        assert_eq!(ask(&mut control, [0x01, 11, 0, 0, 2, 0, 0, 0], &[]), Err(Stall));
        assert_eq!(ask(&mut control, [0x00, 9, 1, 0, 0, 0, 0, 0], &[]), Ok(vec![]));
        assert_eq!(ask(&mut control, [0x81, 10, 0, 0, 2, 0, 1, 0], &[]), Ok(vec![0]));
    }

    proptest::proptest! {
        #[test]
        fn no_request_panics_or_answers_too_much(
            bytes in proptest::array::uniform8(0_u8..),
            data in proptest::collection::vec(0_u8.., 0..40),
            fast in proptest::bool::ANY,
        ) {
            let mut control = if fast { control("RM520N-GL", Speed::Super) } else { control("EC25", Speed::High) };
            let setup = Setup::parse(bytes);
            if let Ok(answer) = control.handle(setup, &data) {
                proptest::prop_assert!(answer.len() <= usize::from(setup.length));
                proptest::prop_assert!(setup.is_in() || answer.is_empty());
            }
        }
    }
}
