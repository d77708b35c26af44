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

/// Longest AT command that a profile may send, in characters.
pub const AT_COMMAND_CHARS_MAX: usize = 256;
/// Highest band number that a reply may name.
pub const BAND_NUMBER_MAX: u16 = 1024;
/// Longest value of an item read over AT, in bytes.
pub const AT_ITEM_BYTES_MAX: usize = 4 * 1024;

/// Longest DIAG frame, in bytes before escaping.
pub const DIAG_FRAME_BYTES_MAX: usize = 16 * 1024;
/// Longest path in a module's file system, in bytes without the NUL.
pub const EFS_PATH_BYTES_MAX: usize = 250;
/// Longest name in a directory of it, in bytes.
pub const EFS_NAME_BYTES_MAX: usize = 250;
/// Most bytes that one request reads from, or writes to, a file of it.
pub const EFS_TRANSFER_BYTES_MAX: u32 = 1024;
/// Longest item file that is read, in bytes.
pub const EFS_ITEM_BYTES_MAX: usize = 8 * 1024;
/// Longest item file that one request can write, in bytes.
pub const EFS_PUT_BYTES_MAX: usize = 3 * 1024;

/// Longest ordinary file that is read from it, in bytes.
pub const EFS_FILE_BYTES_MAX: u32 = 4 * 1024 * 1024;
/// Most entries of one directory of it.
pub const EFS_DIRECTORY_ENTRIES_MAX: u32 = 8192;
/// Most entries of its whole tree.
pub const EFS_TREE_ENTRIES_MAX: usize = 32_768;
/// Deepest nesting of its directories.
pub const EFS_DEPTH_MAX: usize = 24;
/// Handles of files and directories that an earlier conversation may have left open on a module, each.
pub const EFS_STALE_HANDLES_MAX: i32 = 8;

/// Changes of NV items and files after which a module's journal is synchronised: less than the 150 that journals of real
/// modules have room for.
pub const EFS_CHANGES_PER_SYNC_MAX: u32 = 100;

/// Most bytes of an XQCN file.
pub const XQCN_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most storages and streams of one.
pub const XQCN_STREAMS_MAX: usize = 100_000;
/// Deepest nesting of its storages.
pub const XQCN_DEPTH_MAX: usize = 8;
/// Most bytes of all files of a module that are kept in one: each takes three characters.
pub const XQCN_CONTENT_BYTES_MAX: usize = XQCN_BYTES_MAX / 4;
/// Most items and files that a module may refuse to give out, or to take back, before it is given up.
pub const XQCN_REFUSALS_MAX: usize = 256;
/// Most streams of one that are not understood.
pub const XQCN_UNKNOWN_MAX: usize = 64;

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
/// Most bytes that may wait to be looked at by the Sahara machine.
pub const SAHARA_UNREAD_BYTES_MAX: usize = 64 * 1024;
/// Most tries to make a silent device say hello, and most resets of one that is in the middle of an older session.
pub const SAHARA_RECOVERIES_MAX: u32 = 3;
/// Most packets of an older session that are passed over while an answer to a reset is awaited.
pub const SAHARA_STALE_PACKETS_MAX: u32 = 64;

