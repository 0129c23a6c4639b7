//! The endpoints of an owner: the list, the parts of one, and the form.
//!
//! An endpoint is a subscription. Its options are those that a customer needs: name, URL and
//! events. Reads and changes go through the functions of the REST API, as on the pages for
//! operators, with the owner's rights.

use crate::{
    deliveries::{self, DeliveryFilter},
    events::{EventType, all_types},
    extract::Filled,
    page::{
        PageError, complaint, deliveries as log, form_token, layout, next_link, receivers as shown,
        session::{Fields, Visitor},
        subscriptions::{
            actions::actions,
            form::{Values, body_of},
        },
        text::{broken, inert},
    },
    problem::Problem,
    receivers::{
        self, Receiver, ReceiverFilter,
        words::{duration, state_of},
    },
    subscriptions::{self, Subscription},
};
use axum::http::StatusCode;
use maud::{Markup, html};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// The options in the form.
const OPTIONS: [&str; 3] = ["name", "url", "events"];

/// The pattern for every event.
const ALL: &str = "*";

/// `/portal`
pub async fn list(
    mut visitor: Visitor,
    query: Result<Filled<ReceiverFilter>, Problem>,
) -> Result<Markup, PageError> {
    let Filled(filter) = query?;
    let (overview, next) = receivers::page(&mut visitor.work, &filter).await?;
    let new = visitor.link("/subscriptions/new");
    Ok(layout(
        "Endpoints",
        Some(&visitor),
        "/subscriptions",
        html! {
            div.row.between {
                h1 { "Endpoints" }
                a.button.main href=(new) { "Add an endpoint" }
            }
            div #subscriptions data-live {
                @if overview.receivers.is_empty() {
                    p { "You have no endpoints. An endpoint is a URL of yours that receives events as they happen." }
                } @else {
                    ul.receivers { @for one in &overview.receivers { li.(state_of(&one.state).tone.class()) { (row(&visitor, one)) } } }
                }
            }
            (next_link(&visitor.link("/subscriptions"), &[], next.as_deref(), "More"))
        },
    ))
}

fn row(visitor: &Visitor, one: &Receiver) -> Markup {
    html! {
        div.name {
            h2.small { a.any href=(visitor.link(&format!("/subscriptions/{}", one.id))) { (inert(&one.title())) } }
            p.hint { (broken(&one.url)) }
        }
        div.state { (state(one)) }
        (shown::facts(one))
    }
}

fn state(one: &Receiver) -> Markup {
    html! { p { span.badge.(state_of(&one.state).tone.class()) { (words(one)) } } }
}

/// Returns the state in words: "Failing for 8 min".
fn words(one: &Receiver) -> String {
    let label = match one.state.as_str() {
        "healthy" => return "Working".to_owned(),
        "failing" => "Failing",
        "disabled" => "Disabled",
        "gave_up" => "Failed for good",
        "rejecting" => "Rejects events",
        "blocked" => "Blocked",
        "unconfirmed" => "Not confirmed",
        "paused" => "Paused",
        "slow" => "Slow",
        "retrying" => "Retrying",
        _ => "Unknown",
    };
    match one.ages.since {
        Some(age) if one.state == "gave_up" => format!("{label}, first {} ago", duration(age)),
        Some(age) => format!("{label} for {}", duration(age)),
        None => label.to_owned(),
    }
}

/// Returns what the state means for the customer. Empty if nothing is wrong.
fn explanation(one: &Receiver) -> &'static str {
    match one.state.as_str() {
        "failing" => "Requests to your endpoint fail. Events are kept and sent again.",
        "disabled" => "The endpoint failed for days, and is paused. Events are kept until you resume it.",
        "gave_up" => "Some events could not be delivered. You can redeliver them.",
        "rejecting" => "Your endpoint works, but does not accept some events.",
        "blocked" => "Nothing is sent at the moment. Your endpoint is not at fault.",
        "unconfirmed" => "Your endpoint has not confirmed yet. Events are kept.",
        "paused" => "Events are kept until you resume the endpoint.",
        "slow" => "Events arrive faster than your endpoint takes them.",
        "retrying" => "Some deliveries failed and are sent again.",
        _ => "",
    }
}

