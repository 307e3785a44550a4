//! TLS in front of a server that has none, for clients with a certificate of its authority and for nobody else.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, ensure};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

/// The running front. Its thread ends with the process.
#[derive(Debug)]
pub struct MutualTls {
    folder: TempDir,
    port: u16,
}

/// A certificate and its private key, PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Certificate.
    pub certificate: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

impl MutualTls {
    /// Starts a front for `upstream` (`host:port`), with an authority, a certificate for `localhost` and one for a client.
    ///
    /// # Errors
    /// When `openssl` is missing, or there is no port.
    pub fn before(upstream: &str) -> Result<Self> {
        let folder = TempDir::with_prefix("tidemill-tls-")?;
        let at = folder.path();
        let extensions = "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n";
        std::fs::write(at.join("extensions"), extensions)?;
        for authority in ["authority", "stranger"] {
            let subject = format!("/CN={authority}");
            let outputs = ["-keyout", &format!("{authority}.key"), "-out", &format!("{authority}.crt")];
            openssl(at, &[&["req", "-x509", "-subj", &subject], &NEW_KEY[..], &outputs[..]].concat())?;
        }
        for leaf in ["server", "client"] {
            let (subject, request) = (format!("/CN={leaf}"), format!("{leaf}.csr"));
            let outputs = ["-keyout", &format!("{leaf}.key"), "-out", &request];
            openssl(at, &[&["req", "-subj", &subject], &NEW_KEY[..], &outputs[..]].concat())?;
            let signed = ["x509", "-req", "-days", "2", "-in", &request, "-out", &format!("{leaf}.crt")];
            let by = ["-CA", "authority.crt", "-CAkey", "authority.key", "-CAcreateserial", "-extfile", "extensions"];
            openssl(at, &[&signed[..], &by[..]].concat())?;
        }
        let acceptor = TlsAcceptor::from(Arc::new(config(at)?));
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        listener.set_nonblocking(true)?;
        let upstream = upstream.to_owned();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::spawn(move || {
            runtime.block_on(async move {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
                while let Ok((client, _)) = listener.accept().await {
                    tokio::spawn(pass_on(client, acceptor.clone(), upstream.clone()));
                }
            });
        });
        Ok(Self { folder, port })
    }

    /// `localhost:port`, the name that its certificate has.
    #[must_use]
    pub fn address(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// The authority's certificate.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("authority.crt")
    }

    /// An identity that is let in.
    #[must_use]
    pub fn client(&self) -> Identity {
        self.identity("client")
    }

    /// An identity that only vouches for itself.
    #[must_use]
    pub fn stranger(&self) -> Identity {
        self.identity("stranger")
    }

    fn identity(&self, name: &str) -> Identity {
        let file = |extension: &str| self.folder.path().join(format!("{name}.{extension}"));
        Identity { certificate: file("crt"), key: file("key") }
    }
}

const NEW_KEY: [&str; 7] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];

fn openssl(folder: &Path, arguments: &[&str]) -> Result<()> {
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(folder)
        .output()
        .context("openssl is missing: Debian's package is of the same name")?;
    ensure!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn config(folder: &Path) -> Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("authority.crt"))?)?;
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?;
    let certificate = CertificateDer::from_pem_file(folder.join("server.crt"))?;
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key"))?;
    Ok(ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![certificate], key)?)
}

/// A client without the right certificate is gone after the handshake: the server hears nothing of it.
async fn pass_on(client: TcpStream, acceptor: TlsAcceptor, upstream: String) -> Result<()> {
    let mut client = acceptor.accept(client).await?;
    let mut server = TcpStream::connect(&upstream).await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
