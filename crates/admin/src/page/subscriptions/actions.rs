//! The buttons for everything that can be done with a subscription. Pure.

use crate::{
    page::{
        form_token, receivers as shown,
        session::Visitor,
        text::{Precision, moment},
    },
    receivers::{Receiver, words::count},
    subscriptions::Subscription,
};
use maud::{Markup, html};

/// Renders the buttons for everything that can be done with a subscription.
pub fn actions(visitor: &Visitor, subscription: &Subscription, receiver: &Receiver) -> Markup {
    let path = visitor.link(&format!("/subscriptions/{}", subscription.id));
    let ping = if visitor.is_owner() { "Send a test event" } else { "Send a ping" };
    let given_up =
        if visitor.is_owner() { "Redeliver failed deliveries" } else { "Redeliver given-up deliveries" };
    let form = |action: &str, class: &str, label: &str, more: Markup| {
        html! {
            form.row method="post" action=(path) {
                (form_token(visitor)) (more)
                button class=(class) name="action" value=(action) { (label) }
            }
        }
    };
    html! {
        div.row {
            @if shown::may_try(receiver) {
                (form("try", "main", "Try now", html! { @if !visitor.is_owner() { span.check { input #pause name="ignore_retry_after" type="checkbox" value="on"; " " label for="pause" { "even if the receiver asked for a pause" } } } }))
            }
            (form("ping", "", ping, html! {}))
            @if subscription.is_enabled() {
                (form("pause", "", "Pause", html! { @if !visitor.is_owner() { label.hidden for="reason" { "Reason" } input #reason name="reason" placeholder="reason"; } }))
            } @else {
                (form("resume", "main", "Resume", html! { span.check { input #skip name="skip_backlog" type="checkbox" value="on"; " " label for="skip" { "discard queued deliveries" } } }))
            }
        }
        @if receiver.redeliverable > 0 {
            section.panel #failed {
                h2 { (given_up) }
                p { (count(receiver.redeliverable, "delivery")) " can be redelivered. The next page shows how many, before anything is sent." }
                (form("redeliver-failed", "main", "Redeliver all failed…", html! {
                    div { label for="failed-since" { "Given up since" } input #failed-since name="since" value=[receiver.given_up_since.as_deref().map(|at| moment(at, Precision::Seconds))] placeholder="the beginning"; }
                }))
            }
        }
        details {
            summary { "Rotate secret, replay, delete" }
            (form("rotate", "", "Rotate secret", html! { div { label for="overlap" { "Both secrets sign for" } input #overlap name="overlap" value="PT24H"; } }))
            (form("replay", "", "Replay", html! {
                div { label for="from" { "Since" } input #from name="since" placeholder="2026-11-22 03:00+00" required; }
                div { label for="to" { "Until" } input #to name="until" placeholder="now"; }
            }))
            (form("delete", "danger", &format!("Delete {}", visitor.noun()), html! {}))
        }
    }
}
