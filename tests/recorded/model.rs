//! Our model against what NCCL 2.30.7's own graph code answered for recorded files.

use nccl_topo::graph::{Channels, Search};
use nccl_topo::model::Model;
use nccl_topo::reader;
use serde_json::Value;

use crate::topologies;

/// The recorded answers, each with its file as read.
fn answers() -> Vec<(Value, reader::System)> {
    let folder = topologies();
    let lines = std::fs::read_to_string(folder.join("nccl-paths-expected.jsonl")).unwrap();
    let answers: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(answers.len() >= 51, "{} answers", answers.len());
    let read = |answer: Value| {
        let file = folder.join(answer["file"].as_str().unwrap());
        let reading = reader::read(&std::fs::read_to_string(&file).unwrap());
        let system = reading
            .system
            .unwrap_or_else(|| panic!("{}: {:?}", file.display(), reading.violations));
        (answer, system)
    };
    answers.into_iter().map(read).collect()
}

#[test]
fn gpus_and_their_numa_ids_are_nccls() {
    for (answer, system) in answers() {
        let model = Model::of_all(&system);
        let mut expected: Vec<_> = answer["gpus"].as_array().unwrap().iter().collect();
        expected.sort_by_key(|gpu| gpu["rank"].as_i64());
        let mut gpus: Vec<_> = model.gpus.iter().collect();
        gpus.sort_by_key(|gpu| gpu.rank);
        let ours: Vec<_> = gpus
            .iter()
            .map(|gpu| (gpu.busid.as_str(), gpu.numaid))
            .collect();
        let theirs: Vec<_> = expected
            .iter()
            .map(|gpu| {
                (
                    gpu["busid"].as_str().unwrap(),
                    gpu["numa"].as_i64().unwrap(),
                )
            })
            .collect();
        assert_eq!(ours, theirs, "{}", answer["file"]);
    }
}

#[test]
fn path_types_and_bandwidths_are_nccls() {
    let mut wrong = Vec::new();
    let mut pairs = 0;
    for (answer, system) in answers() {
        let model = Model::of_all(&system);
        let index = |busid: &Value| {
            let busid = busid.as_str().unwrap();
            model
                .gpus
                .iter()
                .position(|gpu| gpu.busid == busid)
                .unwrap()
        };
        for pair in answer["pairs"].as_array().unwrap() {
            let path = model
                .paths
                .between(index(&pair[0]), index(&pair[1]))
                .unwrap();
            let bandwidth = f64::from(path.bandwidth_gb_s);
            let same = path.kind.to_string() == pair[2].as_str().unwrap()
                && (bandwidth - pair[3].as_f64().unwrap()).abs() < 0.01;
            pairs += 1;
            if !same {
                wrong.push(format!(
                    "{} {pair}: {} {bandwidth}",
                    answer["file"], path.kind
                ));
            }
        }
    }
    println!("{pairs} pairs");
    assert!(
        wrong.is_empty(),
        "{} of {pairs} wrong: {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(20)]
    );
}

/// What is compared of a ring or tree: channels, bandwidth, type, and each channel's order.
type Summary = (usize, String, String, Vec<Vec<u64>>);

fn ours(model: &Model, channels: &Channels) -> Summary {
    let rank = |gpu: &usize| u64::try_from(model.gpus[*gpu].rank).unwrap();
    let orders = channels.orders.iter();
    (
        channels.orders.len(),
        format!("{:.2}", channels.bandwidth_gb_s),
        channels.kind.to_string(),
        orders
            .map(|order| order.iter().map(rank).collect())
            .collect(),
    )
}

fn theirs(graph: &Value) -> Summary {
    let channels = graph["channels"].as_array().unwrap().iter();
    let order = |channel: &Value| -> Vec<u64> {
        channel["order"]
            .as_array()
            .unwrap()
            .iter()
            .map(|gpu| gpu.as_u64().unwrap())
            .collect()
    };
    (
        usize::try_from(graph["nChannels"].as_u64().unwrap()).unwrap(),
        format!("{:.2}", graph["bwIntra"].as_f64().unwrap()),
        graph["typeIntra"].as_str().unwrap().to_owned(),
        channels.map(order).collect(),
    )
}

#[test]
fn rings_and_trees_are_nccls() {
    let mut wrong = Vec::new();
    let mut graphs = 0;
    // Unoptimised, all take half a minute.
    let step = if cfg!(debug_assertions) { 4 } else { 1 };
    for (answer, system) in answers().into_iter().step_by(step) {
        let model = Model::of_all(&system);
        let search = Search::of(&model.graph, &model.paths).unwrap();
        for (name, channels) in [("ring", &search.ring), ("tree", &search.tree)] {
            let (ours, theirs) = (ours(&model, channels), theirs(&answer["graphs"][name]));
            graphs += 1;
            if ours != theirs {
                wrong.push(format!("{} {name}:\n{ours:?}\n{theirs:?}", answer["file"]));
            }
        }
    }
    println!("{graphs} graphs");
    assert!(
        wrong.is_empty(),
        "{} of {graphs} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
