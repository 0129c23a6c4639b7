//! The members of requests and answers of `/v1/subscriptions`.

use crate::{extract::number, problem::Problem, words::title};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value};
use subscription_options::{Kind, OPTIONS, SubscriptionOption};
use utoipa::{
    IntoParams, PartialSchema, ToSchema,
    openapi::{
        KnownFormat, RefOr, Schema, SchemaFormat,
        schema::{AdditionalProperties, ArrayBuilder, ObjectBuilder, SchemaType, Type},
    },
};

/// A subscription with its options.
#[derive(Debug, Clone, Deserialize)]
pub struct Subscription {
    pub id: i64,
    pub paused_reason: Option<String>,
    pub verified_at: Option<String>,
    pub created_at: String,
    pub updated_at: String,
    #[serde(flatten)]
    options: Map<String, Value>,
}

impl Subscription {
    /// Returns the value of an option. Null if it has none.
    pub fn option(&self, name: &str) -> &Value {
        self.options.get(name).unwrap_or(&Value::Null)
    }

    /// Returns the value of an option that is text. Empty if it has none.
    pub fn text(&self, name: &str) -> &str {
        self.option(name).as_str().unwrap_or_default()
    }

    /// Returns the values of an option that is an array of texts, as one text.
    pub fn texts(&self, name: &str, separator: &str) -> String {
        let texts = self.option(name).as_array().into_iter().flatten().filter_map(Value::as_str);
        texts.collect::<Vec<_>>().join(separator)
    }

    /// Returns the name, or else the host of the URL.
    pub fn title(&self) -> String {
        title(self.option("name").as_str(), self.text("url"))
    }

    pub fn is_enabled(&self) -> bool {
        self.option("enabled").as_bool().unwrap_or_default()
    }
}

impl Serialize for Subscription {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &self.id)?;
        for option in OPTIONS.iter().filter(|option| !option.is_secret) {
            map.serialize_entry(option.name, self.option(option.name))?;
        }
        map.serialize_entry("paused_reason", &self.paused_reason)?;
        map.serialize_entry("verified_at", &self.verified_at)?;
        map.serialize_entry("created_at", &self.created_at)?;
        map.serialize_entry("updated_at", &self.updated_at)?;
        map.end()
    }
}

/// Returns the schema of an option.
fn schema_of(option: &SubscriptionOption) -> RefOr<Schema> {
    let of = |kind: Type| match option.is_nullable {
        true => SchemaType::from_iter([kind, Type::Null]),
        false => SchemaType::new(kind),
    };
    let description = (!option.description.is_empty()).then_some(option.description);
    let object = |kind| ObjectBuilder::new().schema_type(of(kind)).description(description);
    let array = |min: u32, max: u32| {
        let items = ObjectBuilder::new().schema_type(Type::String);
        let array = ArrayBuilder::new().schema_type(of(Type::Array)).description(description).items(items);
        array.min_items((min > 0).then_some(min as usize)).max_items(Some(max as usize))
    };
    match option.kind {
        Kind::Text { max: 0 } | Kind::Interval | Kind::JsonPath => object(Type::String).into(),
        Kind::Text { max } => object(Type::String).min_length(Some(1)).max_length(Some(max as usize)).into(),
        Kind::Word(words) => object(Type::String).enum_values(Some(words.iter().copied())).into(),
        Kind::Texts { min, max } => array(min, max).into(),
        Kind::Intervals { max } => array(0, max).into(),
        Kind::Boolean => object(Type::Boolean).into(),
        Kind::Integer { min, max } => object(Type::Integer).minimum(Some(min)).maximum(Some(max)).into(),
        Kind::Number => object(Type::Number).into(),
        Kind::Json { .. } => object(Type::Object).into(),
        Kind::Object => {
            let texts = ObjectBuilder::new().schema_type(Type::String);
            object(Type::Object).additional_properties(Some(texts)).into()
        }
    }
}

impl PartialSchema for Subscription {
    fn schema() -> RefOr<Schema> {
        let nullable = || ObjectBuilder::new().schema_type(SchemaType::from_iter([Type::String, Type::Null]));
        let text = || ObjectBuilder::new().schema_type(Type::String);
        let id = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)));
        let mut object = ObjectBuilder::new()
            .description(Some("A subscription. Durations are ISO 8601 (`PT15S`), times RFC 3339."))
            .property("id", id)
            .required("id");
        for option in OPTIONS.iter().filter(|option| !option.is_secret) {
            object = object.property(option.name, schema_of(option));
            if !option.is_nullable {
                object = object.required(option.name);
            }
        }
        let object = object.property("paused_reason", nullable()).property("verified_at", nullable());
        let object = object.property("created_at", text()).required("created_at");
        object.property("updated_at", text()).required("updated_at").into()
    }
}

