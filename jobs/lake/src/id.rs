//! Where tables lie, so that any Delta reader finds them.

use std::fmt;

use tidemill_project::SourceName;

/// A table of the lake or of the local warehouse, by its place under the root.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TableId {
    /// `raw/<source>/<table>/`
    Raw(SourceName),
    /// `models/<schema>/<model>/`: models, seeds, snapshots.
    Model {
        /// The model's schema, `main` unless configured.
        schema: String,
        /// The model's name.
        name: String,
    },
    /// `ops/<name>/`: quarantine, publications, audit failures.
    Ops(String),
    /// `<database>/<schema>/<table>/` under a warehouse's root, names as the user wrote them.
    Warehouse {
        /// Database.
        database: String,
        /// Schema.
        schema: String,
        /// Table.
        table: String,
    },
}

impl TableId {
    /// The quarantine of all sources.
    #[must_use]
    pub fn quarantine() -> Self {
        Self::Ops("quarantine".to_owned())
    }

    /// A model's table.
    pub fn model(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self::Model { schema: schema.into(), name: name.into() }
    }

    /// The path under the root, without slashes at its ends.
    #[must_use]
    pub fn path(&self) -> String {
        match self {
            Self::Raw(name) => format!("raw/{}/{}", name.source, name.table),
            Self::Model { schema, name } => format!("models/{schema}/{name}"),
            Self::Ops(name) => format!("ops/{name}"),
            Self::Warehouse { database, schema, table } => format!("{database}/{schema}/{table}"),
        }
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}
