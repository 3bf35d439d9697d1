//! `schemas/NAME-1.json` hold what the types write; `UPDATE_SCHEMAS=1 cargo test -p gpu-numa schemas` writes them.

use std::fs;
use std::path::Path;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};

/// The schema of what `T` writes, under the name that the document gives itself.
fn schema<T: JsonSchema>(name: &str) -> Schema {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    let own = format!("gpu-numa/{name}");
    // Every document says in "schema" which this is.
    let named = schema.pointer_mut("/properties/schema").unwrap();
    *named = serde_json::json!({ "const": own });
    schema.insert("title".to_owned(), own.into());
    schema
}

/// Every JSON document, by file.
fn documents() -> [(&'static str, Schema); 22] {
    fn of<T: JsonSchema>(name: &'static str) -> (&'static str, Schema) {
        (name, schema::<T>(&name.replace("-1", "/1")))
    }
    [
        of::<crate::show::json::ShowDocument<'_>>("machine-1"),
        of::<crate::show::explain::ExplainDocument>("explain-1"),
        of::<crate::plan::PlanDocument<'_>>("plan-1"),
        of::<crate::flags::FlagsDocument>("flags-1"),
        of::<crate::verify::VerifyDocument>("verify-1"),
        of::<crate::verify::VerifyJobDocument>("verify-job-1"),
        of::<crate::heal::HealDocument>("heal-1"),
        of::<crate::cache::CacheDocument>("cache-1"),
        of::<crate::check::CheckDocument>("check-1"),
        of::<crate::metrics::MetricsDocument>("metrics-1"),
        of::<crate::doctor::DoctorDocument<'_>>("doctor-1"),
        of::<crate::fleet::document::FleetDocument>("fleet-1"),
        of::<crate::gres_conf::GresConfDocument>("gres-conf-1"),
        of::<crate::measure::MeasureDocument>("measure-1"),
        of::<crate::snapshot::SnapshotCheckDocument>("snapshot-check-1"),
        of::<crate::nccl::emit::EmitDocument<'_>>("nccl-emit-1"),
        of::<crate::nccl::emit::GraphDocument<'_>>("nccl-graph-1"),
        of::<crate::nccl::paths::PathsDocument>("nccl-paths-1"),
        of::<crate::nccl::check::CheckDocument>("nccl-check-1"),
        of::<crate::nccl::ranks::RanksDocument>("nccl-ranks-1"),
        of::<topology::snapshot::Snapshot>("snapshot-1"),
        of::<launch::environment::BindReport<'_>>("report-1"),
    ]
}

#[test]
fn every_schema_in_the_repository_is_that_of_its_type() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../schemas"));
    let is_update = std::env::var_os("UPDATE_SCHEMAS").is_some();
    let mut stale = Vec::new();
    for (name, schema) in documents() {
        let path = folder.join(format!("{name}.json"));
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        if is_update {
            fs::create_dir_all(folder).unwrap();
            fs::write(path, text).unwrap();
        } else if fs::read_to_string(path).ok() != Some(text) {
            stale.push(name);
        }
    }
    assert!(
        stale.is_empty(),
        "{stale:?} changed; UPDATE_SCHEMAS=1 cargo test -p gpu-numa schemas writes them"
    );
    let files = fs::read_dir(folder).unwrap();
    let names: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
    assert_eq!(
        names.len(),
        documents().len(),
        "a file without a type: {names:?}"
    );
}
