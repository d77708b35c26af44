//! JSON schemas of stations and profiles, for editors.
//!
//! They are made from the structs that the files are read into, so a key can be in neither without the other. They
//! cannot say everything (which bands a family reports); what they do say is right.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::raw::{RawProfile, RawStation};

/// The JSON schema (draft 2020-12) of a station file.
#[must_use]
pub fn station_schema() -> Value {
    schema::<RawStation>()
}

/// The JSON schema (draft 2020-12) of a profile file.
#[must_use]
pub fn profile_schema() -> Value {
    schema::<RawProfile>()
}

fn schema<T: JsonSchema>() -> Value {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>().to_value();
    without_null(&mut schema);
    schema
}

/// A key that may be left out may not be there without a value: that is an error, because somebody forgot one.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Array(entries) => entries.iter_mut().for_each(without_null),
        Value::Object(object) => {
            object.values_mut().for_each(without_null);
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(any)) = object.get_mut("anyOf") {
                any.retain(|schema| schema.get("type").is_none_or(|name| name != "null"));
                if let [Value::Object(only)] = any.as_slice() {
                    let only = only.clone();
                    object.remove("anyOf");
                    object.extend(only);
                }
            }
        }
        _ => {}
    }
}
