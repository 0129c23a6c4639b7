//! The overview on the page: whether this daemon delivers, the figures and plots of the last half
//! hour, and the first subscriptions.
//!
//! Reads the visitor's subscriptions from Postgres, and all figures from the sampler's history. A
//! visitor who may not see everything gets the figures of their own subscriptions only.

use crate::{
    State,
    counters::Counts,
    page::{
        PageError, badge, layout,
        past::{Past, Point},
        plot::{Series, chart, spark},
        session::Visitor,
        text::{figure, inert, milliseconds},
    },
    sampler::SubscriptionSample,
    subscriptions::{self, Subscription},
};
use axum::extract::State as Shared;
use maud::{Markup, html};
use std::collections::HashSet;

/// Maximum number of subscriptions in the table.
const LISTED: i64 = 50;

/// Returns the share of successful attempts in percent.
fn share(counts: &Counts) -> Option<f64> {
    let all = counts.succeeded() + counts.failed();
    (all > 0).then(|| 100.0 * counts.succeeded() as f64 / all as f64)
}

fn percent(value: f64) -> String {
    if value >= 99.95 || value.fract() == 0.0 { format!("{value:.0} %") } else { format!("{value:.1} %") }
}

fn seconds(value: f64) -> String {
    if value < 10.0 { format!("{value:.1} s") } else { format!("{value:.0} s") }
}

/// `/`
pub async fn show(Shared(state): Shared<State>, mut visitor: Visitor) -> Result<Markup, PageError> {
    let row = visitor.work.row("select webhook.may_see_all()", &[]).await?;
    let sees_all: bool = row.try_get(0).map_err(crate::problem::Problem::from)?;
    let listed = subscriptions::after(&mut visitor.work, 0, LISTED).await?;
    let seen: HashSet<i64> = if sees_all {
        listed.iter().map(|one| one.id).collect()
    } else {
        let rows = visitor.work.query("select id from webhook.subscription", &[]).await?;
        rows.iter().filter_map(|row| row.try_get(0).ok()).collect()
    };
    let past = Past::of(&state, sees_all, &seen);
    let obstacles = state.obstacles();
    Ok(layout(
        "Overview",
        Some(&visitor),
        "/",
        html! {
            h1 { "Overview" }
            div #overview data-live {
                @if obstacles.is_empty() {
                    div.note.now role="status" { p { span.good { "Delivering." } " This daemon is the leader." } }
                } @else {
                    div.note.warn.now role="status" {
                        p { b { "This daemon does not deliver." } }
                        @for reason in &obstacles { p { (reason) } }
                    }
                }
                (tiles(&past, sees_all))
                (plots(&past, sees_all))
                (table(&past, &listed))
            }
        },
    ))
}

fn tiles(past: &Past, sees_all: bool) -> Markup {
    let last = past.points.last();
    let rate = |count: f64, point: &Point| figure(count / point.seconds);
    let tile = |name: &str, value: Option<String>| html! { div.tile { dt { (name) } dd { (value.unwrap_or_else(|| "–".to_owned())) } } };
    html! {
        dl.tiles {
            @if sees_all { (tile("Events per second", last.map(|point| rate(point.events as f64, point)))) }
            (tile("Deliveries per second", last.map(|point| rate(point.standing.counts.succeeded() as f64, point))))
            (tile("Success rate (30 min)", share(&past.total).map(percent)))
            (tile("Request duration, median", past.total.quantile_ms(0.5).map(milliseconds)))
            (tile("Request duration, p99", past.total.quantile_ms(0.99).map(milliseconds)))
            @if sees_all { (tile("Lag", past.latest.as_ref().map(|look| seconds(look.lag_s)))) }
            (tile("Queued", last.map(|point| figure(point.standing.backlog as f64))))
        }
    }
}

fn plots(past: &Past, sees_all: bool) -> Markup {
    let (kept, minutes) = past.span();
    let mut rates = Vec::new();
    if sees_all {
        rates.push(Series {
            name: "events",
            values: past.series(|point| Some(point.events as f64 / point.seconds)),
        });
    }
    rates.extend([past.rates("delivered", Counts::succeeded), past.rates("failed", Counts::failed)]);
    let quantile = |name, wanted| Series {
        name,
        values: past.series(|point| point.standing.counts.quantile_ms(wanted)),
    };
    html! {
        section aria-label="The last minutes" {
            h2 { "The last " (minutes) " minutes" }
            div.plots {
                (chart("Per second", &rates, kept, minutes, None, figure))
                (chart("Success rate", &[Series { name: "share", values: past.series(|point| share(&point.standing.counts)) }], kept, minutes, Some(100.0), percent))
                (chart("Request duration", &[quantile("median", 0.5), quantile("99 %", 0.99)], kept, minutes, None, milliseconds))
                @if sees_all { (chart("Lag", &[Series { name: "oldest undelivered event", values: past.series(|point| Some(point.lag_s)) }], kept, minutes, None, seconds)) }
                (past.backlog())
            }
        }
    }
}

/// Returns the state of a subscription in one word.
pub fn state_of(subscription: &Subscription) -> &'static str {
    match subscription {
        one if !one.is_enabled() => "paused",
        one if one.text("verification") != "none" && one.verified_at.is_none() => "unconfirmed",
        _ => "on",
    }
}

fn table(past: &Past, listed: &[Subscription]) -> Markup {
    let none = SubscriptionSample::default();
    html! {
        h2 { "Subscriptions" }
        @if listed.is_empty() { p { "There are no subscriptions. " a href="/subscriptions/new" { "Create a subscription" } "." } } @else {
            div.scroll { table {
                caption.hidden { "State of the subscriptions" }
                thead { tr { th scope="col" { "Name" } th scope="col" { "State" } th scope="col" { "Attempts per second" } th.n scope="col" { "Queue" } th.n scope="col" { "Failed (5 s)" } th scope="col" { "Circuit" } } }
                tbody { @for one in listed {
                    @let standing = past.latest.as_ref().and_then(|look| look.subscriptions.get(&one.id)).unwrap_or(&none);
                    @let spark_of = past.sparks.get(&one.id).cloned().unwrap_or_default();
                    tr {
                        th scope="row" { a.any href=(format!("/subscriptions/{}", one.id)) { (inert(one.title())) } }
                        td { (badge(state_of(one))) }
                        td { (spark("attempts per second", spark_of.attempts, past.span().0)) }
                        td.n { (spark("queued", spark_of.backlog, past.span().0)) " " (figure(standing.backlog as f64)) }
                        td.n { (standing.counts.failed()) }
                        td { (badge(if standing.circuit_open { "open" } else { "closed" })) }
                    }
                } }
            } }
        }
    }
}