/// Longest XML document from a programmer, in bytes.
pub const FIREHOSE_DOCUMENT_BYTES_MAX: usize = 64 * 1024;
/// Least bytes per second that a programmer takes or gives, over a whole image or read. The slowest seen move a hundred
/// times as many; a slot, a permit and the time of its root port are not held for less.
pub const FIREHOSE_BYTES_PER_SECOND_MIN: u64 = 16 * 1024;
/// Reads of single blocks that a programmer may refuse before the rest is not asked for.
pub const FIREHOSE_REFUSED_READS_MAX: u32 = 32;
/// Most attributes of one element.
pub const FIREHOSE_ATTRIBUTES_MAX: usize = 64;
/// Longest value of an attribute from a programmer, in characters; what is longer is cut.
pub const FIREHOSE_ATTRIBUTE_CHARS_MAX: usize = 256;
/// Deepest nesting of a document from a programmer.
pub const FIREHOSE_DEPTH_MAX: usize = 8;
/// Longest log line from a programmer, in characters; what is longer is cut. Real programmers stay below 1 KiB.
pub const FIREHOSE_LOG_CHARS_MAX: usize = 2048;
/// Most functions that a programmer's banner may name.
pub const FIREHOSE_FUNCTIONS_MAX: usize = 64;
/// Most log lines for one command.
pub const FIREHOSE_LOG_LINES_MAX: u32 = 20_000;
/// Most bytes of logs for one command.
pub const FIREHOSE_LOG_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most IN transfers of a module in download mode that wait to be read while something is sent to it.
pub const EDL_UNREAD_TRANSFERS_MAX: usize = 4096;
/// Most bytes of them.
pub const EDL_UNREAD_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Log lines of one command that are kept for the record.
pub const FIREHOSE_LOG_LINES_KEPT: usize = 16;
/// Log lines that name a bad block and are kept for one session.
pub const BAD_BLOCK_LINES_MAX: usize = 1024;
/// Most bad blocks of a storage that are known by number. The largest NAND of the families has 4096 blocks, of which a
/// maker guarantees 98 of 100.
pub const BAD_BLOCKS_MAX: usize = 1024;
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
/// Deepest nesting of a package's directories.
pub const PACKAGE_DEPTH_MAX: usize = 8;
/// Longest path of a file inside a package, in bytes.
pub const PACKAGE_PATH_BYTES_MAX: usize = 512;
/// Most attributes of one element of a package's XML.
pub const PACKAGE_ATTRIBUTES_MAX: usize = 32;
/// Longest element of a package's XML, in bytes: what is passed on must fit into one command to the programmer.
pub const PACKAGE_ELEMENT_BYTES_MAX: usize = 2048;
/// Most bytes of a package that are hashed in one piece.
pub const PACKAGE_READ_BYTES: usize = 1024 * 1024;
/// Smallest and largest page of a NAND, in bytes.
pub const PAGE_BYTES: std::ops::RangeInclusive<u32> = 512..=16_384;
/// Fewest and most pages of an erase block.
pub const PAGES_PER_BLOCK: std::ops::RangeInclusive<u32> = 16..=512;
/// Most partitions of a partition table.
pub const PARTITIONS_MAX: usize = 64;
/// Most bytes of the partition that holds a partition table, and so of a read that a trace takes for one.
pub const TABLE_PARTITION_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Most bytes of one backup.
pub const BACKUP_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Most bytes of the index at the end of a backup in the first form.
pub const BACKUP_INDEX_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Most bytes of the label that says outside of its content when and why a backup was taken.
pub const BACKUP_LABEL_BYTES_MAX: u32 = 16 * 1024;
/// Most bytes of the head of a sealed file, which names its recipients.
pub const SEAL_HEAD_BYTES_MAX: u64 = 16 * 1024;
/// Most keys that a backup is sealed to.
pub const SEAL_RECIPIENTS_MAX: usize = 32;
/// Most bytes of one record of a backup's content that is not pages.
pub const BACKUP_RECORD_BYTES_MAX: u32 = 256 * 1024;
/// Most backups of one chip.
pub const BACKUPS_OF_CHIP_MAX: usize = 10_000;
/// A file system of an EFS in use has at least so many pages that are not blank; a skeleton has fewer.
pub const EFS_USED_PAGES_MIN: u64 = 8;

/// Most bytes of a configuration file.
pub const CONFIG_BYTES_MAX: u64 = 1024 * 1024;
/// Most nodes of a configuration file.
pub const CONFIG_NODES_MAX: usize = 50_000;
/// Deepest nesting of a configuration file.
pub const CONFIG_DEPTH_MAX: usize = 32;

