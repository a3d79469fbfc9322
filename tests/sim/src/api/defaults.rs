//! The defaults of the definitions, which the API server fills in wherever it stores an object.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value;
use tallyman_crds::schema;
use tallyman_operator_core::Kind;

/// What stands below a place of a schema, as far as there are defaults.
#[derive(Debug, Default)]
struct Place {
    default: Option<Value>,
    fields: BTreeMap<String, Place>,
    items: Option<Box<Place>>,
}

static KINDS: LazyLock<BTreeMap<String, Place>> = LazyLock::new(|| {
    let crds = schema::crds().into_iter();
    crds.map(|crd| {
        let schema = &crd.json["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        (crd.kind, Place::read(schema).unwrap_or_default())
    })
    .collect()
});

impl Place {
    /// `None`: there is no default here or below.
    fn read(schema: &Value) -> Option<Place> {
        let properties = schema["properties"].as_object();
        let place = Place {
            default: schema.get("default").cloned(),
            fields: properties
                .into_iter()
                .flatten()
                .filter_map(|(name, schema)| Some((name.clone(), Place::read(schema)?)))
                .collect(),
            items: schema.get("items").and_then(Place::read).map(Box::new),
        };
        (place.default.is_some() || !place.fields.is_empty() || place.items.is_some())
            .then_some(place)
    }

    fn fill(&self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for (name, place) in &self.fields {
                    if let Some(default) = &place.default
                        && fields.get(name).is_none_or(Value::is_null)
                    {
                        fields.insert(name.clone(), default.clone());
                    }
                    if let Some(value) = fields.get_mut(name) {
                        place.fill(value);
                    }
                }
            }
            Value::Array(values) => {
                if let Some(items) = &self.items {
                    values.iter_mut().for_each(|value| items.fill(value));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

/// Fills in what an object of this kind lacks.
pub(super) fn fill(kind: Kind, value: &mut Value) {
    if let Some(place) = KINDS.get(kind.as_str()) {
        place.fill(value);
    }
}
