//! A service with all four kinds of call, and a client for it over whatever carries gRPC.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::{Service, StdError, http};
use tonic::metadata::MetadataValue;
use tonic::server::{
    ClientStreamingService, NamedService, ServerStreamingService, StreamingService, UnaryService,
};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Say {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) data: bytes::Bytes,
    /// How many answers are wanted.
    #[prost(uint32, tag = "2")]
    pub(crate) count: u32,
}

impl Say {
    pub(crate) fn new(data: impl Into<bytes::Bytes>) -> Self {
        Self {
            data: data.into(),
            count: 0,
        }
    }

    pub(crate) fn counting(data: impl Into<bytes::Bytes>, count: u32) -> Self {
        Self {
            data: data.into(),
            count,
        }
    }
}

/// What the service has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) begun: AtomicUsize,
    /// Dropped before they were done.
    pub(crate) cancelled: AtomicUsize,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Echo {
    pub(crate) seen: Arc<Seen>,
}

/// Counts as cancelled unless disarmed.
struct Work(Option<Arc<Seen>>);

impl Work {
    fn begin(seen: &Arc<Seen>) -> Self {
        seen.begun.fetch_add(1, Ordering::SeqCst);
        Self(Some(Arc::clone(seen)))
    }

    fn done(mut self) {
        self.0 = None;
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Some(seen) = &self.0 {
            seen.cancelled.fetch_add(1, Ordering::SeqCst);
        }
    }
}

pub(crate) type Answers = Pin<Box<dyn Stream<Item = Result<Say, Status>> + Send>>;
type Answering<T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send>>;

impl UnaryService<Say> for Echo {
    type Response = Say;
    type Future = Answering<Say>;

    /// What the text says happens.
    fn call(&mut self, request: Request<Say>) -> Self::Future {
        let work = Work::begin(&self.seen);
        Box::pin(async move {
            match &request.get_ref().data[..] {
                b"hang" => std::future::pending().await,
                b"panic" => panic!("as asked"),
                b"fail" => {
                    let mut status = Status::with_details(
                        Code::FailedPrecondition,
                        "not now: späť \n%",
                        bytes::Bytes::from_static(&[0, 1, 2, 255]),
                    );
                    let metadata = status.metadata_mut();
                    metadata.insert("reason", "asked for".parse().unwrap());
                    work.done();
                    return Err(status);
                }
                _ => {}
            }
            let caller = request.extensions().get::<quantum::Caller>().is_some();
            let mut response = Response::new(request.get_ref().clone());
            let metadata = response.metadata_mut();
            for (name, back) in [("x-guuid", "x-guuid"), ("x-text", "x-text-back")] {
                if let Some(value) = request.metadata().get(name) {
                    metadata.insert(back, value.clone());
                }
            }
            if let Some(value) = request.metadata().get_bin("x-raw-bin") {
                metadata.insert_bin("x-raw-back-bin", value.clone());
            }
            let caller = MetadataValue::from_static(if caller { "known" } else { "unknown" });
            metadata.insert("caller", caller);
            work.done();
            Ok(response)
        })
    }
}

impl ServerStreamingService<Say> for Echo {
    type Response = Say;
    type ResponseStream = Answers;
    type Future = Answering<Answers>;

    /// So many answers; without a count they go on.
    fn call(&mut self, request: Request<Say>) -> Self::Future {
        let work = Work::begin(&self.seen);
        let Say { data, count } = request.into_inner();
        let count = if count == 0 { u32::MAX } else { count };
        let (queue, answers) = mpsc::channel(4);
        tokio::spawn(async move {
            for number in 0..count {
                let say = Say::counting(data.clone(), number);
                if queue.send(Ok(say)).await.is_err() {
                    return;
                }
            }
            work.done();
        });
        let answers: Answers = Box::pin(ReceiverStream::new(answers));
        Box::pin(async { Ok(Response::new(answers)) })
    }
}

impl ClientStreamingService<Say> for Echo {
    type Response = Say;
    type Future = Answering<Say>;

    /// All that came, put together.
    fn call(&mut self, request: Request<Streaming<Say>>) -> Self::Future {
        let work = Work::begin(&self.seen);
        Box::pin(async move {
            let (mut all, mut count) = (Vec::new(), 0);
            let mut questions = request.into_inner();
            while let Some(say) = questions.message().await? {
                if &say.data[..] == b"enough" {
                    work.done();
                    return Err(Status::resource_exhausted("enough"));
                }
                all.extend_from_slice(&say.data);
                count += 1;
            }
            work.done();
            Ok(Response::new(Say::counting(all, count)))
        })
    }
}