/// Errors of one configuration that are collected and shown.
pub const CONFIG_ERRORS_MAX: usize = 100;
/// Longest path in a configuration, in characters.
pub const CONFIG_PATH_CHARS_MAX: usize = 1024;
/// Most profiles of one station.
pub const PROFILES_MAX: usize = 32;
/// Most models of one profile.
pub const MODELS_MAX: usize = 16;
/// Most entries of a profile's lists of revisions, hardware ids, key hashes and TACs.
pub const PATTERNS_MAX: usize = 64;
/// Longest revision or pattern for one, in characters.
pub const PATTERN_CHARS_MAX: usize = 128;
/// Most further AT queries of one profile.
pub const QUERIES_MAX: usize = 16;
/// Longest regular expression of such a query, in characters.
pub const QUERY_PATTERN_CHARS_MAX: usize = 512;
/// Most bytes that a compiled regular expression may take.
pub const QUERY_PATTERN_BYTES_MAX: usize = 256 * 1024;
/// Longest unit of a measurement, in characters.
pub const UNIT_CHARS_MAX: usize = 16;
/// Most bands of one required set.
pub const BANDS_MAX: usize = 128;
/// Most NV items and paths that a profile requires of a backup, each.
pub const MANIFEST_ENTRIES_MAX: usize = 256;
/// Highest LTE band (3GPP TS 36.331, FreqBandIndicator-v9e0).
pub const LTE_BAND_MAX: u16 = 256;
/// Highest NR band (3GPP TS 38.331, FreqBandIndicatorNR).
pub const NR_BAND_MAX: u16 = 1024;
/// Most kinds of simulated modules.
pub const SIM_UNIT_KINDS_MAX: usize = 64;
/// Most injected faults of one station.
pub const SIM_FAULTS_MAX: usize = 256;
/// Highest number of a simulated unit that a fault can name.
pub const SIM_UNITS_MAX: i64 = 1_000_000;

/// Longest line of the ledger, in bytes.
pub const LEDGER_LINE_BYTES_MAX: usize = 256 * 1024;
/// A segment of the ledger is closed once it is longer than this, in bytes.
pub const LEDGER_SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
/// Bytes of lines that the ledger's writer makes durable with one fsync before it looks for more.
pub const LEDGER_GROUP_BYTES: usize = 1024 * 1024;
/// A file of the ledger longer than this, in bytes, was not written by the controller.
pub const LEDGER_SEGMENT_BYTES_MAX: u64 = 4 * LEDGER_SEGMENT_BYTES;
/// Room that is kept on the disk so that runs under way can be recorded when it is full, in bytes: a hundred records of
/// finished runs.
pub const LEDGER_RESERVE_BYTES: u64 = 1024 * 1024;
/// Newest entries of the ledger that are kept in memory for those who follow it.
pub const LEDGER_ENTRIES_KEPT: usize = 1024;
/// Most entries given out by one read of the ledger.
pub const LEDGER_READ_ENTRIES_MAX: usize = 4096;
/// Facts that may wait for the ledger's writer.
pub const LEDGER_QUEUE_MAX: usize = 1024;

/// Most entries of one directory of sysfs that are looked at.
pub const USB_ENTRIES_MAX: usize = 8192;
/// Most bytes of one attribute of a USB device.
pub const USB_ATTRIBUTE_BYTES_MAX: u64 = 4096;
/// Most bytes of a device's descriptors.
pub const USB_DESCRIPTOR_BYTES_MAX: u64 = 64 * 1024;
/// Most interfaces of a device; the kernel itself takes no more (`USB_MAXINTERFACES`).
pub const USB_INTERFACES_MAX: usize = 32;
/// Most endpoints of an interface: 15 each way (USB 2.0, 9.6.6).
pub const USB_ENDPOINTS_MAX: usize = 30;
/// Longest bulk transfer, in bytes.
pub const USB_TRANSFER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most transfers of one pipe that are in flight, each way.
pub const USB_TRANSFERS_MAX: usize = 64;
/// Most bytes of the trace of one run; at the bound the trace says so and stops.
pub const TRACE_RUN_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Longest line of a trace, in bytes. What does not fit counts as a line that was lost.
pub const TRACE_LINE_BYTES_MAX: usize = 512 * 1024;
/// Most bytes of the file with what the trace of one run leaves out, compressed.
pub const TRACE_PAYLOAD_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Most bytes of payload of one transfer, before compression.
pub const TRACE_PAYLOAD_TRANSFER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Events that may wait for the writer of traces; further ones are lost, and the trace says how many.
pub const TRACE_QUEUE_EVENTS: usize = 8192;
/// Bytes of payload that may wait with them.
pub const TRACE_QUEUE_BYTES: usize = 32 * 1024 * 1024;
/// Bytes of events of one slot that are kept until it is known to which run they belong.
pub const TRACE_PENDING_BYTES: usize = 1024 * 1024;
/// A module that was away for so long begins a new trace; a restart is over by then.
pub const TRACE_ABSENCE_MAX: Duration = Duration::from_secs(180);
/// How long a replay goes on in virtual time after the trace has ended: longer than anything the controller waits for.
pub const TRACE_REPLAY_EXTRA: Duration = Duration::from_secs(2 * 3600);
/// Places in which one trace may ask for the same stretch of a page of an image.
pub const TRACE_STRETCHES_MAX: usize = 64;
/// Pages with something in them that stood in, of which a replay remembers that it has given them out.
pub const TRACE_GIVEN_PAGES_MAX: usize = 64 * 1024;

