//! The `redis` crate: its connection manager, atomic pipelines, scripts, subscriptions.
//!
//! Prints `ok <check>` or `FAIL <check>: <why>` for each check.

use futures_util::StreamExt as _;
use redis::aio::ConnectionManager;
use redis::{AsyncCommands as _, Client, RedisResult, Script};
use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

const CHECK_TIMEOUT: Duration = Duration::from_secs(30);

fn failed<T>(text: String) -> RedisResult<T> {
    Err(redis::RedisError::from(std::io::Error::other(text)))
}

fn expect<T: PartialEq + std::fmt::Debug>(actual: T, expected: T) -> RedisResult<()> {
    match actual == expected {
        true => Ok(()),
        false => failed(format!("{actual:?} instead of {expected:?}")),
    }
}

async fn many_tasks_on_one_connection(client: Client) -> RedisResult<()> {
    let manager = ConnectionManager::new(client).await?;
    let tasks = (0..200).map(|n| {
        let mut manager = manager.clone();
        tokio::spawn(async move { manager.incr(format!("rs:{}", n % 5), 1).await })
    });
    for task in tasks.collect::<Vec<_>>() {
        let _: i64 = task.await.map_err(std::io::Error::other)??;
    }
    let keys: Vec<String> = (0..5).map(|n| format!("rs:{n}")).collect();
    let counts: Vec<i64> = manager.clone().mget(keys).await?;
    expect(counts.iter().sum(), 200)
}

async fn atomic_pipelines(client: Client) -> RedisResult<()> {
    let mut manager = ConnectionManager::new(client).await?;
    let (a, b): (i64, i64) = redis::pipe()
        .atomic()
        .set("rs:a", 1)
        .ignore()
        .incr("rs:a", 4)
        .incr("rs:b", 7)
        .query_async(&mut manager)
        .await?;
    expect((a, b), (5, 7))
}

async fn scripts(client: Client) -> RedisResult<()> {
    let mut manager = ConnectionManager::new(client).await?;
    let script = Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1]) + #KEYS");
    for expected in [12, 22] {
        let sum: i64 = script
            .key("rs:script")
            .key("rs:other")
            .arg(10)
            .invoke_async(&mut manager)
            .await?;
        expect(sum, expected)?;
    }
    Ok(())
}

async fn subscriptions(client: Client) -> RedisResult<()> {
    let mut manager = ConnectionManager::new(client.clone()).await?;
    let mut subscriber = client.get_async_pubsub().await?;
    subscriber.subscribe("rs:news").await?;
    subscriber.psubscribe("rs:more.*").await?;
    let mut messages = subscriber.on_message();
    for n in 0..40 {
        let channel = if n % 2 == 0 { "rs:news" } else { "rs:more.x" };
        let _: i64 = manager.publish(channel, n).await?;
    }
    for n in 0..40 {
        let Some(message) = messages.next().await else {
            return failed("the messages ended".into());
        };
        expect(message.get_payload::<i64>()?, n)?;
    }
    Ok(())
}

async fn blocking_pops(client: Client) -> RedisResult<()> {
    let mut manager = ConnectionManager::new(client.clone()).await?;
    let mut blocked = client.get_multiplexed_async_connection().await?;
    blocked.set_response_timeout(CHECK_TIMEOUT);
    let waiting = tokio::spawn(async move {
        let popped: (String, String) = blocked.blpop(&["rs:q1", "rs:q2"], 10.0).await?;
        RedisResult::Ok(popped)
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let _: i64 = manager.rpush("rs:q2", "element").await?;
    let popped = waiting.await.map_err(std::io::Error::other)??;
    expect(popped, ("rs:q2".into(), "element".into()))
}

async fn transactions_that_watch(client: Client) -> RedisResult<()> {
    let mut one = client.get_multiplexed_async_connection().await?;
    let mut other = client.get_multiplexed_async_connection().await?;
    let _: () = other.set("rs:watched", 1).await?;
    let _: () = redis::cmd("WATCH").arg("rs:watched").query_async(&mut one).await?;
    let _: () = other.set("rs:watched", 2).await?;
    let mut transaction = redis::pipe();
    let refused: Option<Vec<i64>> = transaction
        .atomic()
        .incr("rs:watched", 1)
        .query_async(&mut one)
        .await?;
    expect(refused, None)
}

async fn resp3(client: Client) -> RedisResult<()> {
    let mut connection = client.get_multiplexed_async_connection().await?;
    let _: redis::Value = redis::cmd("HELLO").arg(3).query_async(&mut connection).await?;
    let _: i64 = connection.zadd("rs:z", "member", 1.5).await?;
    let score: f64 = connection.zscore("rs:z", "member").await?;
    expect(score, 1.5)
}

async fn check<F>(name: &str, running: F) -> bool
where
    F: Future<Output = RedisResult<()>>,
{
    let outcome = tokio::time::timeout(CHECK_TIMEOUT, running).await;
    let why = match outcome {
        Ok(Ok(())) => {
            println!("ok {name}");
            return true;
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("not done after {CHECK_TIMEOUT:?}"),
    };
    println!("FAIL {name}: {}", why.replace('\n', " "));
    false
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let port = std::env::var("MOON_CLIENTS_PORT").expect("set by cargo xtask clients");
    let open = || Client::open(format!("redis://127.0.0.1:{port}/")).expect("an address");
    println!("version redis-rs 1");
    let mut all = true;
    all &= check("many_tasks_on_one_connection", many_tasks_on_one_connection(open())).await;
    all &= check("atomic_pipelines", atomic_pipelines(open())).await;
    all &= check("scripts", scripts(open())).await;
    all &= check("subscriptions", subscriptions(open())).await;
    all &= check("blocking_pops", blocking_pops(open())).await;
    all &= check("transactions_that_watch", transactions_that_watch(open())).await;
    all &= check("resp3", resp3(open())).await;
    match all {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
