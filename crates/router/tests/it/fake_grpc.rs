//! A gRPC service that does what the name that it is asked for says.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures_util::{Stream, StreamExt as _};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

#[derive(Clone, Default)]
pub(crate) struct Fake {
    /// Metadata of the calls, in their order.
    pub(crate) calls: Arc<Mutex<Vec<MetadataMap>>>,
    /// A call that waits was given up.
    pub(crate) dropped: Arc<Notify>,
}

struct Told(Arc<Notify>);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

type Statuses = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Health for Fake {
    type WatchStream = Statuses;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        self.calls.lock().unwrap().push(request.metadata().clone());
        match request.get_ref().service.as_str() {
            "unavailable" => Err(Status::unavailable("not now")),
            "busy" => {
                let mut busy = Status::unavailable("not now");
                let soon = "1".parse().unwrap();
                busy.metadata_mut().insert("grpc-retry-pushback-ms", soon);
                Err(busy)
            }
            "internal" => Err(Status::internal("it broke at line 7")),
            "not found" => Err(Status::not_found("no such thing")),
            "never" => {
                let _told = Told(Arc::clone(&self.dropped));
                std::future::pending().await
            }
            _ => Ok(Response::new(HealthCheckResponse { status: 1 })),
        }
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Statuses>, Status> {
        self.calls.lock().unwrap().push(request.metadata().clone());
        let told = Told(Arc::clone(&self.dropped));
        let fails = request.get_ref().service == "fails";
        let three = (1..=3).map(|status| Ok(HealthCheckResponse { status }));
        let end = fails.then(|| Err(Status::data_loss("it is gone")));
        let rest = futures_util::stream::unfold(told, move |told| async move {
            if fails {
                return None;
            }
            let _told = told;
            std::future::pending::<Option<(Result<HealthCheckResponse, Status>, Told)>>().await
        });
        Ok(Response::new(Box::pin(
            futures_util::stream::iter(three.chain(end)).chain(rest),
        )))
    }
}

impl Fake {
    /// Serves on a port of its own.
    pub(crate) async fn serve() -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let fake = Self::default();
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .unwrap();
        let serving = tonic::transport::Server::builder()
            .add_service(HealthServer::new(fake.clone()))
            .add_service(reflection)
            .serve_with_incoming(TcpListenerStream::new(listener));
        // It ends with the runtime of the test.
        lifecycle::Tasks::new().spawn("fake service", async move {
            drop(serving.await);
        });
        (fake, address)
    }

    pub(crate) fn count(&self) -> usize {
        self.calls.lock().unwrap().len()
    }

    /// What the last call said under a key.
    pub(crate) fn heard(&self, key: &str) -> Option<String> {
        let calls = self.calls.lock().unwrap();
        let value = calls.last()?.get(key)?;
        Some(value.to_str().unwrap().to_owned())
    }
}
