//! Calls of the SQL API for subscriptions, which REST and the page share, in the caller's
//! transaction.

use crate::{
    extract::Body,
    options::{Argument, Arguments},
    problem::Problem,
    sessions::Work,
    subscriptions::shape::{Subscription, check_types},
    words::title,
};
use axum::http::StatusCode;
use database::Text;
use std::collections::HashMap;
use subscription_options::OPTIONS;
use tokio_postgres::{Row, types::ToSql};

/// Returns a statement for subscriptions as JSON, up to its conditions.
fn rows() -> String {
    let options =
        OPTIONS.iter().filter(|option| !option.is_secret).map(|option| format!("s.{}, ", option.name));
    format!(
        "select row_to_json(x)::text from (
         select s.id, {}s.paused_reason, s.verified_at, s.created_at, s.updated_at from webhook.subscription s",
        options.collect::<String>()
    )
}

/// Returns the subscriptions that the caller may see, by number.
///
/// # Errors
/// The errors of the statement.
pub async fn after(work: &mut Work, id: i64, rows: i64) -> Result<Vec<Subscription>, Problem> {
    work.json(&format!("{} where s.id > $1 order by s.id limit $2) x", self::rows()), &[&id, &rows]).await
}

/// Returns one subscription.
///
/// # Errors
/// 404 if there is none, or if it belongs to another owner.
pub async fn find(work: &mut Work, id: i64) -> Result<Subscription, Problem> {
    let found = work.json(&format!("{} where s.id = $1) x", rows()), &[&id]).await?;
    found.into_iter().next().ok_or_else(|| Problem::not_found("subscription"))
}

/// Returns the names of these subscriptions that people read, of those that the caller may see.
///
/// # Errors
/// The errors of the statement.
pub async fn names(work: &mut Work, ids: &[i64]) -> Result<HashMap<i64, String>, Problem> {
    const NAMES: &str = "select s.id, s.name, s.url from webhook.subscription s where s.id = any ($1)";
    let rows = work.query(NAMES, &[&ids]).await?;
    let one = |row: &Row| {
        let (name, url): (Option<Text>, Text) = (row.try_get(1)?, row.try_get(2)?);
        let name = name.map(|Text(name)| name);
        Ok::<_, tokio_postgres::Error>((row.try_get(0)?, title(name.as_deref(), &url.0)))
    };
    Ok(rows.iter().map(one).collect::<Result<_, _>>()?)
}

/// Returns the options of a body, with their JSON types.
fn arguments(body: &Body, first: usize) -> Result<Arguments, Problem> {
    let members = body.members()?;
    let unknown = members.keys().find(|name| OPTIONS.iter().all(|option| option.name != name.as_str()));
    if let Some(name) = unknown {
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("unknown option {name}"));
        return Err(problem.field(name.as_str()).hint("/v1/openapi.json lists the options."));
    }
    check_types(&members)?;
    Ok(Arguments::of(&members, first))
}

/// Finds the option that could not be cast, because Postgres does not name it.
async fn name_the_field(work: &mut Work, arguments: &Arguments, mut problem: Problem) -> Problem {
    if problem.field.is_some() || problem.status != 422 {
        return problem;
    }
    for (argument, part) in arguments.values.iter().zip(arguments.sql.split(", ")) {
        let Some((name, cast)) = part.split_once(" => ") else { continue };
        let cast = cast.split_once("::").map_or(cast, |(_, cast)| cast);
        if work.restart().await.is_err() {
            return problem;
        }
        let probe = work.query(&format!("select ($1::{cast}) is null"), &[argument.as_sql()]).await;
        if probe.is_err_and(|error| error.status == 422) {
            problem.field = Some(name.to_owned());
            problem.detail = problem.detail.map(|detail| format!("{name}: {detail}"));
            return problem;
        }
    }
    problem
}

/// Creates a subscription. Returns its number and its secret.
///
/// # Errors
/// The errors of the SQL API, with the name of the field.
pub async fn subscribe(work: &mut Work, body: &Body) -> Result<(i64, Option<String>), Problem> {
    let arguments = arguments(body, 1)?;
    let sql = format!("select id, secret from {}.webhook_subscribe({})", work.schema(), arguments.sql);
    if !arguments.sql.contains("url => ") {
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "url is missing").field("url"));
    }
    let values: Vec<&(dyn ToSql + Sync)> = arguments.values.iter().map(Argument::as_sql).collect();
    match work.row(&sql, &values).await {
        Ok(row) => Ok((row.try_get(0)?, row.try_get(1)?)),
        Err(problem) => Err(name_the_field(work, &arguments, problem).await),
    }
}

/// Changes a subscription.
///
/// # Errors
/// The errors of the SQL API, with the name of the field.
pub async fn alter(work: &mut Work, id: i64, body: &Body) -> Result<(), Problem> {
    let arguments = arguments(body, 3)?;
    let comma = if arguments.sql.is_empty() { "" } else { ", " };
    let call =
        format!("select ({}.webhook_alter(id => $1, clear => $2{comma}{})).id", work.schema(), arguments.sql);
    let clear = (!arguments.clear.is_empty()).then_some(&arguments.clear);
    let mut values: Vec<&(dyn ToSql + Sync)> = vec![&id, &clear];
    values.extend(arguments.values.iter().map(Argument::as_sql));
    match work.row(&call, &values).await {
        Ok(_) => Ok(()),
        Err(problem) => Err(name_the_field(work, &arguments, problem).await),
    }
}

/// Calls a function of the SQL API for one subscription. Its answer is text, if there is one.
///
/// # Errors
/// The errors of the function.
pub async fn call(
    work: &mut Work,
    function: &str,
    arguments: &[&(dyn ToSql + Sync)],
) -> Result<Option<String>, Problem> {
    let sql = format!("select {}.{function}::text", work.schema());
    Ok(work.row(&sql, arguments).await?.try_get(0)?)
}

/// The call of the SQL API, with its default.
pub const ROTATE: &str = "webhook_rotate_secret($1, coalesce($2::text::interval, '24 hours'))";

/// The call of the SQL API, with its defaults.
pub const REDELIVER_FAILED: &str = "webhook_redeliver_failed($1, coalesce($2::text::timestamptz, '-infinity'), \
    coalesce($3::text::timestamptz, 'infinity'), $4)";

/// Validates a time that a caller gives as text.
///
/// # Errors
/// 422 with the name of the field.
pub async fn check_moment(work: &mut Work, field: &str, text: &Option<String>) -> Result<(), Problem> {
    if text.is_some() {
        let cast = work.query("select $1::text::timestamptz is null", &[text]).await;
        cast.map_err(|problem| in_field(problem, field))?;
    }
    Ok(())
}

/// Adds the field to an error, if there is only one value that could not be cast.
pub fn in_field(problem: Problem, field: &str) -> Problem {
    if problem.status == 422 && problem.field.is_none() { problem.field(field) } else { problem }
}
