//! Every bound of the product, named with its unit.
//!
//! Everything from a device, a package, a file or a browser is hostile until it has passed one of these.

use std::time::Duration;

/// Longest station or batch name, in characters.
pub const NAME_CHARS_MAX: usize = 64;
/// Longest slot name, in characters.
pub const SLOT_NAME_CHARS_MAX: usize = 12;
/// Most slots of one station.
pub const SLOTS_MAX: usize = 256;
/// Most hubs below a root port (USB 2.0, 4.1.1) plus the port of the root hub.
pub const PORT_CHAIN_DEPTH_MAX: usize = 7;

/// Longest text taken from a device into a record, in characters.
pub const DEVICE_TEXT_CHARS_MAX: usize = 128;
/// Most measurements of one run.
pub const MEASUREMENTS_MAX: usize = 64;

/// Longest line of an AT reply, in bytes.
pub const AT_LINE_BYTES_MAX: usize = 8 * 1024;
/// Most bytes of one AT reply, URCs and noise included.
pub const AT_REPLY_BYTES_MAX: usize = 256 * 1024;
/// Most lines of one AT reply.
pub const AT_REPLY_LINES_MAX: usize = 256;
/// Most unsolicited lines kept while waiting for one reply.
pub const AT_URCS_MAX: usize = 64;

/// Longest DIAG frame, in bytes before escaping.
pub const DIAG_FRAME_BYTES_MAX: usize = 4 * 1024;

/// Longest Sahara packet that is not image data, in bytes.
pub const SAHARA_PACKET_BYTES_MAX: usize = 4 * 1024;
/// Most bytes that one Sahara read may ask for.
pub const SAHARA_READ_BYTES_MAX: u64 = 1024 * 1024;
/// Most Sahara reads for one image.
pub const SAHARA_READS_MAX: u32 = 65_536;
/// Most bytes sent for one image, as a multiple of its size: loaders ask for headers twice, a looping one for ever.
pub const SAHARA_RESEND_FACTOR_MAX: u64 = 4;
/// Most bytes of the answer to one Sahara command.
pub const SAHARA_EXEC_BYTES_MAX: u32 = 4 * 1024;

/// Longest XML document from a programmer, in bytes.
pub const FIREHOSE_DOCUMENT_BYTES_MAX: usize = 64 * 1024;
/// Most attributes of one element.
pub const FIREHOSE_ATTRIBUTES_MAX: usize = 64;
/// Most log lines for one command.
pub const FIREHOSE_LOG_LINES_MAX: u32 = 20_000;
/// Most bytes of logs for one command.
pub const FIREHOSE_LOG_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Log lines of one command that are kept for the record.
pub const FIREHOSE_LOG_LINES_KEPT: usize = 16;
/// Longest XML document to a programmer, in bytes (`MaxXMLSizeInBytes` of real loaders).
pub const FIREHOSE_COMMAND_BYTES_MAX: usize = 4096;
/// Largest payload ever negotiated, in bytes.
pub const FIREHOSE_PAYLOAD_BYTES_MAX: u32 = 1024 * 1024;

/// Most bytes of a package's XML or check list.
pub const PACKAGE_TEXT_BYTES_MAX: u64 = 1024 * 1024;
/// Most bytes of one image.
pub const PACKAGE_IMAGE_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// Most files of a package.
pub const PACKAGE_FILES_MAX: usize = 4096;
/// Most operations of a package.
pub const PACKAGE_OPERATIONS_MAX: usize = 1024;
/// Most partitions of a partition table.
pub const PARTITIONS_MAX: usize = 64;
/// Most bytes of one backup.
pub const BACKUP_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// Most bytes of a configuration file.
pub const CONFIG_BYTES_MAX: u64 = 1024 * 1024;
/// Most nodes of a configuration file.
pub const CONFIG_NODES_MAX: usize = 50_000;
/// Deepest nesting of a configuration file.
pub const CONFIG_DEPTH_MAX: usize = 32;

/// Longest line of the ledger, in bytes.
pub const LEDGER_LINE_BYTES_MAX: usize = 256 * 1024;
/// A segment of the ledger is closed once it is longer than this, in bytes.
pub const LEDGER_SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
/// Facts that may wait for the ledger's writer.
pub const LEDGER_QUEUE_MAX: usize = 1024;

/// Bulk transfers in flight per slot, each way.
pub const TRANSFERS_IN_FLIGHT: usize = 4;
/// Length of an IN transfer while XML is expected, in bytes.
pub const XML_TRANSFER_BYTES: usize = 4096;

/// How often the bus is listed even if no event came.
pub const RECONCILE_INTERVAL: Duration = Duration::from_secs(1);
/// How long a slot must look empty before its module counts as removed.
pub const REMOVAL_DEBOUNCE: Duration = Duration::from_millis(1500);

/// HTTP connections at a time; further ones wait to be accepted.
pub const WEB_CONNECTIONS_MAX: usize = 64;
/// Most bytes of the head of an HTTP request.
pub const WEB_HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most header fields of an HTTP request.
pub const WEB_HEADERS_MAX: usize = 64;
/// How long a client may take for the head of a request, also while it keeps a connection without asking anything.
pub const WEB_HEAD_TIME_MAX: Duration = Duration::from_secs(5);
/// How long one HTTP connection may live.
pub const WEB_CONNECTION_TIME_MAX: Duration = Duration::from_secs(60);
/// How long answers under way may take once the station stops.
pub const WEB_STOP_TIME_MAX: Duration = Duration::from_secs(2);
