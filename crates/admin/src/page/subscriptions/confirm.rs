//! Actions that are asked about first: rotate, redeliver given-up deliveries, and delete.
//!
//! The first submission of such a form shows a page with the effect and a second form, which has
//! the same fields and `confirmed`. Both forms carry the visitor's token. It needs no JavaScript.

use crate::{
    page::{
        form_token, layout,
        session::{Fields, Visitor},
        text::inert,
    },
    problem::Problem,
    receivers::words::count,
    subscriptions::{self as api, Subscription},
};
use maud::{Markup, html};

/// A question before an action.
struct Question {
    title: &'static str,
    effect: String,
    button: String,
    class: &'static str,
    /// The fields of the form to send again.
    fields: &'static [&'static str],
}

/// Returns the page that asks before an action, or `None` if the action needs no question or is
/// confirmed.
///
/// # Errors
/// A field is not valid, and the errors of the statements.
pub async fn question(
    visitor: &mut Visitor,
    subscription: &Subscription,
    fields: &Fields,
) -> Result<Option<Markup>, Problem> {
    if fields.get("confirmed").is_some() {
        return Ok(None);
    }
    let question = match fields.get("action").unwrap_or_default() {
        "rotate" => Question {
            title: "Rotate the secret?",
            effect: "A new secret is created, and the next page shows it once. The old secret also signs \
                until the overlap ends. Give the new one to the receiver before that."
                .to_owned(),
            button: "Rotate the secret".to_owned(),
            class: "main",
            fields: &["overlap"],
        },
        "redeliver-failed" => redelivery(visitor, subscription, fields).await?,
        "delete" => Question {
            title: if visitor.is_owner() { "Delete the endpoint?" } else { "Delete the subscription?" },
            effect: "Its secrets and its waiting deliveries are deleted too. This cannot be undone."
                .to_owned(),
            button: "Delete for good".to_owned(),
            class: "danger",
            fields: &[],
        },
        _ => return Ok(None),
    };
    Ok(Some(page(visitor, subscription, fields, &question)))
}

/// Counts the deliveries before anything is sent.
async fn redelivery(
    visitor: &mut Visitor,
    subscription: &Subscription,
    fields: &Fields,
) -> Result<Question, Problem> {
    let (since, until): (Option<String>, Option<String>) = (fields.get("since").map(str::to_owned), None);
    api::check_moment(&mut visitor.work, "since", &since).await?;
    let counted =
        api::call(&mut visitor.work, api::REDELIVER_FAILED, &[&subscription.id, &since, &until, &true])
            .await?;
    let number = counted.and_then(|text| text.parse().ok()).unwrap_or_default();
    let deliveries = count(number, "delivery");
    let since = since.map_or_else(String::new, |since| format!(" since {since}"));
    Ok(Question {
        title: if visitor.is_owner() {
            "Redeliver failed deliveries?"
        } else {
            "Redeliver the given-up deliveries?"
        },
        effect: match visitor.is_owner() {
            true => format!(
                "We gave up {deliveries}{since}. They are sent again, in order and with the same ids."
            ),
            false => format!(
                "webhookd gave up {deliveries}{since}. They are sent again, in order and with the same ids."
            ),
        },
        button: format!("Redeliver {deliveries}"),
        class: "main",
        fields: &["since"],
    })
}

fn page(visitor: &Visitor, subscription: &Subscription, fields: &Fields, question: &Question) -> Markup {
    let path = visitor.link(&format!("/subscriptions/{}", subscription.id));
    let again = question.fields.iter().filter_map(|name| Some((*name, fields.get(name)?)));
    layout(
        question.title,
        Some(visitor),
        "/subscriptions",
        html! {
            h1 { (question.title) }
            div.note.warn role="status" {
                p.any { b { (inert(&subscription.title())) } }
                p { (inert(&question.effect)) }
            }
            form.row method="post" action=(path) {
                (form_token(visitor))
                input type="hidden" name="confirmed" value="yes";
                @for (name, value) in again { input type="hidden" name=(name) value=(value); }
                button class=(question.class) name="action" value=[fields.get("action")] { (question.button) }
                a.button href=(path) { "Cancel" }
            }
        },
    )
}
