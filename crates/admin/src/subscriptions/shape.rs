//! The members of requests and answers of `/v1/subscriptions`.

use crate::{extract::number, words};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::{
    IntoParams, PartialSchema, ToSchema,
    openapi::{RefOr, Schema, schema::Type},
};

/// A subscription. Durations are ISO 8601 (`PT15S`), times RFC 3339.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Subscription {
    pub id: i64,
    pub name: Option<String>,
    pub url: String,
    /// Patterns: `order.paid`, `order.*`, `*`.
    pub events: Vec<String>,
    /// `false` means paused. Matching events are kept meanwhile.
    pub enabled: bool,
    pub paused_reason: Option<String>,
    /// Time limit of a whole attempt.
    pub timeout: String,
    /// Waits after the 1st, 2nd, … failed attempt.
    pub retry: Vec<String>,
    pub max_in_flight: i32,
    /// SQL/JSON path, applied to the event.
    pub filter: Option<String>,
    #[schema(schema_with = words::formats)]
    pub format: String,
    #[schema(schema_with = words::payload_modes)]
    pub payload_mode: String,
    pub headers: BTreeMap<String, String>,
    /// Maximum number of requests a second.
    pub rate_limit: Option<f64>,
    #[schema(schema_with = words::orderings)]
    pub ordering: String,
    pub batch_size: i32,
    pub batch_window: String,
    pub compact: bool,
    pub exclude_origin: Vec<String>,
    #[schema(schema_with = words::verifications)]
    pub verification: String,
    pub verified_at: Option<String>,
    pub signature: Vec<String>,
    pub owner: String,
    pub tls: Option<String>,
    pub created_at: String,
    pub updated_at: String,
}

/// The options of a subscription to change. Members that are left out stay.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only judges: the members go to Postgres as they came")]
pub struct Draft {
    /// `http` or `https`, with a host, at most 2048 bytes.
    #[schema(min_length = 1, max_length = 2048)]
    url: Option<String>,
    #[schema(min_items = 1, max_items = 1000)]
    events: Option<Vec<String>>,
    /// Unique among the subscriptions of its owner. Null for no name.
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    /// `whsec_…`, `whsk_…`, `env:…` or `file:…`. If it is left out, a secret is generated and shown
    /// once.
    secret: Option<String>,
    /// 1 ms to 5 min.
    timeout: Option<String>,
    #[schema(max_items = 50)]
    retry: Option<Vec<String>>,
    #[schema(minimum = 1, maximum = 4096)]
    max_in_flight: Option<i32>,
    enabled: Option<bool>,
    filter: Option<String>,
    #[schema(schema_with = words::formats)]
    format: Option<String>,
    #[schema(schema_with = words::payload_modes)]
    payload_mode: Option<String>,
    headers: Option<BTreeMap<String, String>>,
    rate_limit: Option<f64>,
    #[schema(schema_with = words::orderings)]
    ordering: Option<String>,
    #[schema(minimum = 1, maximum = 1000)]
    batch_size: Option<i32>,
    batch_window: Option<String>,
    compact: Option<bool>,
    exclude_origin: Option<Vec<String>>,
    #[schema(schema_with = words::verifications)]
    verification: Option<String>,
    signature: Option<Vec<String>>,
    /// The owner: a role, or a tenant of the application.
    owner: Option<String>,
    tls: Option<String>,
}

/// A new subscription. Members other than the URL have defaults. This type is for the document. A
/// [`Draft`] validates the request, and reports a missing URL by its name.
pub struct NewSubscription;

impl PartialSchema for NewSubscription {
    fn schema() -> RefOr<Schema> {
        let mut schema = Draft::schema();
        if let RefOr::T(Schema::Object(draft)) = &mut schema {
            draft.description =
                Some("A new subscription. Members other than the URL have defaults.".to_owned());
            draft.required = vec!["url".to_owned()];
            if let Some(RefOr::T(Schema::Object(url))) = draft.properties.get_mut("url") {
                url.schema_type = Type::String.into();
            }
        }
        schema
    }
}

impl ToSchema for NewSubscription {}

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
