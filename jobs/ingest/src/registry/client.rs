//! The REST interface.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use tidemill_project::config::{RegistryAuth, RegistrySettings};

use super::error::RegistryError;
use crate::decode::{RegisteredSchema, SchemaId, SchemaKind};

/// The code of an id that the registry does not know.
const UNKNOWN_SCHEMA: u64 = 40_403;
/// The codes of a subject, or a version of one, that it does not know.
const UNKNOWN_SUBJECT: [u64; 2] = [40_401, 40_402];
/// References that lead to references: deeper than any real family of schemas.
const MAX_REFERENCE_DEPTH: usize = 16;

/// A client of one registry. Clones share connections and cache.
#[derive(Clone, Debug)]
pub struct Registry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: RegistrySettings,
    http: reqwest::Client,
    schemas: Mutex<HashMap<SchemaId, Arc<RegisteredSchema>>>,
}

/// A version of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectVersion {
    /// The schema's id.
    pub id: SchemaId,
    /// The version, from 1.
    pub version: u64,
    /// The schema.
    pub schema: RegisteredSchema,
}

/// What the registry says to a schema by the rule of its subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compatibility {
    /// Whether it may become the next version.
    pub is_compatible: bool,
    /// What stands against it, in the registry's words.
    pub messages: Vec<String>,
}

/// A schema in the interface's JSON.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SchemaAnswer {
    schema: String,
    /// Left out for Avro.
    #[serde(default)]
    schema_type: Option<String>,
    #[serde(default)]
    references: Vec<Reference>,
    #[serde(default)]
    id: Option<u32>,
    #[serde(default)]
    version: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
struct Reference {
    subject: String,
    version: u64,
}

#[derive(Debug, Deserialize)]
struct RefusalAnswer {
    error_code: u64,
    #[serde(default)]
    message: String,
}

impl Registry {
    /// Prepares a client; nothing is sent yet.
    ///
    /// # Errors
    /// A file of certificates or keys cannot be read or used.
    pub fn new(settings: &RegistrySettings) -> Result<Self, RegistryError> {
        let client = |source: reqwest::Error| RegistryError::Client { url: settings.url.to_string(), source };
        let mut http = reqwest::Client::builder().timeout(settings.timeout).use_rustls_tls();
        if let Some(path) = &settings.ca {
            for certificate in reqwest::Certificate::from_pem_bundle(&read(path)?).map_err(client)? {
                http = http.add_root_certificate(certificate);
            }
        }
        if let Some(files) = &settings.client_certificate {
            let mut pem = read(&files.certificate)?;
            pem.push(b'\n');
            pem.extend_from_slice(&read(&files.key)?);
            http = http.identity(reqwest::Identity::from_pem(&pem).map_err(client)?);
        }
        let http = http.build().map_err(client)?;
        Ok(Self(Arc::new(Inner { settings: settings.clone(), http, schemas: Mutex::default() })))
    }

