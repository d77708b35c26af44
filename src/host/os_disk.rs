//! In the making.
#[derive(Debug)]
/// x
pub struct OsDisk;
