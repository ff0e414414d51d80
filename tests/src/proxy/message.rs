//! Messages of HTTP/1.1, read as they are. It is no strict parser: it has to show what came.

use std::io::{self, BufRead, Read};

/// A start line and fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The first line.
    pub start: String,
    /// Names in lower case, and values, in their order.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The first value of a field.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.headers.iter();
        fields
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// A word of the start line.
    pub fn word(&self, index: usize) -> &str {
        self.start.split(' ').nth(index).unwrap_or_default()
    }

    /// The status of an answer; 0 if it is none.
    pub fn status(&self) -> u16 {
        self.word(1).parse().unwrap_or(0)
    }

    fn is_chunked(&self) -> bool {
        self.header("transfer-encoding")
            .is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"))
    }

    fn length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }
}

/// Reads a head; `None` at the end of the connection.
pub fn read_head(reader: &mut impl BufRead) -> io::Result<Option<Head>> {
    let Some(start) = line(reader)? else {
        return Ok(None);
    };
    let headers = fields(reader)?;
    Ok(Some(Head { start, headers }))
}

/// A body, part by part.
#[derive(Debug)]
pub struct Body {
    rest: Rest,
    /// What came after the last chunk.
    pub trailers: Vec<(String, String)>,
}

#[derive(Debug, Clone, Copy)]
enum Rest {
    Length(u64),
    Chunked,
    UntilClose,
    Nothing,
}

impl Body {
    /// That of a request.
    pub fn of_request(head: &Head) -> Self {
        Self::new(match head.length() {
            _ if head.is_chunked() => Rest::Chunked,
            Some(length) => Rest::Length(length),
            None => Rest::Nothing,
        })
    }

    /// That of an answer, unless the request was HEAD.
    pub fn of_answer(head: &Head) -> Self {
        Self::new(match head.length() {
            _ if matches!(head.status(), 100..200 | 204 | 304) => Rest::Nothing,
            _ if head.is_chunked() => Rest::Chunked,
            Some(length) => Rest::Length(length),
            None => Rest::UntilClose,
        })
    }

    fn new(rest: Rest) -> Self {
        Self {
            rest,
            trailers: Vec::new(),
        }
    }

    /// The next part; `None` at the end.
    pub fn next(&mut self, reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
        match self.rest {
            Rest::Nothing | Rest::Length(0) => Ok(None),
            Rest::Length(length) => {
                let part = some(reader, length)?;
                if part.is_empty() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.rest = Rest::Length(length - part.len() as u64);
                Ok(Some(part))
            }
            Rest::UntilClose => {
                let part = some(reader, u64::MAX)?;
                Ok((!part.is_empty()).then_some(part))
            }
            Rest::Chunked => {
                let size = line(reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
                let size = size.split(';').next().unwrap_or_default().trim();
                let size = usize::from_str_radix(size, 16)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                if size == 0 {
                    self.trailers = fields(reader)?;
                    self.rest = Rest::Nothing;
                    return Ok(None);
                }
                let mut part = vec![0; size + 2];
                reader.read_exact(&mut part)?;
                part.truncate(size);
                Ok(Some(part))
            }
        }
    }

    /// All of it.
    pub fn all(&mut self, reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(part) = self.next(reader)? {
            all.extend_from_slice(&part);
        }
        Ok(all)
    }
}

fn some(reader: &mut impl BufRead, most: u64) -> io::Result<Vec<u8>> {
    let mut part = vec![0; usize::try_from(most).unwrap_or(PART).min(PART)];
    let count = reader.read(&mut part)?;
    part.truncate(count);
    Ok(part)
}

fn fields(reader: &mut impl BufRead) -> io::Result<Vec<(String, String)>> {
    let mut fields = Vec::new();
    loop {
        let line = line(reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let Some((name, value)) = line.split_once(':') else {
            return Ok(fields);
        };
        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

/// A line without its end; `None` at the end of the connection.
fn line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    reader.take(LINE_MAX).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}

const PART: usize = 64 * 1_024;
const LINE_MAX: u64 = 64 * 1_024;
