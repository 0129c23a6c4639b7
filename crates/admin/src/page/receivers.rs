//! Receivers on the page: the headline, the list with its filter, and the facts about one of them.
//!
//! Renders what [`crate::receivers`] read. The most urgent receivers come first. Everything works
//! without JavaScript.

use crate::{
    page::{
        form_token,
        past::{Past, Sparkline},
        plot::spark,
        session::Visitor,
        text::{broken, inert},
        time,
    },
    receivers::{
        Overview, Receiver, ReceiverFilter,
        headline::headline,
        words::{STATES, Tone, duration, grouped, state_of},
    },
};
use maud::{Markup, html};

/// Renders the headline about all receivers that a visitor sees, and the reasons why this daemon
/// does not deliver.
pub fn header(overview: &Overview, obstacles: &[String]) -> Markup {
    let said = headline(&overview.groups);
    let tone = if obstacles.is_empty() { said.tone } else { Tone::Bad };
    let mut sentences = said.sentences.iter();
    html! {
        div.headline.now.(tone.class()) role="status" {
            @if !obstacles.is_empty() {
                p.first { "This daemon does not deliver." }
                @for reason in obstacles { p { (reason) } }
            }
            @if let Some(first) = sentences.next() { p.first[obstacles.is_empty()] { (first) } }
            @if sentences.len() > 0 { p { @for sentence in sentences { (sentence) " " } } }
            @if obstacles.is_empty() { p.hint { "webhookd is running and delivers." } }
        }
    }
}

/// Renders the form that searches and filters the list at `path`.
pub fn filter_form(path: &str, overview: &Overview, filter: &ReceiverFilter) -> Markup {
    let number = |word: &str| {
        let group = overview.groups.iter().find(|group| group.state == word);
        group.map_or(0, |group| group.receivers)
    };
    html! {
        form.row action=(path) role="search" aria-label="Filter" {
            div { label for="receiver-q" { "Name or URL" } input #receiver-q name="q" type="search" value=[filter.q.as_deref()]; }
            div {
                label for="receiver-state" { "State" }
                select #receiver-state name="state" {
                    option value="" { "any" }
                    @for state in STATES {
                        option value=(state.word) selected[filter.state.as_deref() == Some(state.word)] { (state.label) " (" (number(state.word)) ")" }
                    }
                }
            }
            button.main { "Filter" }
        }
    }
}

/// Renders the list of receivers, with their plots if these are given.
pub fn list(visitor: &Visitor, receivers: &[Receiver], past: Option<&Past>) -> Markup {
    html! {
        @if receivers.is_empty() { p { "No matches." } } @else {
            ul.receivers { @for one in receivers { li.(state_of(&one.state).tone.class()) { (row(visitor, one, past)) } } }
        }
    }
}

fn row(visitor: &Visitor, one: &Receiver, past: Option<&Past>) -> Markup {
    let path = format!("/subscriptions/{}", one.id);
    html! {
        div.name {
            h3 { a.any href=(path) { (inert(&one.title())) } }
            p.hint { "#" (one.id) " · " (broken(&one.url)) }
        }
        div.state {
            (state(one))
            @if let Some(past) = past { (sparks(one.id, past)) }
        }
        (facts(one))
        div.acts {
            @if may_try(one) {
                form method="post" action=(path) { (form_token(visitor)) button name="action" value="try" { "Try now" } }
            }
            @if one.redeliverable > 0 {
                a.button href=(format!("{path}#failed")) { "Redeliver " (grouped(one.redeliverable)) "…" }
            }
        }
    }
}

fn sparks(id: i64, past: &Past) -> Markup {
    let Sparkline { attempts, backlog } = past.sparks.get(&id).cloned().unwrap_or_default();
    let kept = past.span().0;
    html! {
        div.sparks {
            div { span.hint aria-hidden="true" { "attempts/s" } (spark("attempts per second", attempts, kept)) }
            div { span.hint aria-hidden="true" { "queued" } (spark("queued", backlog, kept)) }
        }
    }
}

/// Reports whether an attempt at once makes sense: a delivery waits for its time or for a probe, or
/// the receiver must still confirm.
pub fn may_try(one: &Receiver) -> bool {
    match one.state.as_str() {
        "failing" | "gave_up" | "rejecting" | "blocked" | "retrying" => one.waiting > 0,
        "unconfirmed" => true,
        _ => false,
    }
}

/// Renders the state in words, and since when.
pub fn state(one: &Receiver) -> Markup {
    let known = state_of(&one.state);
    html! {
        p {
            span.badge.(known.tone.class()) { (known.label) }
            @if let Some(age) = one.ages.since {
                @if one.state == "gave_up" { " first " (duration(age)) " ago" } @else { " for " (duration(age)) }
            }
        }
        @if let Some(since) = &one.since { p.hint { "since " (time(since)) } }
    }
}

/// Renders what a person on call asks first. Facts that do not apply are left out.
pub fn facts(one: &Receiver) -> Markup {
    let fails = one.state != "healthy";
    html! {
        dl.health {
            @if let Some(reason) = &one.reason { div.wide { dt { "Reason" } dd.any { (inert(reason)) } } }
            @if fails && let Some(error) = one.last_error_words() {
                div.wide {
                    dt { "Last error" }
                    dd { b.any { (inert(&error)) } @if let Some(age) = one.ages.last_failure { " " span.soft.nb { (duration(age)) " ago" } } }
                }
            }
            @if let (Some(words), Some(at)) = (one.next_attempt_words(), &one.next_attempt_at) {
                div { dt { "Next attempt" } dd title=(at) { (words) } }
            }
            @if one.waiting > 0 { div { dt { "Waiting" } dd { (grouped(one.waiting)) } } }
            @if let Some(age) = one.ages.oldest_waiting { div { dt { "Oldest waiting" } dd { (duration(age)) } } }
            @if one.given_up > 0 { div { dt { "Gave up" } dd { b { (grouped(one.given_up)) } } } }
            @if one.rejected > 0 { div { dt { "Rejected events" } dd { b { (grouped(one.rejected)) } } } }
        }
    }
}
