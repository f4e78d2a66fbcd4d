//! `top`: the status page of a running gateway in a terminal.

use std::io::{self, IsTerminal, Write};
use std::pin::{Pin, pin};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use http::Method;
use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval};

use super::{AdminArgs, COMMAND_TIMEOUT};
use crate::cli::failure::{self, Failure};
use crate::cli::signals;

mod findings;
mod keys;
mod lists;
mod model;
mod nodes;
mod overview;
mod screen;
mod theme;
mod view;

use keys::Action;
use model::{Model, Order};
use screen::{Input, Screen};
use theme::Theme;

#[cfg(test)]
mod tests;

/// Shows the status of a running gateway in a terminal, live
///
/// Findings first, then rates, latency, nodes, access keys and the last events; needs 80 columns and 24
/// rows. Keys: 1 to 5 choose what fills the screen, the arrows select a node, s sorts, d drains and u
/// undrains the selected node (after a question), ? shows all keys, q quits. A gateway that cannot be
/// reached is asked again every second. With --json the status is printed once.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Top {
    #[command(flatten)]
    pub(in crate::cli) target: AdminArgs,
}

/// A request to the gateway, with the part of the screen that its answer concerns.
type Request<T> = Option<Pin<Box<dyn Future<Output = T>>>>;

impl Top {
    /// Shows the status until a key or a signal ends it.
    ///
    /// # Errors
    /// Standard output is no terminal, or the terminal cannot be used. A gateway that cannot be reached is
    /// no error.
    pub async fn run(&self, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
        if self.target.json {
            writeln!(out, "{:#}", self.target.status().await?)?;
            return Ok(ExitCode::SUCCESS);
        }
        if !io::stdout().is_terminal() {
            return Err(Failure::new(
                "top needs a terminal, and standard output is none",
                NO_TERMINAL,
            )
            .into());
        }
        // What is wrong with the arguments is said before the screen is taken.
        super::AdminClient::new(&self.target)?;
        let stop = signals::shutdown_signal()?;
        let (mut screen, inputs) = Screen::open()?;
        let model = Model::new(self.target.admin.clone());
        let ended = self.follow(&mut screen, inputs, model, stop).await;
        screen.close()?;
        ended.map(|()| ExitCode::SUCCESS)
    }

    /// Draws, waits for a key, a signal, the clock or the gateway, and draws again.
    async fn follow(
        &self,
        screen: &mut Screen,
        mut inputs: screen::Inputs,
        mut model: Model,
        stop: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        let mut stop = pin!(stop);
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut poll: Request<Result<Value, String>> = None;
        let mut order: Request<Result<String, String>> = None;
        let theme = Theme::new();
        loop {
            screen.draw(|frame| view::draw(frame, &mut model, &theme))?;
            tokio::select! {
                () = &mut stop => return Ok(()),
                input = inputs.recv() => match input {
                    // What a terminal shows after a change of its size is up to it.
                    Some(Input::Resized) => screen.forget()?,
                    None | Some(Input::Failed) => return Ok(()),
                    Some(Input::Key(key)) => match model.on_key(key) {
                        Action::None => {}
                        Action::Quit => return Ok(()),
                        Action::Send(ordered) => order = Some(Box::pin(send(self.target.clone(), ordered))),
                    },
                },
                _ = ticks.tick() => if poll.is_none() {
                    poll = Some(Box::pin(fetch(self.target.clone(), model.path())));
                },
                status = answer(&mut poll) => {
                    poll = None;
                    model.on_status(status);
                },
                result = answer(&mut order) => {
                    order = None;
                    model.on_order(result);
                    // Shows what the order has changed.
                    ticks.reset_immediately();
                },
            }
        }
    }
}

/// Resolves with the answer; never without a request.
async fn answer<T>(request: &mut Request<T>) -> T {
    match request {
        Some(request) => request.await,
        None => std::future::pending().await,
    }
}

async fn fetch(target: AdminArgs, path: String) -> Result<Value, String> {
    let response = target.send(Method::GET, &path, STATUS_TIMEOUT).await;
    response
        .and_then(|response| response.success_json())
        .map_err(|error| message(&error))
}

async fn send(target: AdminArgs, order: Order) -> Result<String, String> {
    let path = super::node_path(&order.cluster, &order.address, order.command.as_str());
    let response = target.send(Method::POST, &path, COMMAND_TIMEOUT).await;
    response
        .and_then(|response| response.success_json())
        .map(|_| {
            format!(
                "{}/{} is {}ed",
                order.cluster,
                order.address,
                order.command.as_str()
            )
        })
        .map_err(|error| message(&error))
}

/// Returns the message of an error, with its advice.
fn message(error: &anyhow::Error) -> String {
    let error = &failure::to_json(error)["error"];
    let message = error["message"].as_str().unwrap_or_default();
    match error["help"].as_str() {
        Some(help) => format!("{message}; {help}"),
        None => message.to_owned(),
    }
}

/// How often the status is read.
const PERIOD: Duration = Duration::from_secs(1);

/// A gateway that takes longer is shown as one that cannot be reached.
const STATUS_TIMEOUT: Duration = Duration::from_secs(3);

const NO_TERMINAL: &str = "`ccfs-gateway status` prints the same once, and `top --json` as JSON";

const EXAMPLES: &str = "\
Examples:
  ccfs-gateway top
  ccfs-gateway top --admin https://gateway.internal:9901 --token-file admin.token --ca ca.pem
  NO_COLOR=1 ccfs-gateway top";
