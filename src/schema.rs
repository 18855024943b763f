//! JSON Schemas of what this tool reads and prints, generated from the Rust types.
//!
//! `docs/schema` contains a copy for users without the binary; a test fails if the two differ.

use clap::ValueEnum;
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::Value;

use crate::result::{CleanupResult, DoctorResult, FleetResult, Handover, Note, PlanResult, RunResult};
use crate::scenario::Scenario;

/// A JSON Schema that this tool publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Schema {
    /// Of scenario files.
    Scenario,
    /// Of what a run prints.
    Run,
    /// Of what a dry run prints.
    Plan,
    /// Of what `cleanup` prints.
    Cleanup,
    /// Of what `doctor` prints.
    Doctor,
    /// Of what a command prints for several clusters.
    Fleet,
    /// Of the note for the SOC.
    Note,
    /// Of what `handover` prints.
    Handover,
}

/// Returns the schema (JSON Schema, draft 2020-12) with that name.
pub fn schema(name: Schema) -> Value {
    match name {
        Schema::Scenario => of::<Scenario>(SchemaSettings::draft2020_12().for_deserialize()),
        Schema::Run => of::<RunResult>(output()),
        Schema::Plan => of::<PlanResult>(output()),
        Schema::Cleanup => of::<CleanupResult>(output()),
        Schema::Doctor => of::<DoctorResult>(output()),
        Schema::Fleet => of::<FleetResult>(output()),
        Schema::Note => of::<Note>(output()),
        Schema::Handover => of::<Handover>(output()),
    }
}

fn output() -> SchemaSettings {
    SchemaSettings::draft2020_12().for_serialize()
}

fn of<T: JsonSchema>(settings: SchemaSettings) -> Value {
    SchemaGenerator::new(settings)
        .into_root_schema_for::<T>()
        .to_value()
}