impl ToSchema for Subscription {}

/// The options of a subscription to change.
pub struct Draft;

fn draft(description: &str) -> ObjectBuilder {
    let object = ObjectBuilder::new().description(Some(description));
    let object =
        OPTIONS.iter().fold(object, |object, option| object.property(option.name, schema_of(option)));
    object.additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false)))
}

impl PartialSchema for Draft {
    fn schema() -> RefOr<Schema> {
        draft("The options of a subscription to change. Omitted members do not change.").into()
    }
}

impl ToSchema for Draft {}

/// A new subscription.
pub struct NewSubscription;

impl PartialSchema for NewSubscription {
    fn schema() -> RefOr<Schema> {
        draft("A new subscription. Members other than the URL have defaults.").required("url").into()
    }
}

impl ToSchema for NewSubscription {}

/// Checks the JSON types of options. Their values go to Postgres, which decides. Null clears an
/// option.
///
/// # Errors
/// 422 with the name of the member.
pub fn check_types(members: &Map<String, Value>) -> Result<(), Problem> {
    for (name, value) in members.iter().filter(|(_, value)| !value.is_null()) {
        let Some(option) = subscription_options::find(name) else { continue };
        let wrong = match option.kind {
            Kind::Text { .. } | Kind::Word(_) | Kind::Interval | Kind::JsonPath => {
                (!value.is_string()).then_some((name.clone(), "a string"))
            }
            Kind::Boolean => (!value.is_boolean()).then_some((name.clone(), "true or false")),
            Kind::Number => (!value.is_number()).then_some((name.clone(), "a number")),
            Kind::Integer { .. } => {
                let number = value.as_i64().and_then(|number| i32::try_from(number).ok());
                number.is_none().then_some((name.clone(), "a whole number of at most 32 bits"))
            }
            Kind::Texts { .. } | Kind::Intervals { .. } => match value.as_array() {
                None => Some((name.clone(), "an array of strings")),
                Some(items) => {
                    let at = items.iter().position(|item| !item.is_string());
                    at.map(|at| (format!("{name}[{at}]"), "a string"))
                }
            },
            Kind::Json { .. } => (!value.is_object()).then_some((name.clone(), "an object")),
            Kind::Object => match value.as_object() {
                None => Some((name.clone(), "an object of strings")),
                Some(pairs) => {
                    let pair = pairs.iter().find(|(_, value)| !value.is_string());
                    pair.map(|(key, _)| (format!("{name}.{key}"), "a string"))
                }
            },
        };
        if let Some((field, expected)) = wrong {
            let problem =
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{field}: must be {expected}"));
            return Err(problem.field(field));
        }
    }
    Ok(())
}

/// A new subscription with its secret, which is shown only here.
#[derive(Debug, Serialize, ToSchema)]
pub struct Created {
    #[serde(flatten)]
    pub subscription: Subscription,
    /// Null if the subscription is not signed, or if the same request was answered before.
    pub secret: Option<String>,
}

/// A new secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct Rotated {
    /// For a key pair, its public half.
    pub secret: String,
}

/// An event that was queued.
#[derive(Debug, Serialize, ToSchema)]
pub struct Queued {
    pub event_id: String,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    pub reason: Option<String>,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    /// Discard the kept deliveries instead of sending them.
    #[serde(default)]
    pub skip_backlog: bool,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// How long the old secret signs together with the new one: 0 to 7 days, ISO 8601 [default:
    /// PT24H].
    pub overlap: Option<String>,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Try {
    /// Try even if the receiver asked for a pause.
    #[serde(default)]
    pub ignore_retry_after: bool,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RedeliverFailed {
    /// Deliveries that were given up from this moment on [default: all].
    pub since: Option<String>,
    /// Deliveries that were given up before this moment [default: all].
    pub until: Option<String>,
    /// Only count them.
    #[serde(default)]
    pub dry_run: bool,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// From this moment on.
    pub since: String,
    /// Before this moment [default: now].
    pub until: Option<String>,
    /// Patterns that replace the subscription's.
    pub events: Option<Vec<String>>,
}

/// The number of deliveries that will be sent again.
#[derive(Debug, Serialize, ToSchema)]
pub struct Replayed {
    pub events: i64,
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Listing {
    /// `next` of the previous page.
    pub cursor: Option<String>,
    /// Maximum number of rows, 1 to 200 [default: 50].
    #[serde(default, deserialize_with = "number")]
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u16>,
}