/// Renders the form for a new endpoint.
///
/// # Errors
/// The errors of the statement.
pub async fn form_for_new(
    visitor: &mut Visitor,
    values: &Values,
    problem: Option<&Problem>,
) -> Result<Markup, PageError> {
    let types = all_types(&mut visitor.work).await?;
    Ok(layout(
        "Add an endpoint",
        Some(visitor),
        "/subscriptions",
        html! {
            h1 { "Add an endpoint" }
            @if let Some(problem) = problem { (complaint(&visitor.told(problem))) }
            form.panel method="post" action=(visitor.link("/subscriptions")) {
                (form_token(visitor))
                (fields(visitor, values, problem, &types, &[]))
                div.row { button.main { "Add" } }
            }
        },
    ))
}

/// Renders an endpoint: its state, actions, last deliveries and form. `stored` is the hidden field
/// with the state that the form was filled from.
///
/// # Errors
/// The errors of the statements.
pub async fn detail(
    visitor: &mut Visitor,
    subscription: &Subscription,
    values: &Values,
    problem: Option<&Problem>,
    stored: Markup,
) -> Result<Markup, PageError> {
    let id = subscription.id;
    let receiver = receivers::find(&mut visitor.work, id).await?;
    let filter = DeliveryFilter { subscription: Some(id), limit: Some(10), ..DeliveryFilter::default() };
    let told = deliveries::page(&mut visitor.work, &filter).await?;
    let types = all_types(&mut visitor.work).await?;
    let locked = locked(subscription);
    let path = visitor.link(&format!("/subscriptions/{id}"));
    Ok(layout(
        "Endpoint",
        Some(visitor),
        "/subscriptions",
        html! {
            h1.any { (inert(&subscription.title())) }
            @if let Some(problem) = problem { (complaint(&visitor.told(problem))) }
            div #doing data-live {
                div.panel.receiver { (state(&receiver)) p { (explanation(&receiver)) } (shown::facts(&receiver)) }
            }
            (actions(visitor, subscription, &receiver))
            h2 { "Last deliveries" }
            div #told data-live {
                @if told.items.is_empty() { p { "Nothing has been sent yet. Send a test event to try your endpoint." } }
                @else {
                    (log::table(visitor, &told.items, &HashMap::from([(id, subscription.title())])))
                    p { a href=(visitor.link(&format!("/deliveries?subscription={id}"))) { "All deliveries" } }
                }
            }
            h2 #edit { "Edit" }
            form.panel method="post" action=(path) {
                (form_token(visitor))
                (stored)
                (fields(visitor, values, problem, &types, &locked))
                div.row { button.main name="action" value="alter" { "Save" } }
            }
        },
    ))
}

/// Returns the options that only the application changes.
fn locked(subscription: &Subscription) -> Vec<&str> {
    subscription.option("locked").as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn fields(
    visitor: &Visitor,
    values: &Values,
    problem: Option<&Problem>,
    types: &[EventType],
    locked: &[&str],
) -> Markup {
    let wrong = problem.and_then(|problem| problem.field.as_deref());
    let value = |name: &str| values.get(name).map(String::as_str);
    let invalid = |name: &str| (wrong == Some(name)).then_some("true");
    let chosen: Vec<&str> = value("events").unwrap_or_default().split_whitespace().collect();
    let application = visitor.portal.as_ref().map(|frame| frame.name()).unwrap_or_default();
    html! {
        @if locked.contains(&"url") {
            (fixed("URL", value("url").unwrap_or_default(), application))
        } @else {
            label for="url" { "URL" }
            input #url name="url" value=[value("url")] required aria-invalid=[invalid("url")] aria-describedby="url-hint";
            p.hint #url-hint { "Each event is sent to it as a POST request." }
        }
        label for="name" { "Name " small { "optional" } }
        input #name name="name" value=[value("name")] aria-invalid=[invalid("name")];
        @if locked.contains(&"events") {
            (fixed("Events", &chosen.join(", "), application))
        } @else {
            (boxes(&chosen, types, invalid("events")))
        }
    }
}

fn fixed(label: &str, value: &str, application: &str) -> Markup {
    html! {
        p.fixed { b { (label) } }
        p.any { (broken(value)) }
        p.hint { "Only " (inert(application)) " can change this." }
    }
}

/// Renders a check box for each event type, and for each pattern that was chosen elsewhere.
fn boxes(chosen: &[&str], types: &[EventType], invalid: Option<&str>) -> Markup {
    let one = |at: usize, value: &str, label: Markup, description: Option<&str>| {
        let id = format!("event-{at}");
        html! {
            p.check {
                input id=(id) name="events" type="checkbox" value=(value) checked[chosen.contains(&value)];
                label for=(id) { (label) }
                @if let Some(description) = description { span.hint.any { (inert(description)) } }
            }
        }
    };
    let is_listed = |pattern: &str| pattern == ALL || types.iter().any(|one| one.event_type == pattern);
    let others: Vec<&str> = chosen.iter().copied().filter(|pattern| !is_listed(pattern)).collect();
    html! {
        fieldset aria-invalid=[invalid] {
            legend { "Events" }
            // A form without a ticked box must still say that it had boxes.
            input type="hidden" name="events" value="";
            (one(0, ALL, html! { "All events" }, Some("also those that are added later")))
            @for (at, known) in types.iter().enumerate() {
                (one(at + 1, &known.event_type, html! { code.any { (known.event_type) } }, known.description.as_deref()))
            }
            @for (at, pattern) in others.iter().enumerate() {
                (one(at + 1 + types.len(), pattern, html! { code.any { (inert(pattern)) } }, None))
            }
        }
    }
}

/// Leaves the options of the form, and demands at least one event.
///
/// # Errors
/// 422 if no box is ticked.
pub fn keep_own(members: &mut Map<String, Value>, fields: &Fields) -> Result<(), Problem> {
    if fields.0.contains_key("events") && fields.get("events").is_none() {
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "Choose at least one event.");
        return Err(problem.field("events"));
    }
    members.retain(|name, _| OPTIONS.contains(&name.as_str()));
    Ok(())
}

