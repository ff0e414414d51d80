//! The echo service, and who calls it over any channel.

use bytes::Bytes;
use tonic::{Request, Response, Status};

use super::load::Caller;

pub(crate) use self::generated::echo_service_client::EchoServiceClient as EchoClient;
pub(crate) use self::generated::echo_service_server::EchoServiceServer as EchoServer;

/// What the compiler made of `perf/v1/echo.proto`.
mod generated {
    #![expect(
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        unreachable_pub,
        unused_qualifications,
        reason = "generated"
    )]
    tonic::include_proto!("perf.v1");
}

use self::generated::{EchoRequest, EchoResponse};

/// Answers with what it is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Echoes;

#[tonic::async_trait]
impl generated::echo_service_server::EchoService for Echoes {
    async fn echo(&self, request: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
        let body = request.into_inner().body;
        Ok(Response::new(EchoResponse { body }))
    }
}

/// Calls the echo over a channel.
#[derive(Debug, Clone)]
pub(crate) struct EchoCaller<T>(pub(crate) EchoClient<T>);

impl<T> Caller for EchoCaller<T>
where
    T: tonic::client::GrpcService<tonic::body::Body> + Clone,
    T::Error: Into<tonic::codegen::StdError>,
    T::ResponseBody: tonic::codegen::Body<Data = Bytes> + Send + 'static,
    <T::ResponseBody as tonic::codegen::Body>::Error: Into<tonic::codegen::StdError> + Send,
{
    async fn call(&self, body: Bytes) -> anyhow::Result<()> {
        let length = body.len();
        let mut client = self.0.clone();
        let response = client.echo(EchoRequest { body }).await?;
        anyhow::ensure!(
            response.get_ref().body.len() == length,
            "an answer is not what was sent"
        );
        Ok(())
    }
}
