//! One unary call of bytes, on one channel.

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Status};

use super::Channel;

/// Makes a call and waits for its answer. `message_max` bounds the answer in bytes.
pub(super) async fn call(
    channel: &Channel,
    path: PathAndQuery,
    request: Request<Bytes>,
    message_max: usize,
) -> Result<Bytes, Status> {
    let mut client = Grpc::new(channel.clone())
        .max_decoding_message_size(message_max)
        .max_encoding_message_size(message_max);
    client.ready().await.map_err(Status::from_error)?;
    let answer = client.unary(request, path, Raw).await?;
    Ok(answer.into_inner())
}

/// Messages that are encoded already, and are to be decoded by somebody else.
#[derive(Debug, Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, input: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(input.copy_to_bytes(input.remaining())))
    }
}
