//! Any bytes: what reads them neither panics nor takes more memory than they have, and what was read is written as it was.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use signvote_election::wire::{ToServer, ToWorker};
use signvote_election::{Charter, Record};

fuzz_target!(|bytes: &[u8]| {
    let _ = ToServer::decode(bytes);
    let _ = ToWorker::decode(bytes);
    // The length is the framing's, and would keep most inputs from the decoders.
    let length = u32::try_from(bytes.len()).unwrap().to_le_bytes();
    let frame = [&length[..], bytes].concat();
    let _ = ToServer::decode(&frame);
    let _ = ToWorker::decode(&frame);
    if let Ok(charter) = Charter::decode(bytes) {
        assert_eq!(charter.encode(), bytes);
    }
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(record) = Record::decode(&bytes) {
        // Not the same bytes: sets of voters have a shortest form. But the same record.
        assert_eq!(Record::decode(&record.encode().into()).as_ref(), Ok(&record));
    }
});
