//! The table.

use super::{
    Control::{Checkbox, Choice, Hidden, Line, Lines},
    Kind::{Boolean, Integer, Interval, Intervals, JsonPath, Number, Object, Text, Texts, Word},
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
pub const OPTIONS: [SubscriptionOption; 22] = [
    SubscriptionOption {
        name: "url",
        kind: Text { max: 2048 },
        description: "`http` or `https`, with a host, at most 2048 bytes.",
        label: "URL",
        label_hint: "where requests go",
        is_basic: true,
        ..PLAIN
    },
    SubscriptionOption {
        name: "events",
        kind: Texts { min: 1, max: 1000 },
        description: "Patterns: `order.paid`, `order.*`, `*`.",
        control: Lines,
        label: "Events",
        label_hint: "patterns, one in a line: order.paid, order.*, *",
        is_basic: true,
        ..PLAIN
    },
    SubscriptionOption {
        name: "name",
        kind: Text { max: 200 },
        is_nullable: true,
        description: "Unique among the subscriptions of its owner. Null for no name.",
        label: "Name",
        label_hint: "may be left out",
        is_basic: true,
        ..PLAIN
    },
    SubscriptionOption {
        name: "secret",
        kind: Text { max: 0 },
        is_secret: true,
        description: "`whsec_…`, `whsk_…`, `env:…` or `file:…`. If it is left out, a secret is generated and shown once.",
        control: Hidden,
        ..PLAIN
    },
    SubscriptionOption {
        name: "timeout",
        kind: Interval,
        description: "Time limit of a whole attempt, 1 ms to 5 min.",
        hint: "The default is '15 seconds'.",
        label: "Timeout",
        label_hint: "as in PT15S or 15 s",
        ..PLAIN
    },
    SubscriptionOption {
        name: "retry",
        kind: Intervals { max: 50 },
        description: "Waits after the 1st, 2nd, … failed attempt.",
        label: "Waits between attempts",
        label_hint: "as in PT5S PT5M",
        ..PLAIN
    },
    SubscriptionOption {
        name: "max_in_flight",
        kind: Integer { min: 1, max: 4096 },
        description: "Maximum number of requests at once.",
        hint: "The default is 512.",
        label: "At once",
        label_hint: "1 to 4096",
        ..PLAIN
    },
    SubscriptionOption {
        name: "enabled",
        kind: Boolean,
        description: "`false` means paused. Matching events are kept meanwhile.",
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
        label_hint: "Name: value, one in a line",
        ..PLAIN
    },
    SubscriptionOption {
        name: "rate_limit",
        kind: Number,
        is_nullable: true,
        description: "Maximum number of requests a second.",
        label: "A second, at most",
        label_hint: "empty: no limit",
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
        description: "Maximum number of events in a request.",
        hint: "The default is 1: no batches.",
        label: "Events in a request",
        label_hint: "1 to 1000",
        ..PLAIN
    },
    SubscriptionOption {
        name: "batch_window",
        kind: Interval,
        description: "How long an event may wait for others, up to 1 min.",
        label: "Wait for a batch",
        label_hint: "up to PT1M",
        ..PLAIN
    },
    SubscriptionOption {
        name: "compact",
        kind: Boolean,
        description: "Several undelivered changes of one key become one event.",
        control: Checkbox,
        label: "Several changes of one key become one event while undelivered",
        ..PLAIN
    },
    SubscriptionOption {
        name: "exclude_origin",
        kind: Texts { min: 0, max: 100 },
        description: "Changes that these systems made do not match.",
        control: Lines,
        label: "Not from these origins",
        label_hint: "one in a line",
        ..PLAIN
    },
    SubscriptionOption {
        name: "verification",
        kind: Word(&["none", "ping", "handshake"]),
        hint: "The default is 'none'.",
        control: Choice,
        label: "Confirmation",
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
        label_hint: "a role or a tenant; left out: you",
        ..PLAIN
    },
    SubscriptionOption {
        name: "tls",
        kind: Text { max: 200 },
        is_nullable: true,
        description: "A set of certificates of the daemon's configuration.",
        label: "Certificates",
        label_hint: "a set of the daemon's configuration",
        ..PLAIN
    },
];
