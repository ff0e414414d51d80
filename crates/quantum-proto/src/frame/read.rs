//! Readers of bodies.

use bytes::{Buf, Bytes};

use super::{
    AckExt, CRYPTO_HEAD, END_MESSAGE, END_STREAM, FRAME_HEAD, Frame, PIECE_HEAD, Problem,
    REPAIR_HEAD, Repair, STREAM_HEAD, kind,
};

/// Whether frames of this type belong to the source part.
pub(super) fn is_source(kind: u8) -> bool {
    matches!(
        kind,
        kind::STREAM | kind::MAX_DATA | kind::RESET | kind::STOP | kind::MAX_STREAMS
    )
}

/// The frame of this type with this body.
pub(super) fn body(kind: u8, mut body: Bytes) -> Result<Frame, Problem> {
    let len = body.len();
    let exactly = |wanted| (len == wanted).then_some(()).ok_or(Problem::Length(len));
    let at_least = |wanted| (len >= wanted).then_some(()).ok_or(Problem::Length(len));
    Ok(match kind {
        kind::PADDING => Frame::Padding(len),
        kind::STREAM => {
            at_least(STREAM_HEAD - FRAME_HEAD)?;
            stream(body)?
        }
        kind::MAX_DATA => {
            exactly(12)?;
            Frame::MaxData {
                id: body.get_u32(),
                limit: body.get_u64(),
            }
        }
        kind::REPAIR => {
            at_least(REPAIR_HEAD - FRAME_HEAD)?;
            repair(body)?
        }
        kind::OPTIONS => Frame::Options(body),
        kind::RESET => {
            exactly(8)?;
            Frame::Reset {
                id: stream_id(&mut body)?,
                code: body.get_u32(),
            }
        }
        kind::CLOSE => {
            at_least(4)?;
            let code = body.get_u32();
            let text = std::str::from_utf8(&body).map_err(|_| Problem::Value("text"))?;
            let text = text.to_owned();
            Frame::Close { code, text }
        }
        kind::ACK_EXT => Frame::AckExt(AckExt::read(body)?),
        kind::STOP => {
            exactly(8)?;
            Frame::Stop {
                id: stream_id(&mut body)?,
                code: body.get_u32(),
            }
        }
        kind::MAX_STREAMS => {
            exactly(4)?;
            Frame::MaxStreams(body.get_u32())
        }
        kind::PIECE => {
            at_least(PIECE_HEAD - FRAME_HEAD + 1)?;
            piece(body)?
        }
        kind::PING => exactly(0).map(|()| Frame::Ping)?,
        kind::PATH_CHALLENGE => {
            exactly(8)?;
            Frame::PathChallenge(body.get_u64().to_be_bytes())
        }
        kind::PATH_RESPONSE => {
            exactly(8)?;
            Frame::PathResponse(body.get_u64().to_be_bytes())
        }
        kind::CRYPTO => {
            at_least(CRYPTO_HEAD - FRAME_HEAD)?;
            let offset = body.get_u32();
            let fits = u32::try_from(body.len()).ok();
            fits.and_then(|len| offset.checked_add(len))
                .ok_or(Problem::Value("offset"))?;
            Frame::Crypto { offset, data: body }
        }
        kind::DONE => exactly(0).map(|()| Frame::Done)?,
        kind::ECN => {
            exactly(4)?;
            Frame::Ecn(body.get_u32())
        }
        _ => return Err(Problem::Unknown),
    })
}

fn stream(mut body: Bytes) -> Result<Frame, Problem> {
    let id = stream_id(&mut body)?;
    let offset = body.get_u64();
    let end = body.get_u8();
    if end & !(END_STREAM | END_MESSAGE) != 0 {
        return Err(Problem::Value("end"));
    }
    offset
        .checked_add(body.len() as u64)
        .ok_or(Problem::Value("offset"))?;
    Ok(Frame::Stream {
        id,
        offset,
        fin: end & END_STREAM != 0,
        message_end: end & END_MESSAGE != 0,
        data: body,
    })
}

fn stream_id(body: &mut Bytes) -> Result<u32, Problem> {
    match body.get_u32() {
        0 => Err(Problem::Value("stream id")),
        id => Ok(id),
    }
}

fn repair(mut body: Bytes) -> Result<Frame, Problem> {
    let len = body.len();
    let (scheme, row) = (body.get_u8(), body.get_u8());
    let symbol_len = usize::from(body.get_u16());
    let (first, mask) = (body.get_u32(), body.get_u32());
    if symbol_len != body.len() {
        return Err(Problem::Length(len));
    }
    if first == 0 {
        return Err(Problem::Value("first"));
    }
    if mask == 0 {
        return Err(Problem::Value("mask"));
    }
    Ok(Frame::Repair(Repair {
        scheme,
        row,
        first,
        mask,
        symbol: body,
    }))
}

fn piece(mut body: Bytes) -> Result<Frame, Problem> {
    let (sequence, offset, total) = (body.get_u32(), body.get_u16(), body.get_u16());
    if sequence == 0 {
        return Err(Problem::Value("sequence"));
    }
    if usize::from(offset) + body.len() > usize::from(total) {
        return Err(Problem::Value("offset"));
    }
    Ok(Frame::Piece {
        sequence,
        offset,
        total,
        data: body,
    })
}
