//! Where a device is plugged: the port chain.

use std::fmt;
use std::str::FromStr;

use super::imei::serde_as_text;
use super::limits;

/// Which root hub of a controller a chain begins at. A USB 3 connector is two ports, one on each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Side {
    /// Low, full and high speed.
    Usb2,
    /// SuperSpeed and above.
    Usb3,
}

/// The position of a device: controller, side of its root hub, and the port numbers from there.
///
/// Bus numbers are no part of it, because they change between boots; a device's address or serial is none either,
/// because a module in download mode often has neither a serial nor a unique one. Written
/// `pci-0000:00:14.0/usb2/1.4`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PortChain {
    controller: String,
    side: Side,
    ports: Vec<u8>,
}

/// Why a text is not a port chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortChainError {
    /// Not `CONTROLLER/usb2|usb3/PORTS`.
    #[error("a port chain is CONTROLLER/usb2/1.4 or CONTROLLER/usb3/1.4")]
    Form,
    /// The controller's name has characters that no device path has.
    #[error("a controller path has 1 to {} letters, digits, `:`, `.`, `_`, `-`", limits::NAME_CHARS_MAX)]
    Controller,
    /// A port is not 1 to 255, or there are too many.
    #[error("port numbers are 1 to 255, at most {} of them", limits::PORT_CHAIN_DEPTH_MAX)]
    Ports,
}

impl PortChain {
    /// A chain from its parts.
    ///
    /// # Errors
    /// When a part is out of its bounds.
    pub fn new(controller: &str, side: Side, ports: &[u8]) -> Result<Self, PortChainError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || ":._-".contains(c);
        if controller.is_empty() || controller.len() > limits::NAME_CHARS_MAX || !controller.chars().all(plain) {
            return Err(PortChainError::Controller);
        }
        if ports.is_empty() || ports.len() > limits::PORT_CHAIN_DEPTH_MAX || ports.contains(&0) {
            return Err(PortChainError::Ports);
        }
        Ok(Self { controller: controller.to_owned(), side, ports: ports.to_vec() })
    }

    /// The controller's device path.
    #[must_use]
    pub fn controller(&self) -> &str {
        &self.controller
    }

    /// The side of the root hub.
    #[must_use]
    pub const fn side(&self) -> Side {
        self.side
    }

    /// The port numbers from the root hub on; never empty.
    #[must_use]
    pub fn ports(&self) -> &[u8] {
        &self.ports
    }

    /// The chain of the hub that this port belongs to; `None` for a port of the root hub.
    #[must_use]
    pub fn hub(&self) -> Option<Self> {
        let (_, upper) = self.ports.split_last()?;
        Self::new(&self.controller, self.side, upper).ok()
    }

    /// The chain's port on the root hub: everything behind it shares one bus's bandwidth.
    #[must_use]
    pub fn root_port(&self) -> Self {
        Self { controller: self.controller.clone(), side: self.side, ports: self.ports[..1].to_vec() }
    }

    /// Whether this is `other` or lies behind it.
    #[must_use]
    pub fn is_at_or_behind(&self, other: &Self) -> bool {
        self.controller == other.controller && self.side == other.side && self.ports.starts_with(&other.ports)
    }
}

impl fmt::Display for PortChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            Side::Usb2 => "usb2",
            Side::Usb3 => "usb3",
        };
        let ports: Vec<String> = self.ports.iter().map(u8::to_string).collect();
        f.pad(&format!("{}/{side}/{}", self.controller, ports.join(".")))
    }
}

impl FromStr for PortChain {
    type Err = PortChainError;

    fn from_str(text: &str) -> Result<Self, PortChainError> {
        let mut parts = text.split('/');
        let (Some(controller), Some(side), Some(ports), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(PortChainError::Form);
        };
        let side = match side {
            "usb2" => Side::Usb2,
            "usb3" => Side::Usb3,
            _ => return Err(PortChainError::Form),
        };
        let ports: Result<Vec<u8>, _> = ports.split('.').map(str::parse).collect();
        Self::new(controller, side, &ports.map_err(|_| PortChainError::Ports)?)
    }
}

serde_as_text!(PortChain);

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_round_trip_and_know_their_hub() {
        let chain: PortChain = "pci-0000:00:14.0/usb2/1.4.2".parse().expect("valid");
        assert_eq!(chain.to_string(), "pci-0000:00:14.0/usb2/1.4.2");
        assert_eq!(chain.hub().expect("behind a hub").to_string(), "pci-0000:00:14.0/usb2/1.4");
        assert_eq!(chain.root_port().to_string(), "pci-0000:00:14.0/usb2/1");
        assert_eq!(chain.root_port().hub(), None);
        assert!(chain.is_at_or_behind(&chain.root_port()));
        assert!(!chain.root_port().is_at_or_behind(&chain));
        for bad in ["", "a/usb2", "a/usb4/1", "a/usb2/0", "a/usb2/1.2.3.4.5.6.7.8", "a/usb2/256", "a b/usb2/1"] {
            assert!(bad.parse::<PortChain>().is_err(), "{bad:?}");
        }
    }
}