    /// The base of the interface.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.0.settings.url
    }

    /// A schema by its id, with those that it refers to; `None` when the registry does not know the id. Asked for once.
    ///
    /// # Errors
    /// The registry does not answer, refuses, or is none.
    pub async fn schema(&self, id: SchemaId) -> Result<Option<Arc<RegisteredSchema>>, RegistryError> {
        const ACT: &str = "read a schema";
        if let Some(schema) = self.0.schemas.lock().get(&id) {
            return Ok(Some(Arc::clone(schema)));
        }
        let id_text = id.to_string();
        let answer = match self.ask(Method::GET, ACT, &["schemas", "ids", &id_text], None).await {
            Err(error) if error.code_of_refusal() == Some(UNKNOWN_SCHEMA) => return Ok(None),
            answer => self.read_schema(ACT, answer?).await?.1,
        };
        let schema = Arc::new(answer);
        self.0.schemas.lock().insert(id, Arc::clone(&schema));
        Ok(Some(schema))
    }

    /// The newest version of a subject; `None` when there is none.
    ///
    /// # Errors
    /// The registry does not answer, refuses, or is none.
    pub async fn latest(&self, subject: &str) -> Result<Option<SubjectVersion>, RegistryError> {
        const ACT: &str = "read the latest version of a subject";
        match self.ask(Method::GET, ACT, &["subjects", subject, "versions", "latest"], None).await {
            Err(error) if error.code_of_refusal().is_some_and(|code| UNKNOWN_SUBJECT.contains(&code)) => Ok(None),
            answer => {
                let (answer, schema) = self.read_schema(ACT, answer?).await?;
                let (Some(id), Some(version)) = (answer.id, answer.version) else {
                    return Err(self.senseless(ACT, "a version without id or number".to_owned()));
                };
                Ok(Some(SubjectVersion { id: SchemaId(id), version, schema }))
            }
        }
    }

    /// Asks whether a schema may follow the newest version of a subject, by the rule that the subject has. A subject without
    /// versions takes any.
    ///
    /// # Errors
    /// The registry does not answer, refuses, is none, or cannot read the schema.
    pub async fn compatibility(
        &self,
        subject: &str,
        schema: &RegisteredSchema,
    ) -> Result<Compatibility, RegistryError> {
        const ACT: &str = "compare a schema";
        let path = ["compatibility", "subjects", subject, "versions", "latest"];
        let answer = match self.ask(Method::POST, ACT, &path, Some(body_of(schema))).await {
            Err(error) if error.code_of_refusal().is_some_and(|code| UNKNOWN_SUBJECT.contains(&code)) => {
                return Ok(Compatibility { is_compatible: true, messages: Vec::new() });
            }
            answer => answer?,
        };
        let Some(is_compatible) = answer.get("is_compatible").and_then(Json::as_bool) else {
            return Err(self.senseless(ACT, "it does not say `is_compatible`".to_owned()));
        };
        let messages = answer.get("messages").and_then(Json::as_array).into_iter().flatten();
        let messages = messages.map(|message| message.as_str().map_or_else(|| message.to_string(), str::to_owned));
        Ok(Compatibility { is_compatible, messages: messages.collect() })
    }

    /// Registers a schema as the next version of a subject, and returns its id; a schema that is there already keeps its own.
    ///
    /// # Errors
    /// The registry does not answer, refuses (an incompatible schema, a login that may not), or is none.
    pub async fn register(&self, subject: &str, schema: &RegisteredSchema) -> Result<SchemaId, RegistryError> {
        const ACT: &str = "register a schema";
        let answer = self.ask(Method::POST, ACT, &["subjects", subject, "versions"], Some(body_of(schema))).await?;
        let id = answer.get("id").and_then(Json::as_u64).and_then(|id| u32::try_from(id).ok());
        id.map(SchemaId).ok_or_else(|| self.senseless(ACT, "it does not give an id".to_owned()))
    }

    /// Asks whether the registry is there and lets us in.
    ///
    /// # Errors
    /// It is not, or does not.
    pub async fn ping(&self) -> Result<(), RegistryError> {
        const ACT: &str = "list its kinds of schemas";
        self.ask(Method::GET, ACT, &["schemas", "types"], None).await.map(|_| ())
    }

    /// Reads an answer that holds a schema, and the schemas that it refers to.
    async fn read_schema(
        &self,
        act: &'static str,
        answer: Json,
    ) -> Result<(SchemaAnswer, RegisteredSchema), RegistryError> {
        let parse = |answer: Json| {
            serde_json::from_value::<SchemaAnswer>(answer).map_err(|error| self.senseless(act, error.to_string()))
        };
        let answer = parse(answer)?;
        let mut references = Vec::new();
        // Depth first, each before those that name it: entered twice, written down once on the way back.
        let mut pending: Vec<(Reference, usize)> =
            answer.references.iter().rev().map(|next| (next.clone(), 1)).collect();
        while let Some((reference, depth)) = pending.pop() {
            if depth > MAX_REFERENCE_DEPTH {
                return Err(self.senseless(act, "references lead too deep".to_owned()));
            }
            let version = reference.version.to_string();
            let found = parse(
                self.ask(Method::GET, act, &["subjects", &reference.subject, "versions", &version], None).await?,
            )?;
            pending.extend(found.references.iter().rev().map(|next| (next.clone(), depth + 1)));
            references.retain(|known| *known != found.schema);
            references.insert(0, found.schema);
        }
        let kind = match answer.schema_type.as_deref() {
            None | Some("AVRO") => SchemaKind::Avro,
            Some("JSON") => SchemaKind::Json,
            Some(other) => SchemaKind::Other(other.to_owned()),
        };
        let schema = RegisteredSchema { kind, text: answer.schema.clone(), references };
        Ok((answer, schema))
    }

    async fn ask(
        &self,
        method: Method,
        act: &'static str,
        path: &[&str],
        body: Option<Json>,
    ) -> Result<Json, RegistryError> {
        let mut url = self.url().clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if path.first() == Some(&"compatibility") {
            url.query_pairs_mut().append_pair("verbose", "true");
        }
        let mut request = self
            .0
            .http
            .request(method, url)
            .header("accept", "application/vnd.schemaregistry.v1+json, application/json");
        request = match &self.0.settings.auth {
            RegistryAuth::None => request,
            RegistryAuth::Basic { username, password } => request.basic_auth(username, Some(password.expose_secret())),
            RegistryAuth::Bearer(token) => request.bearer_auth(token.expose_secret()),
        };
        if let Some(body) = body {
            request = request.header("content-type", "application/vnd.schemaregistry.v1+json").body(body.to_string());
        }
        let silent = |source: reqwest::Error| RegistryError::Silent {
            url: self.url().to_string(),
            act,
            source: source.without_url(),
        };
        let response = request.send().await.map_err(silent)?;
        let status = response.status();
        let text = response.text().await.map_err(silent)?;
        if status.is_success() {
            return serde_json::from_str(&text)
                .map_err(|error| self.senseless(act, format!("it is not JSON: {error}")));
        }
        let refusal = serde_json::from_str::<RefusalAnswer>(&text).ok();
        let code = refusal.as_ref().map(|refusal| refusal.error_code);
        let message = refusal.map_or_else(|| first_line(&text), |refusal| refusal.message);
        Err(RegistryError::Refused { url: self.url().to_string(), act, status, code, message })
    }

    fn senseless(&self, act: &'static str, problem: String) -> RegistryError {
        RegistryError::Answer { url: self.url().to_string(), act, problem }
    }
}

fn body_of(schema: &RegisteredSchema) -> Json {
    match &schema.kind {
        SchemaKind::Avro => json!({"schema": schema.text}),
        SchemaKind::Json => json!({"schema": schema.text, "schemaType": "JSON"}),
        SchemaKind::Other(kind) => json!({"schema": schema.text, "schemaType": kind}),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, RegistryError> {
    std::fs::read(path).map_err(|source| RegistryError::ReadFile { path: path.to_owned(), source })
}

/// Enough of a foreign answer to see who it came from.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(120).collect()
}
