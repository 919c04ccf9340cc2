//! The fields Miroir adds to every document, and how their values are written.
//!
//! Three fields are added. `_miroir_shard` lets a node that holds several shards be asked for some of them.
//! `_miroir_inserted_at` breaks ties between equally relevant documents as one Meilisearch does: by the order
//! in which documents were first inserted (a replaced document keeps its internal id there, hence its place).
//! `_miroir_updated_at` tells which write a document was last changed by: of two replicas that have applied the
//! same writes up to different moments, the documents with equal values are equal, so they are compared without
//! being read whole. It is only stored; the other two must be filterable and sortable.
//!
//! None may ever be found by a text query. With
//! `searchableAttributes: ["*"]`, the default, a number or a word in them would be. A string made only of
//! separator characters has no words, so values are written in base 16 with sixteen separators as digits, in
//! ASCII order so that they sort as the numbers do, at fixed width. `"` and `\` are left out because JSON and
//! filters would have to escape them; `# & @ + - . _` because they are what people declare as
//! `nonSeparatorTokens` (C#, R&D, e-mail).

use crate::shard::ShardId;

/// Prefix of every name that is Miroir's own.
pub const RESERVED_PREFIX: &str = "_miroir_";
/// Field holding the shard number of a document.
pub const SHARD_FIELD: &str = "_miroir_shard";
/// Field holding the position of a document in its index's order of insertion.
pub const INSERTED_AT_FIELD: &str = "_miroir_inserted_at";
/// Field holding the number of the write that last changed a document, in its index's order of writes.
pub const UPDATED_AT_FIELD: &str = "_miroir_updated_at";
/// The ranking rule that breaks the last tie.
pub const TIE_BREAK_RULE: &str = "_miroir_inserted_at:asc";

/// The sixteen digits, ascending in ASCII.
pub const DIGITS: [u8; 16] = *b"!%'()*,/:;?[]`{}";

/// Whether a field name is Miroir's own.
pub fn is_reserved(name: &str) -> bool {
    name.starts_with(RESERVED_PREFIX)
}

/// Writes the low `width` base-16 digits of `value`.
fn encode(value: u64, width: u32) -> String {
    (0..width).rev().map(|digit| char::from(DIGITS[((value >> (4 * digit)) & 0xf) as usize])).collect()
}

/// The stored form of a shard number: 4 characters.
pub fn encode_shard(shard: ShardId) -> String {
    encode(u64::from(shard.0), 4)
}

/// The stored form of a position in insertion order, or of the number of a write, which is drawn from the same
/// sequence: 16 characters, sorting as the numbers do.
pub fn encode_position(position: u64) -> String {
    encode(position, 16)
}

/// Reads back a stored value; `None` when it is not one.
pub fn decode(text: &str) -> Option<u64> {
    if text.is_empty() || text.len() > 16 {
        return None;
    }
    text.bytes().try_fold(0u64, |value, byte| {
        let digit = DIGITS.iter().position(|candidate| *candidate == byte)?;
        Some((value << 4) | digit as u64)
    })
}

/// The filter expression selecting some shards, for a node that holds more than it is asked for.
pub fn shard_filter(shards: impl IntoIterator<Item = ShardId>) -> String {
    let values: Vec<String> =
        shards.into_iter().map(|shard| format!("\"{}\"", encode_shard(shard))).collect();
    format!("{SHARD_FIELD} IN [{}]", values.join(", "))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn digits_ascend_and_need_no_escaping() {
        assert!(DIGITS.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(!DIGITS.contains(&b'"') && !DIGITS.contains(&b'\\'));
    }

    proptest! {
        #[test]
        fn positions_round_trip_and_keep_their_order(left: u64, right: u64) {
            prop_assert_eq!(decode(&encode_position(left)), Some(left));
            prop_assert_eq!(encode_position(left).cmp(&encode_position(right)), left.cmp(&right));
        }
    }
}
