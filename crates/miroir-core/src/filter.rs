//! stub
/// s
pub fn reserved_name_in_filter(_: &serde_json::Value) -> Option<String> {
    None
}