/// Length of an IN transfer in download mode, in bytes: a multiple of every packet size, and of every payload of a NAND
/// programmer.
pub const EDL_IN_TRANSFER_BYTES: usize = 16 * 1024;
/// Longest piece of a programmer's image that is sent in one transfer, in bytes.
pub const EDL_IMAGE_TRANSFER_BYTES: usize = 64 * 1024;
/// Bulk transfers in flight per slot, each way.
pub const TRANSFERS_IN_FLIGHT: usize = 4;

/// How long giving a backup back over DIAG and comparing it may take besides what depends on how much is in it.
pub const GIVE_BACK_TIME: Duration = Duration::from_secs(60);
/// NV items and files of a second that are written, synchronised and compared at the worst. Real modules answer within
/// 10 ms, and one of these takes two to six answers: a port that is slower than this is none to give anything back over.
pub const GIVE_BACK_PER_SECOND_MIN: u32 = 2;
/// Bytes of a second that are written and compared at the worst.
pub const GIVE_BACK_BYTES_PER_SECOND_MIN: u32 = 2048;

/// How long a module may take over an order that repairs it: leaving its mode takes it 15 s by its maker's word, and
/// putting back its second copy erases flash.
pub const CURE_TIME_MAX: Duration = Duration::from_secs(60);
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

/// Longest transfer over USB/IP, in bytes.
pub const USBIP_TRANSFER_BYTES_MAX: u32 = 4 * 1024 * 1024;
/// Most transfers of one imported device in flight; a further one is refused as a host without memory would.
pub const USBIP_TRANSFERS_MAX: usize = 1024;
/// Most bytes of OUT transfers of one imported device in flight.
pub const USBIP_OUT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes that wait for a client to read them; nothing is taken from it, and nothing done for it, while there are more.
pub const USBIP_UNREAD_BYTES: usize = 1024 * 1024;
/// Clients that have said nothing yet or are given the list; further ones wait to be accepted. Clients that have
/// imported a device are as many as there are devices at the most.
pub const USBIP_GREETINGS_MAX: usize = 64;
/// How long a client may take to say what it wants, and to take the answer.
pub const USBIP_GREETING_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a client may take to hang up after its device has left.
pub const USBIP_FAREWELL_TIME_MAX: Duration = Duration::from_secs(2);
/// Most devices of a list that a USB/IP server gives.
pub const USBIP_DEVICES_MAX: u32 = 1024;
/// Most interfaces of a device in such a list.
pub const USBIP_INTERFACES_MAX: u8 = 32;
/// Fewest units that a profile is qualified on: of one or two nobody can tell whether units agree.
pub const QUALIFY_UNITS_MIN: u32 = 3;
/// Most units of one qualification.
pub const QUALIFY_UNITS_MAX: u32 = 500;
/// A deadline that follows from a qualification is so many times the 99th percentile.
pub const QUALIFY_MARGIN: u64 = 3;
/// A profile's deadline must be so many hundredths of the 99th percentile at the least, or it is not qualified.
pub const QUALIFY_HEADROOM_PERCENT: u64 = 150;
/// No deadline that follows from a qualification is shorter, in milliseconds.
pub const QUALIFY_DEADLINE_MS_MIN: u64 = 1000;
/// Longest line that is read from a terminal or a program at standard input, in bytes.
pub const INPUT_LINE_BYTES_MAX: usize = 4096;
