//! Times runs of recon with several victims per node, which the command line does not offer: it attacks one per group.
//!
//! `victims NUMBER NODE...` runs with that number of victims, spread over these nodes. Prints the seconds from the start
//! to the verified end, and how many steps were proved.

use std::error::Error;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use defender_sim::cluster::Cluster;
use defender_sim::cluster::connect::{self, ConnectOptions};
use defender_sim::engine;
use defender_sim::event::Events;
use defender_sim::net::Environment;
use defender_sim::plan::{DEFAULT_PARALLEL, DEFAULT_REGISTRY, Fit, Group, Options, Plan};
use defender_sim::result::ClusterInfo;
use defender_sim::scenario::{Outcome, catalogue};
use defender_sim::signal::Stop;

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "it is what the caller reads")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let number: NonZeroUsize = arguments.next().ok_or("expected NUMBER NODE...")?.parse()?;
    let nodes: Vec<String> = arguments.collect();
    let options = Options {
        attacker_image: format!("{DEFAULT_REGISTRY}/attacker:latest"),
        victim_image: format!("{DEFAULT_REGISTRY}/victim:latest"),
        deadline: Duration::from_secs(600),
        timeout: Duration::from_secs(300),
        keep: false,
        cover: None,
        parallel: DEFAULT_PARALLEL,
        fit: Fit {
            tolerations: vec!["sku".parse()?],
            ..Fit::default()
        },
    };
    let mut random = [0; 64];
    getrandom::fill(&mut random)?;
    let recon = catalogue::find("recon").ok_or("no recon")?.clone();
    let mut plan = Plan::new(options, None, vec![recon], random, jiff::Timestamp::now());
    let groups = nodes.iter().cycle().take(number.get());
    plan.cover(
        groups.cloned().map(Group::Node).collect(),
        "amd64".to_owned(),
        vec![],
    );
    let (config, _) = connect::resolve(&ConnectOptions::default(), &Environment::from_process())?;
    let client = connect::client(config, "victims", |_| {})?;
    let cluster = Cluster::new(client, Duration::from_secs(30));
    let stop = Stop::on_signals(|| std::process::exit(130))?;
    let (events, _receiver) = Events::channel();
    let started = Instant::now();
    let consent = async |_: &_| Ok(());
    let result = Box::pin(engine::run(
        &cluster,
        &plan,
        ClusterInfo::default(),
        consent,
        &stop,
        &events,
    ))
    .await;
    let proved = result
        .steps()
        .filter(|step| step.outcome == Outcome::Proved)
        .count();
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{number} victims: {seconds:.1} s, {proved} of {} steps proved, exit code {}",
        result.steps().count(),
        result.exit_code
    );
    Ok(())
}