/// Adds an endpoint. If URLs of this owner must confirm, it confirms with its answer to a ping,
/// which most receivers can give.
///
/// # Errors
/// The errors of the SQL API, with the name of the field.
pub async fn add(
    visitor: &mut Visitor,
    mut members: Map<String, Value>,
) -> Result<(i64, Option<String>), Problem> {
    let body = body_of(members.clone());
    match subscriptions::subscribe(&mut visitor.work, &body).await {
        Err(problem) if problem.field.as_deref() == Some("verification") => {
            visitor.work.restart().await?;
            members.insert("verification".to_owned(), "ping".into());
            subscriptions::subscribe(&mut visitor.work, &body_of(members)).await
        }
        made => made,
    }
}

#[cfg(test)]
mod tests {
    //! Words for states, check boxes, and the options of a form.

    use super::*;
    use crate::receivers::Ages;

    #[test]
    fn states_are_said_in_words() {
        let receiver = |state: &str, since| Receiver {
            state: state.to_owned(),
            ages: Ages { since, ..Ages::default() },
            ..Receiver::default()
        };
        assert_eq!(words(&receiver("failing", Some(500.0))), "Failing for 8 min");
        assert_eq!(words(&receiver("gave_up", Some(7200.0))), "Failed for good, first 2 h ago");
        assert_eq!(words(&receiver("healthy", Some(1.0))), "Working");
        assert_eq!(words(&receiver("paused", None)), "Paused");
        for known in receivers::words::STATES {
            assert_ne!(words(&receiver(known.word, None)), "Unknown", "{}", known.word);
        }
    }

    #[test]
    fn patterns_of_elsewhere_keep_their_box() {
        let types = [EventType {
            event_type: "order.created".to_owned(),
            relation: None,
            description: Some("<b>".to_owned()),
        }];
        let shown = boxes(&["order.*", "order.created"], &types, None).into_string();
        assert_eq!(shown.matches(" checked").count(), 2, "{shown}");
        assert!(shown.contains(r#"value="order.*" checked"#) && shown.contains("&lt;b&gt;"), "{shown}");
        assert_eq!(shown.matches("type=\"checkbox\"").count(), 3);
    }

    #[test]
    fn only_the_options_of_the_form_are_changed() {
        let fields = |events: &str| Fields([("events".to_owned(), events.to_owned())].into());
        let mut members: Map<String, Value> =
            ["url", "compact", "filter"].map(|name| (name.to_owned(), Value::Null)).into_iter().collect();
        keep_own(&mut members, &fields("\norder.created")).unwrap();
        assert_eq!(members.keys().collect::<Vec<_>>(), ["url"]);
        assert_eq!(keep_own(&mut members, &fields("")).unwrap_err().field.as_deref(), Some("events"));
        assert!(keep_own(&mut members, &Fields(std::collections::BTreeMap::new())).is_ok());
    }
}
