//! Floods of HTTP/2, frame by frame: each ends or is borne, and nobody else notices.

use crate::edge::{Bystander, hurried, is_well};
use crate::hostile::{FLOODS, GOAWAY, flood};
use crate::support::World;

/// Floods that a connection cannot go on after.
const DEADLY: &[&str] = &[
    "rapid reset",
    "made you reset",
    "CONTINUATION",
    "empty CONTINUATION",
    "requests that no window lets be answered",
];

#[tokio::test]
async fn each_ends_or_is_borne() {
    let world = hurried("max_connection_age = \"3s\"").await;
    for (name, _) in FLOODS {
        let bystander = Bystander::of(&world);
        let mut line = flood(&world.target(), name, 2_000).await;
        if DEADLY.contains(name) {
            let goodbye = line.frame(GOAWAY, 0).await;
            println!("{name}: {goodbye:?}");
        }
        line.ends().await;
        bystander.was_served(name).await;
    }
    is_well(&world).await;
}

#[tokio::test]
async fn many_at_once_are_borne() {
    let world: World = hurried("").await;
    let bystander = Bystander::of(&world);
    let mut floods = Vec::new();
    for (name, _) in FLOODS {
        let target = world.target();
        floods.push(tokio::spawn(
            async move { flood(&target, name, 1_000).await },
        ));
    }
    for flood in floods {
        drop(flood.await.unwrap());
    }
    bystander.was_served("all floods at once").await;
    is_well(&world).await;
}
