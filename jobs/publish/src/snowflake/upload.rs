//! Puts one file where the server's answer to PUT says.

use bytes::Bytes;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::path::Path;
use object_store::{ObjectStore, PutOptions, PutPayload};
use serde_json::Value;

use super::SnowflakeError;
use super::client::without_url;

/// The place that the server names, without secrets in its debug form.
pub(super) struct Place<'a> {
    info: &'a Value,
    file: &'a str,
}

impl<'a> Place<'a> {
    /// Reads the answer to PUT.
    ///
    /// # Errors
    /// [`SnowflakeError::Encryption`] when the stage wants files encrypted by the client.
    pub(super) fn new(info: &'a Value, file: &'a str, stage: &str) -> Result<Self, SnowflakeError> {
        if has_key(info.get("encryptionMaterial")) {
            return Err(SnowflakeError::Encryption { stage: stage.to_owned() });
        }
        Ok(Self { info, file })
    }

    fn text(&self, pointer: &str) -> &'a str {
        self.info.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// Container and key prefix.
    fn location(&self) -> (&'a str, &'a str) {
        let location = self.text("/stageInfo/location");
        location.split_once('/').unwrap_or((location, ""))
    }

    /// Uploads `data`.
    ///
    /// # Errors
    /// [`SnowflakeError::Upload`]; the same PUT may be asked again, its credentials live about an hour.
    pub(super) async fn upload(&self, http: &reqwest::Client, data: Bytes) -> Result<(), SnowflakeError> {
        match self.text("/stageInfo/locationType") {
            "S3" => self.to_store(self.s3()?, data).await,
            "AZURE" => self.to_store(self.azure()?, data).await,
            "GCS" => self.to_gcs(http, data).await,
            other => Err(self.fail(format!("kind of place is not known: `{other}`"))),
        }
    }

    fn s3(&self) -> Result<impl ObjectStore + use<>, SnowflakeError> {
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(self.location().0)
            .with_region(self.text("/stageInfo/region"))
            .with_access_key_id(self.text("/stageInfo/creds/AWS_KEY_ID"))
            .with_secret_access_key(self.text("/stageInfo/creds/AWS_SECRET_KEY"));
        let token = self.text("/stageInfo/creds/AWS_TOKEN");
        if !token.is_empty() {
            builder = builder.with_token(token);
        }
        if let Some(endpoint) = self.endpoint("") {
            builder = builder.with_allow_http(is_loopback(&endpoint)).with_endpoint(endpoint);
        }
        builder.build().map_err(|error| self.fail(error.to_string()))
    }

    /// Another host than the store's usual one, as an address; a bare name gets `prefix` before it.
    fn endpoint(&self, prefix: &str) -> Option<String> {
        match self.text("/stageInfo/endPoint") {
            "" => None,
            address if address.contains("://") => Some(address.trim_end_matches('/').to_owned()),
            name => Some(format!("https://{prefix}{name}")),
        }
    }

    fn azure(&self) -> Result<impl ObjectStore + use<>, SnowflakeError> {
        let account = self.text("/stageInfo/storageAccount");
        let mut builder = MicrosoftAzureBuilder::new()
            .with_account(account)
            .with_container_name(self.location().0)
            .with_config(
                object_store::azure::AzureConfigKey::SasKey,
                self.text("/stageInfo/creds/AZURE_SAS_TOKEN").trim_start_matches('?'),
            );
        if let Some(endpoint) = self.endpoint(&format!("{account}.")) {
            builder = builder.with_allow_http(is_loopback(&endpoint)).with_endpoint(endpoint);
        }
        builder.build().map_err(|error| self.fail(error.to_string()))
    }

    async fn to_store(&self, store: impl ObjectStore, data: Bytes) -> Result<(), SnowflakeError> {
        let path = Path::from(format!("{}/{}", self.location().1.trim_end_matches('/'), self.file));
        let put = store.put_opts(&path, PutPayload::from_bytes(data), PutOptions::default()).await;
        put.map(drop).map_err(|error| self.fail(error.to_string()))
    }

    /// A presigned URL is for this one file; without one the answer carries a token for the bucket.
    async fn to_gcs(&self, http: &reqwest::Client, data: Bytes) -> Result<(), SnowflakeError> {
        let presigned = self.text("/stageInfo/presignedUrl");
        let request = if presigned.is_empty() {
            let (bucket, prefix) = self.location();
            let host = self.endpoint("").unwrap_or_else(|| "https://storage.googleapis.com".to_owned());
            let place = format!("{host}/{bucket}/{}/{}", prefix.trim_end_matches('/'), self.file);
            http.put(place).bearer_auth(self.text("/stageInfo/creds/GCS_ACCESS_TOKEN"))
        } else {
            http.put(presigned)
        };
        let response = request.body(data).send().await.map_err(|error| self.fail(without_url(&error)))?;
        if response.status().is_success() {
            Ok(())
        } else {
            Err(self.fail(format!("http status {}", response.status().as_u16())))
        }
    }

    fn fail(&self, detail: String) -> SnowflakeError {
        SnowflakeError::Upload {
            place: format!("{} {}", self.text("/stageInfo/locationType"), self.file),
            source: detail.into(),
        }
    }
}

fn is_loopback(endpoint: &str) -> bool {
    url::Url::parse(endpoint).is_ok_and(|url| match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    })
}

/// The answer holds one object, or a list with one per file; without encryption it is absent, null or without a key.
fn has_key(material: Option<&Value>) -> bool {
    match material {
        Some(Value::Array(several)) => several.iter().any(|one| has_key(Some(one))),
        Some(Value::Object(one)) => one.get("queryStageMasterKey").is_some_and(|key| !key.is_null()),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
