//! The overview on the page: the headline, the most urgent receivers, and the figures and plots of
//! the last half hour.
//!
//! Reads the visitor's receivers from Postgres, and all figures from the sampler's history. A
//! visitor who may not see everything gets the figures of their own subscriptions only.

use crate::{
    State,
    counters::Counts,
    page::{
        PageError, layout,
        past::{Past, Point},
        plot::{Series, chart},
        receivers as shown,
        session::Visitor,
        text::{figure, milliseconds},
    },
    receivers::{self, ReceiverFilter},
};
use axum::extract::State as Shared;
use maud::{Markup, html};
use std::collections::HashSet;

/// Maximum number of receivers in the list.
const LISTED: u16 = 50;

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
    let filter = ReceiverFilter { limit: Some(LISTED), ..ReceiverFilter::default() };
    let (overview, next) = receivers::page(&mut visitor.work, &filter).await?;
    let sees_all = visitor.sees_all;
    let seen: HashSet<i64> = if sees_all {
        overview.receivers.iter().map(|one| one.id).collect()
    } else {
        let rows = visitor.work.query("select id from webhook.subscription", &[]).await?;
        rows.iter().filter_map(|row| row.try_get(0).ok()).collect()
    };
    let past = Past::of(&state, sees_all, &seen);
    Ok(layout(
        "Overview",
        Some(&visitor),
        "/",
        html! {
            h1.hidden { "Overview" }
            div #overview data-live {
                (shown::header(&overview, &state.obstacles()))
                h2 { "Receivers" }
                @if overview.groups.is_empty() {
                    p { a.button.main href="/subscriptions/new" { "Create a subscription" } }
                } @else {
                    (shown::list(&visitor, &overview.receivers, Some(&past)))
                    p { a href="/subscriptions" { @if next.is_some() { "All subscriptions" } @else { "Search and filter" } } }
                }
                (tiles(&past, sees_all))
                (plots(&past, sees_all))
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
