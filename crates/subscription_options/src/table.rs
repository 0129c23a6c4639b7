//! The table.

use super::{
    Control::{Checkbox, Choice, Hidden, Line, Lines},
    Kind::{Boolean, Integer, Interval, Intervals, Json, JsonPath, Number, Object, Text, Texts, Word},
    SubscriptionOption,
};

const PLAIN: SubscriptionOption = SubscriptionOption {
    name: "",
    kind: Boolean,
    is_nullable: false,
    is_secret: false,
    description: "",
    hint: "",
    control: Line,
    label: "",
    label_hint: "",
    is_basic: false,
};

/// All options, in the order of the parameters in `sql/functions.sql`.
pub const OPTIONS: [SubscriptionOption; 26] = [
    SubscriptionOption {
        name: "url",
        kind: Text { max: 2048 },
        description: "`http` or `https`, with a host, at most 2048 bytes.",
        label: "URL",
        label_hint: "the receiver's address",
        is_basic: true,
        ..PLAIN
    },
    SubscriptionOption {
        name: "events",
        kind: Texts { min: 1, max: 1000 },
        description: "Patterns: `order.paid`, `order.*`, `*`.",
        control: Lines,
        label: "Events",
        label_hint: "patterns, one per line: order.paid, order.*, *",
        is_basic: true,
        ..PLAIN
    },
    SubscriptionOption {
        name: "name",
        kind: Text { max: 200 },
        is_nullable: true,
        description: "Unique among the subscriptions of its owner. Null for no name.",
        label: "Name",
        label_hint: "optional",
        is_basic: true,
        ..PLAIN
    },
    SubscriptionOption {
        name: "secret",
        kind: Text { max: 0 },
        is_secret: true,
        description: "`whsec_…`, `whsk_…`, `env:…` or `file:…`. If it is omitted, a secret is generated and shown once.",
        control: Hidden,
        ..PLAIN
    },
    SubscriptionOption {
        name: "timeout",
        kind: Interval,
        description: "Time limit of one attempt, 1 ms to 5 min.",
        hint: "The default is '15 seconds'.",
        label: "Timeout",
        label_hint: "as in PT15S or 15 s",
        ..PLAIN
    },
    SubscriptionOption {
        name: "retry",
        kind: Intervals { max: 50 },
        description: "Time to wait after the 1st, 2nd, … failed attempt.",
        label: "Retry intervals",
        label_hint: "as in PT5S PT5M",
        ..PLAIN
    },
    SubscriptionOption {
        name: "max_in_flight",
        kind: Integer { min: 1, max: 4096 },
        description: "Maximum number of concurrent requests.",
        hint: "Omit it to use the default, 512 or the limit of the owner.",
        label: "Concurrent requests",
        label_hint: "1 to 4096",
        ..PLAIN
    },
    SubscriptionOption {
        name: "enabled",
        kind: Boolean,
        description: "`false` pauses the subscription. Matching events are kept until it resumes.",
        control: Hidden,
        ..PLAIN
    },
    SubscriptionOption {
        name: "filter",
        kind: JsonPath,
        is_nullable: true,
        description: "SQL/JSON path, applied to the event.",
        label: "Filter",
        label_hint: "SQL/JSON path, as in $.data.total > 100",
        ..PLAIN
    },
    SubscriptionOption {
        name: "format",
        kind: Word(&[
            "standard",
            "cloudevents-structured",
            "cloudevents-binary",
            "form",
            "raw",
            "supabase",
            "hasura",
        ]),
        hint: "The default is 'standard'.",
        control: Choice,
        label: "Format",
        ..PLAIN
    },
    SubscriptionOption {
        name: "payload_mode",
        kind: Word(&["full", "thin", "changed"]),
        hint: "The default is 'full'.",
        control: Choice,
        label: "Payload",
        ..PLAIN
    },
    SubscriptionOption {
        name: "headers",
        kind: Object,
        description: "Additional request headers.",
        control: Lines,
        label: "Headers",
        label_hint: "Name: value, one per line",
        ..PLAIN
    },
    SubscriptionOption {
        name: "rate_limit",
        kind: Number,
        is_nullable: true,
        description: "Maximum number of requests per second.",
        label: "Requests per second",
        label_hint: "empty means no limit",
        ..PLAIN
    },
    SubscriptionOption {
        name: "ordering",
        kind: Word(&["none", "key", "strict"]),
        hint: "The default is 'none'.",
        control: Choice,
        label: "Order",
        ..PLAIN
    },
    SubscriptionOption {
        name: "batch_size",
        kind: Integer { min: 1, max: 1000 },
        description: "Maximum number of events per request.",
        hint: "The default is 1, which means no batches.",
        label: "Events per request",
        label_hint: "1 to 1000",
        ..PLAIN
    },
    SubscriptionOption {
        name: "batch_window",
        kind: Interval,
        description: "How long an event may wait for others, up to 1 min.",
        label: "Batch window",
        label_hint: "up to PT1M",
        ..PLAIN
    },
    SubscriptionOption {
        name: "compact",
        kind: Boolean,
        description: "Merges several undelivered changes of one key into one event.",
        control: Checkbox,
        label: "Merge undelivered changes of one key into one event",
        ..PLAIN
    },
    SubscriptionOption {
        name: "exclude_origin",
        kind: Texts { min: 0, max: 100 },
        description: "Excludes changes that these systems made.",
        control: Lines,
        label: "Exclude origins",
        label_hint: "one per line",
        ..PLAIN
    },
    SubscriptionOption {
        name: "verification",
        kind: Word(&["none", "ping", "handshake"]),
        hint: "The default is 'none'.",
        control: Choice,
        label: "Verification",
        ..PLAIN
    },
    SubscriptionOption {
        name: "signature",
        kind: Texts { min: 1, max: 5 },
        description: "How requests are signed: `standard`, `standard-v1a`, `svix`, `github`, `stripe`, or `none` alone.",
        label: "Signature",
        label_hint: "standard, standard-v1a, svix, github, stripe, none",
        ..PLAIN
    },
    SubscriptionOption {
        name: "owner",
        kind: Text { max: 200 },
        description: "The owner: a role, or a tenant of the application.",
        label: "Owner",
        label_hint: "a role or a tenant; empty means you",
        ..PLAIN
    },
    SubscriptionOption {
        name: "tls",
        kind: Text { max: 200 },
        is_nullable: true,
        description: "The name of a set of certificates in the daemon's configuration.",
        label: "Certificates",
        label_hint: "the name of a set in the daemon's configuration",
        ..PLAIN
    },
    SubscriptionOption {
        name: "expected_response",
        kind: Json { max: 4096 },
        is_nullable: true,
        description: "A delivery succeeds only if the body of the 2xx response contains this JSON object.",
        label: "Expected response",
        label_hint: "a JSON object that the response must contain, such as {\"ok\": true}",
        ..PLAIN
    },
    SubscriptionOption {
        name: "keep_response",
        kind: Boolean,
        description: "Stores the start of the response of successful attempts too.",
        control: Checkbox,
        label: "Store the responses of successful attempts",
        ..PLAIN
    },
    SubscriptionOption {
        name: "scope",
        kind: Word(&["own", "all"]),
        description: "`own`: only events of the owner, and announcements. `all`: events of all owners and of none, for roles that can read every event.",
        hint: "Omit it to use the default.",
        control: Hidden,
        ..PLAIN
    },
    SubscriptionOption {
        name: "locked",
        kind: Texts { min: 0, max: 3 },
        description: "Options that only an admin can change: `url`, `events`, `filter`.",
        hint: "Pass a list of url, events and filter, such as '{filter}'.",
        control: Hidden,
        ..PLAIN
    },
];
