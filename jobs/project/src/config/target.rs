//! `[target.NAME.…]`: one environment.

use std::path::Path;

use super::collect::{CollectSettings, read_collect};
use super::kafka::read_kafka;
use super::parse::Shared;
use super::reference::settings_keys;
use super::registry::{RegistrySettings, read_registry};
use super::sections::{read_ingest, read_maintenance, read_transform};
use super::sinks::read_sinks;
use super::variables::read_secret;
use super::warehouse::read_warehouse;
use super::{
    IngestSettings, KafkaSettings, LakeSettings, MaintenanceSettings, SettingsRequest, SinkSettings, TransformSettings,
    WarehouseSettings, store_url,
};
use crate::document::{Data, Node, Place, Reader, codes};
use crate::error::Fault;
use crate::secret::Secret;

/// Where the lake lies unless declared, in the folder that tools already ignore.
const DEFAULT_LAKE: &str = "target/tidemill/lake";

/// What a target needs to know about its surroundings.
pub(super) struct TargetContext<'c> {
    pub(super) request: &'c SettingsRequest,
    pub(super) project_dir: &'c Path,
    pub(super) project_name: &'c str,
    pub(super) name: &'c str,
    /// Whether the invocation runs on this target; others are checked only.
    pub(super) is_chosen: bool,
    pub(super) shared: &'c Shared,
}

impl TargetContext<'_> {
    /// Reads a secret; the files of other targets stay closed.
    pub(super) fn secret(&self, reader: &mut Reader<'_>, key: &str, node: &Node) -> Option<Secret> {
        if self.is_chosen {
            read_secret(reader, self.project_dir, key, node)
        } else {
            reader.spelling(key, node).map(Secret::new)
        }
    }

    /// Reads a store's address. The fault does not quote it.
    pub(super) fn store_url(&self, reader: &mut Reader<'_>, key: &str, node: &Node) -> Option<url::Url> {
        let text = reader.text(key, node)?;
        match store_url::parse(&text, self.project_dir, self.home()) {
            Ok(url) => Some(url),
            Err(why) => {
                let message = format!("address is not usable, key=`{key}`");
                reader.fault_hint(node.place, codes::BAD_VALUE, message, why);
                None
            }
        }
    }

    fn home(&self) -> Option<&str> {
        self.request.env.get("HOME").map(String::as_str)
    }
}

/// What a target adds to the project-wide settings.
pub(super) struct Target {
    pub(super) kafka: Option<KafkaSettings>,
    pub(super) lake: LakeSettings,
    pub(super) warehouse: WarehouseSettings,
    pub(super) collect: Option<CollectSettings>,
    pub(super) registry: Option<RegistrySettings>,
    pub(super) sinks: SinkSettings,
    pub(super) ingest: IngestSettings,
    pub(super) transform: TransformSettings,
    pub(super) maintenance: MaintenanceSettings,
}

/// The target of a project that declares none: no Kafka, everything in one folder.
pub(super) fn implicit_target(reader: &mut Reader<'_>, context: &TargetContext<'_>) -> Option<Target> {
    let empty = Node { place: Place::default(), data: Data::Map(Vec::new()) };
    read_target(reader, context, &empty)
}

/// Reads a target. `None` when a fault leaves no target to speak of.
pub(super) fn read_target(reader: &mut Reader<'_>, context: &TargetContext<'_>, node: &Node) -> Option<Target> {
    let path = format!("target.{}", context.name);
    let section = reader.section(&path, node, &settings_keys("target.<name>"))?;
    let ingest = match section.get("ingest") {
        Some(node) => read_ingest(reader, &section.path("ingest"), node, context.shared.ingest.clone()),
        None => context.shared.ingest.clone(),
    };
    let transform = match section.get("transform") {
        Some(node) => read_transform(reader, &section.path("transform"), node, context.shared.transform.clone()),
        None => context.shared.transform.clone(),
    };
    let maintenance = match section.get("maintenance") {
        Some(node) => read_maintenance(reader, &section.path("maintenance"), node, context.shared.maintenance.clone()),
        None => context.shared.maintenance.clone(),
    };
    let kafka = section.get("kafka").map(|node| read_kafka(reader, context, &section.path("kafka"), node));
    let lake = read_lake(reader, context, &section.path("lake"), section.get("lake"));
    let warehouse =
        read_warehouse(reader, context, &section.path("warehouse"), section.get("warehouse"), lake.as_ref());
    let collect = section.get("collect").map(|node| read_collect(reader, context, &section.path("collect"), node));
    let registry = section.get("registry").map(|node| read_registry(reader, context, &section.path("registry"), node));
    let sinks = match section.get("sinks") {
        Some(node) => read_sinks(reader, context, &section.path("sinks"), node),
        None => Some(SinkSettings::default()),
    };
    Some(Target {
        kafka: match kafka {
            Some(kafka) => Some(kafka?),
            None => None,
        },
        lake: lake?,
        warehouse: warehouse?,
        collect: match collect {
            Some(collect) => Some(collect?),
            None => None,
        },
        registry: match registry {
            Some(registry) => Some(registry?),
            None => None,
        },
        sinks: sinks?,
        ingest,
        transform,
        maintenance,
    })
}

fn read_lake(
    reader: &mut Reader<'_>,
    context: &TargetContext<'_>,
    name: &str,
    node: Option<&Node>,
) -> Option<LakeSettings> {
    let mut lake = LakeSettings {
        url: store_url::parse(DEFAULT_LAKE, context.project_dir, None)
            .map_err(|why| reader.push(Fault::new(format!("lake has no address: {why}")).code(codes::BAD_VALUE)))
            .ok()?,
        options: std::collections::BTreeMap::new(),
    };
    if let Some(node) = node {
        let section = reader.section(name, node, &settings_keys("target.<name>.lake"))?;
        let options = section.get("options");
        for (key, value) in options.map(Node::entries).unwrap_or_default() {
            if let Some(value) = context.secret(reader, &format!("{name}.options.{}", key.name), value) {
                lake.options.insert(key.name.clone(), value);
            }
        }
        if let Some(options) = options.filter(|options| !matches!(options.data, Data::Map(_))) {
            reader.wrong_type(&section.path("options"), options, "table");
        }
        if let Some(url) = section.get("url") {
            lake.url = context.store_url(reader, &section.path("url"), url)?;
        }
    }
    if let Some(text) = context.request.lake.as_ref().filter(|_| context.is_chosen) {
        match store_url::parse(text, &context.request.cwd, context.home()) {
            Ok(url) => {
                // The options of one kind of store mean nothing to another.
                if url.scheme() != lake.url.scheme() {
                    lake.options.clear();
                }
                lake.url = url;
            }
            Err(why) => {
                reader.push(Fault::new("address is not usable, key=`--lake`").code(codes::BAD_VALUE).hint(why));
                return None;
            }
        }
    }
    Some(lake)
}