impl StreamingService<Say> for Echo {
    type Response = Say;
    type ResponseStream = Answers;
    type Future = Answering<Answers>;

    /// Each answer as soon as its question came.
    fn call(&mut self, request: Request<Streaming<Say>>) -> Self::Future {
        let work = Work::begin(&self.seen);
        let questions = request.into_inner();
        let mut work = Some(work);
        let answers = questions.map(Some).chain(tokio_stream::once(None));
        let answers = answers.filter_map(move |next| {
            if next.is_none() {
                work.take().unwrap().done();
            }
            next
        });
        let answers: Answers = Box::pin(answers);
        Box::pin(async { Ok(Response::new(answers)) })
    }
}

impl NamedService for Echo {
    const NAME: &'static str = "test.v1.Echo";
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let echo = self.clone();
        Box::pin(async move {
            let codec = ProstCodec::<Say, Say>::default();
            let mut grpc = tonic::server::Grpc::new(codec).max_decoding_message_size(LARGE);
            let method = request.uri().path().rsplit('/').next();
            Ok(match method {
                Some("Unary") => grpc.unary(echo, request).await,
                Some("Server") => grpc.server_streaming(echo, request).await,
                Some("Client") => grpc.client_streaming(echo, request).await,
                Some("Both") => grpc.streaming(echo, request).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

/// What messages may have, raised above tonic's 4 MiB.
const LARGE: usize = 64 << 20;

pub(crate) struct Client<T>(tonic::client::Grpc<T>);

impl<T> Client<T>
where
    T: GrpcService<Body>,
    T::Error: Into<StdError>,
    T::ResponseBody: tonic::codegen::Body<Data = bytes::Bytes> + Send + 'static,
    <T::ResponseBody as tonic::codegen::Body>::Error: Into<StdError> + Send,
{
    pub(crate) fn new(carrier: T) -> Self {
        Self(tonic::client::Grpc::new(carrier).max_decoding_message_size(LARGE))
    }

    pub(crate) async fn unary(&mut self, request: Request<Say>) -> Result<Response<Say>, Status> {
        self.ready().await?;
        self.0.unary(request, path("Unary"), codec()).await
    }

    pub(crate) async fn say(&mut self, data: &'static [u8]) -> Result<Say, Status> {
        let answer = self.unary(Request::new(Say::new(data))).await?;
        Ok(answer.into_inner())
    }

    pub(crate) async fn within(&mut self, data: &'static [u8], ms: u64) -> Result<Say, Status> {
        let mut request = Request::new(Say::new(data));
        request.set_timeout(Duration::from_millis(ms));
        Ok(self.unary(request).await?.into_inner())
    }

    pub(crate) async fn server(&mut self, say: Say) -> Result<Streaming<Say>, Status> {
        self.ready().await?;
        let call = self
            .0
            .server_streaming(Request::new(say), path("Server"), codec());
        Ok(call.await?.into_inner())
    }

    pub(crate) async fn client(
        &mut self,
        questions: impl Stream<Item = Say> + Send + 'static,
    ) -> Result<Say, Status> {
        self.ready().await?;
        let call = self
            .0
            .client_streaming(Request::new(questions), path("Client"), codec());
        Ok(call.await?.into_inner())
    }

    pub(crate) async fn both(
        &mut self,
        questions: impl Stream<Item = Say> + Send + 'static,
    ) -> Result<Streaming<Say>, Status> {
        self.ready().await?;
        let call = self
            .0
            .streaming(Request::new(questions), path("Both"), codec());
        Ok(call.await?.into_inner())
    }

    pub(crate) async fn unknown(&mut self) -> Result<Response<Say>, Status> {
        self.ready().await?;
        let path = http::uri::PathAndQuery::from_static("/test.v1.Other/Unary");
        self.0
            .unary(Request::new(Say::default()), path, codec())
            .await
    }

    async fn ready(&mut self) -> Result<(), Status> {
        let ready = self.0.ready().await;
        ready.map_err(|error| Status::from_error(error.into()))
    }
}

fn path(method: &'static str) -> http::uri::PathAndQuery {
    format!("/test.v1.Echo/{method}").parse().unwrap()
}

fn codec() -> ProstCodec<Say, Say> {
    ProstCodec::default()
}
