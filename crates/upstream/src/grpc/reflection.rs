//! Asks a service what it consists of (gRPC server reflection, v1 and v1alpha).
//!
//! The two versions differ in nothing but their name. A service may answer with the one
//! file that declares a symbol or with all that this one needs; what is missing is asked for
//! by name. What it says is bounded, as it comes from outside.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt as _;
use http::uri::PathAndQuery;
use prost_reflect::prost::Message as _;
use prost_reflect::prost_types::{FileDescriptorProto, FileDescriptorSet};
use tonic::client::Grpc;
use tonic::{Code, Request, Status};
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use super::{Channel, SchemaError};

/// The files that declare a symbol, with all that they need.
pub(super) async fn files(
    channel: &Channel,
    symbol: &str,
) -> Result<FileDescriptorSet, SchemaError> {
    match Asking::new(channel, V1).files(symbol).await {
        Err(Trouble::Status(status)) if status.code() == Code::Unimplemented => {
            let answered = Asking::new(channel, V1_ALPHA).files(symbol).await;
            answered.map_err(Trouble::into_error)
        }
        answered => answered.map_err(Trouble::into_error),
    }
}

enum Trouble {
    Status(Status),
    Answer(String),
}

impl Trouble {
    fn into_error(self) -> SchemaError {
        match self {
            Self::Status(status) if status.code() == Code::Unimplemented => {
                SchemaError::Reflection("the service has no server reflection".to_owned())
            }
            Self::Status(status) => {
                SchemaError::Reflection(format!("{:?}: {}", status.code(), status.message()))
            }
            Self::Answer(problem) => SchemaError::Reflection(problem),
        }
    }
}

impl From<Status> for Trouble {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

struct Asking<'a> {
    channel: &'a Channel,
    path: &'static str,
    files: BTreeMap<String, FileDescriptorProto>,
    bytes: usize,
}

impl<'a> Asking<'a> {
    fn new(channel: &'a Channel, path: &'static str) -> Self {
        Self {
            channel,
            path,
            files: BTreeMap::new(),
            bytes: 0,
        }
    }

    async fn files(mut self, symbol: &str) -> Result<FileDescriptorSet, Trouble> {
        let request = MessageRequest::FileContainingSymbol(symbol.to_owned());
        self.ask(request).await?;
        while let Some(name) = self.missing() {
            self.ask(MessageRequest::FileByFilename(name.clone()))
                .await?;
            if !self.files.contains_key(&name) {
                return Err(Trouble::Answer(format!(
                    "the service does not show {name:?}"
                )));
            }
        }
        Ok(FileDescriptorSet {
            file: self.files.into_values().collect(),
        })
    }

    /// A file that another one needs and that has not come.
    fn missing(&self) -> Option<String> {
        let needed: BTreeSet<&String> = self
            .files
            .values()
            .flat_map(|file| &file.dependency)
            .collect();
        let missing = needed
            .into_iter()
            .find(|name| !self.files.contains_key(*name));
        missing.cloned()
    }

    async fn ask(&mut self, request: MessageRequest) -> Result<(), Trouble> {
        let mut client = Grpc::new(self.channel.clone()).max_decoding_message_size(BYTES_MAX);
        client.ready().await.map_err(Status::from_error)?;
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(request),
        };
        let codec =
            tonic_prost::ProstCodec::<ServerReflectionRequest, ServerReflectionResponse>::default();
        let asked = futures_util::stream::iter([request]);
        let path = PathAndQuery::from_static(self.path);
        let answer = client.streaming(Request::new(asked), path, codec).await?;
        let Some(answer) = answer.into_inner().next().await else {
            return Err(Trouble::Answer("the service gave no answer".to_owned()));
        };
        match answer?.message_response {
            Some(MessageResponse::FileDescriptorResponse(found)) => found
                .file_descriptor_proto
                .iter()
                .try_for_each(|file| self.take(file)),
            Some(MessageResponse::ErrorResponse(error)) => Err(Trouble::Answer(format!(
                "the service said: {}",
                error.error_message
            ))),
            Some(
                MessageResponse::AllExtensionNumbersResponse(_)
                | MessageResponse::ListServicesResponse(_),
            )
            | None => Err(Trouble::Answer("the answer is of another kind".to_owned())),
        }
    }

    fn take(&mut self, file: &[u8]) -> Result<(), Trouble> {
        self.bytes += file.len();
        if self.files.len() >= FILES_MAX || self.bytes > BYTES_MAX {
            let problem =
                format!("the service shows more than {FILES_MAX} files or {BYTES_MAX} bytes");
            return Err(Trouble::Answer(problem));
        }
        let file = FileDescriptorProto::decode(file)
            .map_err(|error| Trouble::Answer(format!("a file can't be read: {error}")))?;
        self.files.insert(file.name().to_owned(), file);
        Ok(())
    }
}

const V1: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const V1_ALPHA: &str = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";

/// Files of one service, and bytes of all of them.
const FILES_MAX: usize = 512;
const BYTES_MAX: usize = 8 << 20;
